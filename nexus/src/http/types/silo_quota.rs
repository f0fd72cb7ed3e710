//! Quotas of silos, and what is used of them, on the wire.

use db_model::{ByteCount, Name, NameOrId, SiloId, SiloQuotaChange};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Which silo, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SiloPath {
    /// Name or id of the silo.
    pub silo: NameOrId,
}

/// What a silo may have at once.
#[derive(Debug, JsonSchema, Serialize)]
pub struct SiloQuotas {
    /// The silo.
    pub silo_id: SiloId,
    /// vCPUs of its instances that run.
    pub cpus: i64,
    /// Memory, in bytes, of its instances that run.
    pub memory: ByteCount,
    /// Storage, in bytes, of its disks.
    pub storage: ByteCount,
}

/// What shall change of what a silo may have.
///
/// A limit may be below what the silo has: that stays, and nothing more starts
/// until it is below the limit again.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SiloQuotasUpdate {
    /// vCPUs, zero or more; null or absent keeps the old limit.
    pub cpus: Option<i64>,
    /// Memory in bytes; null or absent keeps the old limit.
    pub memory: Option<ByteCount>,
    /// Storage in bytes; null or absent keeps the old limit.
    pub storage: Option<ByteCount>,
}

impl TryFrom<SiloQuotasUpdate> for SiloQuotaChange {
    type Error = Error;

    fn try_from(body: SiloQuotasUpdate) -> Result<Self, Error> {
        if let Some(cpus) = body.cpus
            && cpus < 0
        {
            return Err(Error::invalid_value(
                "cpus",
                format!("{cpus} is negative: it must be 0 or more"),
            ));
        }
        Ok(Self {
            vcpus: body.cpus,
            memory: body.memory,
            storage: body.storage,
        })
    }
}

/// So much of each thing that a quota is about.
#[derive(Debug, JsonSchema, Serialize)]
pub struct VirtualResourceCounts {
    /// Number of vCPUs.
    pub cpus: i64,
    /// Memory in bytes.
    pub memory: ByteCount,
    /// Storage in bytes.
    pub storage: ByteCount,
}

/// What the caller's silo may have, and what it has.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Utilization {
    /// What it may have at once.
    pub capacity: VirtualResourceCounts,
    /// What it has: vCPUs and memory of what holds a place on a host, and
    /// storage of disks that are on one.
    pub provisioned: VirtualResourceCounts,
}

/// What a silo may have, and what it has.
#[derive(Debug, JsonSchema, Serialize)]
pub struct SiloUtilization {
    /// The silo.
    pub silo_id: SiloId,
    /// Its name.
    pub silo_name: Name,
    /// What it may have at once: its quota.
    pub allocated: VirtualResourceCounts,
    /// What it has: vCPUs and memory of what holds a place on a host, and
    /// storage of disks that are on one.
    pub provisioned: VirtualResourceCounts,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn update(body: Value) -> Result<SiloQuotaChange, String> {
        let body = serde_json::from_value::<SiloQuotasUpdate>(body)
            .map_err(|error| error.to_string())?;
        body.try_into().map_err(|error: Error| error.to_string())
    }

    #[test]
    fn what_is_not_said_does_not_change() {
        for body in [json!({}), json!({ "cpus": null, "memory": null })] {
            let change = update(body).expect("a valid body");
            assert_eq!(change.vcpus, None);
            assert_eq!(change.memory, None);
            assert_eq!(change.storage, None);
        }
        let change = update(json!({ "cpus": 0, "storage": 7 }));
        let change = change.expect("a valid body");
        assert_eq!(change.vcpus, Some(0));
        assert_eq!(change.storage.map(ByteCount::to_i64), Some(7));
    }

    #[test]
    fn there_is_no_negative_limit() {
        for cpus in [-1, i64::MIN] {
            let message = update(json!({ "cpus": cpus })).expect_err("refused");
            assert!(message.starts_with("cpus: "), "{message}");
            assert!(message.contains(&cpus.to_string()), "{message}");
        }
        for field in ["memory", "storage"] {
            for wrong in [json!(-1), json!(1_u64 << 63)] {
                let body = json!({ field: wrong });
                let message = update(body).expect_err("refused");
                assert!(message.contains("from 0 to"), "{message}");
            }
        }
    }
}
