//! What a warden is to start: `plan.json`.

use super::account::Account;
use crate::blocks::Places;
use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use sled_agent_client::{VmmDisk, VmmNetwork, VmmRegister};
use uuid::Uuid;

/// How many characters of a disk's serial number a guest sees.
const SERIAL: usize = 20;

/// See the module.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Plan {
    pub(super) vmm_id: Uuid,
    pub(super) instance_id: Uuid,
    /// The program.
    pub(super) qemu: String,
    pub(super) accelerator: Accelerator,
    pub(super) vcpus: u32,
    pub(super) memory_bytes: u64,
    /// In the order in which the guest tries to boot from them.
    pub(super) disks: Vec<Disk>,
    pub(super) network: VmmNetwork,
    /// Who QEMU runs as, if not as the warden.
    pub(super) account: Option<Account>,
    /// The groups that hold it.
    pub(super) cgroups: Vec<Utf8PathBuf>,
    /// Where what the guest prints is kept.
    pub(super) console: Utf8PathBuf,
    /// The agent's directory, in which stands the lease that the guest is not
    /// to outlive.
    pub(super) data_dir: Utf8PathBuf,
}

/// What executes a guest's instructions.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Accelerator {
    /// The host's CPU.
    Kvm,
    /// QEMU's translator: slow, and works everywhere.
    Tcg,
}

/// One disk of a guest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Disk {
    pub(super) file: Utf8PathBuf,
    /// Where what is behind it would be, if anything can be.
    pub(super) base: Option<Utf8PathBuf>,
    /// The format of the file, in QEMU's words.
    pub(super) format: String,
    pub(super) read_only: bool,
    /// The serial number that the guest sees.
    pub(super) serial: String,
}

impl Disk {
    /// A disk of blocks.
    pub(super) fn of_blocks(disk: &VmmDisk, places: &Places) -> Self {
        let id = disk.blocks_id.to_string();
        Self {
            file: places.file(disk.place, disk.blocks_id),
            base: Some(places.base(disk.place, disk.blocks_id)),
            format: "qcow2".to_string(),
            read_only: disk.read_only,
            serial: id.chars().take(SERIAL).collect(),
        }
    }

    fn of_seed(file: Utf8PathBuf) -> Self {
        Self {
            file,
            base: None,
            format: "raw".to_string(),
            read_only: true,
            serial: "seed".to_string(),
        }
    }
}

/// The disks that a guest asked for, and after them what it is given to read at
/// its first boot.
pub(super) fn disks(
    spec: &VmmRegister,
    places: &Places,
    seed: Utf8PathBuf,
) -> Vec<Disk> {
    let asked_for = spec.disks.iter();
    asked_for
        .map(|disk| Disk::of_blocks(disk, places))
        .chain([Disk::of_seed(seed)])
        .collect()
}
