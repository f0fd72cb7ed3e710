//! Start attempts: the record that a user reads.

use crate::placement::Account;
use crate::schema::start_attempt;
use crate::{
    DiskState, InstanceId, Name, SagaId, SiloUserId, StartAttemptId, VmmId,
};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{Insertable, Queryable, QueryableByName, Selectable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

sql_enum! {
    /// Why an instance is being started.
    pub enum StartReason: StartReasonSql {
        /// A user asked for it.
        User = "user",
        /// It was created with `start: true`.
        Create = "create",
        /// It should run and did not, so the system starts it.
        AutoRestart = "auto_restart",
    }
}

sql_enum! {
    /// How an attempt to start an instance ended, if it did.
    pub enum StartOutcome: StartOutcomeSql {
        /// It is under way.
        Pending = "pending",
        /// The instance is known to have run.
        Started = "started",
        /// It did not start; the failure says why.
        Failed = "failed",
        /// A later request, to stop or to delete, overtook it.
        Superseded = "superseded",
    }
}

sql_enum! {
    /// Why an instance did not start.
    pub enum StartFailureKind: StartFailureKindSql {
        /// No sled has room for it.
        InsufficientCapacity = "insufficient_capacity",
        /// Its anti-affinity groups leave no sled.
        AntiAffinity = "anti_affinity",
        /// Its affinity groups leave no sled.
        Affinity = "affinity",
        /// Its groups contradict each other.
        AffinityConflict = "affinity_conflict",
        /// No sled has the CPU platform that it asks for.
        CpuPlatform = "cpu_platform",
        /// No sled has room for its local disks.
        LocalStorage = "local_storage",
        /// The silo's quota is used up.
        QuotaExceeded = "quota_exceeded",
        /// There is no sled that takes instances.
        NoSledInService = "no_sled_in_service",
        /// A disk or an image that it needs is not there.
        ImageOrDiskUnavailable = "image_or_disk_unavailable",
        /// The chosen host refused it.
        HostRejected = "host_rejected",
        /// The chosen host did not answer.
        HostUnreachable = "host_unreachable",
        /// The host took it, and the guest did not come up.
        BootFailed = "boot_failed",
        /// It did not come up in time.
        TimedOut = "timed_out",
        /// Something went wrong inside the system.
        Internal = "internal",
    }
}

impl StartFailureKind {
    /// Is it for want of a place, so that a change of the fleet, of a group or
    /// of a quota may end it?
    pub fn is_about_placement(self) -> bool {
        match self {
            StartFailureKind::InsufficientCapacity
            | StartFailureKind::NoSledInService
            | StartFailureKind::AntiAffinity
            | StartFailureKind::Affinity
            | StartFailureKind::AffinityConflict
            | StartFailureKind::CpuPlatform
            | StartFailureKind::LocalStorage
            | StartFailureKind::QuotaExceeded => true,
            StartFailureKind::ImageOrDiskUnavailable
            | StartFailureKind::HostRejected
            | StartFailureKind::HostUnreachable
            | StartFailureKind::BootFailed
            | StartFailureKind::TimedOut
            | StartFailureKind::Internal => false,
        }
    }
}

/// What there is to say about a failure beyond its sentence.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StartFailureDetails {
    /// Nothing more.
    #[default]
    None,
    /// The placement's account.
    Placement(Box<Account>),
    /// What the host said.
    Host {
        /// The host's own sentence.
        reason: String,
    },
    /// Where an operator finds the rest.
    Incident {
        /// Names the incident in the system's records.
        incident_id: uuid::Uuid,
    },
}

impl StartFailureDetails {
    /// The placement's account, where that is what there is.
    fn account(&self) -> Option<&Account> {
        match self {
            StartFailureDetails::Placement(account) => Some(account),
            StartFailureDetails::None
            | StartFailureDetails::Host { .. }
            | StartFailureDetails::Incident { .. } => None,
        }
    }
}

/// Why an attempt failed, as its user may read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartFailure {
    /// The kind of failure.
    pub kind: StartFailureKind,
    /// One sentence to a person.
    pub message: String,
    /// May it go away without the user changing something?
    pub transient: bool,
    /// More, by kind.
    pub details: StartFailureDetails,
}

impl StartFailure {
    /// Does who has read this one know what `later` says? Yes, though there is
    /// a little more room by now, or less; no, if it is another kind, has
    /// another prospect, is about another size of the instance, or if other
    /// groups or disks are in the way.
    pub fn tells_as_much_as(&self, later: &StartFailure) -> bool {
        let accounts = (self.details.account(), later.details.account());
        self.kind == later.kind
            && self.transient == later.transient
            && match accounts {
                (Some(told), Some(later)) => told.tells_as_much_as(later),
                (told, later) => told.is_none() == later.is_none(),
            }
    }

    /// The same without how many sleds there are, and what excludes how many of
    /// them.
    pub fn without_counts(self) -> StartFailure {
        let details = match self.details {
            StartFailureDetails::Placement(account) => {
                StartFailureDetails::Placement(Box::new(
                    account.without_counts(),
                ))
            }
            other @ (StartFailureDetails::None
            | StartFailureDetails::Host { .. }
            | StartFailureDetails::Incident { .. }) => other,
        };
        StartFailure { details, ..self }
    }

    /// A failure inside the system. The user gets the incident's id and
    /// nothing else.
    pub fn internal(incident: SagaId) -> StartFailure {
        StartFailure {
            kind: StartFailureKind::Internal,
            message: format!(
                "The instance could not be started because of an error \
                 inside the system (incident {incident}).",
            ),
            transient: true,
            details: StartFailureDetails::Incident { incident_id: incident.0 },
        }
    }

    /// The chosen host gave no answer.
    pub fn host_unreachable() -> StartFailure {
        StartFailure {
            kind: StartFailureKind::HostUnreachable,
            message: "The host chosen for the instance did not answer."
                .to_string(),
            transient: true,
            details: StartFailureDetails::None,
        }
    }

    /// An earlier run of the instance may not be over.
    pub fn held_back() -> StartFailure {
        StartFailure {
            kind: StartFailureKind::HostUnreachable,
            message: "An earlier run of the instance may still be going on \
                      at a host that does not answer, so it cannot be \
                      started anywhere yet."
                .to_string(),
            transient: true,
            details: StartFailureDetails::None,
        }
    }

    /// A disk of it cannot be used: its blocks are not there, or they are being
    /// copied.
    pub fn disk_unavailable(disk: &Name, state: DiskState) -> StartFailure {
        let (why, transient) = match state {
            DiskState::Ready => ("a snapshot of it is being made", true),
            DiskState::Creating => ("it is still being created", true),
            DiskState::ImportReady
            | DiskState::ImportingFromBulkWrites
            | DiskState::Finalizing => ("it is still being imported", true),
            DiskState::Faulted => {
                ("its contents are lost: detach it, and delete it", false)
            }
        };
        StartFailure {
            kind: StartFailureKind::ImageOrDiskUnavailable,
            message: format!("Disk \"{disk}\" cannot be used: {why}."),
            transient,
            details: StartFailureDetails::None,
        }
    }

    /// The host does not find the blocks of all its disks.
    pub fn blocks_not_found<'a>(
        disks: impl Iterator<Item = &'a Name>,
    ) -> StartFailure {
        let names: Vec<_> = disks.map(|name| format!("\"{name}\"")).collect();
        let which = match names.as_slice() {
            [one] => format!("Disk {one} is not found"),
            all => format!("One of the disks {} is not found", all.join(", ")),
        };
        StartFailure {
            kind: StartFailureKind::ImageOrDiskUnavailable,
            message: format!(
                "{which} where its contents were. Detach it to start the \
                 instance without it.",
            ),
            transient: false,
            details: StartFailureDetails::None,
        }
    }

    /// The guest did not come up in time.
    pub fn timed_out(allowed: TimeDelta) -> StartFailure {
        StartFailure {
            kind: StartFailureKind::TimedOut,
            message: format!(
                "The host took the instance, but its guest was not running \
                 {} s later.",
                allowed.num_seconds(),
            ),
            transient: true,
            details: StartFailureDetails::None,
        }
    }

    /// The host took it and says that it did not come up.
    pub fn boot_failed(reason: &str) -> StartFailure {
        StartFailure {
            kind: StartFailureKind::BootFailed,
            message: format!("The guest could not be started: {reason}"),
            transient: true,
            details: StartFailureDetails::Host { reason: reason.to_string() },
        }
    }

    /// The host refused it.
    pub fn host_rejected(reason: &str) -> StartFailure {
        StartFailure {
            kind: StartFailureKind::HostRejected,
            message: format!("The host refused the instance: {reason}"),
            transient: true,
            details: StartFailureDetails::Host { reason: reason.to_string() },
        }
    }
}

/// What the failing node of a start saga leaves for the undo that closes the
/// attempt. A column outside the attempt's failure, since the attempt has not
/// failed before it is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFailure {
    /// For the user.
    pub failure: StartFailure,
    /// The whole chain of the error, for operators.
    pub internal_error: String,
}

/// An attempt to start an instance.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Queryable,
    QueryableByName,
    Selectable,
    Insertable,
    serde::Serialize,
)]
#[diesel(table_name = start_attempt)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct StartAttempt {
    pub id: StartAttemptId,
    pub instance_id: InstanceId,
    pub reason: StartReason,
    pub requested_by: Option<SiloUserId>,
    pub saga_id: Option<SagaId>,
    pub vmm_id: Option<VmmId>,
    pub time_started: DateTime<Utc>,
    pub time_ended: Option<DateTime<Utc>>,
    pub outcome: StartOutcome,
    pub failure_kind: Option<StartFailureKind>,
    pub failure_message: Option<String>,
    pub failure_transient: Option<bool>,
    pub failure_details: Option<serde_json::Value>,
    pub staged_failure: Option<serde_json::Value>,
    pub internal_error: Option<String>,
    pub held_back: i64,
}

impl StartAttempt {
    /// A new, pending attempt.
    pub fn new(
        id: StartAttemptId,
        instance_id: InstanceId,
        reason: StartReason,
        requested_by: Option<SiloUserId>,
        now: DateTime<Utc>,
    ) -> StartAttempt {
        StartAttempt {
            id,
            instance_id,
            reason,
            requested_by,
            saga_id: None,
            vmm_id: None,
            time_started: now,
            time_ended: None,
            outcome: StartOutcome::Pending,
            failure_kind: None,
            failure_message: None,
            failure_transient: None,
            failure_details: None,
            staged_failure: None,
            internal_error: None,
            held_back: 0,
        }
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<StartFailure> {
        Some(StartFailure {
            kind: self.failure_kind?,
            message: self.failure_message.clone()?,
            transient: self.failure_transient?,
            details: self
                .failure_details
                .clone()
                .and_then(|d| serde_json::from_value(d).ok())
                .unwrap_or_default(),
        })
    }

    /// The same, its failure without how many sleds there are, and what excludes
    /// how many of them.
    pub fn without_counts(self) -> StartAttempt {
        let details = self.failure().map(|f| f.without_counts().details);
        StartAttempt {
            failure_details: details
                .and_then(|details| serde_json::to_value(details).ok()),
            ..self
        }
    }

    /// What its saga's failing node left, if one did.
    pub fn staged(&self) -> Option<StagedFailure> {
        serde_json::from_value(self.staged_failure.clone()?).ok()
    }

    fn end(&self, outcome: StartOutcome, now: DateTime<Utc>) -> StartAttempt {
        StartAttempt {
            outcome,
            time_ended: Some(now),
            staged_failure: None,
            ..self.clone()
        }
    }

    /// The same attempt, ended by the instance being known to have run.
    pub fn started(&self, now: DateTime<Utc>) -> StartAttempt {
        self.end(StartOutcome::Started, now)
    }

    /// The same attempt, overtaken by a later request.
    pub fn superseded(&self, now: DateTime<Utc>) -> StartAttempt {
        self.end(StartOutcome::Superseded, now)
    }

    /// The same attempt, failed.
    pub fn failed(
        &self,
        failure: &StartFailure,
        internal_error: Option<String>,
        now: DateTime<Utc>,
    ) -> StartAttempt {
        StartAttempt {
            failure_kind: Some(failure.kind),
            failure_message: Some(failure.message.clone()),
            failure_transient: Some(failure.transient),
            failure_details: Some(
                serde_json::to_value(&failure.details)
                    .unwrap_or(serde_json::Value::Null),
            ),
            internal_error: internal_error.as_deref().map(kept_error),
            ..self.end(StartOutcome::Failed, now)
        }
    }
}

/// How much of an error's chain is kept; the columns hold as much.
pub const INTERNAL_ERROR_CHARS: usize = 4096;

/// What is kept of an error's chain for operators: bounded, and without the NUL
/// that the database refuses.
pub fn kept_error(chain: &str) -> String {
    chain.chars().filter(|c| *c != '\0').take(INTERNAL_ERROR_CHARS).collect()
}

/// The wait before the system tries again to start what has failed to start
/// `failed_starts` times in a row: 5 s, doubling to 5 min.
pub fn retry_backoff(failed_starts: i64) -> TimeDelta {
    let doublings = u32::try_from(failed_starts.clamp(1, 7) - 1).unwrap_or(0);
    TimeDelta::seconds((5i64 << doublings).min(300))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::{Amounts, Ask, Quota, SledRoom, explain};
    use crate::{ByteCount, SledCpu, SledId, SledPolicy, SledProvisionPolicy};

    /// A placement's refusal of so many vCPUs by a sled of so many, of which so
    /// many are free.
    fn refusal(requested: i64, free: i64, of: i64) -> StartFailure {
        let amounts = |vcpus| Amounts { vcpus, memory: 1 << 40, storage: 0 };
        let ask = Ask {
            vcpus: requested,
            memory: ByteCount::GIB,
            cpu_platform: None,
            groups: Vec::new(),
            disks: Vec::new(),
            quota: Quota { limit: amounts(99), used: Amounts::default() },
        };
        let sled = SledRoom {
            id: SledId(uuid::Uuid::nil()),
            policy: SledPolicy::InService,
            provision_policy: SledProvisionPolicy::Provisionable,
            silent: false,
            cpu: SledCpu::Unknown,
            total: amounts(of),
            reserved: Amounts { vcpus: of - free, ..Amounts::default() },
        };
        explain(&ask, &[sled], &[]).expect("too little is free")
    }

    #[test]
    fn a_reason_is_told_anew_when_it_is_another_and_not_for_a_little_room() {
        let told = refusal(8, 2, 16);
        assert!(told.tells_as_much_as(&refusal(8, 7, 16)));
        for later in [
            refusal(9, 2, 16),
            refusal(8, 2, 7),
            StartFailure::host_unreachable(),
        ] {
            assert!(!told.tells_as_much_as(&later), "{later:?}");
        }
        let rejected = StartFailure::host_rejected("No.");
        assert!(!rejected.tells_as_much_as(&told));
    }

    #[test]
    fn retries_back_off_from_five_seconds_to_five_minutes() {
        let waits: Vec<i64> =
            (0..10).map(|n| retry_backoff(n).num_seconds()).collect();
        assert_eq!(waits, [5, 5, 10, 20, 40, 80, 160, 300, 300, 300]);
    }
}
