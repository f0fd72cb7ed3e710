//! What Nexus and a sled say to each other about serial consoles.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// At most so many bytes are in a part, whatever was asked for.
pub const MAX_CONSOLE_PART_BYTES: u64 = 1 << 20;

/// Which part of what a guest has printed. Offsets count from its boot.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
pub struct ConsoleQuery {
    /// From this offset on. What is not kept any more is left out.
    pub from_start: Option<u64>,
    /// From so many bytes before the end on. Not together with `from_start`.
    pub most_recent: Option<u64>,
    /// At most so many bytes.
    pub max_bytes: Option<u64>,
}

/// A part of what a guest has printed.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ConsolePart {
    /// The bytes, in base64.
    pub base64_data: String,
    /// The offset after the last of them.
    pub end: u64,
}

/// Where a stream of what a guest prints begins.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
pub struct ConsoleStreamQuery {
    /// So many bytes before the end. Without it: at the first byte that is
    /// kept.
    pub most_recent: Option<u64>,
}
