//! Who of this sled has which blocks, so that nobody has them in each other's
//! way.

use sled_agent_client::VmmDisk;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// What is claimed.
#[derive(Clone, Default)]
pub(super) struct Claims(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    /// The disks of each VMM that has not ended.
    guests: HashMap<Uuid, Vec<VmmDisk>>,
    /// What is being read to its end or deleted, once for each who does so.
    passing: Vec<(Uuid, Passing)>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Passing {
    Copied,
    Deleted,
}

/// Ends a passing claim when dropped.
pub(super) struct Pass {
    claims: Claims,
    id: Uuid,
    kind: Passing,
}

/// Why blocks cannot be had.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Taken {
    #[error("two disks are the same one")]
    Twice,
    #[error("another VMM of the host has a disk of this one")]
    ByGuest,
    #[error("a disk is being copied")]
    Copied,
    #[error("a disk is being deleted")]
    Deleted,
}

impl Claims {
    /// Claims the disks of a VMM, all or none. Any number of VMMs may have a
    /// disk that all of them only read.
    pub(super) fn claim(
        &self,
        vmm_id: Uuid,
        disks: &[VmmDisk],
    ) -> Result<(), Taken> {
        let mut held = self.lock();
        for (n, disk) in disks.iter().enumerate() {
            let id = disk.blocks_id;
            if disks.iter().take(n).any(|other| other.blocks_id == id) {
                return Err(Taken::Twice);
            }
            if held.is(id, Passing::Deleted) {
                return Err(Taken::Deleted);
            }
            if !disk.read_only && held.is(id, Passing::Copied) {
                return Err(Taken::Copied);
            }
            let clashes = |other: &VmmDisk| {
                other.blocks_id == id && !(disk.read_only && other.read_only)
            };
            let mut others =
                held.guests.iter().filter(|(other, _)| **other != vmm_id);
            if others.any(|(_, disks)| disks.iter().any(clashes)) {
                return Err(Taken::ByGuest);
            }
        }
        held.guests.insert(vmm_id, disks.to_vec());
        Ok(())
    }

    /// Claims the disks of a VMM that is there already.
    pub(super) fn restore(&self, vmm_id: Uuid, disks: &[VmmDisk]) {
        self.lock().guests.insert(vmm_id, disks.to_vec());
    }

    /// Ends the claims of a VMM.
    pub(super) fn release(&self, vmm_id: Uuid) {
        self.lock().guests.remove(&vmm_id);
    }

    /// Keeps guests from writing what is copied; none if one may.
    pub(super) fn copy(&self, id: Uuid) -> Option<Pass> {
        let mut held = self.lock();
        let is_written = held.has(id, |disk| !disk.read_only);
        (!is_written).then(|| self.pass(&mut held, id, Passing::Copied))
    }

    /// Keeps guests from taking what is deleted; none if one has it.
    pub(super) fn delete(&self, id: Uuid) -> Option<Pass> {
        let mut held = self.lock();
        let is_had = held.has(id, |_| true);
        (!is_had).then(|| self.pass(&mut held, id, Passing::Deleted))
    }

    fn pass(&self, held: &mut Held, id: Uuid, kind: Passing) -> Pass {
        held.passing.push((id, kind));
        Pass { claims: self.clone(), id, kind }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn is(&self, id: Uuid, kind: Passing) -> bool {
        self.passing.contains(&(id, kind))
    }

    fn has(&self, id: Uuid, how: impl Fn(&VmmDisk) -> bool) -> bool {
        let mut disks = self.guests.values().flatten();
        disks.any(|disk| disk.blocks_id == id && how(disk))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut held = self.claims.lock();
        let ours = (self.id, self.kind);
        if let Some(n) = held.passing.iter().position(|it| *it == ours) {
            held.passing.swap_remove(n);
        }
    }
}
