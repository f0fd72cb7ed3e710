//! Sleds: what their agents say, and what operators do with them.

use super::{App, about};
use crate::authz::{Action, Resource};
use crate::context::OpContext;
use crate::error::Error;
use crate::sleds::reported;
use db_model::lifecycle::reports::Answer;
use db_model::{
    NameOrId, Sled, SledCpu, SledId, SledInstance, SledProvisionPolicy,
};
use db_queries::{ById, Page, SledFacts};
use sled_agent_client::VmmReport;
use sled_agent_client::nexus_types::{self, SledRegistration, SledStatus};
use slog::info;

const LIST: &str = "see the fleet's sleds";

/// What the database has room for of a serial or a part number.
const LABEL_MAX_CHARS: usize = 63;

/// More than any host has, and far from what a sum over the fleet can hold;
/// so are the next two.
const VCPUS_MAX: u32 = 65_536;

/// 1 PiB.
const MEMORY_MAX: u64 = 1 << 50;

/// 1 EiB.
const STORAGE_MAX: u64 = 1 << 60;

/// 30 days, in milliseconds.
const FENCES_AFTER_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;

impl App {
    /// The fleet's sleds.
    ///
    /// # Errors
    ///
    /// `Forbidden`.
    pub async fn sled_list(
        &self,
        opctx: &OpContext,
        page: Page<ById>,
    ) -> Result<Vec<Sled>, Error> {
        opctx.authorize(Action::View, Resource::Fleet, LIST)?;
        Ok(self.datastore.sled_list(page).await?)
    }

    /// A sled.
    ///
    /// # Errors
    ///
    /// `Forbidden`; `NotFound`.
    pub async fn sled_view(
        &self,
        opctx: &OpContext,
        id: SledId,
    ) -> Result<Sled, Error> {
        opctx.authorize(Action::View, Resource::Fleet, LIST)?;
        self.datastore.sled_view(id).await.map_err(about_sled(id))
    }

    /// The instances on a sled.
    ///
    /// # Errors
    ///
    /// `Forbidden`; `NotFound`.
    pub async fn sled_instance_list(
        &self,
        opctx: &OpContext,
        id: SledId,
        page: Page<ById>,
    ) -> Result<Vec<SledInstance>, Error> {
        self.sled_view(opctx, id).await?;
        Ok(self.datastore.sled_instance_list(id, page).await?)
    }

    /// Opens a sled to new instances or closes it; says what it was before.
    ///
    /// # Errors
    ///
    /// `Forbidden`; `NotFound`; `InvalidRequest`: it is expunged.
    pub async fn sled_set_provision_policy(
        &self,
        opctx: &OpContext,
        id: SledId,
        policy: SledProvisionPolicy,
    ) -> Result<SledProvisionPolicy, Error> {
        let what = "set a sled's provision policy";
        opctx.authorize(Action::Change, Resource::Fleet, what)?;
        let set = self.datastore.sled_set_provision_policy(id, policy).await;
        let old = set.map_err(|error| {
            let db_queries::Error::NoRoom = error else {
                return about_sled(id)(error);
            };
            Error::InvalidRequest {
                message: format!(
                    "sled \"{id}\" is expunged: it takes no instances again"
                ),
            }
        })?;
        self.activators.reconcile();
        Ok(old)
    }

    /// A sled's agent registers it.
    ///
    /// # Errors
    ///
    /// `InvalidValue`: no sled can be as it says; `Unavailable`.
    pub async fn sled_register(
        &self,
        id: SledId,
        said: SledRegistration,
    ) -> Result<SledStatus, Error> {
        self.heard_from(id, said, true).await
    }

    /// A sled's agent is there still.
    ///
    /// # Errors
    ///
    /// `InvalidValue`, as when it registers; `NotFound`: it must register first.
    pub async fn sled_heartbeat(
        &self,
        id: SledId,
        said: SledRegistration,
    ) -> Result<SledStatus, Error> {
        self.heard_from(id, said, false).await
    }

    async fn heard_from(
        &self,
        id: SledId,
        said: SledRegistration,
        new_too: bool,
    ) -> Result<SledStatus, Error> {
        check(&said)?;
        let lists = said.vmms;
        let facts = facts(id, said);
        let heard = match new_too {
            true => self.datastore.sled_heard_from(facts, true).await,
            false => self.heard.again(facts).await,
        };
        let heard = heard.map_err(about_sled(id))?;
        self.sleds.told(id, lists);
        if heard.news {
            info!(self.log, "a sled is there"; "sled" => %id,
                "expunged" => heard.expunged);
            self.activators.watch();
            self.activators.reconcile();
        }
        Ok(SledStatus {
            expunged: heard.expunged,
            heartbeat_period_ms: u64::from(self.tuning.heartbeat_period_ms),
        })
    }

    /// A sled reports a VMM. A report that is no news is taken, too.
    ///
    /// # Errors
    ///
    /// `NotFound`: this sled was given no such VMM.
    pub async fn vmm_report(
        &self,
        sled: SledId,
        report: VmmReport,
    ) -> Result<(), Error> {
        let vmm = db_model::VmmId(report.vmm_id);
        let observed = self
            .datastore
            .vmm_observe(
                sled,
                vmm,
                reported(&report),
                self.tuning.boot_allowance(),
            )
            .await
            .map_err(about("VMM", &NameOrId::Id(vmm.0)))?;
        match &observed.answer {
            Answer::Taken(_) if observed.wakes() => self.activators.changed(),
            Answer::Taken(_) => self.activators.seen(),
            Answer::Stale => (),
            // What is over here and lives there is unregistered there.
            Answer::Ended if report.state.is_ended() => (),
            Answer::Ended => self.activators.watch(),
        }
        Ok(())
    }

    /// A sled is off, and for good: an operator asserts it.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn sled_expunge(&self, id: SledId) -> Result<(), Error> {
        self.datastore.sled_expunge(id).await.map_err(about_sled(id))?;
        info!(self.log, "a sled was expunged"; "sled" => %id);
        self.activators.watch();
        Ok(())
    }
}

fn about_sled(id: SledId) -> impl FnOnce(db_queries::Error) -> Error + use<> {
    about("sled", &NameOrId::Id(id.0))
}

fn facts(id: SledId, said: SledRegistration) -> SledFacts {
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    SledFacts {
        id,
        address: said.address.to_string(),
        serial: said.serial,
        part: said.part,
        revision: i64::from(said.revision),
        vcpus: i64::from(said.vcpus),
        memory_bytes: bytes(said.memory_bytes),
        storage_bytes: bytes(said.storage_bytes),
        cpu: cpu(said.cpu),
        incarnation: said.incarnation,
        fences_after_ms: said
            .fences_after_ms
            .map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
    }
}

fn cpu(said: nexus_types::SledCpu) -> SledCpu {
    match said {
        nexus_types::SledCpu::Unknown => SledCpu::Unknown,
        nexus_types::SledCpu::AmdMilan => SledCpu::AmdMilan,
        nexus_types::SledCpu::AmdTurin => SledCpu::AmdTurin,
    }
}

/// Refuses what no sled can be, or what cannot be kept.
fn check(said: &SledRegistration) -> Result<(), Error> {
    check_label("serial", &said.serial)?;
    check_label("part", &said.part)?;
    let address = said.address;
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(Error::invalid_value(
            "address",
            format!(
                "{address} is nowhere: it must be an IP address and a port \
                 at which Nexus reaches the agent"
            ),
        ));
    }
    check_range("vcpus", said.vcpus.into(), 1, VCPUS_MAX.into())?;
    check_range("memory_bytes", said.memory_bytes, 1, MEMORY_MAX)?;
    check_range("storage_bytes", said.storage_bytes, 0, STORAGE_MAX)?;
    match said.fences_after_ms {
        Some(ms) => check_range("fences_after_ms", ms, 1, FENCES_AFTER_MAX),
        None => Ok(()),
    }
}

fn check_label(field: &'static str, value: &str) -> Result<(), Error> {
    let chars = value.chars().count();
    let right = (1..=LABEL_MAX_CHARS).contains(&chars)
        && !value.chars().any(char::is_control);
    if right {
        return Ok(());
    }
    let shown: String = value.chars().take(LABEL_MAX_CHARS + 1).collect();
    Err(Error::invalid_value(
        field,
        format!(
            "{shown:?} will not do: it must be 1 to {LABEL_MAX_CHARS} \
             characters, none of them a control character"
        ),
    ))
}

fn check_range(
    field: &'static str,
    value: u64,
    min: u64,
    max: u64,
) -> Result<(), Error> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid_value(
        field,
        format!("{value} is out of range: it must be from {min} to {max}"),
    ))
}
