//! What all guests of this sled have in common.

use super::account::Account;
use super::cgroup::Cgroups;
use super::plan::{self, Accelerator, Plan};
use crate::blocks::Places;
use crate::console;
use crate::hypervisor::GuestEvents;
use crate::lease::Lease;
use camino::Utf8PathBuf;
use sled_agent_client::VmmRegister;
use slog::{Logger, warn};
use std::sync::Arc;
use uuid::Uuid;

/// See the module.
pub(super) struct Context {
    /// The agent's directory.
    pub(super) data_dir: Utf8PathBuf,
    /// Where each guest has its directory.
    pub(super) guests: Utf8PathBuf,
    /// Where what guests print is kept.
    pub(super) consoles: Utf8PathBuf,
    pub(super) places: Places,
    pub(super) qemu: String,
    pub(super) accelerator: Accelerator,
    pub(super) account: Option<Account>,
    pub(super) cgroups: Option<Cgroups>,
    /// Under which guests run.
    pub(super) lease: Arc<Lease>,
    pub(super) events: GuestEvents,
    pub(super) log: Logger,
}

impl Context {
    /// What the warden of this guest is to start.
    pub(super) fn plan(
        &self,
        vmm_id: Uuid,
        spec: &VmmRegister,
        seed: Utf8PathBuf,
        log: &Logger,
    ) -> Plan {
        Plan {
            vmm_id,
            instance_id: spec.instance_id,
            qemu: self.qemu.clone(),
            accelerator: self.accelerator,
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            disks: plan::disks(spec, &self.places, seed),
            network: spec.network,
            account: self.account.clone(),
            cgroups: self.hold(vmm_id, spec, log),
            console: console::path(&self.consoles, vmm_id),
            data_dir: self.data_dir.clone(),
        }
    }

    /// Makes what holds the guest to its size. A guest that cannot be held
    /// runs all the same.
    fn hold(
        &self,
        vmm_id: Uuid,
        spec: &VmmRegister,
        log: &Logger,
    ) -> Vec<Utf8PathBuf> {
        let Some(cgroups) = &self.cgroups else { return Vec::new() };
        let held = cgroups.make(vmm_id, spec.vcpus, spec.memory_bytes);
        held.unwrap_or_else(|error| {
            warn!(log, "a guest is not held to its size"; "error" => %error);
            Vec::new()
        })
    }
}
