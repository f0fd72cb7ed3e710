//! The whole product around one instance, in memory and on one thread: the
//! real plan and the real transitions, over sagas, sleds and a network that a
//! test steps.
//!
//! What stands between the plan and the transitions (`reconciler`, `watcher`,
//! `saga`) is told again here in its plainest form; that the real ones do as
//! much is for the tests that go through the front door.

use super::super::{Step, plan};
use super::host::{Call, Guest, GuestEvent, Said, Sled};
use crate::background::watcher::{Listing, listing};
use crate::config::Tuning;
use crate::saga::Saga as _;
use crate::saga::instance_create::InstanceCreate;
use crate::saga::instance_delete::InstanceDelete;
use crate::saga::instance_start::InstanceStart;
use crate::saga::instance_update::InstanceUpdate;
use chrono::{DateTime, TimeDelta, Utc};
use db_model::lifecycle::reports::{Answer, Observation, VmmReport, observe};
use db_model::lifecycle::{Changes, Facts, Refusal, Rest, requests, steps};
use db_model::{
    AutoRestartPolicy, ByteCount, Instance, InstanceChange, InstanceId,
    InstanceState, InstanceView, IntendedState, NewInstance, ProjectId, SecId,
    SiloId, SiloUserId, SledId, StagedFailure, StartAttempt, StartAttemptId,
    StartFailure, StartOutcome, VcpuCount, Vmm, VmmId, VmmState,
};
use db_queries::{SledVmm, UnfinishedSaga};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

/// As long as a claim by the reconciler lasts.
const VISIBILITY: TimeDelta = TimeDelta::seconds(30);

/// In so many rounds all must be calm: each takes a look, or the time to the
/// next one.
pub(super) const ROUNDS: usize = 200;

/// How a sled can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    Down,
    /// What is asked of it is done, and the answer is lost.
    Mute,
}

/// What becomes of the next call to a sled that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// There is no answer. It arrives later, or never.
    Late,
    /// It is answered, and arrives once more later, or never.
    Twice,
}

/// How a saga goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Well,
    /// What the node does, it does, and fails all the same.
    Breaks,
    /// What the node does, it does, and then its process dies before that is
    /// recorded. Another takes the saga over, and runs the node again.
    Dies,
}

/// What can be wrong with the world around the functions that are on trial, to
/// show that it would be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Sleds keep no tombstones.
    NoTombstones,
    /// A look is given back without a comparison with what its claim wrote.
    GivesBackBlindly,
    /// An attempt is opened by what was seen, not by what is.
    OpensUnchecked,
    /// Nobody asks for a VMM that a sled does not list.
    MissesNobody,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Create,
    Start { attempt: StartAttemptId, vmm: VmmId },
    Update { vmm: VmmId },
    Delete,
}

/// The saga that is at work.
#[derive(Clone, Debug)]
pub(super) struct Saga {
    pub(super) row: UnfinishedSaga,
    pub(super) work: Work,
    pub(super) node: usize,
    pub(super) undoing: bool,
    /// All is done or undone, and it is not yet written down as over.
    pub(super) over: bool,
    /// In which its last step has left the instance.
    pub(super) rest: Option<Rest>,
}

/// A look under way: what was seen, as far as the steps go by it, and what is
/// left to do.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) claim: DateTime<Utc>,
    pub(super) linked: Option<VmmId>,
    /// The pending attempt, and whether a saga had had it.
    pub(super) attempt: Option<(StartAttemptId, bool)>,
    pub(super) steps: VecDeque<Step>,
    pub(super) look_again: Option<DateTime<Utc>>,
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
    pub(super) saga: Option<Saga>,
    pub(super) sleds: [Sled; 2],
    links: [Link; 2],
    /// What becomes of the next call, if it makes a difference.
    pub(super) fate: Fate,
    /// Calls that have not arrived yet.
    pub(super) calls: BTreeSet<(SledId, VmmId, Call)>,
    /// What was seen of VMMs and has not been taken in yet.
    pub(super) words: Vec<(VmmId, Observation)>,
    pub(super) now: DateTime<Utc>,
    pub(super) tuning: Tuning,
    ids: u128,
    flaw: Option<Flaw>,
    /// The kinds of steps that the reconciler has taken.
    pub(super) taken: BTreeSet<&'static str>,
}

impl Product {
    /// A create saga has inserted the instance.
    pub(super) fn new(start: bool) -> Product {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let id = Uuid::from_u128;
        let new = NewInstance {
            boot_disk: None,
            cpu_platform: None,
            anti_affinity_groups: Vec::new(),
            disks: Vec::new(),
            name: "db".parse().unwrap(),
            description: String::new(),
            hostname: "db".parse().unwrap(),
            ncpus: VcpuCount::new(2),
            memory: ByteCount::GIB,
            user_data: String::new(),
            ssh_public_keys: None,
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
        let sled = |n| Sled::new(SledId(id(n)));
        let mut product = Product {
            instance,
            attempts: attempt.into_iter().map(|a| (a.id, a)).collect(),
            vmms: BTreeMap::new(),
            saga: None,
            sleds: [sled(10), sled(11)],
            links: [Link::Up; 2],
            fate: Fate::Answered,
            calls: BTreeSet::new(),
            words: Vec::new(),
            now,
            tuning: Tuning { patience: 2, ..Tuning::default() },
            ids: 100,
            flaw: None,
            taken: BTreeSet::new(),
        };
        product.begin(Work::Create);
        product
    }

    /// The same world with something wrong.
    pub(super) fn with(self, flaw: Option<Flaw>) -> Product {
        Product { flaw, ..self }
    }

    /// The same world with so many questions asked in vain before a sled is
    /// given up.
    pub(super) fn with_patience(mut self, patience: u32) -> Product {
        self.tuning.patience = patience;
        self
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
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
            silo_id: SiloId(Uuid::nil()),
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

    /// The last deadline, retry or cooldown that is to come.
    pub(super) fn last_due(&self) -> Option<DateTime<Utc>> {
        let linked = self.instance.active_vmm_id.map(|id| &self.vmms[&id]);
        let due = [
            linked.and_then(|vmm| vmm.boot_deadline),
            self.instance.next_retry_at,
            self.instance.cooldown_expiration(),
        ];
        due.into_iter().flatten().max().filter(|due| *due > self.now)
    }

    /// So much time passes that every deadline, retry and cooldown is over.
    pub(super) fn all_is_due(&mut self) {
        self.now = self.last_due().unwrap_or(self.now);
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

    /// Takes in what the saga was answered.
    fn answered(&mut self, vmm: VmmId, report: VmmReport) {
        let before = self.facts();
        let changes = match self.observe(vmm, &Observation::Reported(report)) {
            Answer::Taken(changes) => *changes,
            Answer::Stale | Answer::Ended => Changes::default(),
        };
        self.saga.as_mut().unwrap().rest = Rest::left_by(&before, &changes);
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
            boot_disk: None,
            cpu_platform: None,
            hostname: None,
            ncpus: self.instance.ncpus,
            memory: self.instance.memory_bytes,
            auto_restart_policy: Some(policy),
        };
        let changes = requests::change(&self.facts(), &change);
        self.write_if_taken(changes);
    }

    // Sleds.

    fn place(&self, id: SledId) -> usize {
        self.sleds.iter().position(|s| s.id == id).unwrap()
    }

    fn sled(&mut self, id: SledId) -> &mut Sled {
        let place = self.place(id);
        &mut self.sleds[place]
    }

    /// Something reaches a sled.
    fn arrives(&mut self, sled: SledId, vmm: VmmId, call: Call) -> Said {
        let forgets = self.has(Flaw::NoTombstones);
        let sled = self.sled(sled);
        let said = sled.takes(vmm, call);
        if forgets {
            sled.tombstones.clear();
        }
        said
    }

    /// Asks a sled, which is not expunged. `None`: there is no answer.
    fn ask(&mut self, sled: SledId, vmm: VmmId, call: Call) -> Option<Said> {
        match self.links[self.place(sled)] {
            Link::Up => (),
            Link::Down => return None,
            Link::Mute => {
                self.arrives(sled, vmm, call);
                return None;
            }
        }
        // A question that arrives late, and some orders that arrive twice, do
        // nothing more.
        let fate = match (self.fate, call) {
            (Fate::Late, Call::Show)
            | (Fate::Twice, Call::Show | Call::Stop | Call::Unregister) => {
                Fate::Answered
            }
            _ => std::mem::replace(&mut self.fate, Fate::Answered),
        };
        if matches!(fate, Fate::Late | Fate::Twice) {
            self.calls.insert((sled, vmm, call));
        }
        match fate {
            Fate::Answered | Fate::Twice => Some(self.arrives(sled, vmm, call)),
            Fate::AnswerLost => {
                self.arrives(sled, vmm, call);
                None
            }
            Fate::Late => None,
        }
    }

    /// The `n`th call that was late arrives. Whoever asked is gone.
    pub(super) fn call_arrives(&mut self, n: usize) {
        let Some(call) = self.calls.iter().nth(n).copied() else { return };
        self.calls.remove(&call);
        let (sled, vmm, call) = call;
        self.arrives(sled, vmm, call);
    }

    /// What is to be seen of the VMM of this row at this moment is seen, and
    /// is on its way to be taken in: pushed by its sled, or asked for.
    pub(super) fn is_seen(&mut self, vmm: VmmId) {
        let row = &self.vmms[&vmm];
        let sled = &self.sleds[self.place(row.sled_id)];
        let seen = match sled.guests.get(&vmm) {
            _ if sled.expunged => return,
            Some(guest) => Observation::Reported(guest.report()),
            None if listing(&watched(row), None) != Listing::Missing => return,
            None => Observation::Unknown,
        };
        self.words.push((vmm, seen));
    }

    /// The `n`th word that was late is taken in.
    pub(super) fn word_arrives(&mut self, n: usize) {
        if n < self.words.len() {
            let (vmm, seen) = self.words.remove(n);
            self.observe(vmm, &seen);
        }
    }

    /// What is on its way gets lost.
    pub(super) fn nothing_arrives(&mut self) {
        self.calls.clear();
        self.words.clear();
    }

    /// Unregisters a VMM. Says whether anything definite came of it.
    fn unregister(&mut self, vmm: VmmId, sled: SledId) -> bool {
        if self.sled(sled).expunged {
            self.observe(vmm, &Observation::Fenced);
            return true;
        }
        match self.ask(sled, vmm, Call::Unregister) {
            Some(Said::Unregistered(last)) => {
                self.observe(vmm, &Observation::Unregistered(last));
                true
            }
            Some(_) | None => false,
        }
    }

    /// Gives an order about a VMM, or asks for it: what comes of it.
    fn told(&mut self, vmm: VmmId, sled: SledId, call: Call) -> Option<Said> {
        match self.ask(sled, vmm, call) {
            // Its state says why.
            Some(Said::Refused) => self.ask(sled, vmm, Call::Show),
            said => said,
        }
    }

    /// Gives an order about a VMM, or asks for it. Says whether anything
    /// definite came of it.
    fn order(&mut self, vmm: VmmId, sled: SledId, call: Call) -> bool {
        if self.sled(sled).expunged {
            self.observe(vmm, &Observation::Fenced);
            return true;
        }
        match self.told(vmm, sled, call) {
            Some(Said::Report(report)) => {
                self.observe(vmm, &Observation::Reported(report));
                true
            }
            Some(Said::NoSuchVmm) => {
                if self.vmms[&vmm].state != VmmState::Creating {
                    self.arrives(sled, vmm, Call::Unregister);
                }
                self.observe(vmm, &Observation::Unknown) != Answer::Stale
            }
            Some(Said::Refused | Said::Unregistered(_)) | None => false,
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
        if sled.expunged || self.links[n] == Link::Down {
            return;
        }
        for (vmm, guest) in sled.guests {
            self.observe(vmm, &Observation::Reported(guest.report()));
        }
    }

    pub(super) fn connect(&mut self, n: usize, link: Link) {
        self.links[n] = link;
    }

    /// Only the first can be expunged, so that there is always another.
    pub(super) fn expunge(&mut self) {
        let sled = &mut self.sleds[0];
        sled.expunged = true;
        sled.guests.clear();
        self.calls.retain(|(to, _, _)| *to != self.sleds[0].id);
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
        if self.links[n] != Link::Up {
            return;
        }
        for row in rows {
            let report = sled.guests.get(&row.id).map(Guest::report);
            let generation = report.as_ref().map(|r| r.generation);
            match (listing(&watched(&row), generation), report) {
                (Listing::News, Some(report)) => {
                    self.observe(row.id, &Observation::Reported(report));
                }
                (Listing::Missing, _) if self.has(Flaw::MissesNobody) => (),
                (Listing::Missing | Listing::MadeAnew, _) => {
                    self.arrives(sled.id, row.id, Call::Unregister);
                    self.observe(row.id, &Observation::Unknown);
                }
                _ => (),
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
        // What the insert of an instance does is done; the rest begin.
        let node = usize::from(matches!(work, Work::Create));
        let (undoing, over, rest) = (false, false, None);
        self.saga = Some(Saga { row, work, node, undoing, over, rest });
        self.passes(TimeDelta::milliseconds(1));
    }

    /// An operator gives the saga up, wherever it is.
    pub(super) fn park_saga(&mut self) {
        if self.saga.take().is_some() {
            self.instance.reconcile_at = Some(self.now);
        }
    }

    /// The saga takes its next step.
    pub(super) fn saga_goes_on(&mut self, how: Passage) {
        let Some(saga) = self.saga.clone() else { return };
        if saga.over {
            return self.saga_ends();
        }
        if saga.undoing {
            if self.undo(&saga) && how != Passage::Dies {
                self.saga_goes_back();
            }
            return;
        }
        let outcome = match self.act(&saga) {
            Ok(_) if how == Passage::Breaks => {
                Err(Failed(Some(StartFailure::internal(saga.row.id))))
            }
            outcome => outcome,
        };
        let row = self.saga.as_mut().unwrap();
        match outcome {
            // What `run` does is two transactions.
            Ok(_) if how == Passage::Dies => {
                row.node = saga.node.min(4);
                row.rest = None;
            }
            Ok(true) => row.node += 1,
            Ok(false) => row.over = true,
            Err(Failed(staged)) => {
                self.stage(&saga, staged);
                let row = self.saga.as_mut().unwrap();
                row.rest = None;
                if how != Passage::Dies {
                    row.undoing = true;
                    self.saga_goes_back();
                }
            }
        }
    }

    fn saga_goes_back(&mut self) {
        let saga = self.saga.as_mut().unwrap();
        match saga.node.checked_sub(1) {
            Some(node) => saga.node = node,
            None => saga.over = true,
        }
    }

    fn saga_ends(&mut self) {
        let rest = self.saga.take().and_then(|saga| saga.rest);
        let at_rest = rest.is_some_and(|rest| {
            let look = self.instance.reconcile_at;
            look.is_none() || look == rest.reconcile_at()
        });
        if self.instance.state != InstanceState::Destroyed && !at_rest {
            self.instance.reconcile_at = Some(self.now);
            self.passes(TimeDelta::milliseconds(1));
        }
    }

    /// Does a node. Says whether there is another.
    fn act(&mut self, saga: &Saga) -> Result<bool, Failed> {
        let facts = self.facts();
        match (&saga.work, saga.node) {
            (Work::Create, 0 | 1) => Ok(true),
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
                let open = |n: &usize| {
                    !self.sleds[*n].expunged && self.links[*n] == Link::Up
                };
                let sled = self.sleds[(0..2).find(open).unwrap_or(1)].id;
                self.write(steps::link(&facts, attempt, vmm, sled)?);
            }
            2 => (),
            3 => {
                let sled = self.vmms[&vmm].sled_id;
                let silence = || Failed(Some(StartFailure::host_unreachable()));
                if self.sled(sled).expunged {
                    return Err(silence());
                }
                match self.ask(sled, vmm, Call::Register) {
                    Some(Said::Report(report)) => {
                        self.answered(vmm, report);
                    }
                    Some(_) => {
                        let failure = StartFailure::internal(id);
                        return Err(Failed(Some(failure)));
                    }
                    None => return Err(silence()),
                }
            }
            // These two are one node; others may come in between.
            4 => self.write(steps::allow_to_run(&facts, vmm)?),
            _ => {
                let sled = self.vmms[&vmm].sled_id;
                if self.sled(sled).expunged {
                    let silence = StartFailure::host_unreachable();
                    return Err(Failed(Some(silence)));
                }
                match self.told(vmm, sled, Call::Run) {
                    Some(Said::Report(report)) => {
                        self.answered(vmm, report);
                    }
                    Some(Said::NoSuchVmm) => {
                        let lost = StartFailure::boot_failed("It was lost.");
                        return Err(Failed(Some(lost)));
                    }
                    Some(Said::Refused | Said::Unregistered(_)) | None => (),
                }
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

    /// Undoes a node. Says whether that is all.
    fn undo(&mut self, saga: &Saga) -> bool {
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
            // Two transactions; others may come in between.
            (Work::Start { vmm, .. }, 0)
                if facts.instance.active_vmm_id == Some(*vmm) =>
            {
                self.write(steps::unlink(&facts, *vmm));
                return false;
            }
            (Work::Start { attempt, .. }, 0) => {
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
        true
    }

    // The reconciler.

    /// A look at the instance, if one is due.
    pub(super) fn looks(&mut self) {
        if self.instance.reconcile_at.is_some_and(|at| at <= self.now) {
            let mut look = self.look_begins();
            while self.look_goes_on(&mut look) {}
        }
    }

    /// Claims the instance, reads the facts, and plans.
    pub(super) fn look_begins(&mut self) -> Look {
        let claim = self.now + VISIBILITY;
        self.instance.reconcile_at = Some(claim);
        self.passes(TimeDelta::milliseconds(1));
        let (facts, plan) = (self.facts(), self.plan());
        Look {
            claim,
            linked: facts.instance.active_vmm_id,
            attempt: facts.attempt.map(|a| (a.id, a.saga_id.is_some())),
            steps: plan.steps.into(),
            look_again: plan.look_again,
        }
    }

    /// Takes the look's next step, or gives the instance back. Says whether
    /// there is more to it.
    pub(super) fn look_goes_on(&mut self, look: &mut Look) -> bool {
        if let Some(step) = look.steps.pop_front() {
            self.taken.insert(name(&step));
            self.takes(look, &step);
            return true;
        }
        if self.instance.reconcile_at == Some(look.claim)
            || self.has(Flaw::GivesBackBlindly)
        {
            self.instance.reconcile_at = look.look_again;
        }
        false
    }

    fn takes(&mut self, seen: &Look, step: &Step) {
        match step {
            Step::StartSaga(attempt) => {
                if seen.attempt == Some((*attempt, true)) {
                    self.attempts.get_mut(attempt).unwrap().held_back += 1;
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
                let heard = self.order(*vmm, *sled, Call::Run);
                if !heard && self.out_of_patience(*vmm) {
                    self.gives_up_on_sled(seen);
                }
            }
            Step::JudgeBoot(attempt, vmm, sled) => {
                if !self.order(*vmm, *sled, Call::Show) {
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
                self.order(*vmm, *sled, Call::Stop);
            }
            Step::Unregister(vmm, sled) => {
                let linked = seen.linked == Some(*vmm);
                if !self.unregister(*vmm, *sled)
                    && self.out_of_patience(*vmm)
                    && linked
                {
                    self.write(steps::abandon(&self.facts(), *vmm));
                }
            }
            Step::Restart | Step::Retry => {
                let attempt = self.id();
                let mut facts = self.facts();
                if self.has(Flaw::OpensUnchecked) {
                    facts.instance.state = InstanceState::Failed;
                    facts.instance.intended_state = IntendedState::Running;
                }
                let opened = requests::auto_restart(&facts, attempt);
                self.write_if_taken(opened);
            }
            // There is always room here.
            Step::CheckPlace => (),
        }
    }

    fn gives_up(&mut self, attempt: StartAttemptId, failure: &StartFailure) {
        let facts = self.facts();
        self.write(steps::give_up_attempt(&facts, attempt, failure));
    }

    fn gives_up_on_sled(&mut self, seen: &Look) {
        if let Some((attempt, _)) = seen.attempt {
            self.gives_up(attempt, &StartFailure::host_unreachable());
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
        (0..ROUNDS).any(|_| self.calms())
    }

    /// One round of that. Says whether nothing is left to do.
    pub(super) fn calms(&mut self) -> bool {
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
            self.saga_goes_on(Passage::Well);
        }
        match self.instance.reconcile_at {
            None => return true,
            Some(due) if due > self.now => self.now = due,
            Some(_) => self.looks(),
        }
        false
    }
}

/// The row as its sled's watcher reads it.
fn watched(row: &Vmm) -> SledVmm {
    SledVmm {
        sled_id: row.sled_id,
        id: row.id,
        instance_id: row.instance_id,
        state: row.state,
        generation: row.generation,
    }
}

/// A kind of step.
pub(super) fn name(step: &Step) -> &'static str {
    match step {
        Step::StartSaga(_) => "StartSaga",
        Step::UpdateSaga(..) => "UpdateSaga",
        Step::DeleteSaga => "DeleteSaga",
        Step::UndoCreate => "UndoCreate",
        Step::HoldBack(_) => "HoldBack",
        Step::GiveUp(..) => "GiveUp",
        Step::OrderRun(..) => "OrderRun",
        Step::JudgeBoot(..) => "JudgeBoot",
        Step::OrderStop(..) => "OrderStop",
        Step::Unregister(..) => "Unregister",
        Step::Restart => "Restart",
        Step::Retry => "Retry",
        Step::CheckPlace => "CheckPlace",
    }
}
