//! How much of the host is given away.

use sled_agent_client::VmmRegister;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// What the guests of a host may have in all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Limits {
    /// Virtual CPUs.
    pub(crate) vcpus: u32,
    /// Memory.
    pub(crate) memory_bytes: u64,
}

/// What each VMM that has not ended holds of the [`Limits`].
pub(crate) struct Capacity {
    limits: Limits,
    held: Mutex<HashMap<Uuid, Share>>,
}

#[derive(Clone, Copy, Default)]
struct Share {
    vcpus: u64,
    memory_bytes: u64,
}

/// Why there is no room, in a sentence.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum NoRoom {
    #[error("a VMM needs at least one vCPU and some memory")]
    Nothing,
    #[error("the host has {free} vCPUs left, and {needed} are needed.")]
    Vcpus { needed: u64, free: u64 },
    #[error(
        "the host has {free} bytes of memory left, and {needed} are needed."
    )]
    Memory { needed: u64, free: u64 },
}

impl Capacity {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, held: Mutex::new(HashMap::new()) }
    }

    /// Takes a share for a VMM, or says why not. Two at once cannot both have
    /// the last of it.
    pub(crate) fn admit(
        &self,
        vmm_id: Uuid,
        vmm: &VmmRegister,
    ) -> Result<(), NoRoom> {
        let needed = share_of(vmm);
        if needed.vcpus == 0 || needed.memory_bytes == 0 {
            return Err(NoRoom::Nothing);
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let used = held.iter().filter(|(holder, _)| **holder != vmm_id).fold(
            Share::default(),
            |sum, (_, share)| Share {
                vcpus: sum.vcpus.saturating_add(share.vcpus),
                memory_bytes: sum
                    .memory_bytes
                    .saturating_add(share.memory_bytes),
            },
        );
        let free = u64::from(self.limits.vcpus).saturating_sub(used.vcpus);
        if needed.vcpus > free {
            return Err(NoRoom::Vcpus { needed: needed.vcpus, free });
        }
        let free = self.limits.memory_bytes.saturating_sub(used.memory_bytes);
        if needed.memory_bytes > free {
            let needed = needed.memory_bytes;
            return Err(NoRoom::Memory { needed, free });
        }
        held.insert(vmm_id, needed);
        Ok(())
    }

    /// Takes a share for a VMM that is there already, room or not.
    pub(crate) fn restore(&self, vmm_id: Uuid, vmm: &VmmRegister) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(vmm_id, share_of(vmm));
    }

    /// Gives the share of a VMM back, if it has one.
    pub(crate) fn release(&self, vmm_id: Uuid) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&vmm_id);
    }
}

fn share_of(vmm: &VmmRegister) -> Share {
    Share { vcpus: u64::from(vmm.vcpus), memory_bytes: vmm.memory_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vmm(vcpus: u32, memory_bytes: u64) -> VmmRegister {
        VmmRegister {
            instance_id: Uuid::nil(),
            hostname: "h".to_string(),
            vcpus,
            memory_bytes,
            disks: Vec::new(),
            network: sled_agent_client::VmmNetwork::None,
            user_data: String::new(),
            ssh_public_keys: Vec::new(),
        }
    }

    #[test]
    fn what_is_given_away_is_never_more_than_there_is() {
        let capacity = Capacity::new(Limits { vcpus: 4, memory_bytes: 10 });
        let [a, b, c] = [1, 2, 3].map(Uuid::from_u128);
        assert_eq!(capacity.admit(a, &vmm(3, 5)), Ok(()));
        assert_eq!(
            capacity.admit(b, &vmm(2, 1)),
            Err(NoRoom::Vcpus { needed: 2, free: 1 })
        );
        assert_eq!(
            capacity.admit(b, &vmm(1, u64::MAX)),
            Err(NoRoom::Memory { needed: u64::MAX, free: 5 })
        );
        assert_eq!(capacity.admit(b, &vmm(1, 5)), Ok(()));
        capacity.release(a);
        assert_eq!(capacity.admit(c, &vmm(3, 5)), Ok(()));
    }

    #[test]
    fn a_vmm_of_nothing_is_refused() {
        let capacity = Capacity::new(Limits { vcpus: 4, memory_bytes: 10 });
        assert_eq!(
            capacity.admit(Uuid::nil(), &vmm(0, 1)),
            Err(NoRoom::Nothing)
        );
    }
}
