//! Is anybody there?

use schemars::JsonSchema;
use serde::Serialize;

/// The answer to a ping.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Ping {
    /// `ok`, or there would be no answer.
    pub status: PingStatus,
}

/// How the API is.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PingStatus {
    /// It answers.
    Ok,
}
