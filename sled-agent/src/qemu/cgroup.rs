//! The control groups that hold a guest's QEMU to its size, where they are
//! writable: version 2, or version 1's `cpu` and `memory`.

use camino::{Utf8Path, Utf8PathBuf};
use std::io;
use uuid::Uuid;

const ROOT: &str = "/sys/fs/cgroup";

/// What the groups of all guests are in.
const PARENT: &str = "nexus-guests";

/// For how long a share of the CPU is counted, in microseconds.
const PERIOD_US: u64 = 100_000;

/// What QEMU may use beside the guest's memory: itself, what it has
/// translated, and a part for tables that grow with the guest.
const OVERHEAD_BYTES: u64 = 640 << 20;

/// Where groups are made, and how.
#[derive(Clone, Debug)]
pub(super) enum Cgroups {
    /// One group for all that is held.
    V2(Utf8PathBuf),
    /// One for each of CPU and memory.
    V1 { cpu: Utf8PathBuf, memory: Utf8PathBuf },
}

impl Cgroups {
    /// *Errors*: there is none that can be written.
    pub(super) fn open() -> io::Result<Self> {
        let root = Utf8Path::new(ROOT);
        if root.join("cgroup.controllers").exists() {
            let parent = root.join(PARENT);
            std::fs::write(
                root.join("cgroup.subtree_control"),
                "+cpu +memory",
            )?;
            make(&parent)?;
            std::fs::write(
                parent.join("cgroup.subtree_control"),
                "+cpu +memory",
            )?;
            return Ok(Self::V2(parent));
        }
        let [cpu, memory] =
            ["cpu", "memory"].map(|part| root.join(part).join(PARENT));
        make(&cpu)?;
        make(&memory)?;
        Ok(Self::V1 { cpu, memory })
    }

    /// Makes the groups of a guest of this size, and returns their
    /// directories.
    ///
    /// *Idempotency*: those that are there are used.
    pub(super) fn make(
        &self,
        vmm_id: Uuid,
        vcpus: u32,
        memory_bytes: u64,
    ) -> io::Result<Vec<Utf8PathBuf>> {
        let quota = u64::from(vcpus).saturating_mul(PERIOD_US);
        let bytes = memory_bytes
            .saturating_add(memory_bytes / 64)
            .saturating_add(OVERHEAD_BYTES)
            .to_string();
        let dirs = self.of(vmm_id);
        for dir in &dirs {
            make(dir)?;
        }
        match (self, dirs.as_slice()) {
            (Self::V2(_), [dir]) => {
                let quota = format!("{quota} {PERIOD_US}");
                std::fs::write(dir.join("cpu.max"), quota)?;
                std::fs::write(dir.join("memory.max"), bytes)?;
            }
            (Self::V1 { .. }, [cpu, memory]) => {
                let period = PERIOD_US.to_string();
                std::fs::write(cpu.join("cpu.cfs_period_us"), period)?;
                let quota = quota.to_string();
                std::fs::write(cpu.join("cpu.cfs_quota_us"), quota)?;
                std::fs::write(memory.join("memory.limit_in_bytes"), bytes)?;
            }
            (Self::V2(_) | Self::V1 { .. }, _) => {}
        }
        Ok(dirs)
    }

    /// Removes the groups of a guest whose processes are gone.
    pub(super) fn remove(&self, vmm_id: Uuid) -> io::Result<()> {
        for dir in self.of(vmm_id) {
            match std::fs::remove_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error);
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn of(&self, vmm_id: Uuid) -> Vec<Utf8PathBuf> {
        let name = vmm_id.to_string();
        match self {
            Self::V2(parent) => vec![parent.join(name)],
            Self::V1 { cpu, memory } => {
                vec![cpu.join(&name), memory.join(&name)]
            }
        }
    }
}

fn make(dir: &Utf8Path) -> io::Result<()> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error)
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
