//! Instances on the wire.

use chrono::{DateTime, Utc};
use db_model::{
    AutoRestartPolicy, ByteCount, DiskId, Hostname, InstanceCpuPlatform,
    InstanceId, IntendedState, Name, NameOrId, ProjectId, RunState, VcpuCount,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InstanceLastFailure, InstanceStartFailure};

/// Which instance, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct InstancePath {
    /// Name or id of the instance.
    pub instance: NameOrId,
}

/// How to look at an instance.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct InstanceViewParams {
    /// Name or id of the project; needed when the instance is called by name.
    pub project: Option<NameOrId>,
    /// Wait until the view's `view_gen` is above this one, and answer then.
    pub wait_for_change: Option<u64>,
    /// How long to wait at most, from 1 to 60; 30 if absent. After that the
    /// answer is the view as it is.
    pub wait_seconds: Option<u32>,
}

/// A virtual machine.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Instance {
    /// Never changes.
    pub id: InstanceId,
    /// Unique in the project.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// The project that it is in.
    pub project_id: ProjectId,
    /// What the guest calls itself.
    pub hostname: Hostname,
    /// Number of vCPUs.
    pub ncpus: VcpuCount,
    /// Memory in bytes.
    pub memory: ByteCount,
    /// The disk that it boots from, if one is set.
    pub boot_disk_id: Option<DiskId>,
    /// The CPU platform that it needs, if it needs one: it runs only on hosts
    /// that have all of it.
    pub cpu_platform: Option<InstanceCpuPlatform>,
    /// Does its network carry jumbo frames?
    pub enable_jumbo_frames: bool,

    /// What its users want it to do.
    pub intended_state: IntendedState,
    /// What it does, as far as is known.
    pub run_state: RunState,
    /// Since when it does so.
    pub time_run_state_updated: DateTime<Utc>,
    /// Since when its host has not been heard of, if it runs and that is too
    /// long ago: `run_state` is then the last that was known.
    pub state_unconfirmed_since: Option<DateTime<Utc>>,
    /// Why it does not run, though it should: its latest attempt to start.
    /// Null when that is not the reason.
    pub start_failure: Option<InstanceStartFailure>,
    /// How its last run ended, if badly. Null once it runs again.
    pub last_failure: Option<InstanceLastFailure>,
    /// Rises with every change of this view; see `wait_for_change`.
    pub view_gen: u64,

    /// Shall the system start it again when it fails? Null means that the
    /// system's default, `best_effort`, applies.
    pub auto_restart_policy: Option<AutoRestartPolicy>,
    /// Would the system start it again if it failed?
    pub auto_restart_enabled: bool,
    /// Until when it would not be started again, if it failed; null if it
    /// would be at once.
    pub auto_restart_cooldown_expiration: Option<DateTime<Utc>>,
    /// When the system last started it again.
    pub time_last_auto_restarted: Option<DateTime<Utc>>,

    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When its settings were last changed.
    pub time_modified: DateTime<Utc>,
}
