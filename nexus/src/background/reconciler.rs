//! Brings each unsettled instance nearer to its intent: claims, plans, does.
//!
//! An activation begins a look at each instance that is due, and does not wait
//! for it: a look that asks a silent sled takes as long as that is waited for,
//! and holds up no other. Two looks at one instance at a time do no harm, as
//! with two Nexuses: each step re-checks what it relies on.

use super::plan::{Plan, Step, plan};
use super::{Activators, Task};
use crate::config::Tuning;
use crate::error::chain;
use crate::lease::Lease;
use crate::placement::explained;
use crate::saga::{
    ExecError, SagaExecutor, instance_delete, instance_start, instance_update,
};
use crate::sleds::{Reach, ReachError, Sleds, reported, unregistered};
use chrono::{DateTime, TimeDelta, Utc};
use db_model::lifecycle::Facts;
use db_model::lifecycle::reports::{Answer, Observation};
use db_model::placement::starts;
use db_model::{
    InstanceId, SledId, StartAttemptId, StartFailure, VmmId, VmmState,
};
use db_queries::{Claimed, DataStore, Error, UnfinishedSaga};
use sled_agent_client::{
    Client, Error as SledError, RequestedState, VmmReport,
};
use slog::{Logger, info, warn};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Instances claimed at once.
const CLAIMED_AT_ONCE: usize = 128;

/// Looks under way at once: more than the VMMs of a full sled or two, which
/// all have to be waited for when it falls silent. That the database is not
/// asked for more than it can do, its pool sees to.
const LOOKS_AT_ONCE: u32 = 512;

/// Between two polls at least.
const LEAST_PAUSE: Duration = Duration::from_millis(20);

/// How long a claim lasts: longer than nearly any look. One that asks about
/// several abandoned VMMs may outlast it; then two looks go on at once, which
/// does no harm.
pub const VISIBILITY: TimeDelta = TimeDelta::seconds(30);

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Reconciler {
    pub datastore: DataStore,
    pub sleds: Sleds,
    pub sagas: Arc<SagaExecutor>,
    pub lease: Lease,
    pub activators: Activators,
    pub tuning: Tuning,
    pub looks: Looks,
    pub log: Logger,
}

/// Keeps count of the looks under way.
#[derive(Clone, Debug)]
pub struct Looks(Arc<Semaphore>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _look: OwnedSemaphorePermit,
}

impl Default for Looks {
    fn default() -> Looks {
        let permits = usize::try_from(LOOKS_AT_ONCE).unwrap_or(usize::MAX);
        Looks(Arc::new(Semaphore::new(permits)))
    }
}

impl Looks {
    /// How many may begin: waits until it is one at least.
    async fn free(&self) -> usize {
        // It is never closed.
        drop(self.0.acquire().await);
        self.0.available_permits()
    }

    /// One begins, when there is room for it.
    async fn begin(&self) -> Option<Turn> {
        // It is never closed, so there always is one.
        let look = Arc::clone(&self.0).acquire_owned().await.ok()?;
        Some(Turn { _look: look })
    }

    /// Waits until none is under way.
    async fn all_ended(&self) {
        drop(self.0.acquire_many(LOOKS_AT_ONCE).await);
    }
}

/// What an activation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Looks that it began.
    pub looked: usize,
}

/// What came of a step.
#[derive(Clone, Copy, Debug)]
enum Done {
    /// A saga is at work on the instance.
    SagaBegun,
    /// What could be done was.
    Tried,
}

/// What becomes of an instance after a look.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// Its saga has it looked at when it ends. Until then it is claimed: for the
    /// case that nobody runs the saga, the claim runs out.
    Saga,
    /// It is given back, to be looked at then, or settled.
    Look(Option<DateTime<Utc>>),
}

/// Why a look ended before its end.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("the database did not do it")]
    Database(#[from] Error),
    #[error("the saga was not started")]
    Saga(#[from] ExecError),
    #[error("the sled cannot be asked")]
    Reach(#[from] ReachError),
}

impl Task for Reconciler {
    type Status = Status;
    const NAME: &'static str = "reconciler";

    async fn activate(&self) -> Status {
        let mut status = Status::default();
        loop {
            self.lease.live().await;
            let limit = self.looks.free().await.min(CLAIMED_AT_ONCE);
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let claimed =
                self.datastore.reconcile_claim(limit, VISIBILITY).await;
            let claimed = match claimed {
                Ok(claimed) => claimed,
                Err(error) => {
                    warn!(self.log, "cannot claim instances now";
                        "error" => chain(&error));
                    return status;
                }
            };
            let is_all = claimed.len() < usize::try_from(limit).unwrap_or(1);
            status.looked += claimed.len();
            for claimed in claimed {
                if let Some(turn) = self.looks.begin().await {
                    self.look_now(claimed, turn);
                }
            }
            if is_all {
                return status;
            }
        }
    }

    /// Until the next instance is due, but no longer than the poll's period:
    /// other processes stamp instances, too.
    async fn pause(&self) -> Duration {
        let poll =
            Duration::from_millis(u64::from(self.tuning.reconcile_poll_ms));
        match self.datastore.reconcile_next_due().await {
            // One that is due and was not claimed is locked by somebody.
            Ok(Some(due)) => {
                due.to_std().unwrap_or(Duration::ZERO).clamp(LEAST_PAUSE, poll)
            }
            Ok(None) | Err(_) => poll,
        }
    }

    async fn finish(&self) {
        self.looks.all_ended().await;
    }
}

impl Reconciler {
    /// To look at an instance that is claimed in the transaction which makes it
    /// due, instead of in another one later. There is none while this process
    /// may not act, or is busy enough.
    pub fn turn(&self) -> Option<Turn> {
        if !self.lease.is_live() || self.sagas.closed() {
            return None;
        }
        let look = Arc::clone(&self.looks.0).try_acquire_owned().ok()?;
        Some(Turn { _look: look })
    }

    /// Begins a look at an instance that this process has claimed.
    pub fn look_now(&self, claimed: Claimed, turn: Turn) {
        let me = self.clone();
        tokio::spawn(async move {
            me.look(claimed).await;
            drop(turn);
        });
    }

    /// Looks at the instances of sagas that have ended here, each at once: they
    /// need not be claimed, since their sagas' ends have done that. Never returns.
    pub async fn look_after_sagas(self) {
        loop {
            for id in self.activators.sagas_ended().await {
                self.lease.live().await;
                let Some(turn) = self.looks.begin().await else { continue };
                let me = self.clone();
                tokio::spawn(async move {
                    me.look_unclaimed(id).await;
                    drop(turn);
                });
            }
        }
    }

    /// One look at one instance.
    async fn look(&self, claimed: Claimed) {
        let looked = match self.facts(claimed.id).await {
            Ok((facts, saga)) => {
                let plan = plan(&facts, saga.as_ref(), &self.tuning);
                self.carry_out(&facts, plan).await
            }
            Err(error) => Err(error),
        };
        self.give_back(claimed, looked).await;
    }

    /// The same of one that nobody has claimed for this. Whatever stamps it while
    /// it is looked at has it looked at again.
    async fn look_unclaimed(&self, id: InstanceId) {
        let (facts, saga) = match self.facts(id).await {
            Ok(found) => found,
            // No saga of an instance, or one that left none.
            Err(LookError::Database(Error::NotFound)) => return,
            Err(error) => {
                warn!(self.log, "an instance is looked at later";
                    "instance" => %id, "error" => chain(&error));
                return self.activators.reconcile();
            }
        };
        // None: it is settled.
        let Some(until) = facts.instance.reconcile_at else { return };
        let plan = plan(&facts, saga.as_ref(), &self.tuning);
        if plan.steps.is_empty() {
            let looked = Ok(Next::Look(plan.look_again));
            return self.give_back(Claimed { id, until }, looked).await;
        }
        // What is to be done may take longer than it was stamped for.
        let claimed =
            self.datastore.reconcile_claim_one(id, until, VISIBILITY).await;
        match claimed {
            Ok(Some(claimed)) => {
                let looked = self.carry_out(&facts, plan).await;
                self.give_back(claimed, looked).await;
            }
            // It was stamped since, or is due in a moment.
            Ok(None) | Err(_) => self.activators.reconcile(),
        }
    }

    async fn give_back(
        &self,
        claimed: Claimed,
        looked: Result<Next, LookError>,
    ) {
        let (given_back, is_due) = match looked {
            Ok(Next::Saga) => return,
            Ok(Next::Look(when)) => (
                self.datastore.reconcile_give_back(claimed, when).await,
                when.is_some(),
            ),
            Err(error) => {
                let text = chain(&error);
                warn!(self.log, "a look at an instance failed";
                    "instance" => %claimed.id, "error" => &text);
                let given =
                    self.datastore.reconcile_give_back_error(claimed, text);
                (given.await, true)
            }
        };
        if is_due || given_back.is_err() {
            // The pause until the next is due is to be reckoned anew.
            self.activators.reconcile();
        }
        if let Err(error) = given_back {
            // Then the claim runs out, and somebody looks again.
            warn!(self.log, "cannot give an instance back";
                "instance" => %claimed.id, "error" => chain(&error));
        }
    }

    async fn facts(
        &self,
        id: InstanceId,
    ) -> Result<(Facts, Option<UnfinishedSaga>), LookError> {
        Ok(self.datastore.reconcile_facts(id).await?)
    }

    async fn carry_out(
        &self,
        facts: &Facts,
        plan: Plan,
    ) -> Result<Next, LookError> {
        // They are about different VMMs, so none waits for another's success.
        let mut next = Ok(Next::Look(plan.look_again));
        for step in &plan.steps {
            let done = self.execute(facts, step).await;
            next = next.and_then(|next| match done? {
                Done::SagaBegun if plan.steps.len() == 1 => Ok(Next::Saga),
                Done::SagaBegun | Done::Tried => Ok(next),
            });
        }
        next
    }

    async fn execute(
        &self,
        facts: &Facts,
        step: &Step,
    ) -> Result<Done, LookError> {
        let instance = &facts.instance;
        match step {
            Step::StartSaga(attempt) => {
                return self.start(facts, *attempt).await;
            }
            Step::UpdateSaga(vmm, sled) => {
                let params = instance_update::Params {
                    instance_id: instance.id,
                    vmm_id: *vmm,
                    sled_id: *sled,
                };
                return self
                    .saga::<instance_update::InstanceUpdate>(&params)
                    .await;
            }
            Step::DeleteSaga => {
                let params =
                    instance_delete::Params { instance_id: instance.id };
                return self
                    .saga::<instance_delete::InstanceDelete>(&params)
                    .await;
            }
            Step::UndoCreate => {
                let incident =
                    self.datastore.saga_latest_of(instance.id).await?;
                self.datastore
                    .instance_create_given_up(instance.id, incident)
                    .await?;
            }
            Step::HoldBack(attempt) => {
                let times =
                    self.datastore.start_attempt_held_back(*attempt).await?;
                if times > i64::from(self.tuning.patience) {
                    self.give_up(facts, *attempt, StartFailure::held_back())
                        .await?;
                }
            }
            Step::GiveUp(attempt, failure) => {
                self.give_up(facts, *attempt, failure.clone()).await?;
            }
            Step::OrderRun(vmm, sled) => {
                self.order_run(facts, *vmm, *sled).await?;
            }
            Step::JudgeBoot(attempt, vmm, sled) => {
                self.judge_boot(facts, *attempt, *vmm, *sled).await?;
            }
            Step::OrderStop(vmm, sled) => {
                self.order(facts, *vmm, *sled, RequestedState::Stopped).await?;
            }
            Step::Unregister(vmm, sled) => {
                self.unregister(facts, *vmm, *sled).await?;
            }
            Step::Restart => self.open_attempt(instance.id).await?,
            Step::Retry => self.retry(facts).await?,
            Step::CheckPlace => self.check_place(facts).await?,
        }
        Ok(Done::Tried)
    }

    async fn start(
        &self,
        facts: &Facts,
        attempt: StartAttemptId,
    ) -> Result<Done, LookError> {
        let tried = facts.attempt.as_ref().is_some_and(|a| a.saga_id.is_some());
        if tried {
            self.datastore.start_attempt_held_back(attempt).await?;
        }
        let params = instance_start::Params::new(&facts.instance, attempt);
        self.saga::<instance_start::InstanceStart>(&params).await
    }

    async fn saga<S: crate::saga::Saga>(
        &self,
        params: &S::Params,
    ) -> Result<Done, LookError> {
        match self.sagas.start::<S>(params).await {
            // Another Nexus was quicker, which is as good.
            Ok(_) | Err(ExecError::Busy) => Ok(Done::SagaBegun),
            // Another Nexus will do it; or it is wanted no more, and whoever
            // said so has stamped the instance.
            Err(ExecError::Closed | ExecError::Overtaken(_)) => Ok(Done::Tried),
            Err(error) => Err(error.into()),
        }
    }

    async fn give_up(
        &self,
        facts: &Facts,
        attempt: StartAttemptId,
        failure: StartFailure,
    ) -> Result<bool, LookError> {
        let ended = self
            .datastore
            .start_attempt_give_up(facts.instance.id, attempt, failure)
            .await?;
        self.activators.changed();
        Ok(ended)
    }

    /// A retry that the placement would refuse anyway opens no attempt, unless
    /// its user would learn from that why it does not start: an attempt that
    /// fails is how users are told.
    async fn retry(&self, facts: &Facts) -> Result<(), LookError> {
        let Facts { instance, .. } = facts;
        let Some(refusal) = self.no_place(facts).await? else {
            return self.open_attempt(instance.id).await;
        };
        let told = self.told(instance.id).await?;
        if !told.is_some_and(|told| told.tells_as_much_as(&refusal)) {
            return self.open_attempt(instance.id).await;
        }
        let planned = instance.next_retry_at;
        let put_off = if refusal.transient {
            self.datastore.instance_postpone_retry(instance.id, planned).await
        } else {
            self.datastore.instance_call_off_retry(instance.id, planned).await
        };
        taken_unless_refused(put_off)
    }

    /// Whoever frees room stamps who waits for it, which leads here; and so
    /// does an attempt's own end, since room that was freed while it was under
    /// way has passed it by.
    async fn check_place(&self, facts: &Facts) -> Result<(), LookError> {
        let Facts { instance, .. } = facts;
        let told = self.told(instance.id).await?;
        let Some(told) = told.filter(|told| told.kind.is_about_placement())
        else {
            return Ok(());
        };
        // What keeps it from starting may have become something else, and then
        // its user is told, by an attempt that fails of that.
        if let Some(refusal) = self.no_place(facts).await?
            && told.tells_as_much_as(&refusal)
        {
            return Ok(());
        }
        let due = self.datastore.instance_retry_now(instance.id).await;
        taken_unless_refused(due)?;
        self.open_attempt(instance.id).await
    }

    /// Why the placement would refuse the instance now, if it would.
    async fn no_place(
        &self,
        facts: &Facts,
    ) -> Result<Option<StartFailure>, LookError> {
        let id = facts.instance.id;
        let look = self.datastore.placement_look(id, None).await?;
        if starts(&look.ask, &look.sleds) {
            return Ok(None);
        }
        Ok(explained(self.datastore.placement_case(id).await?).await)
    }

    /// What its user reads of why the instance does not start.
    async fn told(
        &self,
        id: InstanceId,
    ) -> Result<Option<StartFailure>, LookError> {
        let view = self.datastore.instance_view(id).await?;
        Ok(view.start_failure().map(|(_, failure)| failure))
    }

    async fn open_attempt(&self, id: InstanceId) -> Result<(), LookError> {
        let opened = self
            .datastore
            .instance_auto_restart(id, StartAttemptId::new_v4())
            .await;
        self.activators.changed();
        taken_unless_refused(opened)
    }

    /// Gives the order to run again. A sled that leaves too many unanswered
    /// fails the attempt; the VMM, which may run, is dealt with after that.
    async fn order_run(
        &self,
        facts: &Facts,
        vmm: VmmId,
        sled: SledId,
    ) -> Result<(), LookError> {
        let heard =
            self.order(facts, vmm, sled, RequestedState::Running).await?;
        if !heard && self.out_of_patience(vmm).await? {
            self.give_up_on_sled(facts).await?;
        }
        Ok(())
    }

    async fn judge_boot(
        &self,
        facts: &Facts,
        attempt: StartAttemptId,
        vmm: VmmId,
        sled: SledId,
    ) -> Result<(), LookError> {
        let answer = match self.sleds.reach(sled).await? {
            Reach::Expunged => {
                self.observe(vmm, sled, Observation::Fenced).await?;
                return Ok(());
            }
            Reach::Client(client) => {
                let answer = client.vmm_view(vmm.0).await;
                entombed(&client, facts, vmm, answer).await
            }
        };
        let ran_or_ended =
            answer.as_ref().is_ok_and(|r| r.ever_ran || r.state.is_ended());
        if !self.take_in(vmm, sled, answer).await? {
            if self.out_of_patience(vmm).await? {
                self.give_up_on_sled(facts).await?;
            }
            return Ok(());
        }
        if !ran_or_ended {
            // From here on the VMM never ran and nothing is pending, so the
            // next look has it unregistered.
            let allowance = self.tuning.boot_allowance();
            let timed_out = StartFailure::timed_out(allowance);
            self.give_up(facts, attempt, timed_out).await?;
        }
        Ok(())
    }

    async fn give_up_on_sled(&self, facts: &Facts) -> Result<(), LookError> {
        if let Some(attempt) = &facts.attempt {
            self.give_up(facts, attempt.id, StartFailure::host_unreachable())
                .await?;
        }
        Ok(())
    }

    async fn unregister(
        &self,
        facts: &Facts,
        vmm: VmmId,
        sled: SledId,
    ) -> Result<(), LookError> {
        let client = match self.sleds.reach(sled).await? {
            Reach::Expunged => {
                self.observe(vmm, sled, Observation::Fenced).await?;
                return Ok(());
            }
            Reach::Client(client) => client,
        };
        match client.vmm_unregister(vmm.0).await {
            Ok(answer) => {
                self.observe(vmm, sled, unregistered(&answer)).await?;
                Ok(())
            }
            Err(error) => {
                info!(self.log, "a sled did not unregister a VMM yet";
                    "vmm" => %vmm, "sled" => %sled, "error" => chain(&error));
                let linked = facts.instance.active_vmm_id == Some(vmm);
                if self.out_of_patience(vmm).await? && linked {
                    self.datastore
                        .vmm_abandon(None, facts.instance.id, vmm)
                        .await?;
                    self.activators.changed();
                }
                Ok(())
            }
        }
    }

    /// Gives an order. Says whether the sled said anything definite.
    async fn order(
        &self,
        facts: &Facts,
        vmm: VmmId,
        sled: SledId,
        state: RequestedState,
    ) -> Result<bool, LookError> {
        let client = match self.sleds.reach(sled).await? {
            Reach::Expunged => {
                self.observe(vmm, sled, Observation::Fenced).await?;
                return Ok(true);
            }
            Reach::Client(client) => client,
        };
        let answer = match client.vmm_put_state(vmm.0, state).await {
            // Its state says why.
            Err(SledError::Refused { .. }) => client.vmm_view(vmm.0).await,
            answer => answer,
        };
        let answer = entombed(&client, facts, vmm, answer).await;
        self.take_in(vmm, sled, answer).await
    }

    /// Takes in what a sled said of a VMM. Says whether it was definite.
    async fn take_in(
        &self,
        vmm: VmmId,
        sled: SledId,
        answer: Result<VmmReport, SledError>,
    ) -> Result<bool, LookError> {
        let observation = match answer {
            Ok(report) => reported(&report),
            Err(SledError::NoSuchVmm) => Observation::Unknown,
            Err(SledError::Unreachable(why)) => {
                info!(self.log, "a sled does not answer";
                    "vmm" => %vmm, "sled" => %sled, "error" => chain(&why));
                return Ok(false);
            }
            // It answers, and says nothing about the VMM: as good as silence.
            Err(error) => {
                warn!(self.log, "a sled did not understand";
                    "vmm" => %vmm, "sled" => %sled, "error" => chain(&error));
                return Ok(false);
            }
        };
        // Of one that the order to make it may still be on its way to, not
        // being known says nothing.
        let unknown = observation == Observation::Unknown;
        let answer = self.observe(vmm, sled, observation).await?;
        Ok(!unknown || answer != Answer::Stale)
    }

    async fn observe(
        &self,
        vmm: VmmId,
        sled: SledId,
        observation: Observation,
    ) -> Result<Answer, LookError> {
        let observed = self
            .datastore
            .vmm_observe(sled, vmm, observation, self.tuning.boot_allowance())
            .await?;
        self.activators.changed();
        Ok(observed.answer)
    }

    async fn out_of_patience(&self, vmm: VmmId) -> Result<bool, LookError> {
        let unanswered = self.datastore.vmm_unanswered(vmm).await?;
        Ok(unanswered > i64::from(self.tuning.patience))
    }
}

/// A VMM that its sled has lost leaves a tombstone there before it is taken for
/// lost: a late order to make it, and one to run it, may be on their way. One
/// that is `creating` may not have got there yet.
async fn entombed(
    client: &Client,
    facts: &Facts,
    vmm: VmmId,
    answer: Result<VmmReport, SledError>,
) -> Result<VmmReport, SledError> {
    let was_there =
        facts.vmm(vmm).is_some_and(|v| v.state != VmmState::Creating);
    if was_there && matches!(answer, Err(SledError::NoSuchVmm)) {
        client.vmm_unregister(vmm.0).await?;
    }
    answer
}

/// Somebody changed the instance since it was looked at: nothing is amiss, and
/// its stamp brings the next look.
fn taken_unless_refused(result: Result<(), Error>) -> Result<(), LookError> {
    match result {
        Ok(()) | Err(Error::Refused(_) | Error::NotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
