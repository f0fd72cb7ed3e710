//! Start attempts on the wire.

use chrono::{DateTime, Utc};
use db_model::{
    InstanceId, NameOrId, SiloUserId, StartAttemptId, StartFailure,
    StartOutcome, StartReason,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which start attempt, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct StartAttemptPath {
    /// Name or id of the instance.
    pub instance: NameOrId,
    /// Id of the attempt.
    pub attempt: StartAttemptId,
}

/// How to look at a start attempt.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct StartAttemptViewParams {
    /// Name or id of the project; needed when the instance is called by name.
    pub project: Option<NameOrId>,
    /// Wait until the attempt's outcome is another than this one, and answer
    /// then. An attempt that is over changes no more, and is answered at once.
    pub wait_for_change: Option<StartOutcome>,
    /// How long to wait at most, from 1 to 60; 30 if absent. After that the
    /// answer is the attempt as it is.
    pub wait_seconds: Option<u32>,
}

/// One attempt to start an instance.
#[derive(Debug, JsonSchema, Serialize)]
pub struct StartAttempt {
    /// The attempt's id.
    pub id: StartAttemptId,
    /// The instance that was to start.
    pub instance_id: InstanceId,
    /// What the attempt was made for.
    pub reason: StartReason,
    /// The user who asked for it; null if the system did.
    pub requested_by: Option<SiloUserId>,
    /// When it was asked for.
    pub time_started: DateTime<Utc>,
    /// When it ended; null while it is pending.
    pub time_ended: Option<DateTime<Utc>>,
    /// How it ended.
    pub outcome: StartOutcome,
    /// Why it failed; null unless it did.
    pub failure: Option<StartFailure>,
}
