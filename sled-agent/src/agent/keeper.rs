//! The task that keeps one VMM: does what its state calls for, and takes in
//! what befalls its guest.
//!
//! Nothing but the state says what there is to do, so the keeper of a
//! restarted agent goes on where the last one was cut off.

use super::{Agent, AgentError};
use crate::logger::chain;
use crate::machine::{Event, GuestEvent};
use crate::slot::{Inbox, Slot};
use crate::vmm::Vmm;
use chrono::Utc;
use sled_agent_client::VmmState;
use slog::{debug, warn};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait before doing again what did not work: a disk that is full
/// or a hypervisor that does not answer.
const RETRY: Duration = Duration::from_millis(200);

impl Agent {
    /// Starts the keeper of this slot, unless it has one.
    pub(super) fn keep(self: &Arc<Self>, slot: &Arc<Slot>) {
        let (agent, slot) = (Arc::clone(self), Arc::clone(slot));
        if let Some(inbox) = slot.take_inbox() {
            tokio::spawn(async move { agent.keeper(&slot, inbox).await });
        }
    }

    async fn keeper(&self, slot: &Slot, mut inbox: Inbox) {
        let mut shown = slot.shown.subscribe();
        // The generation whose work is done.
        let mut done = 0;
        loop {
            let Some(vmm) = shown.borrow_and_update().clone() else {
                return;
            };
            let mut wait = None;
            if done < vmm.status.generation || vmm.must_be_killed(Utc::now()) {
                match self.work(slot, &vmm).await {
                    Ok(()) => done = vmm.status.generation,
                    Err(error) => {
                        warn!(self.log, "a VMM does not get on";
                            "vmm_id" => %vmm.vmm_id,
                            "state" => ?vmm.status.state,
                            "error" => chain(&error));
                        wait = Some(RETRY);
                    }
                }
                if done == vmm.status.generation && vmm.has_ended() {
                    return;
                }
            }
            let wait = wait.or_else(|| until_killed(&vmm));
            tokio::select! {
                changed = shown.changed() => if changed.is_err() { return },
                Some(event) = inbox.recv() => {
                    self.take_in(slot, event).await;
                }
                () = sleep(wait) => {}
            }
        }
    }

    /// What the state of a VMM calls for. No lock is held: other VMMs and
    /// requests about this one go on.
    async fn work(&self, slot: &Slot, vmm: &Vmm) -> Result<(), AgentError> {
        let id = vmm.vmm_id;
        match vmm.status.state {
            VmmState::Creating | VmmState::Running | VmmState::Migrating => {}
            VmmState::Starting => {
                self.hypervisor.boot(id, &vmm.spec).await?;
            }
            VmmState::Rebooting => {
                let turn = vmm.status.generation;
                self.hypervisor.reset(id, turn).await?;
            }
            VmmState::Stopping if vmm.must_be_killed(Utc::now()) => {
                self.hypervisor.kill(id).await?;
                self.take_in(slot, GuestEvent::Halted).await;
            }
            VmmState::Stopping => self.hypervisor.shut_down(id).await?,
            VmmState::Stopped => {
                self.hypervisor.release(id).await?;
                self.record(slot, &Event::Released).await;
            }
            VmmState::Failed | VmmState::Destroyed => {
                self.hypervisor.release(id).await?;
            }
        }
        Ok(())
    }

    /// Takes in what befell the guest.
    pub(super) async fn take_in(&self, slot: &Slot, event: GuestEvent) {
        self.record(slot, &Event::Guest(event)).await;
    }

    /// Records an event that has happened, whatever it takes: nobody would
    /// tell it again.
    async fn record(&self, slot: &Slot, event: &Event) {
        loop {
            match self.apply(slot, event, self.grace()).await {
                Ok(_) | Err(AgentError::NoSuchVmm) => return,
                Err(error @ AgentError::Store(_)) => {
                    warn!(self.log, "an event waits for the disk";
                        "vmm_id" => %slot.vmm_id,
                        "event" => ?event,
                        "error" => chain(&error));
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => {
                    debug!(self.log, "an event does not fit";
                        "vmm_id" => %slot.vmm_id,
                        "event" => ?event,
                        "error" => chain(&error));
                    return;
                }
            }
        }
    }
}

fn until_killed(vmm: &Vmm) -> Option<Duration> {
    let at = vmm.kill_at.filter(|_| vmm.status.state == VmmState::Stopping)?;
    Some((at - Utc::now()).to_std().unwrap_or_default())
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
