//! What Nexus may ask, save to unregister.

use super::{Agent, AgentError};
use crate::machine::{Event, StopCause};
use crate::slot::{Seat, Slot};
use crate::vmm::Vmm;
use chrono::Utc;
use sled_agent_client::{RefusalCode, RequestedState, VmmRegister, VmmReport};
use slog::info;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uuid::Uuid;

impl Agent {
    /// Takes a VMM in, without running it.
    ///
    /// *Idempotency*: by VMM id.
    pub(crate) async fn register(
        self: &Arc<Self>,
        vmm_id: Uuid,
        spec: VmmRegister,
    ) -> Result<VmmReport, AgentError> {
        loop {
            let slot = self.table.get_or_make(vmm_id);
            let mut seat = slot.seat.lock().await;
            match &*seat {
                Seat::Gone => {}
                Seat::Taken(vmm) => return registered_as(vmm, &spec),
                Seat::Vacant => {
                    let taken = self.admit(&slot, &mut seat, spec).await;
                    if taken.is_err() {
                        self.capacity.release(vmm_id);
                        self.table.remove(&slot, &mut seat);
                    }
                    return taken;
                }
            }
        }
    }

    /// Gives a VMM an order, and answers once the order is durable.
    pub(crate) async fn put_state(
        &self,
        vmm_id: Uuid,
        state: RequestedState,
    ) -> Result<VmmReport, AgentError> {
        let event = match state {
            RequestedState::Running => Event::Run,
            RequestedState::Stopped => Event::Stop(StopCause::Requested),
            RequestedState::Reboot => Event::Reboot,
        };
        let slot = self.table.get(vmm_id).ok_or(AgentError::NoSuchVmm)?;
        if matches!(event, Event::Run | Event::Reboot) {
            self.may_start()?;
        }
        self.apply(&slot, &event, self.grace()).await
    }

    /// One VMM.
    pub(crate) fn view(&self, vmm_id: Uuid) -> Result<VmmReport, AgentError> {
        let slot = self.table.get(vmm_id).ok_or(AgentError::NoSuchVmm)?;
        let shown = slot.shown.borrow();
        shown.as_ref().map(Vmm::report).ok_or(AgentError::NoSuchVmm)
    }

    /// All VMMs, by id.
    pub(crate) fn list(&self) -> Vec<VmmReport> {
        let slots = self.table.all();
        let mut reports: Vec<_> = slots
            .iter()
            .filter_map(|slot| slot.shown.borrow().as_ref().map(Vmm::report))
            .collect();
        reports.sort_unstable_by_key(|report| report.vmm_id);
        reports
    }

    /// How many are in that list.
    pub(crate) fn listed(&self) -> u32 {
        let slots = self.table.all();
        let listed = slots.iter().filter(|slot| slot.shown.borrow().is_some());
        u32::try_from(listed.count()).unwrap_or(u32::MAX)
    }

    async fn admit(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        seat: &mut Seat,
        spec: VmmRegister,
    ) -> Result<VmmReport, AgentError> {
        if self.store.tombstone(slot.vmm_id).await?.is_some() {
            return Err(AgentError::Refused {
                code: RefusalCode::VmmTombstoned,
                message: "the VMM was unregistered here".to_string(),
            });
        }
        self.may_start()?;
        if self.expunged.load(Ordering::SeqCst) {
            return Err(rejected("the host is no longer of the fleet"));
        }
        if let Err(no_room) = self.capacity.admit(slot.vmm_id, &spec) {
            return Err(rejected(no_room));
        }
        self.blocks.take(slot.vmm_id, &spec.disks).await?;
        let vmm = Vmm::new(slot.vmm_id, spec, Utc::now());
        let report = vmm.report();
        self.store.put_vmm(&vmm).await?;
        info!(self.log, "a VMM was registered";
            "vmm_id" => %vmm.vmm_id, "instance_id" => %vmm.spec.instance_id);
        self.seat(slot, seat, vmm);
        self.reports.offer(report.clone());
        Ok(report)
    }

    /// Gives a VMM that is on disk its seat, and a keeper.
    pub(super) fn seat(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        seat: &mut Seat,
        vmm: Vmm,
    ) {
        slot.shown.send_replace(Some(vmm.clone()));
        *seat = Seat::Taken(Box::new(vmm));
        self.keep(slot);
    }
}

fn registered_as(
    vmm: &Vmm,
    spec: &VmmRegister,
) -> Result<VmmReport, AgentError> {
    if vmm.spec.instance_id == spec.instance_id {
        return Ok(vmm.report());
    }
    Err(AgentError::Refused {
        code: RefusalCode::VmmIdInUse,
        message: "the VMM belongs to another instance".to_string(),
    })
}

fn rejected(why: impl ToString) -> AgentError {
    AgentError::Refused {
        code: RefusalCode::HostRejected,
        message: why.to_string(),
    }
}
