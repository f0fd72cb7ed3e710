//! Why an instance that should run does not.

use chrono::{DateTime, Utc};
use db_model::{
    InstanceId, Name, ProjectId, RunState, StartAttemptId, StartFailure,
    VmmEndReason,
};
use schemars::JsonSchema;
use serde::Serialize;

/// The failed attempt that is the reason why an instance does not run.
#[derive(Debug, JsonSchema, Serialize)]
pub struct InstanceStartFailure {
    /// The attempt that failed.
    pub attempt_id: StartAttemptId,
    /// What went wrong.
    #[serde(flatten)]
    pub failure: StartFailure,
    /// When the system will try again, if it means to. It tries sooner when
    /// what the instance waits for changes.
    pub next_retry_at: Option<DateTime<Utc>>,
    /// When the attempt failed.
    pub time: DateTime<Utc>,
}

/// How the last run of an instance ended, if it ended badly.
#[derive(Debug, JsonSchema, Serialize)]
pub struct InstanceLastFailure {
    /// How it ended.
    pub kind: VmmEndReason,
    /// The same, in a sentence.
    pub message: String,
    /// When it ended.
    pub time: DateTime<Utc>,
}

/// An instance that should run and does not.
#[derive(Debug, JsonSchema, Serialize)]
pub struct InstanceNotRunning {
    /// The instance.
    pub instance: InstanceReference,
    /// What it does instead of running.
    pub run_state: RunState,
    /// Since when it does so.
    pub since: DateTime<Utc>,
    /// Why it could not be started; null if nobody has tried since its last
    /// run.
    pub start_failure: Option<InstanceStartFailure>,
    /// Why its last run ended; null if it has not run, or ended well.
    pub last_failure: Option<InstanceLastFailure>,
    /// May the system start it again?
    pub auto_restart_enabled: bool,
}

/// Enough of an instance to find it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct InstanceReference {
    /// Its id.
    pub id: InstanceId,
    /// Its name in its project.
    pub name: Name,
    /// Its project.
    pub project_id: ProjectId,
}
