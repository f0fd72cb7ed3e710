//! VMMs: one run of an instance on a sled.

use crate::schema::{sled_reservation, vmm};
use crate::{ByteCount, InstanceId, SiloId, SledId, StartAttemptId, VmmId};
use chrono::{DateTime, Utc};
use diesel::{Queryable, QueryableByName, Selectable};

sql_enum! {
    /// Where a VMM is. `Failed` and `Destroyed` are ends; `Abandoned` is
    /// neither an end nor a life: nobody knows, and somebody goes on asking.
    pub enum VmmState: VmmStateSql {
        /// Not known to run; its start saga deals with the sled.
        Creating = "creating",
        /// The sled has taken the order to run it.
        Starting = "starting",
        /// It runs.
        Running = "running",
        /// It was told to stop, or the guest is shutting down.
        Stopping = "stopping",
        /// The guest has halted; the sled has not cleaned up yet.
        Stopped = "stopped",
        /// The guest is being reset.
        Rebooting = "rebooting",
        /// It is moving to another sled.
        Migrating = "migrating",
        /// It ended badly.
        Failed = "failed",
        /// It ended in order.
        Destroyed = "destroyed",
        /// Its sled gave no definite answer for too long. It is unlinked and
        /// keeps its reservation until its end is certain.
        Abandoned = "abandoned",
    }
}

impl VmmState {
    /// Is this an end, out of which nothing leads?
    pub fn is_end(self) -> bool {
        matches!(self, VmmState::Failed | VmmState::Destroyed)
    }
}

sql_enum! {
    /// How a VMM ended.
    pub enum VmmEndReason: VmmEndReasonSql {
        /// The guest shut itself down.
        GuestShutdown = "guest_shutdown",
        /// It was told to stop.
        Requested = "requested",
        /// It never got as far as running.
        BootFailed = "boot_failed",
        /// The guest crashed.
        Panic = "panic",
        /// The process under the guest died.
        HypervisorDied = "hypervisor_died",
        /// Its sled was expunged, or was cut off and stopped it.
        Fenced = "fenced",
        /// Its start was undone.
        Unwound = "unwound",
        /// Its sled does not know it any more.
        Gone = "gone",
    }
}

impl VmmEndReason {
    /// Is this a bad end, which its user should hear of?
    pub fn is_bad(self) -> bool {
        match self {
            VmmEndReason::GuestShutdown
            | VmmEndReason::Requested
            | VmmEndReason::Unwound => false,
            VmmEndReason::BootFailed
            | VmmEndReason::Panic
            | VmmEndReason::HypervisorDied
            | VmmEndReason::Fenced
            | VmmEndReason::Gone => true,
        }
    }

    /// The state in which a VMM with this end rests.
    pub fn state(self) -> VmmState {
        if self.is_bad() { VmmState::Failed } else { VmmState::Destroyed }
    }

    /// The end in a sentence, for when the sled has given none.
    pub fn sentence(self) -> &'static str {
        match self {
            VmmEndReason::GuestShutdown => "The guest shut itself down.",
            VmmEndReason::Requested => "It was stopped.",
            VmmEndReason::BootFailed => "The guest could not be started.",
            VmmEndReason::Panic => "The guest crashed.",
            VmmEndReason::HypervisorDied => {
                "The process that ran the guest died."
            }
            VmmEndReason::Fenced => {
                "The host that ran the instance was taken out of service."
            }
            VmmEndReason::Unwound => "Its start was undone.",
            VmmEndReason::Gone => {
                "The host no longer knows the instance: it was lost there."
            }
        }
    }
}

/// A VMM.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Queryable,
    QueryableByName,
    Selectable,
    serde::Serialize,
)]
#[diesel(table_name = vmm)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct Vmm {
    pub id: VmmId,
    pub instance_id: InstanceId,
    pub sled_id: SledId,
    pub start_attempt_id: StartAttemptId,
    pub state: VmmState,
    pub generation: i64,
    pub failure_reason: Option<String>,
    pub may_run: bool,
    pub ever_ran: bool,
    pub end_reason: Option<VmmEndReason>,
    pub boot_deadline: Option<DateTime<Utc>>,
    pub unanswered: i64,
    pub time_created: DateTime<Utc>,
    pub time_state_updated: DateTime<Utc>,
    pub time_ended: Option<DateTime<Utc>>,
}

impl Vmm {
    /// The generation with which a sled begins to count: it has the VMM, which
    /// has not been told to run.
    pub const TAKEN_IN: i64 = 1;

    /// A VMM that no sled has heard of yet.
    pub fn new(
        id: VmmId,
        instance_id: InstanceId,
        sled_id: SledId,
        start_attempt_id: StartAttemptId,
        now: DateTime<Utc>,
    ) -> Vmm {
        Vmm {
            id,
            instance_id,
            sled_id,
            start_attempt_id,
            state: VmmState::Creating,
            generation: 0,
            failure_reason: None,
            may_run: false,
            ever_ran: false,
            end_reason: None,
            boot_deadline: None,
            unanswered: 0,
            time_created: now,
            time_state_updated: now,
            time_ended: None,
        }
    }

    /// Has it ended?
    pub fn ended(&self) -> bool {
        self.time_ended.is_some()
    }

    /// The same VMM, ended for `reason`; `sentence` is the sled's own account
    /// of it.
    pub fn end(
        &self,
        reason: VmmEndReason,
        sentence: Option<String>,
        now: DateTime<Utc>,
    ) -> Vmm {
        Vmm {
            state: reason.state(),
            failure_reason: reason
                .is_bad()
                .then(|| sentence.unwrap_or(reason.sentence().to_string())),
            end_reason: Some(reason),
            time_ended: Some(now),
            time_state_updated: now,
            unanswered: 0,
            ..self.clone()
        }
    }
}

sql_enum! {
    /// The part that a reservation's VMM plays for its instance.
    pub enum ReservationRole: ReservationRoleSql {
        /// It is the instance.
        Active = "active",
        /// It will be, after a migration.
        Target = "target",
        /// Nobody knows whether it still runs.
        Abandoned = "abandoned",
    }
}

/// What a VMM holds of a sled.
#[derive(
    Clone, Debug, PartialEq, Eq, Queryable, Selectable, serde::Serialize,
)]
#[diesel(table_name = sled_reservation)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct SledReservation {
    pub vmm_id: VmmId,
    pub instance_id: InstanceId,
    pub sled_id: SledId,
    pub role: ReservationRole,
    pub vcpus: i64,
    pub memory_bytes: ByteCount,
    pub time_created: DateTime<Utc>,
    pub silo_id: Option<SiloId>,
}
