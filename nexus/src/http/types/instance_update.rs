//! What shall change of an instance.

use db_model::{
    AutoRestartPolicy, ByteCount, Hostname, InstanceChange,
    InstanceCpuPlatform, NameOrId, VcpuCount,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Nullable;
use super::instance_create::{check_memory, check_ncpus, refuse_if};
use crate::error::Error;

/// All that can be changed of an instance, as it shall be.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct InstanceUpdate {
    /// Number of vCPUs: 1 to 254. Changes only while it does not run.
    pub ncpus: VcpuCount,
    /// Memory in bytes: 1 GiB to 1.5 TiB, in steps of 1 GiB. Changes only
    /// while it does not run.
    pub memory: ByteCount,
    /// What the guest calls itself, from its next start on. Null, or not
    /// there, means the hostname that it has.
    #[serde(default)]
    pub hostname: Option<Hostname>,
    /// Shall the system start it again when it fails? Null means that the
    /// system's default, `best_effort`, applies.
    pub auto_restart_policy: Nullable<AutoRestartPolicy>,
    /// Which of its disks it boots from first; null means that the guest's
    /// firmware tries them by name. Changes only while it does not run.
    pub boot_disk: Nullable<NameOrId>,
    /// The CPU platform that it needs; null means any. Changes only while it
    /// does not run.
    pub cpu_platform: Nullable<InstanceCpuPlatform>,
    /// The multicast groups to be in; null means those that it is in. Only
    /// null and an empty list are possible yet.
    #[serde(default)]
    pub multicast_groups: Option<Vec<Value>>,
    /// Shall its network carry jumbo frames? Not possible yet.
    #[serde(default)]
    pub enable_jumbo_frames: bool,
}

impl TryFrom<InstanceUpdate> for InstanceChange {
    type Error = Error;

    fn try_from(body: InstanceUpdate) -> Result<Self, Error> {
        check_ncpus(body.ncpus)?;
        check_memory(body.memory)?;
        let groups = body.multicast_groups.unwrap_or_default();
        refuse_if("multicast_groups", !groups.is_empty())?;
        refuse_if("enable_jumbo_frames", body.enable_jumbo_frames)?;
        Ok(Self {
            hostname: body.hostname,
            ncpus: body.ncpus,
            memory: body.memory,
            auto_restart_policy: body.auto_restart_policy.0,
            cpu_platform: body.cpu_platform.0,
            // Whoever has found it says which.
            boot_disk: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The outcome of a body that is right but for `changes`.
    fn update(changes: Value) -> Result<InstanceChange, String> {
        let mut body = json!({
            "ncpus": 2,
            "memory": 4_u64 << 30,
            "auto_restart_policy": null,
            "boot_disk": null,
            "cpu_platform": null,
        });
        let fields = body.as_object_mut().expect("an object");
        fields.extend(changes.as_object().expect("an object").clone());
        let body = serde_json::from_value::<InstanceUpdate>(body)
            .map_err(|error| error.to_string())?;
        body.try_into().map_err(|error: Error| error.to_string())
    }

    #[test]
    fn saying_that_nothing_is_wished_is_not_a_wish() {
        for changes in [
            json!({}),
            json!({ "multicast_groups": null, "enable_jumbo_frames": false }),
            json!({ "multicast_groups": [] }),
            json!({ "hostname": null }),
        ] {
            let change = update(changes).expect("a valid body");
            assert_eq!(change.auto_restart_policy, None);
            assert_eq!(change.hostname, None);
        }
    }

    #[test]
    fn a_wrong_value_or_an_impossible_wish_is_refused_by_name() {
        for (field, value) in [
            ("ncpus", json!(0)),
            ("memory", json!(1)),
            ("multicast_groups", json!([{ "group": "g" }])),
            ("enable_jumbo_frames", json!(true)),
        ] {
            let message = update(json!({ field: value })).expect_err(field);
            assert!(message.starts_with(&format!("{field}: ")), "{message}");
        }
    }
}
