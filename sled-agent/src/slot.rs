//! The place of one VMM in the agent, and the table of them.

use crate::machine::GuestEvent;
use crate::vmm::Vmm;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

/// The place of a VMM id.
///
/// `seat` is locked for each change, file write included: that is what makes
/// requests about one VMM wait for each other, and for no other's.
pub(crate) struct Slot {
    pub(crate) vmm_id: Uuid,
    pub(crate) seat: tokio::sync::Mutex<Seat>,
    /// What the seat holds, as last written to disk; to be read and waited
    /// for without the lock.
    pub(crate) shown: watch::Sender<Option<Vmm>>,
    events: mpsc::UnboundedSender<GuestEvent>,
    inbox: Mutex<Option<Inbox>>,
}

/// What befalls the guest, for the one task that keeps this VMM.
pub(crate) type Inbox = mpsc::UnboundedReceiver<GuestEvent>;

/// Who sits there.
pub(crate) enum Seat {
    /// Nobody yet.
    Vacant,
    /// A VMM.
    Taken(Box<Vmm>),
    /// Nobody any more: the slot is out of the table. Look the id up again.
    Gone,
}

impl Slot {
    fn new(vmm_id: Uuid) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        Self {
            vmm_id,
            seat: tokio::sync::Mutex::new(Seat::Vacant),
            shown: watch::Sender::new(None),
            events,
            inbox: Mutex::new(Some(inbox)),
        }
    }

    /// Passes on what befell the guest.
    pub(crate) fn tell(&self, event: GuestEvent) {
        // Nobody listens to news of a VMM that has ended.
        let _ = self.events.send(event);
    }

    /// The events of this VMM, to the first who asks.
    pub(crate) fn take_inbox(&self) -> Option<Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The slots, by VMM id.
#[derive(Default)]
pub(crate) struct Table(Mutex<HashMap<Uuid, Arc<Slot>>>);

impl Table {
    /// The slot of this id, if there is one.
    pub(crate) fn get(&self, id: Uuid) -> Option<Arc<Slot>> {
        self.lock().get(&id).cloned()
    }

    /// The slot of this id, made if there is none. Whoever finds it vacant,
    /// and leaves it so, removes it.
    pub(crate) fn get_or_make(&self, id: Uuid) -> Arc<Slot> {
        let mut slots = self.lock();
        let slot = slots.entry(id).or_insert_with(|| Arc::new(Slot::new(id)));
        Arc::clone(slot)
    }

    /// Takes a slot, whose seat the caller holds, out for good.
    pub(crate) fn remove(&self, slot: &Slot, seat: &mut Seat) {
        *seat = Seat::Gone;
        slot.shown.send_replace(None);
        self.lock().remove(&slot.vmm_id);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
