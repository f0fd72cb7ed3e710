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
