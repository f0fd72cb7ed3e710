//! Images on the wire.

use chrono::{DateTime, Utc};
use db_model::{
    BlockSize, ByteCount, ImageId, Name, NameOrId, NewImage, ProjectId,
    SnapshotId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::description::check_description;
use crate::error::Error;

/// What the database has room for.
const OS_MAX_CHARS: usize = 512;

/// Which image.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ImagePath {
    /// Name or id of the image.
    pub image: NameOrId,
}

/// What disks may begin with.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Image {
    /// Never changes.
    pub id: ImageId,
    /// Unique in the project, or among the silo's own.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// The project that it is in; null if it is the silo's, and seen in all its
    /// projects.
    pub project_id: Option<ProjectId>,
    /// The family of the operating system.
    pub os: String,
    /// The version of the operating system.
    pub version: String,
    /// Of what it holds. Null: not known.
    pub digest: Option<Digest>,
    /// The size of its blocks, in bytes.
    pub block_size: BlockSize,
    /// In bytes.
    pub size: ByteCount,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last changed.
    pub time_modified: DateTime<Utc>,
}

/// A hash of what an image holds.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum Digest {
    /// SHA-256, in hex.
    Sha256(String),
}

/// An image to be made.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ImageCreate {
    /// Unique in the project, or among the silo's own.
    pub name: Name,
    /// Free text, at most 512 characters.
    pub description: String,
    /// The family of the operating system, as in "debian".
    pub os: String,
    /// The version of the operating system, as in "12".
    pub version: String,
    /// What it shall hold.
    pub source: ImageSource,
}

/// What an image shall hold.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ImageSource {
    /// What a snapshot holds.
    Snapshot {
        /// The snapshot.
        id: SnapshotId,
    },
}

impl TryFrom<ImageCreate> for NewImage {
    type Error = Error;

    fn try_from(body: ImageCreate) -> Result<Self, Error> {
        check_description(&body.description)?;
        check_text("os", &body.os)?;
        check_text("version", &body.version)?;
        let ImageSource::Snapshot { id: snapshot_id } = body.source;
        Ok(Self {
            name: body.name,
            description: body.description,
            os: body.os,
            version: body.version,
            snapshot_id,
        })
    }
}

fn check_text(field: &'static str, text: &str) -> Result<(), Error> {
    let chars = text.chars().count();
    if chars > OS_MAX_CHARS {
        return Err(Error::invalid_value(
            field,
            format!("{chars} characters are too many: at most {OS_MAX_CHARS}"),
        ));
    }
    // PostgreSQL's text holds any character but this one.
    if text.contains('\0') {
        return Err(Error::invalid_value(
            field,
            "it must not contain the character U+0000",
        ));
    }
    Ok(())
}
