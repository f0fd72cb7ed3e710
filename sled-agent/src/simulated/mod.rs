//! The simulated hypervisor: no guests, but facts about them on disk.
//!
//! A fact that has a deadline (this guest is up at noon) comes true whether or
//! not an agent is there to see it, as a guest of a real hypervisor boots on
//! while its agent is dead. The agent that recovers reads what became of it.
//! Another fact is that no guest outlives the lease under which it runs: from
//! then on it is halted, whatever its row says, and nothing comes true of it.

mod console;
mod guest;
mod orders;
mod settings;

pub use guest::GuestStep;
pub use settings::{Hold, Settings};

use crate::before;
use crate::counters::Counters;
use crate::files::{self, FileError};
use crate::hypervisor::{GuestEvents, HypervisorError};
use crate::lease::Lease;
use crate::ledger::{Change, Ledger, Outlives, Table};
use crate::machine::GuestEvent;
use camino::{Utf8Path, Utf8PathBuf};
use chrono::{DateTime, TimeDelta, Utc};
use guest::Guest;
use settings::Knobs;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

/// How long a step waits for a guest to come to where it can be taken: the
/// order that brings it there may still be on its way.
const STEP_PATIENCE: Duration = Duration::from_secs(5);

/// In the data directory.
const FACTS: &str = "simulated.db";
const GUEST: Table = Table("guest");

/// Whether there are simulated guests in this data directory.
pub(crate) async fn has_guests(dir: &Utf8Path) -> Result<bool, FileError> {
    let before = files::all(dir.join("guests")).await?;
    if !before.is_empty() || !dir.join(FACTS).exists() {
        return Ok(!before.is_empty());
    }
    let guests: Vec<Guest> = facts(dir).await?.all(GUEST).await?;
    Ok(!guests.is_empty())
}

/// What is known of guests ends with the host.
async fn facts(dir: &Utf8Path) -> Result<Ledger, FileError> {
    Ledger::open(dir.join(FACTS), &[GUEST], Outlives::Process).await
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Simulated(Arc<Inner>);

struct Inner {
    /// What is known of the guests, each by its VMM.
    facts: Ledger,
    /// Where they print.
    consoles: Utf8PathBuf,
    knobs: Mutex<Knobs>,
    /// Each guest is changed, file and all, under its own lock.
    guests: Mutex<HashMap<Uuid, Place>>,
    changed: Notify,
    counters: Arc<Counters>,
    lease: Arc<Lease>,
    events: GuestEvents,
}

type Place = Arc<tokio::sync::Mutex<Option<Guest>>>;

/// Why a guest does not take a step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error("the guest is in no state to do that: {0}")]
    Misfit(String),
    #[error("the guest cannot be changed")]
    Hypervisor(#[from] HypervisorError),
}

impl Simulated {
    /// A hypervisor that keeps its guests in this data directory.
    pub(crate) async fn open(
        dir: &Utf8Path,
        settings: &Settings,
        counters: Arc<Counters>,
        lease: Arc<Lease>,
        events: GuestEvents,
    ) -> Result<Self, FileError> {
        let facts = facts(dir).await?;
        let before = [(dir.join("guests"), GUEST)];
        before::take_over(&facts, &before, Outlives::Process).await?;
        Ok(Self(Arc::new(Inner {
            facts,
            consoles: dir.join("consoles"),
            knobs: Mutex::new(Knobs::new(settings)),
            guests: Mutex::default(),
            changed: Notify::new(),
            counters,
            lease,
            events,
        })))
    }

    /// Changes what is given of the settings, for what begins from now on.
    pub(crate) fn set(&self, settings: &Settings) {
        self.knobs().set(settings);
    }

    /// Holds guests, or lets go of those that are held.
    pub(crate) async fn hold(&self, hold: &Hold) -> Result<(), StepError> {
        let (boot, stop) = self.knobs().hold(hold);
        let ids: Vec<Uuid> = self.places().keys().copied().collect();
        for id in ids {
            self.change(id, |guest| {
                let guest = guest?;
                let phase = guest.phase.let_go(boot, stop, Utc::now())?;
                Some((Guest { phase, ..guest.clone() }, None))
            })
            .await?;
        }
        Ok(())
    }

    /// Has a guest do something, as soon as it can.
    ///
    /// *Errors*: within [`STEP_PATIENCE`] it came to no state to do that.
    pub(crate) async fn step(
        &self,
        vmm_id: Uuid,
        step: &GuestStep,
    ) -> Result<(), StepError> {
        let patience = tokio::time::sleep(STEP_PATIENCE);
        tokio::pin!(patience);
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut phase = None;
            let going_down = self.knobs().stop_deadline();
            let stepped = self.change(vmm_id, |guest| {
                let guest = guest?;
                phase = Some(guest.phase.clone());
                let (phase, event) = guest.phase.step(step, going_down)?;
                Some((Guest { phase, ..guest.clone() }, Some(event)))
            });
            if stepped.await? {
                return Ok(());
            }
            tokio::select! {
                () = changed => {}
                () = &mut patience => {
                    return Err(StepError::Misfit(format!("{phase:?}")));
                }
            }
        }
    }

    /// Changes a guest: to what `change` makes of it, if anything, and then
    /// tells what happened. Whether anything did.
    async fn change(
        &self,
        vmm_id: Uuid,
        change: impl FnOnce(Option<&Guest>) -> Option<(Guest, Option<GuestEvent>)>,
    ) -> Result<bool, HypervisorError> {
        let place = Arc::clone(self.places().entry(vmm_id).or_default());
        let mut seat = place.lock().await;
        let Some((guest, event)) = change(seat.as_ref()) else {
            return Ok(false);
        };
        if seat.as_ref() != Some(&guest) {
            self.print_turn(seat.as_ref(), &guest).await?;
            let changed = vec![Change::put(GUEST, vmm_id, &guest)];
            self.0
                .facts
                .write(changed)
                .await
                .map_err(|error| broken("a guest cannot be written", error))?;
            self.arm(&guest);
            *seat = Some(guest);
        }
        if let Some(event) = event {
            self.tell(vmm_id, event);
        }
        drop(seat);
        self.0.changed.notify_waiters();
        Ok(true)
    }

    /// Sees to it that what is due happens at its time.
    fn arm(&self, guest: &Guest) {
        let Some(at) = guest.phase.deadline() else { return };
        let (hypervisor, vmm_id) = (self.clone(), guest.vmm_id);
        tokio::spawn(async move {
            // The wall clock may be set while this waits.
            while let Ok(left) = (at - Utc::now()).to_std() {
                tokio::time::sleep(left.max(Duration::from_millis(1))).await;
            }
            hypervisor.advance(vmm_id).await;
        });
    }

    /// Lets happen what is due.
    async fn advance(&self, vmm_id: Uuid) {
        let advance = |guest: Option<&Guest>| {
            let guest = guest?;
            let (phase, event) = guest.phase.due(self.guests_now())?;
            Some((Guest { phase, ..guest.clone() }, Some(event)))
        };
        while self.change(vmm_id, advance).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The time for guests, which ends with the lease.
    fn guests_now(&self) -> DateTime<Utc> {
        let now = Utc::now();
        let over_for = TimeDelta::from_std(self.0.lease.over_for()).ok();
        over_for
            .and_then(|over_for| now.checked_sub_signed(over_for))
            .unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    fn tell(&self, vmm_id: Uuid, event: GuestEvent) {
        // The agent listens for as long as the process lives.
        let _ = self.0.events.send((vmm_id, event));
    }

    fn knobs(&self) -> MutexGuard<'_, Knobs> {
        self.0.knobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Uuid, Place>> {
        self.0.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken(
    what: &str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> HypervisorError {
    HypervisorError {
        what: what.to_string(),
        source: std::io::Error::other(error),
    }
}
