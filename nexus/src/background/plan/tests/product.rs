//! The whole product around one instance, in memory and on one thread: the
//! real plan and the real transitions, over sagas, sleds and a network that a
//! test steps.
//!
//! What stands between the plan and the transitions (`reconciler`, `watcher`,
//! `saga`) is told again here in its plainest form; that the real ones do as
//! much is for the tests that go through the front door.

use super::super::{Step, plan};
use crate::config::Tuning;
use crate::saga::Saga as _;
use crate::saga::instance_create::InstanceCreate;
use crate::saga::instance_delete::InstanceDelete;
use crate::saga::instance_start::InstanceStart;
use crate::saga::instance_update::InstanceUpdate;
use chrono::{DateTime, TimeDelta, Utc};
use db_model::lifecycle::reports::{Answer, Observation, VmmReport, observe};
use db_model::lifecycle::{Changes, Facts, Refusal, requests, steps};
use db_model::{
    AutoRestartPolicy, ByteCount, Instance, InstanceChange, InstanceId,
    InstanceState, InstanceView, NewInstance, ProjectId, SecId, SiloUserId,
    SledId, StagedFailure, StartAttempt, StartAttemptId, StartFailure,
    StartOutcome, VcpuCount, Vmm, VmmEndReason, VmmId, VmmState,
};
use db_queries::UnfinishedSaga;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// As long as a claim by the reconciler lasts.
const VISIBILITY: TimeDelta = TimeDelta::seconds(30);

/// How a sled can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    Down,
    /// What is asked of it is done, and the answer is lost.
    Mute,
}

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

#[derive(Clone, Debug)]
struct Guest {
    generation: i64,
    state: VmmState,
    ever_ran: bool,
    /// Why it goes down, or has gone.
    cause: Option<VmmEndReason>,
}

impl Guest {
    fn report(&self) -> VmmReport {
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

    fn is_up(&self) -> bool {
        !self.state.is_end() && self.state != VmmState::Creating
    }
}

#[derive(Clone, Debug)]
struct Sled {
    id: SledId,
    link: Link,
    expunged: bool,
    guests: BTreeMap<VmmId, Guest>,
    tombstones: BTreeSet<VmmId>,
}

/// What a sled says of an order.
enum Said {
    Report(VmmReport),
    NoSuchVmm,
    Refused,
}

#[derive(Clone, Debug)]
enum Work {
    Create,
    Start { attempt: StartAttemptId, vmm: VmmId },
    Update { vmm: VmmId },
    Delete,
}

/// The saga that is at work.
#[derive(Clone, Debug)]
struct Saga {
    row: UnfinishedSaga,
    work: Work,
    node: usize,
    undoing: bool,
}

/// Why a node failed: with what is staged, if anything.
struct Failed(Option<StartFailure>);

impl From<Refusal> for Failed {
    fn from(_: Refusal) -> Failed {
        Failed(None)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Product {
    pub(super) instance: Instance,
    pub(super) attempts: BTreeMap<StartAttemptId, StartAttempt>,
    pub(super) vmms: BTreeMap<VmmId, Vmm>,
    saga: Option<Saga>,
    sleds: [Sled; 2],
    now: DateTime<Utc>,
    tuning: Tuning,
    ids: u128,
    /// The kinds of steps that the reconciler has taken.
    pub(super) taken: BTreeSet<String>,
}

impl Product {
    /// A create saga has inserted the instance.
    pub(super) fn new(start: bool) -> Product {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let id = Uuid::from_u128;
        let new = NewInstance {
            name: "db".parse().unwrap(),
            description: String::new(),
            hostname: "db".parse().unwrap(),
            ncpus: VcpuCount::new(2),
            memory: ByteCount::GIB,
            user_data: String::new(),
            network_interfaces: serde_json::Value::Null,
            auto_restart_policy: None,
            start,
        };
        let attempt = (StartAttemptId(id(3)), SiloUserId(id(1)));
        let (instance, attempt) = requests::create(
            &new,
            InstanceId(id(4)),
            ProjectId(id(5)),
            start.then_some(attempt),
            now,
        );
        let sled = |n| Sled {
            id: SledId(id(n)),
            link: Link::Up,
            expunged: false,
            guests: BTreeMap::new(),
            tombstones: BTreeSet::new(),
        };
        let mut product = Product {
            instance,
            attempts: attempt.into_iter().map(|a| (a.id, a)).collect(),
            vmms: BTreeMap::new(),
            saga: None,
            sleds: [sled(10), sled(11)],
            now,
            tuning: Tuning { patience: 2, ..Tuning::default() },
            ids: 100,
            taken: BTreeSet::new(),
        };
        product.begin(Work::Create);
        product
    }

    fn id<T: From<Uuid>>(&mut self) -> T {
        self.ids += 1;
        Uuid::from_u128(self.ids).into()
    }

    // The database.

    pub(super) fn facts(&self) -> Facts {
        let linked = self.instance.active_vmm_id;
        let pending = self.instance.pending_start_attempt_id;
        Facts {
            instance: self.instance.clone(),
            vmms: self
                .vmms
                .values()
                .filter(|v| !v.ended() || Some(v.id) == linked)
                .cloned()
                .collect(),
            attempt: pending.map(|id| self.attempts[&id].clone()),
            now: self.now,
        }
    }

    pub(super) fn unfinished(&self) -> Option<UnfinishedSaga> {
        self.saga.as_ref().map(|saga| saga.row.clone())
    }

    pub(super) fn plan(&self) -> super::super::Plan {
        plan(&self.facts(), self.unfinished().as_ref(), &self.tuning)
    }

    /// What operators read of the plan.
    pub(super) fn explained(&self) -> String {
        let (facts, saga) = (self.facts(), self.unfinished());
        let plan = self.plan();
        plan.explain(&facts, saga.as_ref(), &self.tuning).join(" ")
    }

    pub(super) fn view(&self) -> InstanceView {
        let latest = self.instance.latest_start_attempt_id;
        InstanceView {
            instance: self.instance.clone(),
            vmm: self.instance.active_vmm_id.map(|id| self.vmms[&id].clone()),
            latest_attempt: latest.map(|id| self.attempts[&id].clone()),
            sled_last_seen: None,
            now: self.now,
        }
    }

    fn write(&mut self, changes: Changes) {
        for attempt in
            [changes.attempt, changes.new_attempt].into_iter().flatten()
        {
            self.attempts.insert(attempt.id, attempt);
        }
        if let Some((vmm, _)) = changes.new_vmm {
            self.vmms.insert(vmm.id, vmm);
        }
        if let Some(vmm) = changes.vmm {
            self.vmms.insert(vmm.id, vmm);
        }
        if let Some(instance) = changes.instance {
            self.instance = instance;
        }
        self.passes(TimeDelta::milliseconds(1));
    }

    fn write_if_taken(&mut self, changes: Result<Changes, Refusal>) -> bool {
        let taken = changes.is_ok();
        self.write(changes.unwrap_or_default());
        taken
    }

    pub(super) fn passes(&mut self, time: TimeDelta) {
        self.now += time;
    }

    /// Takes in what is seen of a VMM.
    fn observe(&mut self, vmm: VmmId, observation: &Observation) -> Answer {
        let allowance = self.tuning.boot_allowance();
        let answer = observe(&self.facts(), vmm, observation, allowance);
        if let Answer::Taken(changes) = &answer {
            self.write((**changes).clone());
        }
        answer
    }

    // Users.

    pub(super) fn asks_to_start(&mut self) -> bool {
        let (attempt, user) = (self.id(), self.id());
        let changes = requests::start(&self.facts(), attempt, user);
        self.write_if_taken(changes)
    }

    pub(super) fn asks_to_stop(&mut self) -> bool {
        let changes = requests::stop(&self.facts());
        self.write_if_taken(changes)
    }

    pub(super) fn asks_to_delete(&mut self) -> bool {
        let changes = requests::delete(&self.facts());
        self.write_if_taken(changes)
    }

    pub(super) fn asks_for_restarts(&mut self, policy: AutoRestartPolicy) {
        let change = InstanceChange {
            ncpus: self.instance.ncpus,
            memory: self.instance.memory_bytes,
            auto_restart_policy: Some(policy),
        };
        let changes = requests::change(&self.facts(), &change);
        self.write_if_taken(changes);
    }

    // Sleds.

    fn sled(&mut self, id: SledId) -> &mut Sled {
        self.sleds.iter_mut().find(|s| s.id == id).unwrap()
    }

    /// Asks a sled, which is not expunged. `None`: there is no answer.
    fn ask<T>(
        &mut self,
        sled: SledId,
        order: impl FnOnce(&mut Sled) -> T,
    ) -> Option<T> {
        let sled = self.sled(sled);
        match sled.link {
            Link::Up => Some(order(sled)),
            Link::Mute => {
                order(sled);
                None
            }
            Link::Down => None,
        }
    }

    /// Unregisters a VMM. Says whether anything definite came of it.
    fn unregister(&mut self, vmm: VmmId, sled: SledId) -> bool {
        if self.sled(sled).expunged {
            self.observe(vmm, &Observation::Fenced);
            return true;
        }
        let answer = self.ask(sled, |sled| {
            sled.tombstones.insert(vmm);
            sled.guests.remove(&vmm).map(|guest| guest.report())
        });
        let Some(last) = answer else { return false };
        self.observe(vmm, &Observation::Unregistered(last));
        true
    }

    /// Gives an order about a VMM, or asks for it. Says whether anything
    /// definite came of it.
    fn order(&mut self, vmm: VmmId, sled: SledId, order: Order) -> bool {
        if self.sled(sled).expunged {
            self.observe(vmm, &Observation::Fenced);
            return true;
        }
        let answer = match self.ask(sled, |s| s.put(vmm, order)) {
            Some(Said::Refused) => self.ask(sled, |s| s.put(vmm, Order::Show)),
            answer => answer,
        };
        match answer {
            None | Some(Said::Refused) => false,
            Some(Said::Report(report)) => {
                self.observe(vmm, &Observation::Reported(report));
                true
            }
            Some(Said::NoSuchVmm) => {
                self.observe(vmm, &Observation::Unknown) != Answer::Stale
            }
        }
    }

    /// Something happens to the `n`th guest that sleds have.
    pub(super) fn guest(&mut self, n: usize, event: GuestEvent) {
        let all: Vec<(SledId, VmmId)> = self
            .sleds
            .iter()
            .flat_map(|s| s.guests.keys().map(|vmm| (s.id, *vmm)))
            .collect();
        let Some(n) = n.checked_rem(all.len()) else { return };
        let (sled, vmm) = all[n];
        let sled = self.sled(sled);
        if event == GuestEvent::BeLost {
            sled.guests.remove(&vmm);
            return;
        }
        sled.guests.get_mut(&vmm).unwrap().happens(event);
    }

    /// A sled tells of all its guests.
    pub(super) fn pushes(&mut self, n: usize) {
        let sled = self.sleds[n].clone();
        if sled.expunged || sled.link == Link::Down {
            return;
        }
        for (vmm, guest) in sled.guests {
            self.observe(vmm, &Observation::Reported(guest.report()));
        }
    }

    pub(super) fn connect(&mut self, n: usize, link: Link) {
        self.sleds[n].link = link;
    }

    /// Only the first can be expunged, so that there is always another.
    pub(super) fn expunge(&mut self) {
        self.sleds[0].expunged = true;
        self.sleds[0].guests.clear();
    }

    /// Nexus asks a sled for all its VMMs.
    pub(super) fn watches(&mut self, n: usize) {
        let sled = self.sleds[n].clone();
        let rows: Vec<Vmm> = self
            .vmms
            .values()
            .filter(|v| v.sled_id == sled.id && !v.ended())
            .cloned()
            .collect();
        if sled.expunged {
            for row in rows {
                self.observe(row.id, &Observation::Fenced);
            }
            return;
        }
        if sled.link != Link::Up {
            return;
        }
        for row in rows {
            let expected =
                !matches!(row.state, VmmState::Creating | VmmState::Abandoned);
            if let Some(guest) = sled.guests.get(&row.id) {
                let report = guest.report();
                self.observe(row.id, &Observation::Reported(report));
            } else if expected {
                self.observe(row.id, &Observation::Unknown);
            }
        }
        for vmm in sled.guests.keys() {
            if self.vmms[vmm].ended() {
                self.unregister(*vmm, sled.id);
            }
        }
    }

    // Sagas.

    fn begin(&mut self, work: Work) {
        if self.saga.is_some() {
            return;
        }
        let name = match work {
            Work::Create => InstanceCreate::NAME,
            Work::Start { .. } => InstanceStart::NAME,
            Work::Update { .. } => InstanceUpdate::NAME,
            Work::Delete => InstanceDelete::NAME,
        };
        let row = UnfinishedSaga {
            id: self.id(),
            name: name.to_string(),
            current_sec: SecId(Uuid::nil()),
            time_created: self.now,
        };
        self.saga = Some(Saga { row, work, node: 0, undoing: false });
    }

    /// An operator gives the saga up, wherever it is.
    pub(super) fn park_saga(&mut self) {
        if self.saga.take().is_some() {
            self.instance.reconcile_at = Some(self.now);
        }
    }

    /// The saga takes its next step. `breaks`: what the node does, it does, and
    /// fails all the same.
    pub(super) fn saga_goes_on(&mut self, breaks: bool) {
        let Some(saga) = self.saga.clone() else { return };
        if saga.undoing {
            self.undo(&saga);
            return self.saga_goes_back();
        }
        let outcome = match self.act(&saga) {
            Ok(_) if breaks => {
                Err(Failed(Some(StartFailure::internal(saga.row.id))))
            }
            outcome => outcome,
        };
        match outcome {
            Ok(true) => self.saga.as_mut().unwrap().node += 1,
            Ok(false) => self.saga_ends(),
            Err(Failed(staged)) => {
                self.stage(&saga, staged);
                self.saga.as_mut().unwrap().undoing = true;
                self.saga_goes_back();
            }
        }
    }

    fn saga_goes_back(&mut self) {
        let saga = self.saga.as_mut().unwrap();
        match saga.node.checked_sub(1) {
            Some(node) => saga.node = node,
            None => self.saga_ends(),
        }
    }

    fn saga_ends(&mut self) {
        self.saga = None;
        if self.instance.state != InstanceState::Destroyed {
            self.instance.reconcile_at = Some(self.now);
        }
    }

    /// Does a node. Says whether there is another.
    fn act(&mut self, saga: &Saga) -> Result<bool, Failed> {
        let facts = self.facts();
        match (&saga.work, saga.node) {
            (Work::Create, 0) => Ok(true),
            (Work::Create, _) => {
                self.write(steps::created(&facts));
                Ok(false)
            }
            (Work::Update { vmm }, 0) => {
                self.write(steps::unlink(&facts, *vmm));
                Ok(true)
            }
            (Work::Update { vmm }, _) => {
                let sled = self.vmms[vmm].sled_id;
                self.unregister(*vmm, sled);
                Ok(false)
            }
            (Work::Delete, _) => {
                self.write(steps::destroyed(&facts)?);
                Ok(false)
            }
            (Work::Start { attempt, vmm }, node) => {
                self.act_start(saga, *attempt, *vmm, node)
            }
        }
    }

    fn act_start(
        &mut self,
        saga: &Saga,
        attempt: StartAttemptId,
        vmm: VmmId,
        node: usize,
    ) -> Result<bool, Failed> {
        let facts = self.facts();
        let id = saga.row.id;
        let goes_on = steps::may_go_on(&self.attempts[&attempt], id);
        if node == 0 {
            if goes_on.is_err() {
                self.write(steps::claim(&facts, attempt, id)?);
            }
            return Ok(true);
        }
        goes_on?;
        match node {
            1 => {
                let open = |s: &&Sled| !s.expunged && s.link == Link::Up;
                let sled =
                    self.sleds.iter().find(open).unwrap_or(&self.sleds[1]);
                let sled = sled.id;
                self.write(steps::link(&facts, attempt, vmm, sled)?);
            }
            2 => (),
            3 => {
                let sled = self.vmms[&vmm].sled_id;
                let silence = || Failed(Some(StartFailure::host_unreachable()));
                if self.sled(sled).expunged {
                    return Err(silence());
                }
                let answer = self.ask(sled, |sled| sled.register(vmm));
                match answer.ok_or_else(silence)? {
                    Said::Report(report) => {
                        self.observe(vmm, &Observation::Reported(report));
                    }
                    Said::NoSuchVmm | Said::Refused => {
                        let failure = StartFailure::internal(id);
                        return Err(Failed(Some(failure)));
                    }
                }
            }
            _ => {
                self.write(steps::allow_to_run(&facts, vmm)?);
                let sled = self.vmms[&vmm].sled_id;
                let lost = self.sled(sled).expunged
                    || (self.sled(sled).link == Link::Up
                        && !self.sled(sled).guests.contains_key(&vmm));
                if lost {
                    let failure = StartFailure::boot_failed("It was lost.");
                    return Err(Failed(Some(failure)));
                }
                self.order(vmm, sled, Order::Run);
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn stage(&mut self, saga: &Saga, failure: Option<StartFailure>) {
        let (Work::Start { attempt, .. }, Some(failure)) =
            (&saga.work, failure)
        else {
            return;
        };
        let row = self.attempts.get_mut(attempt).unwrap();
        let mine = row.outcome == StartOutcome::Pending
            && row.saga_id == Some(saga.row.id);
        if mine {
            let internal_error = String::new();
            let staged = StagedFailure { failure, internal_error };
            row.staged_failure = Some(serde_json::to_value(staged).unwrap());
        }
    }

    fn undo(&mut self, saga: &Saga) {
        let facts = self.facts();
        match (&saga.work, saga.node) {
            (Work::Create, 0) => {
                self.write(steps::create_undone(&facts, saga.row.id));
            }
            (Work::Start { vmm, .. }, 2) => {
                let sled = self.vmms[vmm].sled_id;
                if !self.unregister(*vmm, sled) {
                    self.write(steps::abandon(&facts, *vmm));
                }
            }
            (Work::Start { attempt, vmm }, 0) => {
                self.write(steps::unlink(&facts, *vmm));
                let facts = self.facts();
                let staged = facts.attempt.as_ref().and_then(|a| a.staged());
                self.write(steps::close_failed(
                    &facts,
                    *attempt,
                    saga.row.id,
                    staged,
                ));
            }
            (
                Work::Create
                | Work::Start { .. }
                | Work::Update { .. }
                | Work::Delete,
                _,
            ) => (),
        }
    }

    // The reconciler.

    /// A look at the instance, if one is due.
    pub(super) fn looks(&mut self) {
        if self.instance.reconcile_at.is_none_or(|at| at > self.now) {
            return;
        }
        let claim = self.now + VISIBILITY;
        self.instance.reconcile_at = Some(claim);
        let (facts, plan) = (self.facts(), self.plan());
        for step in &plan.steps {
            let name = format!("{step:?}");
            let name = name.split('(').next().unwrap_or_default();
            self.taken.insert(name.to_string());
            self.takes(&facts, step);
        }
        if self.instance.reconcile_at == Some(claim) {
            self.instance.reconcile_at = plan.look_again;
        }
    }

    fn takes(&mut self, seen: &Facts, step: &Step) {
        match step {
            Step::StartSaga(attempt) => {
                let row = self.attempts.get_mut(attempt).unwrap();
                if row.saga_id.is_some() {
                    row.held_back += 1;
                }
                let (attempt, vmm) = (*attempt, self.id());
                self.begin(Work::Start { attempt, vmm });
            }
            Step::UpdateSaga(vmm, _) => {
                self.begin(Work::Update { vmm: *vmm });
            }
            Step::DeleteSaga => self.begin(Work::Delete),
            Step::UndoCreate => {
                let incident = self.id();
                let undone = steps::create_given_up(&self.facts(), incident);
                self.write(undone);
            }
            Step::HoldBack(attempt) => {
                let row = self.attempts.get_mut(attempt).unwrap();
                row.held_back += 1;
                if row.held_back > i64::from(self.tuning.patience) {
                    self.gives_up(*attempt, &StartFailure::held_back());
                }
            }
            Step::GiveUp(attempt, failure) => self.gives_up(*attempt, failure),
            Step::OrderRun(vmm, sled) => {
                let heard = self.order(*vmm, *sled, Order::Run);
                if !heard && self.out_of_patience(*vmm) {
                    self.gives_up_on_sled(seen);
                }
            }
            Step::JudgeBoot(attempt, vmm, sled) => {
                if !self.order(*vmm, *sled, Order::Show) {
                    if self.out_of_patience(*vmm) {
                        self.gives_up_on_sled(seen);
                    }
                    return;
                }
                let row = &self.vmms[vmm];
                if !row.ever_ran && !row.ended() {
                    let allowance = self.tuning.boot_allowance();
                    let timed_out = StartFailure::timed_out(allowance);
                    self.gives_up(*attempt, &timed_out);
                }
            }
            Step::OrderStop(vmm, sled) => {
                self.order(*vmm, *sled, Order::Stop);
            }
            Step::Unregister(vmm, sled) => {
                let linked = seen.instance.active_vmm_id == Some(*vmm);
                if !self.unregister(*vmm, *sled)
                    && self.out_of_patience(*vmm)
                    && linked
                {
                    self.write(steps::abandon(&self.facts(), *vmm));
                }
            }
            Step::Restart | Step::Retry => {
                let attempt = self.id();
                let opened = requests::auto_restart(&self.facts(), attempt);
                self.write_if_taken(opened);
            }
            // There is always room here.
            Step::CheckRoom => (),
        }
    }

    fn gives_up(&mut self, attempt: StartAttemptId, failure: &StartFailure) {
        let facts = self.facts();
        self.write(steps::give_up_attempt(&facts, attempt, failure));
    }

    fn gives_up_on_sled(&mut self, seen: &Facts) {
        if let Some(attempt) = &seen.attempt {
            self.gives_up(attempt.id, &StartFailure::host_unreachable());
        }
    }

    fn out_of_patience(&mut self, vmm: VmmId) -> bool {
        let patience = i64::from(self.tuning.patience);
        let row = self.vmms.get_mut(&vmm).unwrap();
        row.unanswered += 1;
        row.unanswered > patience
    }

    // What is true, whatever the database says.

    /// The VMMs whose guests are up, or coming up, or going down.
    pub(super) fn up(&self) -> Vec<VmmId> {
        self.sleds
            .iter()
            .flat_map(|sled| &sled.guests)
            .filter(|(_, guest)| guest.is_up())
            .map(|(vmm, _)| *vmm)
            .collect()
    }

    /// The VMMs whose guests run.
    pub(super) fn running(&self) -> Vec<VmmId> {
        self.sleds
            .iter()
            .flat_map(|sled| &sled.guests)
            .filter(|(_, guest)| guest.state == VmmState::Running)
            .map(|(vmm, _)| *vmm)
            .collect()
    }

    /// Every sled answers, every guest does as it is told, nothing breaks and
    /// nobody asks for anything more: until nothing is left to do. Says whether
    /// it came to that.
    pub(super) fn calms_down(&mut self) -> bool {
        for _ in 0..200 {
            for n in 0..self.sleds.len() {
                self.connect(n, Link::Up);
                for guest in self.sleds[n].guests.values_mut() {
                    guest.happens(GuestEvent::Boot);
                    guest.happens(GuestEvent::Halt);
                }
                self.pushes(n);
                self.watches(n);
            }
            while self.saga.is_some() {
                self.saga_goes_on(false);
            }
            match self.instance.reconcile_at {
                None => return true,
                Some(due) if due > self.now => self.now = due,
                Some(_) => self.looks(),
            }
        }
        false
    }
}

/// What a sled is asked about a VMM.
#[derive(Clone, Copy, Debug)]
enum Order {
    Run,
    Stop,
    Show,
}

impl Sled {
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

    fn put(&mut self, vmm: VmmId, order: Order) -> Said {
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
        match order {
            Order::Run if down => return Said::Refused,
            Order::Run if guest.state == VmmState::Creating => {
                guest.goes(VmmState::Starting, None);
            }
            Order::Stop if down => (),
            Order::Stop if guest.state == VmmState::Creating => {
                guest.goes(VmmState::Destroyed, requested);
            }
            Order::Stop => guest.goes(VmmState::Stopping, requested),
            Order::Run | Order::Show => (),
        }
        Said::Report(guest.report())
    }
}

impl Guest {
    fn happens(&mut self, event: GuestEvent) {
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
