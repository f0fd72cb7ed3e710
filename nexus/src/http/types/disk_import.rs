//! The sending of a disk's blocks, on the wire.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use db_model::Name;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::Error;

/// How large a body with a chunk may be: 512 KiB are two thirds of that in
/// base64.
pub const CHUNK_BODY_MAX_BYTES: usize = 1 << 20;

/// A part of a disk's blocks.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ImportBlocksBulkWrite {
    /// Where the first byte goes: a multiple of the size of the disk's blocks.
    pub offset: u64,
    /// The bytes, in base64: a whole number of blocks, at most 512 KiB.
    pub base64_encoded_data: String,
}

impl ImportBlocksBulkWrite {
    /// The bytes.
    ///
    /// # Errors
    ///
    /// `InvalidValue`: it is no base64.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        STANDARD.decode(&self.base64_encoded_data).map_err(|why| {
            Error::invalid_value(
                "base64_encoded_data",
                format!("this is no base64: {why}"),
            )
        })
    }
}

/// How a disk's import is finished.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct FinalizeDisk {
    /// The name of a snapshot to be made of the disk; null means none.
    #[serde(default)]
    pub snapshot_name: Option<Name>,
}
