//! What Nexus and a sled say to each other about blocks: the contents of disks,
//! snapshots and images, whatever they are to users.
//!
//! An id of blocks is used once: for one thing, made in one way, and never again
//! after it was deleted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many bytes one request may write.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

/// Where blocks are.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum BlocksPlace {
    /// In the disk store, which every sled sees.
    Store,
    /// On the storage of the sled that is asked.
    Local,
}

/// How blocks come about.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct BlocksEnsure {
    /// Where.
    pub place: BlocksPlace,
    /// How many bytes: a multiple of 512, and not 0. More than those of the
    /// source read as zeroes.
    pub size_bytes: u64,
    /// Whether they are never to be written, once they are there.
    pub read_only: bool,
    /// What they are at first.
    pub source: BlocksSource,
}

/// What blocks are at first.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BlocksSource {
    /// Zeroes.
    Blank,
    /// What will be written to them in chunks, until that is finished; zeroes
    /// elsewhere.
    Import,
    /// What other blocks of the same place are, no larger. Those are at rest
    /// until these are there, or never written. Either may be deleted
    /// afterwards, the other stays.
    Copy {
        /// The others.
        blocks_id: Uuid,
    },
}

/// Blocks as a sled sees them.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct BlocksReport {
    /// Which.
    pub blocks_id: Uuid,
    /// How far they are.
    pub state: BlocksState,
}

/// How far blocks are.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BlocksState {
    /// Being made; ask again.
    Making,
    /// To be written in chunks.
    Importing,
    /// There.
    Ready,
    /// They could not be made, and are not there. Told once: who asks again has
    /// it tried again.
    Failed {
        /// Why, in a sentence that their user may read.
        message: String,
    },
}

/// Where blocks are found.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
pub struct BlocksPath {
    /// Which.
    pub blocks_id: Uuid,
}

/// Where blocks are to be looked for.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
pub struct BlocksQuery {
    /// Where.
    pub place: BlocksPlace,
}

/// Which of the bytes.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
pub struct ChunkQuery {
    /// Where the first byte of the body goes.
    pub offset: u64,
}
