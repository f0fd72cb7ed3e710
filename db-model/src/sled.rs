//! Sleds: the hosts.

use crate::schema::sled;
use crate::{
    ByteCount, InstanceId, Name, RunState, SledCpu, SledId, VcpuCount,
};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{Insertable, Queryable, QueryableByName, Selectable};
use uuid::Uuid;

sql_enum! {
    /// Whether a host is ours to use at all.
    pub enum SledPolicy: SledPolicySql {
        /// It is.
        InService = "in_service",
        /// It is off for good: an operator said so.
        Expunged = "expunged",
    }
}

sql_enum! {
    /// Whether new instances may be placed on a host.
    pub enum SledProvisionPolicy: SledProvisionPolicySql {
        /// They may.
        Provisionable = "provisionable",
        /// They may not; what runs there stays.
        NonProvisionable = "non_provisionable",
    }
}

/// A host, as its agent registered it and as operators set it.
#[derive(Clone, Debug, Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = sled)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct Sled {
    pub id: SledId,
    pub address: String,
    pub serial: String,
    pub part: String,
    pub revision: i64,
    pub policy: SledPolicy,
    pub provision_policy: SledProvisionPolicy,
    pub incarnation: Uuid,
    pub vcpus: i64,
    pub memory_bytes: ByteCount,
    pub storage_bytes: ByteCount,
    pub reserved_vcpus: i64,
    pub reserved_memory_bytes: ByteCount,
    pub time_last_heartbeat: DateTime<Utc>,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
    pub cpu: SledCpu,
    pub reserved_storage_bytes: ByteCount,
    pub fences_after_ms: Option<i64>,
}

/// How long a sled may be silent before what it last said counts as
/// unconfirmed, and before nothing more is placed on it. Agents send a
/// heartbeat every 3 s, so this is three lost ones.
pub const HEARTBEAT_ALLOWANCE: TimeDelta = TimeDelta::seconds(10);

impl Sled {
    /// Has it been silent for longer than its heartbeat allows?
    pub fn silent(&self, now: DateTime<Utc>) -> bool {
        now - self.time_last_heartbeat > HEARTBEAT_ALLOWANCE
    }

    /// How long after a heartbeat that is recorded at `now` the sled may still
    /// run guests that nobody can ask it about; `None`: for ever. `said` is
    /// what that heartbeat promises, `process` whose it is.
    ///
    /// What was promised before holds until it has run out: heartbeats overtake
    /// each other, and the sled goes by the longest that was recorded. A sled
    /// that never stopped its guests does so only by the word of a process that
    /// is not an earlier one.
    pub fn promise(
        &self,
        said: Option<i64>,
        process: Uuid,
        now: DateTime<Utc>,
    ) -> Option<i64> {
        let said = said?;
        let Some(before) = self.fences_after_ms else {
            return (!is_earlier(process, self.incarnation)).then_some(said);
        };
        let silent = (now - self.time_last_heartbeat).num_milliseconds();
        Some(said.max(before.saturating_sub(silent)))
    }

    /// The process of the agent that is known once `process` was heard: an
    /// earlier one, heard late, does not take the place of a later.
    pub fn process_after(&self, process: Uuid) -> Uuid {
        if is_earlier(process, self.incarnation) {
            self.incarnation
        } else {
            process
        }
    }

    /// How long the sled must have been silent for its guests to have been
    /// stopped by it; `None`: it does not stop them. The margin is for clocks
    /// of different speeds, and for the time that it takes to kill.
    pub fn stopped_after(&self, margin: TimeDelta) -> Option<TimeDelta> {
        let promised = TimeDelta::try_milliseconds(self.fences_after_ms?)?;
        promised.checked_add(&(promised / DRIFT))?.checked_add(&margin)
    }

    /// Has it been silent for so long that it has stopped its guests?
    pub fn has_stopped(&self, now: DateTime<Utc>, margin: TimeDelta) -> bool {
        self.stopped_after(margin)
            .is_some_and(|after| now - self.time_last_heartbeat > after)
    }
}

/// The part of a time by which two clocks may differ when it is over.
const DRIFT: i32 = 100;

/// Is it certain that this process of an agent came before that one? Agents
/// name their processes by UUIDs that rise (version 7); old ones by any.
fn is_earlier(this: Uuid, that: Uuid) -> bool {
    let rises = |id: Uuid| id.get_version_num() == 7;
    rises(this) && rises(that) && this < that
}

/// An instance on a sled, as an operator sees it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SledInstance {
    pub id: InstanceId,
    pub sled_id: SledId,
    pub name: Name,
    pub project_name: Name,
    pub silo_name: Name,
    pub ncpus: VcpuCount,
    pub memory: ByteCount,
    pub state: RunState,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id as the `n`th process of an agent has it.
    fn process(n: u64) -> Uuid {
        uuid::Builder::from_unix_timestamp_millis(n, &[0; 10]).into_uuid()
    }

    fn heard(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_000_000 + ms).unwrap()
    }

    /// Heard at 0 from the second process, with this promise.
    fn sled(fences_after_ms: Option<i64>) -> Sled {
        Sled {
            id: SledId::new_v4(),
            address: String::new(),
            serial: String::new(),
            part: String::new(),
            revision: 0,
            policy: SledPolicy::InService,
            provision_policy: SledProvisionPolicy::Provisionable,
            incarnation: process(2),
            vcpus: 1,
            memory_bytes: ByteCount::ZERO,
            storage_bytes: ByteCount::ZERO,
            reserved_vcpus: 0,
            reserved_memory_bytes: ByteCount::ZERO,
            time_last_heartbeat: heard(0),
            time_created: heard(0),
            time_modified: heard(0),
            cpu: SledCpu::Unknown,
            reserved_storage_bytes: ByteCount::ZERO,
            fences_after_ms,
        }
    }

    #[test]
    fn a_longer_promise_counts_at_once_and_a_shorter_one_when_it_has_run_out() {
        let before = sled(Some(10_000));
        for (said, at, counts) in [
            (Some(20_000), 1_000, Some(20_000)),
            (Some(2_000), 1_000, Some(9_000)),
            (Some(2_000), 7_000, Some(3_000)),
            (Some(2_000), 9_000, Some(2_000)),
            (Some(2_000), 90_000, Some(2_000)),
            (None, 1_000, None),
        ] {
            for from in [1, 2, 3] {
                let now = before.promise(said, process(from), heard(at));
                assert_eq!(now, counts, "{said:?} at {at} from {from}");
            }
        }
    }

    #[test]
    fn fencing_begins_by_no_word_of_a_process_that_is_over() {
        let never = sled(None);
        let promise = |by| never.promise(Some(5), by, heard(1));
        assert_eq!(promise(process(1)), None);
        assert_eq!(promise(process(2)), Some(5));
        assert_eq!(promise(process(3)), Some(5));
        assert_eq!(never.process_after(process(1)), process(2));
        assert_eq!(never.process_after(process(3)), process(3));
        let any = Uuid::new_v4();
        assert_eq!(never.process_after(any), any);
    }

    #[test]
    fn a_sled_has_stopped_its_guests_after_its_promise_and_the_margin() {
        let margin = TimeDelta::milliseconds(1_000);
        let stopped =
            |promise, at| sled(promise).has_stopped(heard(at), margin);
        assert!(!stopped(None, i64::from(i32::MAX)));
        // 10 s, 1 % of it, and the margin.
        assert!(!stopped(Some(10_000), 11_100));
        assert!(stopped(Some(10_000), 11_101));
        assert!(!stopped(Some(i64::MAX), i64::from(i32::MAX)));
    }
}
