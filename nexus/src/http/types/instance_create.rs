//! A new instance, as it is asked for.

use db_model::{
    AutoRestartPolicy, ByteCount, Hostname, InstanceCpuPlatform,
    MAX_INSTANCE_GROUPS, Name, NameOrId, NewInstance, VcpuCount,
};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::{InstanceType, Schema, SchemaObject};
use serde::Deserialize;
use serde_json::Value;

use super::description::check_description;
use super::disk::disks_of_new;
use super::user_data::check_user_data;
use super::{InstanceDiskAttachment, InstanceNetworkInterfaceAttachment};
use crate::error::Error;

/// As many as one guest can use.
const NCPUS_MAX: u16 = 254;

/// In GiB: 1.5 TiB, the largest guest that is known to work.
const MEMORY_MAX_GIB: u32 = 1536;

/// An instance to be made.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct InstanceCreate {
    /// Unique in the project.
    pub name: Name,
    /// Free text, at most 512 characters.
    pub description: String,
    /// What the guest calls itself.
    pub hostname: Hostname,
    /// Number of vCPUs: 1 to 254.
    pub ncpus: VcpuCount,
    /// Memory in bytes: 1 GiB to 1.5 TiB, in steps of 1 GiB.
    pub memory: ByteCount,
    /// Shall it be started at once?
    #[serde(default = "yes")]
    pub start: bool,
    /// Shall the system start it again when it fails? Null means that the
    /// system's default, `best_effort`, applies.
    #[serde(default)]
    pub auto_restart_policy: Option<AutoRestartPolicy>,
    /// For the guest's first boot (cloud-init), in base64: at most 32 KiB before
    /// that.
    #[serde(default)]
    #[schemars(schema_with = "base64_schema")]
    pub user_data: String,
    /// The network interfaces to be made for it.
    #[serde(default)]
    pub network_interfaces: InstanceNetworkInterfaceAttachment,
    /// Those of the user's SSH keys that its guest shall accept from its first
    /// boot on, at most 8; null means all of them, as they are now.
    pub ssh_public_keys: Option<Vec<NameOrId>>,
    /// The disks to be attached to it, at most 12. Those of type `create` are
    /// made with it; those of type `attach` are there, attached to nothing.
    #[serde(default)]
    pub disks: Vec<InstanceDiskAttachment>,
    /// The disk to boot from first; with `disks`, at most 12. Null means that
    /// the guest's firmware tries them by name.
    #[serde(default)]
    pub boot_disk: Option<InstanceDiskAttachment>,
    /// The addresses to be reached at from outside. Only none is possible
    /// yet.
    #[serde(default)]
    pub external_ips: Vec<Value>,
    /// The multicast groups to join. Only none is possible yet.
    #[serde(default)]
    pub multicast_groups: Vec<Value>,
    /// The anti-affinity groups, of its project, to join: at most 16.
    #[serde(default)]
    pub anti_affinity_groups: Vec<NameOrId>,
    /// The CPU platform that it needs: it runs only on hosts that have all of
    /// it. Null means any.
    #[serde(default)]
    pub cpu_platform: Option<InstanceCpuPlatform>,
    /// Shall its network carry jumbo frames? Not possible yet.
    #[serde(default)]
    pub enable_jumbo_frames: bool,
}

impl TryFrom<InstanceCreate> for NewInstance {
    type Error = Error;

    fn try_from(body: InstanceCreate) -> Result<Self, Error> {
        check_description(&body.description)?;
        check_ncpus(body.ncpus)?;
        check_memory(body.memory)?;
        check_user_data(&body.user_data)?;
        refuse_if("external_ips", some(body.external_ips))?;
        refuse_if("multicast_groups", some(body.multicast_groups))?;
        check_groups(&body.anti_affinity_groups)?;
        refuse_if("enable_jumbo_frames", body.enable_jumbo_frames)?;
        Ok(Self {
            name: body.name,
            description: body.description,
            hostname: body.hostname,
            ncpus: body.ncpus,
            memory: body.memory,
            user_data: body.user_data,
            ssh_public_keys: body.ssh_public_keys,
            auto_restart_policy: body.auto_restart_policy,
            network_interfaces: body.network_interfaces.into_kept()?,
            cpu_platform: body.cpu_platform,
            anti_affinity_groups: body.anti_affinity_groups,
            boot_disk: body.boot_disk.as_ref().map(|d| d.name().clone()),
            disks: disks_of_new(
                body.disks.into_iter().chain(body.boot_disk).collect(),
            )?,
            start: body.start,
        })
    }
}

/// Refuses a number of vCPUs that no instance can have.
pub(super) fn check_ncpus(ncpus: VcpuCount) -> Result<(), Error> {
    if (1..=NCPUS_MAX).contains(&ncpus.to_u16()) {
        return Ok(());
    }
    Err(Error::invalid_value(
        "ncpus",
        format!("{ncpus} is out of range: it must be from 1 to {NCPUS_MAX}"),
    ))
}

/// Refuses an amount of memory that no instance can have.
pub(super) fn check_memory(memory: ByteCount) -> Result<(), Error> {
    let range = ByteCount::GIB..=ByteCount::from_gib(MEMORY_MAX_GIB);
    let wrong = if !range.contains(&memory) {
        "is out of range"
    } else if !memory.is_multiple_of(ByteCount::GIB) {
        "is not a whole number of GiB"
    } else {
        return Ok(());
    };
    Err(Error::invalid_value(
        "memory",
        format!(
            "{memory} {wrong}: it must be from {} to {}, in steps of 1 GiB",
            range.start(),
            range.end(),
        ),
    ))
}

/// Refuses more groups than an instance can be in.
fn check_groups(groups: &[NameOrId]) -> Result<(), Error> {
    if i64::try_from(groups.len()).is_ok_and(|n| n <= MAX_INSTANCE_GROUPS) {
        return Ok(());
    }
    Err(Error::invalid_value(
        "anti_affinity_groups",
        format!("{} are too many: at most {MAX_INSTANCE_GROUPS}", groups.len(),),
    ))
}

/// Refuses a wish that is understood and cannot be fulfilled yet.
pub(super) fn refuse_if(
    field: &'static str,
    wished: bool,
) -> Result<(), Error> {
    if wished {
        return Err(Error::invalid_value(
            field,
            "this is not possible yet: leave it out or empty, or null where it \
             must be there",
        ));
    }
    Ok(())
}

fn some<T>(list: Vec<T>) -> bool {
    !list.is_empty()
}

fn yes() -> bool {
    true
}

fn base64_schema(_: &mut SchemaGenerator) -> Schema {
    Schema::Object(SchemaObject {
        instance_type: Some(InstanceType::String.into()),
        format: Some("byte".to_owned()),
        ..SchemaObject::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The outcome of a body that is right but for `changes`.
    fn create(changes: Value) -> Result<NewInstance, String> {
        let mut body = json!({
            "name": "db",
            "description": "",
            "hostname": "db",
            "ncpus": 2,
            "memory": 4_u64 << 30,
        });
        let fields = body.as_object_mut().expect("an object");
        fields.extend(changes.as_object().expect("an object").clone());
        let body = serde_json::from_value::<InstanceCreate>(body)
            .map_err(|error| error.to_string())?;
        body.try_into().map_err(|error: Error| error.to_string())
    }

    #[test]
    fn the_least_that_can_be_said_is_enough() {
        let instance = create(json!({})).expect("a valid body");
        assert!(instance.start);
        assert_eq!(instance.auto_restart_policy, None);
        assert_eq!(
            instance.network_interfaces,
            json!({ "type": "default_dual_stack" }),
        );
    }

    #[test]
    fn saying_that_nothing_is_wished_is_not_a_wish() {
        let outcome = create(json!({
            "disks": [],
            "boot_disk": null,
            "external_ips": [],
            "multicast_groups": [],
            "anti_affinity_groups": [],
            "cpu_platform": null,
            "enable_jumbo_frames": false,
            "ssh_public_keys": [],
            "user_data": "",
            "a_field_of_next_year": { "x": 1 },
        }));
        assert!(outcome.is_ok(), "{outcome:?}");
        assert!(create(json!({ "ssh_public_keys": null })).is_ok());
    }

    #[test]
    fn a_wish_that_cannot_be_fulfilled_is_refused_by_name() {
        for (field, wish) in [
            ("external_ips", json!([{ "type": "ephemeral" }])),
            ("multicast_groups", json!([{ "group": "g" }])),
            ("enable_jumbo_frames", json!(true)),
            ("network_interfaces", json!({ "type": "create", "params": [] })),
        ] {
            let message = create(json!({ field: wish })).expect_err(field);
            assert!(message.starts_with(&format!("{field}: ")), "{message}");
        }
    }

    #[test]
    fn user_data_is_base64_of_at_most_32_kib() {
        let of = |bytes: usize| "YWFh".repeat(bytes / 3);
        let right = create(json!({ "user_data": of(32 << 10) }));
        assert_eq!(right.expect("valid").user_data, of(32 << 10));
        for (wrong, why) in [
            (of((32 << 10) + 3), "32769 bytes are too many: at most 32768"),
            ("YQ".to_string(), "it must be base64"),
            ("#cloud-config".to_string(), "it must be base64"),
        ] {
            let message = create(json!({ "user_data": wrong })).expect_err(why);
            assert!(message.starts_with("user_data: "), "{message}");
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn the_simple_kinds_of_network_interfaces_are_kept() {
        for kind in
            ["default_ipv4", "default_ipv6", "default_dual_stack", "none"]
        {
            let wish = json!({ "type": kind });
            let instance = create(json!({ "network_interfaces": wish }));
            assert_eq!(instance.expect("valid").network_interfaces, wish);
        }
    }

    #[test]
    fn an_instance_joins_as_many_groups_as_it_can_be_in() {
        let names = |n| (0..n).map(|n| format!("g-{n}")).collect::<Vec<_>>();
        let groups = json!({ "anti_affinity_groups": names(16) });
        let instance = create(groups).expect("valid");
        assert_eq!(instance.anti_affinity_groups.len(), 16);
        let groups = json!({ "anti_affinity_groups": names(17) });
        assert_eq!(
            create(groups).expect_err("one too many"),
            "anti_affinity_groups: 17 are too many: at most 16",
        );
    }

    #[test]
    fn sizes_must_be_within_bounds() {
        let gib = 1_u64 << 30;
        for ncpus in [1, 254] {
            assert!(create(json!({ "ncpus": ncpus })).is_ok(), "{ncpus}");
        }
        for memory in [gib, 1536 * gib] {
            assert!(create(json!({ "memory": memory })).is_ok(), "{memory}");
        }
        for (field, value, why) in [
            ("ncpus", 0, "0 is out of range"),
            ("ncpus", 255, "255 is out of range"),
            ("memory", 0, "0 bytes is out of range"),
            ("memory", gib / 2, "512 MiB is out of range"),
            ("memory", gib + gib / 2, "1536 MiB is not a whole number"),
            ("memory", 1537 * gib, "1537 GiB is out of range"),
        ] {
            let message = create(json!({ field: value })).expect_err(why);
            assert!(message.contains(field), "{message}");
            assert!(message.contains(why), "{message}");
        }
    }
}
