//! Disks on the wire.

use chrono::{DateTime, Utc};
use db_model::{
    BlockSize, ByteCount, DiskId, ImageId, InstanceId, MAX_INSTANCE_DISKS,
    Name, NameOrId, NewDisk, NewDiskKind, NewInstanceDisk, ProjectId,
    SnapshotId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use super::description::check_description;
use crate::error::Error;

/// In GiB: 64 TiB, more than a host is known to have. The 12 disks of an instance
/// are less than 2^50 bytes together, and sums of bytes may reach 2^63.
const SIZE_MAX_GIB: u32 = 64 * 1024;

/// In GiB, of a distributed disk: 1 TiB, which takes some minutes to copy.
const DISTRIBUTED_MAX_GIB: u32 = 1024;

/// Which disk.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DiskPath {
    /// Name or id of the disk.
    pub disk: NameOrId,
}

/// A disk.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Disk {
    /// Never changes.
    pub id: DiskId,
    /// Unique in the project.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// The project that it is in.
    pub project_id: ProjectId,
    /// In bytes.
    pub size: ByteCount,
    /// The size of its blocks, in bytes.
    pub block_size: BlockSize,
    /// Where its blocks are.
    pub disk_type: DiskType,
    /// What is done with it.
    pub state: DiskState,
    /// Where it is found when it is attached.
    pub device_path: String,
    /// Can it be read only, and not be written to?
    pub read_only: bool,
    /// The image that it was made from.
    pub image_id: Option<ImageId>,
    /// The snapshot that it was made from.
    pub snapshot_id: Option<SnapshotId>,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last attached, detached or imported.
    pub time_modified: DateTime<Utc>,
}

/// Where a disk's blocks are.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskType {
    /// In the store that all hosts see: any can run an instance with it.
    Distributed,
    /// On one host, chosen when an instance with it is first started. From then
    /// on only that host can run an instance with it.
    Local,
}

/// What is done with a disk.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DiskState {
    /// Its contents are being made.
    Creating,
    /// It is attached to nothing.
    Detached,
    /// Its contents are to be sent.
    ImportReady,
    /// Its contents are being sent.
    ImportingFromBulkWrites,
    /// All of its contents was sent.
    Finalizing,
    /// It is attached to this instance.
    Attached {
        /// The instance.
        instance: InstanceId,
    },
    /// Its contents are lost.
    Faulted,
}

/// A disk to be made.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DiskCreate {
    /// Unique in the project.
    pub name: Name,
    /// Free text, at most 512 characters.
    pub description: String,
    /// In bytes, in steps of 1 GiB: 1 GiB to 1 TiB, or to 64 TiB if it is
    /// local. At least that of the snapshot or the image that it begins with.
    pub size: ByteCount,
    /// Where its blocks shall be.
    pub disk_backend: DiskBackend,
}

/// Where a new disk's blocks shall be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DiskBackend {
    /// On the host that runs the instance.
    Local,
    /// In the store that all hosts see.
    Distributed {
        /// What it begins with.
        disk_source: DiskSource,
    },
}

/// What a distributed disk begins with.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DiskSource {
    /// Nothing.
    Blank {
        /// The size of its blocks, in bytes.
        block_size: BlockSize,
    },
    /// What a snapshot holds.
    Snapshot {
        /// The snapshot.
        snapshot_id: SnapshotId,
        /// Shall it be read only?
        #[serde(default)]
        read_only: bool,
    },
    /// What an image holds.
    Image {
        /// The image.
        image_id: ImageId,
        /// Shall it be read only?
        #[serde(default)]
        read_only: bool,
    },
    /// What is sent afterwards.
    ImportingBlocks {
        /// The size of its blocks, in bytes.
        block_size: BlockSize,
    },
}

/// A disk that a new instance shall have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InstanceDiskAttachment {
    /// One that is made with it.
    Create(DiskCreate),
    /// One that is there, attached to nothing.
    Attach(InstanceDiskAttach),
}

impl InstanceDiskAttachment {
    /// The disk's name.
    pub(super) fn name(&self) -> &Name {
        match self {
            Self::Create(disk) => &disk.name,
            Self::Attach(disk) => &disk.name,
        }
    }
}

/// A disk that is there, for a new instance.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct InstanceDiskAttach {
    /// The disk's name.
    pub name: Name,
}

impl TryFrom<DiskCreate> for NewDisk {
    type Error = Error;

    fn try_from(body: DiskCreate) -> Result<Self, Error> {
        check_description(&body.description)?;
        let kind = body.disk_backend.into();
        check_size(body.size, kind)?;
        Ok(Self {
            name: body.name,
            description: body.description,
            size: body.size,
            kind,
        })
    }
}

impl From<DiskBackend> for NewDiskKind {
    fn from(backend: DiskBackend) -> Self {
        let disk_source = match backend {
            DiskBackend::Local => return Self::Local,
            DiskBackend::Distributed { disk_source } => disk_source,
        };
        match disk_source {
            DiskSource::Blank { block_size } => Self::Blank { block_size },
            DiskSource::ImportingBlocks { block_size } => {
                Self::Import { block_size }
            }
            DiskSource::Snapshot { snapshot_id: id, read_only } => {
                Self::Snapshot { id, read_only }
            }
            DiskSource::Image { image_id: id, read_only } => {
                Self::Image { id, read_only }
            }
        }
    }
}

fn check_size(size: ByteCount, kind: NewDiskKind) -> Result<(), Error> {
    let max = match kind {
        NewDiskKind::Local => SIZE_MAX_GIB,
        NewDiskKind::Blank { .. }
        | NewDiskKind::Import { .. }
        | NewDiskKind::Snapshot { .. }
        | NewDiskKind::Image { .. } => DISTRIBUTED_MAX_GIB,
    };
    let range = ByteCount::GIB..=ByteCount::from_gib(max);
    let wrong = if !range.contains(&size) {
        "is out of range"
    } else if !size.is_multiple_of(ByteCount::GIB) {
        "is not a whole number of GiB"
    } else {
        return Ok(());
    };
    Err(Error::invalid_value(
        "size",
        format!(
            "{size} {wrong}: it must be from {} to {}, in steps of 1 GiB",
            range.start(),
            range.end(),
        ),
    ))
}

/// The disks of a new instance, unless it cannot have them.
pub(super) fn disks_of_new(
    disks: Vec<InstanceDiskAttachment>,
) -> Result<Vec<NewInstanceDisk>, Error> {
    if i64::try_from(disks.len()).is_ok_and(|n| n <= MAX_INSTANCE_DISKS) {
        let disks: Result<_, _> = disks.into_iter().map(disk_of_new).collect();
        return disks.and_then(distinct);
    }
    Err(Error::invalid_value(
        "disks",
        format!(
            "{} are too many: an instance has at most {MAX_INSTANCE_DISKS} disks",
            disks.len(),
        ),
    ))
}

fn disk_of_new(disk: InstanceDiskAttachment) -> Result<NewInstanceDisk, Error> {
    match disk {
        InstanceDiskAttachment::Attach(disk) => {
            Ok(NewInstanceDisk::Attach(disk.name))
        }
        InstanceDiskAttachment::Create(disk) => {
            let name = disk.name.clone();
            let wrong = |why: String| {
                Error::invalid_value("disks", format!("\"{name}\": {why}"))
            };
            let new: NewDisk = disk
                .try_into()
                .map_err(|error: Error| wrong(error.to_string()))?;
            if let NewDiskKind::Import { .. } = new.kind {
                return Err(wrong(
                    "a disk with \"importing_blocks\" cannot be attached \
                     before its import is finalized: make it by itself"
                        .to_string(),
                ));
            }
            Ok(NewInstanceDisk::Create(new))
        }
    }
}

fn distinct(
    disks: Vec<NewInstanceDisk>,
) -> Result<Vec<NewInstanceDisk>, Error> {
    let mut names = BTreeSet::new();
    let twice = disks.iter().find(|disk| !names.insert(disk.name()));
    if let Some(disk) = twice {
        return Err(Error::invalid_value(
            "disks",
            format!("\"{}\" is there twice: name each once", disk.name()),
        ));
    }
    Ok(disks)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const GIB: u64 = 1 << 30;

    /// A body that is right but for `changes`.
    fn body(changes: Value) -> Value {
        let mut body = json!({
            "name": "data",
            "description": "",
            "size": GIB,
            "disk_backend": { "type": "local" },
        });
        let fields = body.as_object_mut().expect("an object");
        fields.extend(changes.as_object().expect("an object").clone());
        body
    }

    fn create(changes: Value) -> Result<NewDisk, String> {
        let body = serde_json::from_value::<DiskCreate>(body(changes))
            .map_err(|error| error.to_string())?;
        body.try_into().map_err(|error: Error| error.to_string())
    }

    fn disks(disks: Vec<Value>) -> Result<Vec<NewInstanceDisk>, String> {
        let disks = serde_json::from_value(Value::Array(disks))
            .map_err(|error| error.to_string())?;
        disks_of_new(disks).map_err(|error| error.to_string())
    }

    #[test]
    fn a_size_must_be_within_bounds() {
        for size in [GIB, 64 * 1024 * GIB] {
            let disk = create(json!({ "size": size })).expect("a valid body");
            assert_eq!(disk.size.to_u64(), size);
        }
        for (size, why) in [
            (0, "0 bytes is out of range"),
            (GIB / 2, "512 MiB is out of range"),
            (GIB + 1, "1073741825 bytes is not a whole number of GiB"),
            ((64 * 1024 + 1) * GIB, "65537 GiB is out of range"),
        ] {
            let message = create(json!({ "size": size })).expect_err(why);
            let expected = format!(
                "size: {why}: it must be from 1 GiB to 64 TiB, in steps of \
                 1 GiB"
            );
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn a_distributed_disk_may_begin_with_anything_and_be_of_1_tib() {
        let id = "12345678-1234-1234-1234-123456789abc";
        for source in [
            json!({ "type": "blank", "block_size": 512 }),
            json!({ "type": "snapshot", "snapshot_id": id }),
            json!({ "type": "image", "image_id": id, "read_only": true }),
            json!({ "type": "importing_blocks", "block_size": 4096 }),
        ] {
            let backend =
                json!({ "type": "distributed", "disk_source": source });
            let of = |size: u64| {
                create(json!({ "size": size, "disk_backend": backend }))
            };
            let disk = of(1024 * GIB).expect("a valid body");
            let read_only = source["read_only"] == true;
            assert_eq!(disk.kind.read_only(), read_only);
            let message = of(1025 * GIB).expect_err("too large");
            assert!(message.contains("from 1 GiB to 1 TiB"), "{message}");
        }
        let source = json!({ "type": "blank", "block_size": 1000 });
        let backend = json!({ "type": "distributed", "disk_source": source });
        let message = create(json!({ "disk_backend": backend }));
        let message = message.expect_err("no such block size");
        assert!(message.contains("none of [512, 2048, 4096]"), "{message}");
    }

    #[test]
    fn a_new_instance_s_disks_are_made_with_it_or_are_there() {
        let disks = disks(vec![
            body(json!({ "type": "create", "name": "b" })),
            json!({ "type": "attach", "name": "a" }),
        ]);
        let disks = disks.expect("valid");
        let names: Vec<_> = disks.iter().map(|d| d.name().as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        let [NewInstanceDisk::Create(new), NewInstanceDisk::Attach(_)] =
            &disks[..]
        else {
            panic!("{disks:?}");
        };
        assert_eq!(new.size, ByteCount::GIB);
    }

    #[test]
    fn a_new_instance_s_disk_that_cannot_be_is_refused_by_its_name() {
        let attach =
            |n: usize| json!({ "type": "attach", "name": format!("d-{n}") });
        let many: Vec<_> = (0..13).map(attach).collect();
        let importing = json!({
            "type": "distributed",
            "disk_source": { "type": "importing_blocks", "block_size": 512 },
        });
        let importing = json!({ "type": "create", "disk_backend": importing });
        for (wished, why) in [
            (
                vec![body(importing)],
                "disks: \"data\": a disk with \"importing_blocks\" cannot",
            ),
            (
                vec![body(json!({ "type": "create", "size": 1 }))],
                "disks: \"data\": size: 1 bytes is out of range",
            ),
            (many.clone(), "disks: 13 are too many"),
            (
                vec![attach(1), attach(2), attach(1)],
                "disks: \"d-1\" is there twice",
            ),
            (
                vec![
                    body(json!({ "type": "create" })),
                    json!({ "type": "attach", "name": "data" }),
                ],
                "disks: \"data\" is there twice",
            ),
        ] {
            let message = disks(wished).expect_err(why);
            assert!(message.starts_with(why), "{message}");
        }
        assert_eq!(disks(many[1..].to_vec()).map(|d| d.len()), Ok(12));
    }
}
