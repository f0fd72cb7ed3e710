//! Sleds and their guests, in memory, as the agent and its hypervisors do it.

use db_model::lifecycle::reports::VmmReport;
use db_model::{SledId, VmmEndReason, VmmId, VmmState};
use std::collections::{BTreeMap, BTreeSet};

/// Something that a guest does, or that happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuestEvent {
    Boot,
    FailToBoot,
    Panic,
    ShutDown,
    Halt,
    /// Its host forgets it.
    BeLost,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Guest {
    generation: i64,
    pub(super) state: VmmState,
    ever_ran: bool,
    /// Why it goes down, or has gone.
    cause: Option<VmmEndReason>,
}

impl Guest {
    pub(super) fn report(&self) -> VmmReport {
        VmmReport {
            generation: self.generation,
            state: self.state,
            ever_ran: self.ever_ran,
            end: self
                .cause
                .filter(|_| self.state.is_end())
                .map(|cause| (cause, None)),
        }
    }

    fn goes(&mut self, state: VmmState, cause: Option<VmmEndReason>) {
        self.generation += 1;
        self.state = state;
        self.ever_ran |= state == VmmState::Running;
        self.cause = self.cause.or(cause);
    }

    pub(super) fn is_up(&self) -> bool {
        !self.state.is_end() && self.state != VmmState::Creating
    }

    /// What may happen to it now, and would make a difference.
    pub(super) fn prospects(&self) -> &'static [GuestEvent] {
        match self.state {
            VmmState::Starting => {
                &[GuestEvent::Boot, GuestEvent::FailToBoot, GuestEvent::BeLost]
            }
            VmmState::Running => {
                &[GuestEvent::Panic, GuestEvent::ShutDown, GuestEvent::BeLost]
            }
            VmmState::Stopping => &[GuestEvent::Halt, GuestEvent::BeLost],
            VmmState::Creating
            | VmmState::Stopped
            | VmmState::Rebooting
            | VmmState::Migrating
            | VmmState::Failed
            | VmmState::Destroyed
            | VmmState::Abandoned => &[GuestEvent::BeLost],
        }
    }

    pub(super) fn happens(&mut self, event: GuestEvent) {
        let starting = self.state == VmmState::Starting;
        let running = self.state == VmmState::Running;
        match event {
            GuestEvent::Boot if starting => self.goes(VmmState::Running, None),
            GuestEvent::FailToBoot if starting => {
                self.goes(VmmState::Failed, Some(VmmEndReason::BootFailed));
            }
            GuestEvent::Panic if running => {
                self.goes(VmmState::Failed, Some(VmmEndReason::Panic));
            }
            GuestEvent::ShutDown if running => {
                let cause = Some(VmmEndReason::GuestShutdown);
                self.goes(VmmState::Stopping, cause);
            }
            GuestEvent::Halt if self.state == VmmState::Stopping => {
                self.goes(VmmState::Destroyed, None);
            }
            GuestEvent::Boot
            | GuestEvent::FailToBoot
            | GuestEvent::Panic
            | GuestEvent::ShutDown
            | GuestEvent::Halt
            | GuestEvent::BeLost => (),
        }
    }
}

/// What a sled is asked about a VMM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Call {
    Register,
    Run,
    Stop,
    Show,
    Unregister,
}

/// What a sled says to that.
pub(super) enum Said {
    Report(VmmReport),
    NoSuchVmm,
    Refused,
    /// With its last state, if it was known.
    Unregistered(Option<VmmReport>),
}

#[derive(Clone, Debug)]
pub(super) struct Sled {
    pub(super) id: SledId,
    pub(super) expunged: bool,
    pub(super) guests: BTreeMap<VmmId, Guest>,
    pub(super) tombstones: BTreeSet<VmmId>,
}

impl Sled {
    pub(super) fn new(id: SledId) -> Sled {
        Sled {
            id,
            expunged: false,
            guests: BTreeMap::new(),
            tombstones: BTreeSet::new(),
        }
    }

    /// Does as it is asked, and answers.
    pub(super) fn takes(&mut self, vmm: VmmId, call: Call) -> Said {
        match call {
            Call::Register => self.register(vmm),
            Call::Unregister => {
                self.tombstones.insert(vmm);
                let last = self.guests.remove(&vmm);
                Said::Unregistered(last.map(|guest| guest.report()))
            }
            Call::Run | Call::Stop | Call::Show => self.put(vmm, call),
        }
    }

    fn register(&mut self, vmm: VmmId) -> Said {
        if self.tombstones.contains(&vmm) {
            return Said::Refused;
        }
        let guest = self.guests.entry(vmm).or_insert(Guest {
            generation: 1,
            state: VmmState::Creating,
            ever_ran: false,
            cause: None,
        });
        Said::Report(guest.report())
    }

    fn put(&mut self, vmm: VmmId, call: Call) -> Said {
        let Some(guest) = self.guests.get_mut(&vmm) else {
            return Said::NoSuchVmm;
        };
        let requested = Some(VmmEndReason::Requested);
        let down = matches!(
            guest.state,
            VmmState::Stopping
                | VmmState::Stopped
                | VmmState::Failed
                | VmmState::Destroyed
        );
        match call {
            Call::Run if down => return Said::Refused,
            Call::Run if guest.state == VmmState::Creating => {
                guest.goes(VmmState::Starting, None);
            }
            Call::Stop if down => (),
            Call::Stop if guest.state == VmmState::Creating => {
                guest.goes(VmmState::Destroyed, requested);
            }
            Call::Stop => guest.goes(VmmState::Stopping, requested),
            Call::Run | Call::Show | Call::Register | Call::Unregister => (),
        }
        Said::Report(guest.report())
    }
}
