//! How much of the local storage is given away.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// What each local blocks may come to take, there or being made. A directory
/// of one sled alone, so this is all there is.
pub(super) struct Room {
    limit_bytes: u64,
    held: Mutex<HashMap<Uuid, u64>>,
}

/// Why there is no room, in a sentence.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the host has {free} bytes of local storage left, and {needed} are needed"
)]
pub(super) struct NoRoom {
    needed: u64,
    free: u64,
}

impl Room {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, held: Mutex::default() }
    }

    /// Takes a share, unless it is taken already. Two at once cannot both have
    /// the last of it.
    pub(super) fn admit(&self, id: Uuid, needed: u64) -> Result<(), NoRoom> {
        let mut held = self.lock();
        let others = held.iter().filter(|(holder, _)| **holder != id);
        let used = others.fold(0, |sum: u64, (_, it)| sum.saturating_add(*it));
        let free = self.limit_bytes.saturating_sub(used);
        if needed > free {
            return Err(NoRoom { needed, free });
        }
        held.insert(id, needed);
        Ok(())
    }

    /// Takes a share for what is there already, room or not.
    pub(super) fn restore(&self, id: Uuid, size_bytes: u64) {
        self.lock().insert(id, size_bytes);
    }

    /// Gives a share back, if it is taken.
    pub(super) fn release(&self, id: Uuid) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, u64>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_away_is_never_more_than_there_is() {
        let room = Room::new(10);
        let [a, b] = [1, 2].map(Uuid::from_u128);
        assert_eq!(room.admit(a, 6), Ok(()));
        assert_eq!(room.admit(a, 6), Ok(()));
        assert_eq!(room.admit(b, 5), Err(NoRoom { needed: 5, free: 4 }));
        assert_eq!(room.admit(b, 4), Ok(()));
        room.release(a);
        assert_eq!(room.admit(a, 6), Ok(()));
    }
}
