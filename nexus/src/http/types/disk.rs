//! Disks on the wire.

use chrono::{DateTime, Utc};
use db_model::{
    ByteCount, DiskId, InstanceId, MAX_INSTANCE_DISKS, Name, NameOrId, NewDisk,
    NewInstanceDisk, ProjectId,
};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::{InstanceType, Schema, SchemaObject};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

use super::description::check_description;
use crate::error::Error;

/// In GiB: 64 TiB, more than a host is known to have. The 12 disks of an instance
/// are less than 2^50 bytes together, and sums of bytes may reach 2^63.
const SIZE_MAX_GIB: u32 = 64 * 1024;

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
    /// Can it be read only?
    pub read_only: bool,
    /// The image that it was made from.
    pub image_id: Option<Uuid>,
    /// The snapshot that it was made from.
    pub snapshot_id: Option<Uuid>,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When it was last attached or detached.
    pub time_modified: DateTime<Utc>,
}

/// Where a disk's blocks are.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskType {
    /// On one host, chosen when an instance with it is first started. From then
    /// on only that host can run an instance with it.
    Local,
}

/// What is done with a disk.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DiskState {
    /// It is attached to nothing.
    Detached,
    /// It is attached to this instance.
    Attached {
        /// The instance.
        instance: InstanceId,
    },
}

/// A disk to be made.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DiskCreate {
    /// Unique in the project.
    pub name: Name,
    /// Free text, at most 512 characters.
    pub description: String,
    /// In bytes: 1 GiB to 64 TiB, in steps of 1 GiB.
    pub size: ByteCount,
    /// Where its blocks shall be. Only `local` is possible yet.
    pub disk_backend: DiskBackend,
}

/// Where a new disk's blocks shall be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DiskBackend {
    /// On the host that runs the instance.
    Local,
    /// On several hosts. Not possible yet.
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
        snapshot_id: Uuid,
        /// Shall it be read only?
        #[serde(default)]
        read_only: bool,
    },
    /// What an image holds.
    Image {
        /// The image.
        image_id: Uuid,
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

/// The size of a disk's blocks, in bytes: 512, 2048 or 4096.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(try_from = "u32")]
pub struct BlockSize(u32);

impl BlockSize {
    /// A local disk's.
    pub(in crate::http) const LOCAL: BlockSize = BlockSize(4096);

    const ALL: [u32; 3] = [512, 2048, 4096];
}

impl TryFrom<u32> for BlockSize {
    type Error = String;

    fn try_from(bytes: u32) -> Result<Self, String> {
        if Self::ALL.contains(&bytes) {
            return Ok(Self(bytes));
        }
        Err(format!("block size {bytes} is none of {:?}", Self::ALL))
    }
}

impl JsonSchema for BlockSize {
    fn schema_name() -> String {
        "BlockSize".to_owned()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = SchemaObject {
            instance_type: Some(InstanceType::Integer.into()),
            enum_values: Some(Self::ALL.map(Into::into).into()),
            ..SchemaObject::default()
        };
        schema.metadata().description =
            Some("The size of a disk's blocks, in bytes".to_owned());
        Schema::Object(schema)
    }
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
        check_size(body.size)?;
        match body.disk_backend {
            DiskBackend::Local => (),
            DiskBackend::Distributed { .. } => {
                return Err(Error::invalid_value(
                    "disk_backend",
                    "\"distributed\" is not possible yet: use \
                     {\"type\": \"local\"}",
                ));
            }
        }
        Ok(Self {
            name: body.name,
            description: body.description,
            size: body.size,
        })
    }
}

fn check_size(size: ByteCount) -> Result<(), Error> {
    let range = ByteCount::GIB..=ByteCount::from_gib(SIZE_MAX_GIB);
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
            let new = disk.try_into().map_err(|error: Error| {
                Error::invalid_value("disks", format!("\"{name}\": {error}"))
            })?;
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
    fn a_distributed_disk_is_understood_and_refused_by_name() {
        let id = "12345678-1234-1234-1234-123456789abc";
        for source in [
            json!({ "type": "blank", "block_size": 512 }),
            json!({ "type": "snapshot", "snapshot_id": id }),
            json!({ "type": "image", "image_id": id, "read_only": true }),
            json!({ "type": "importing_blocks", "block_size": 4096 }),
        ] {
            let backend =
                json!({ "type": "distributed", "disk_source": source });
            let refused = create(json!({ "disk_backend": backend }));
            assert_eq!(
                refused.expect_err("distributed"),
                "disk_backend: \"distributed\" is not possible yet: use \
                 {\"type\": \"local\"}",
            );
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
        for (wished, why) in [
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
