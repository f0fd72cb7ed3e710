//! `sled list`.

use crate::database::Database;
use crate::failure::Failure;
use crate::report::Report;
use crate::table::Table;
use crate::words::span;
use chrono::{DateTime, Utc};
use db_model::{ByteCount, SledCpu, SledId, SledPolicy, SledProvisionPolicy};
use db_queries::{ById, Page, SledLoad};
use serde::Serialize;

/// Sleds of a page.
const PAGE: i64 = 100;

/// A sled.
#[derive(Serialize)]
pub(crate) struct Sled {
    id: SledId,
    serial: String,
    address: String,
    policy: SledPolicy,
    provision_policy: SledProvisionPolicy,
    time_last_heartbeat: DateTime<Utc>,
    /// Null: it is not silent.
    silent_since: Option<DateTime<Utc>>,
    vcpus: i64,
    reserved_vcpus: i64,
    memory_bytes: ByteCount,
    reserved_memory_bytes: ByteCount,
    cpu: SledCpu,
    vmms: i64,
    pub(crate) abandoned_vmms: i64,
}

/// What `sled list` answers.
#[derive(Serialize)]
pub(crate) struct Sleds {
    time: DateTime<Utc>,
    sleds: Vec<Sled>,
}

/// All sleds.
pub(crate) async fn list(database: &Database) -> Result<Sleds, Failure> {
    let time = database.datastore.database_time().await?;
    Ok(Sleds { time, sleds: read(database, time).await? })
}

/// All sleds, a page at a time.
pub(crate) async fn read(
    database: &Database,
    now: DateTime<Utc>,
) -> Result<Vec<Sled>, Failure> {
    let mut sleds: Vec<Sled> = Vec::new();
    loop {
        let after = sleds.last().map(|sled| sled.id.0);
        let page = Page { by: ById { after }, limit: PAGE };
        let loads = database.datastore.sled_load_list(page).await?;
        if loads.is_empty() {
            return Ok(sleds);
        }
        sleds.extend(loads.into_iter().map(|load| Sled::of(load, now)));
    }
}

impl Sled {
    fn of(load: SledLoad, now: DateTime<Utc>) -> Sled {
        let SledLoad { sled, vmms, abandoned } = load;
        let silent = sled.silent(now);
        Sled {
            id: sled.id,
            serial: sled.serial,
            address: sled.address,
            policy: sled.policy,
            provision_policy: sled.provision_policy,
            time_last_heartbeat: sled.time_last_heartbeat,
            silent_since: silent.then_some(sled.time_last_heartbeat),
            vcpus: sled.vcpus,
            reserved_vcpus: sled.reserved_vcpus,
            memory_bytes: sled.memory_bytes,
            reserved_memory_bytes: sled.reserved_memory_bytes,
            cpu: sled.cpu,
            vmms,
            abandoned_vmms: abandoned,
        }
    }

    /// Should it be heard, and is not?
    pub(crate) fn is_missed(&self) -> bool {
        self.policy == SledPolicy::InService && self.silent_since.is_some()
    }

    /// One word for the two policies: one of an expunged sled says nothing.
    fn policies(&self) -> &'static str {
        match self.policy {
            SledPolicy::InService => self.provision_policy.as_str(),
            SledPolicy::Expunged => self.policy.as_str(),
        }
    }
}

pub(crate) fn table(sleds: &[Sled], now: DateTime<Utc>) -> Table {
    let mut table = Table::new(&[
        "SLED", "POLICY", "SILENT", "CPU", "VCPUS", "MEMORY", "VMMS", "SERIAL",
    ]);
    let gib = |bytes: ByteCount| bytes.to_u64() / ByteCount::GIB.to_u64();
    for sled in sleds {
        let silent = sled.silent_since.map(|since| span(now - since));
        let vmms = match sled.abandoned_vmms {
            0 => sled.vmms.to_string(),
            n => format!("{} ({n} abandoned)", sled.vmms),
        };
        table.row([
            sled.id.to_string(),
            sled.policies().to_string(),
            silent.unwrap_or("no".to_string()),
            sled.cpu.to_string(),
            format!("{}/{}", sled.reserved_vcpus, sled.vcpus),
            format!(
                "{}/{} GiB",
                gib(sled.reserved_memory_bytes),
                gib(sled.memory_bytes)
            ),
            vmms,
            sled.serial.clone(),
        ]);
    }
    table
}

impl Report for Sleds {
    fn text(&self) -> String {
        if self.sleds.is_empty() {
            return "No sled has registered yet.\n".to_string();
        }
        table(&self.sleds, self.time).to_string()
    }
}
