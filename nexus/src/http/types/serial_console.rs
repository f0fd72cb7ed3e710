//! Serial consoles on the wire.

use db_model::NameOrId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sled_agent_client::ConsoleQuery;

use crate::error::Error;

/// Which part of what an instance printed. One of `from_start` and
/// `most_recent` must be there, and not both.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct InstanceSerialConsoleParams {
    /// Name or id of the project; needed when the instance is called by name.
    pub project: Option<NameOrId>,
    /// From this byte on, counted from the beginning of the run. What is not
    /// kept any more is left out.
    pub from_start: Option<u64>,
    /// From so many bytes before the end on.
    pub most_recent: Option<u64>,
    /// At most so many bytes. No answer has more than 1 MiB.
    pub max_bytes: Option<u64>,
}

impl InstanceSerialConsoleParams {
    /// Which part that is.
    ///
    /// # Errors
    ///
    /// `InvalidRequest`: it does not say where the part begins, or says it
    /// twice.
    pub fn part(&self) -> Result<ConsoleQuery, Error> {
        if self.from_start.is_some() == self.most_recent.is_some() {
            return Err(Error::InvalidRequest {
                message: "say where to begin by from_start or by most_recent: \
                          one of them is needed, and not both"
                    .to_string(),
            });
        }
        Ok(ConsoleQuery {
            from_start: self.from_start,
            most_recent: self.most_recent,
            max_bytes: self.max_bytes,
        })
    }
}

/// Where a stream begins.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct InstanceSerialConsoleStreamParams {
    /// Name or id of the project; needed when the instance is called by name.
    pub project: Option<NameOrId>,
    /// So many bytes before the end. Without it: at the first byte that is
    /// kept.
    pub most_recent: Option<u64>,
}

/// A part of what an instance printed.
#[derive(Debug, JsonSchema, Serialize)]
pub struct InstanceSerialConsoleData {
    /// The bytes.
    pub data: Vec<u8>,
    /// The offset after the last of them, counted from the beginning of the
    /// run: where the next part begins (`from_start`).
    pub last_byte_offset: u64,
}
