//! Instances: what a user wants to run.

use crate::schema::instance;
use crate::{
    AffinityGroupId, ByteCount, DiskId, Hostname, InstanceCpuPlatform,
    InstanceId, Name, NameOrId, NewDisk, ProjectId, SiloId, SshKeyId,
    StartAttempt, StartAttemptId, StartFailure, StartOutcome, VcpuCount, Vmm,
    VmmEndReason, VmmId,
};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{Insertable, Queryable, QueryableByName, Selectable};

sql_enum! {
    /// What is, of an instance. What users see is computed (`RunState`).
    pub enum InstanceState: InstanceStateSql {
        /// Its create saga is at work.
        Creating = "creating",
        /// At rest, or about to be started.
        NoVmm = "no_vmm",
        /// A VMM is linked.
        Vmm = "vmm",
        /// It should run and does not, and nobody is starting it.
        Failed = "failed",
        /// It is gone.
        Destroyed = "destroyed",
    }
}

sql_enum! {
    /// What is wanted of an instance: the last accepted request.
    pub enum IntendedState: IntendedStateSql {
        /// It should run.
        Running = "running",
        /// It should not.
        Stopped = "stopped",
        /// Its guest shut itself down, which is taken for its user's wish.
        GuestShutdown = "guest_shutdown",
        /// It should not exist.
        Destroyed = "destroyed",
    }
}

sql_enum! {
    /// Whether the system starts an instance again that failed.
    pub enum AutoRestartPolicy: AutoRestartPolicySql {
        /// It does not.
        Never = "never",
        /// It does, as well as it can.
        BestEffort = "best_effort",
    }
}

/// The wait between automatic restarts where an instance has none of its own.
pub const DEFAULT_COOLDOWN: TimeDelta = TimeDelta::minutes(5);

/// An instance. As JSON it has those columns that may change.
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
#[diesel(table_name = instance)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct Instance {
    pub id: InstanceId,
    #[serde(skip)]
    pub project_id: ProjectId,
    pub name: Name,
    pub description: String,
    #[serde(skip)]
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
    pub time_deleted: Option<DateTime<Utc>>,
    pub hostname: Hostname,
    pub ncpus: VcpuCount,
    pub memory_bytes: ByteCount,
    #[serde(skip)]
    pub user_data: String,
    #[serde(skip)]
    pub network_interfaces: serde_json::Value,
    pub auto_restart_policy: Option<AutoRestartPolicy>,
    pub auto_restart_cooldown_secs: Option<i64>,
    pub time_last_auto_restarted: Option<DateTime<Utc>>,
    pub state: InstanceState,
    pub state_gen: i64,
    pub time_state_updated: DateTime<Utc>,
    pub active_vmm_id: Option<VmmId>,
    pub target_vmm_id: Option<VmmId>,
    pub pending_start_attempt_id: Option<StartAttemptId>,
    pub latest_start_attempt_id: Option<StartAttemptId>,
    pub last_failure_kind: Option<VmmEndReason>,
    pub last_failure_message: Option<String>,
    pub time_last_failure: Option<DateTime<Utc>>,
    pub failed_starts: i64,
    pub next_retry_at: Option<DateTime<Utc>>,
    pub reconcile_at: Option<DateTime<Utc>>,
    pub reconcile_errors: i64,
    pub reconcile_last_error: Option<String>,
    pub view_gen: i64,
    pub intended_state: IntendedState,
    pub cpu_platform: Option<InstanceCpuPlatform>,
    pub boot_disk_id: Option<DiskId>,
}

impl Instance {
    /// Would the system start it again by itself?
    pub fn auto_restart_enabled(&self) -> bool {
        self.auto_restart_policy.unwrap_or(AutoRestartPolicy::BestEffort)
            == AutoRestartPolicy::BestEffort
    }

    /// When it may next be restarted after having run and failed; `None`:
    /// it never was, so at any time.
    pub fn cooldown_expiration(&self) -> Option<DateTime<Utc>> {
        let cooldown = self
            .auto_restart_cooldown_secs
            .map_or(DEFAULT_COOLDOWN, TimeDelta::seconds);
        self.time_last_auto_restarted.map(|t| t + cooldown)
    }
}

/// What a user says of a new instance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewInstance {
    pub name: Name,
    pub description: String,
    pub hostname: Hostname,
    pub ncpus: VcpuCount,
    pub memory: ByteCount,
    /// base64, as it came.
    pub user_data: String,
    pub network_interfaces: serde_json::Value,
    pub auto_restart_policy: Option<AutoRestartPolicy>,
    #[serde(default)]
    pub cpu_platform: Option<InstanceCpuPlatform>,
    /// The anti-affinity groups, of its project, that it joins.
    #[serde(default)]
    pub anti_affinity_groups: Vec<NameOrId>,
    #[serde(default)]
    pub disks: Vec<NewInstanceDisk>,
    /// Those of its user's SSH keys that it is given; none: all of them.
    #[serde(default)]
    pub ssh_public_keys: Option<Vec<NameOrId>>,
    /// Which of them it boots from first, by its name.
    #[serde(default)]
    pub boot_disk: Option<Name>,
    /// Is it to run as soon as it exists?
    pub start: bool,
}

/// A disk that a new instance is to have.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum NewInstanceDisk {
    /// One that is made with it.
    Create(NewDisk),
    /// One of its project.
    Attach(Name),
}

impl NewInstanceDisk {
    /// The disk's name.
    pub fn name(&self) -> &Name {
        match self {
            NewInstanceDisk::Create(new) => &new.name,
            NewInstanceDisk::Attach(name) => name,
        }
    }
}

/// What a new instance comes with, found by what its user said.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize,
)]
pub struct Joins {
    /// The anti-affinity groups that it joins.
    pub groups: Vec<AffinityGroupId>,
    /// The disks that are made with it.
    pub made: Vec<(DiskId, NewDisk)>,
    /// The disks that were there, and are attached to it.
    pub attached: Vec<DiskId>,
    /// The SSH keys that it is given.
    #[serde(default)]
    pub ssh_keys: Vec<SshKeyId>,
    /// Which of all these it boots from first.
    #[serde(default)]
    pub boot: Option<DiskId>,
}

/// What a user changes of an instance: all of it is said each time, but for
/// the hostname.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct InstanceChange {
    /// None: as it is.
    pub hostname: Option<Hostname>,
    pub ncpus: VcpuCount,
    pub memory: ByteCount,
    pub auto_restart_policy: Option<AutoRestartPolicy>,
    pub cpu_platform: Option<InstanceCpuPlatform>,
    pub boot_disk: Option<DiskId>,
}

/// An instance with all that what a user sees of it is computed from.
#[derive(Clone, Debug)]
pub struct InstanceView {
    /// The instance.
    pub instance: Instance,
    /// Whose it is.
    pub silo_id: SiloId,
    /// Its linked VMM.
    pub vmm: Option<Vmm>,
    /// Its newest start attempt.
    pub latest_attempt: Option<StartAttempt>,
    /// When the linked VMM's sled last sent a heartbeat.
    pub sled_last_seen: Option<DateTime<Utc>>,
    /// The database's time of this reading.
    pub now: DateTime<Utc>,
}

impl InstanceView {
    /// The latest attempt, while its failure is the reason that the instance
    /// does not run.
    pub fn start_failure(&self) -> Option<(&StartAttempt, StartFailure)> {
        let attempt = self.latest_attempt.as_ref()?;
        let holds = self.instance.intended_state == IntendedState::Running
            && self.instance.pending_start_attempt_id.is_none()
            // It may have come up after its attempt had been given up.
            && self.instance.failed_starts > 0
            && attempt.outcome == StartOutcome::Failed;
        holds.then_some(())?;
        attempt.failure().map(|f| (attempt, f))
    }

    /// Since when the linked VMM's sled has been silent, if for longer than
    /// its heartbeat allows: what the view says may be out of date.
    pub fn state_unconfirmed_since(&self) -> Option<DateTime<Utc>> {
        let vmm = self.vmm.as_ref().filter(|v| !v.ended())?;
        self.sled_last_seen
            .filter(|seen| self.now - *seen > crate::HEARTBEAT_ALLOWANCE)
            .filter(|_| vmm.may_run)
    }
}
