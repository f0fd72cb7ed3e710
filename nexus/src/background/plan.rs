//! What the reconciler does about an instance: a pure function, whole table.
//!
//! Level-triggered: the plan follows from what is, not from what happened. One
//! look takes the steps that are possible now and says when to look again.

use crate::config::Tuning;
use crate::saga::Saga;
use crate::saga::instance_create::InstanceCreate;
use crate::saga::instance_start::InstanceStart;
use chrono::{DateTime, TimeDelta, Utc};
use db_model::lifecycle::Facts;
use db_model::{
    InstanceState, IntendedState, SagaId, SledId, StartAttempt, StartAttemptId,
    StartFailure, Vmm, VmmId, VmmState,
};
use db_queries::UnfinishedSaga;

/// A thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Run instance_start for this attempt.
    StartSaga(StartAttemptId),
    /// Run instance_update: part it from this VMM, which has ended.
    UpdateSaga(VmmId, SledId),
    /// Run instance_delete.
    DeleteSaga,
    /// Nobody will finish its create saga: undo what that made.
    UndoCreate,
    /// The attempt must wait. Count it; past the bound, give it up.
    HoldBack(StartAttemptId),
    /// No saga will end this attempt: end it so.
    GiveUp(StartAttemptId, StartFailure),
    /// Its sled never said that it took the order to run: give it again.
    OrderRun(VmmId, SledId),
    /// Its boot deadline is over: ask the sled once more, and if it does not
    /// say that it ran, end the attempt as timed out.
    JudgeBoot(StartAttemptId, VmmId, SledId),
    /// Tell the sled to stop it.
    OrderStop(VmmId, SledId),
    /// Tell the sled to kill and forget it. Past the bound of unanswered
    /// questions, a linked one is abandoned.
    Unregister(VmmId, SledId),
    /// Open an attempt, since it ran and failed.
    Restart,
    /// It has failed to start: ask the placement, and open an attempt if that
    /// says yes.
    Retry,
    /// Its retry is planned for later, or not at all. If it is room that it
    /// waits for and there is some now, retry at once.
    CheckPlace,
}

/// What to do, and when to look again if nothing stamps the instance before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order. Steps about different VMMs.
    pub steps: Vec<Step>,
    /// `None`: it is settled.
    pub look_again: Option<DateTime<Utc>>,
}

impl Plan {
    /// The plan in sentences, for operators: what each step does and why; or, if
    /// there is none, what is waited for. The arguments are those that the plan
    /// was made from.
    pub fn explain(
        &self,
        facts: &Facts,
        saga: Option<&UnfinishedSaga>,
        tuning: &Tuning,
    ) -> Vec<String> {
        if self.steps.is_empty() {
            return vec![self.idle(facts, saga)];
        }
        let explain = |step: &Step| step.explain(facts, saga, tuning);
        self.steps.iter().map(explain).collect()
    }

    /// Why there is nothing to do now.
    fn idle(&self, facts: &Facts, saga: Option<&UnfinishedSaga>) -> String {
        let instance = &facts.instance;
        if let Some(saga) = saga {
            return format!(
                "Nothing: saga {} ({}) is at work on it. It is looked at when \
                 that ends, unless all is then as it was wanted.",
                saga.id, saga.name
            );
        }
        let Some(next) = self.look_again else {
            return format!(
                "Nothing: it is settled (intent {}, state {}{}). It is looked \
                 at again when something about it changes.",
                instance.intended_state,
                instance.state,
                match instance.state {
                    InstanceState::Failed
                        if !instance.auto_restart_enabled() =>
                        ", and it may not be restarted automatically",
                    InstanceState::Failed
                    | InstanceState::Creating
                    | InstanceState::NoVmm
                    | InstanceState::Vmm
                    | InstanceState::Destroyed => "",
                },
            );
        };
        let next = in_words(next);
        match facts.active_vmm() {
            Some(vmm) => format!(
                "Nothing: sled {} has taken the order to run VMM {}, which has \
                 until {next} to boot.",
                vmm.sled_id, vmm.id
            ),
            None => format!(
                "Nothing: it ran and failed, and its restart is planned for \
                 {next}."
            ),
        }
    }
}

impl Step {
    /// What it does and why, in a sentence to an operator. The arguments are
    /// those that the plan was made from.
    fn explain(
        &self,
        facts: &Facts,
        saga: Option<&UnfinishedSaga>,
        tuning: &Tuning,
    ) -> String {
        let instance = &facts.instance;
        let patience = tuning.patience;
        let waited = facts.attempt.as_ref().map_or(0, |a| a.held_back);
        match self {
            Step::StartSaga(attempt) => format!(
                "Run saga instance_start: attempt {attempt} is pending, and no \
                 saga is at work on it{}.",
                match facts.attempt.as_ref().and_then(|a| a.saga_id) {
                    Some(before) => format!(
                        " any more (saga {before} ended without ending it; it \
                         is given up after {patience} of these, and this was \
                         number {waited})"
                    ),
                    None => String::new(),
                },
            ),
            Step::UpdateSaga(vmm, sled) => format!(
                "Run saga instance_update: VMM {vmm}, on sled {sled}, has \
                 ended and is still linked."
            ),
            Step::DeleteSaga => "Run saga instance_delete: it is to be \
                 destroyed, and nothing of it may run any more."
                .to_string(),
            Step::UndoCreate => "Delete what its create saga made: that saga \
                 was given up by an operator."
                .to_string(),
            Step::HoldBack(attempt) => format!(
                "Let attempt {attempt} wait: {}. After {patience} such looks \
                 in a row it fails as host_unreachable; so far there were \
                 {waited}.",
                match (saga, holding(facts)) {
                    (Some(saga), _) => format!(
                        "saga {} ({}), which is not its own, is at work on the \
                         instance",
                        saga.id, saga.name
                    ),
                    (None, Some(vmm)) => format!(
                        "VMM {} was abandoned and may still run on sled {}, \
                         and an instance never runs twice",
                        vmm.id, vmm.sled_id
                    ),
                    (None, None) => "its VMM was never allowed to run, and no \
                         saga has claimed it"
                        .to_string(),
                },
            ),
            Step::GiveUp(attempt, failure) => format!(
                "End attempt {attempt} as failed ({}): no saga will end it.",
                failure.kind
            ),
            Step::OrderRun(vmm, sled) => format!(
                "Order sled {sled} to run VMM {vmm} again: it never said that \
                 it took the order. {}",
                unanswered(facts, *vmm, patience, "the attempt fails"),
            ),
            Step::JudgeBoot(attempt, vmm, sled) => format!(
                "Ask sled {sled} for VMM {vmm}, whose boot deadline is over: \
                 unless it ran or ended, attempt {attempt} fails as timed_out. \
                 {}",
                unanswered(facts, *vmm, patience, "the attempt fails"),
            ),
            Step::OrderStop(vmm, sled) => format!(
                "Order sled {sled} to stop VMM {vmm}, and again until it says \
                 that it ended: {}.",
                match &facts.attempt {
                    Some(attempt) => format!(
                        "attempt {} waits for the end of this run",
                        attempt.id
                    ),
                    None =>
                        format!("the intent is {}", instance.intended_state),
                },
            ),
            Step::Unregister(vmm, sled)
                if instance.active_vmm_id == Some(*vmm) =>
            {
                format!(
                    "Have sled {sled} kill and forget VMM {vmm}: it never ran, \
                     and its attempt is over. {}",
                    unanswered(facts, *vmm, patience, "it is abandoned"),
                )
            }
            Step::Unregister(vmm, sled) => format!(
                "Have sled {sled} kill and forget VMM {vmm}, which was \
                 abandoned: {}. It is asked until it answers or is expunged.",
                match facts.vmm(*vmm).is_some_and(|v| v.may_run) {
                    true =>
                        "it may still run, and until its end is certain \
                         the instance is neither started elsewhere nor \
                         destroyed",
                    false =>
                        "it was never allowed to run, so nothing waits \
                         for it but the room that it holds",
                },
            ),
            Step::Restart => "Open an attempt: it ran and failed, and may be \
                 restarted now."
                .to_string(),
            Step::Retry => "Ask the placement, and open an attempt if that \
                 says yes: it failed to start, and its retry is due."
                .to_string(),
            Step::CheckPlace => format!(
                "Look whether there is room for it now, if it is room that it \
                 failed for, and then open an attempt: {}.",
                match instance.next_retry_at {
                    Some(at) => {
                        format!("its retry is planned for {}", in_words(at))
                    }
                    None => "no retry is planned, since it cannot start as \
                         things are"
                        .to_string(),
                },
            ),
        }
    }
}

fn in_words(time: DateTime<Utc>) -> String {
    time.format("%F %T UTC").to_string()
}

/// How many questions about a VMM were left unanswered, and what comes of too
/// many.
fn unanswered(facts: &Facts, vmm: VmmId, patience: u32, then: &str) -> String {
    let so_far = facts.vmm(vmm).map_or(0, |v| v.unanswered);
    format!(
        "After {patience} questions in a row without an answer {then}; so far \
         there were {so_far}."
    )
}

/// An unfinished saga stamps its instance when it ends, unless it leaves it at rest.
/// This is for the case that nobody runs it.
const SAGA_LOOK: TimeDelta = TimeDelta::seconds(30);

/// A VMM that was told to stop reports when it has. This is for the case that
/// the report is lost, and repeats the order.
const STOP_LOOK: TimeDelta = TimeDelta::seconds(5);

/// What waits for something to change is woken when it does. This is for the
/// case that the wake-up is lost, and asks the placement, read-only.
const PERMANENT_LOOK: TimeDelta = TimeDelta::minutes(5);

/// The plan for an instance.
pub fn plan(
    facts: &Facts,
    saga: Option<&UnfinishedSaga>,
    tuning: &Tuning,
) -> Plan {
    let (step, look_again) = match saga {
        // It alone deals with the instance.
        Some(saga) => (waits_for(saga, facts), Some(facts.now + SAGA_LOOK)),
        None => next(facts, tuning),
    };
    let mut plan = Plan { steps: step.into_iter().collect(), look_again };
    // Last, since their sleds are those that do not answer.
    for vmm in abandoned(facts) {
        plan.steps.push(Step::Unregister(vmm.id, vmm.sled_id));
        let soon = facts.now + tuning.look_period();
        plan.look_again = Some(plan.look_again.map_or(soon, |t| t.min(soon)));
    }
    plan
}

/// An attempt does not wait without a bound for a saga that is not its own.
fn waits_for(saga: &UnfinishedSaga, facts: &Facts) -> Option<Step> {
    let attempt = facts.attempt.as_ref()?;
    (!is_its_own(saga, attempt)).then_some(Step::HoldBack(attempt.id))
}

/// Will the saga carry the attempt out, or lead to that? It may have done
/// nothing yet: its process may have died, and nobody have taken it over.
fn is_its_own(saga: &UnfinishedSaga, attempt: &StartAttempt) -> bool {
    match attempt.saga_id {
        Some(claimed_by) => claimed_by == saga.id,
        None if saga.name == InstanceCreate::NAME => true,
        None => {
            saga.name == InstanceStart::NAME
                && saga.time_created >= attempt.time_started
        }
    }
}

fn abandoned(facts: &Facts) -> impl Iterator<Item = &Vmm> {
    facts.vmms.iter().filter(|v| v.state == VmmState::Abandoned)
}

/// The earlier run because of which nothing may run anywhere yet.
fn holding(facts: &Facts) -> Option<&Vmm> {
    abandoned(facts).find(|v| v.may_run)
}

type Next = (Option<Step>, Option<DateTime<Utc>>);

/// What follows for an instance on which no saga is at work.
fn next(facts: &Facts, tuning: &Tuning) -> Next {
    let instance = &facts.instance;
    let soon = Some(facts.now + tuning.look_period());
    let held = holding(facts).is_some();
    if instance.state == InstanceState::Creating {
        return (Some(Step::UndoCreate), soon);
    }
    match (&facts.attempt, facts.active_vmm()) {
        (_, Some(vmm)) if vmm.ended() => {
            (Some(Step::UpdateSaga(vmm.id, vmm.sled_id)), soon)
        }
        (Some(attempt), None) => {
            (Some(start(facts, attempt, held, tuning)), soon)
        }
        (Some(attempt), Some(vmm)) if attempt.vmm_id == Some(vmm.id) => {
            boot(attempt, vmm, facts.now, soon)
        }
        // Its own attempt is over; one that was opened since waits for it.
        (_, Some(vmm)) if !vmm.ever_ran => {
            (Some(Step::Unregister(vmm.id, vmm.sled_id)), soon)
        }
        // Its guest is shutting down, if one waits for the end of a run.
        (waiting, Some(vmm)) => match instance.intended_state {
            IntendedState::Running if waiting.is_none() => (None, None),
            IntendedState::Running
            | IntendedState::Stopped
            | IntendedState::GuestShutdown
            | IntendedState::Destroyed => (
                Some(Step::OrderStop(vmm.id, vmm.sled_id)),
                Some(facts.now + STOP_LOOK),
            ),
        },
        (None, None) => rest(facts, held, soon),
    }
}

/// An attempt that no saga is at work on, and no VMM is linked.
fn start(
    facts: &Facts,
    attempt: &StartAttempt,
    held: bool,
    tuning: &Tuning,
) -> Step {
    let patience = i64::from(tuning.patience);
    match attempt.saga_id {
        _ if held => Step::HoldBack(attempt.id),
        // Its sagas end without ending it, again and again.
        Some(saga) if attempt.held_back > patience => give_up(attempt, saga),
        // None of them gets as far as to claim it. The incident is the attempt.
        None if facts.instance.reconcile_errors > patience => {
            give_up(attempt, SagaId(attempt.id.0))
        }
        _ => Step::StartSaga(attempt.id),
    }
}

/// An attempt whose saga is over, and whose VMM is linked and has not ended.
fn boot(
    attempt: &StartAttempt,
    vmm: &Vmm,
    now: DateTime<Utc>,
    soon: Option<DateTime<Utc>>,
) -> Next {
    match (vmm.may_run, vmm.boot_deadline, attempt.saga_id) {
        // An operator gave its saga up before the order to run.
        (false, _, Some(saga)) => (Some(give_up(attempt, saga)), soon),
        (false, _, None) => (Some(Step::HoldBack(attempt.id)), soon),
        (true, None, _) => (Some(Step::OrderRun(vmm.id, vmm.sled_id)), soon),
        (true, Some(deadline), _) if now < deadline => (None, Some(deadline)),
        (true, Some(_), _) => {
            (Some(Step::JudgeBoot(attempt.id, vmm.id, vmm.sled_id)), soon)
        }
    }
}

fn give_up(attempt: &StartAttempt, saga: SagaId) -> Step {
    Step::GiveUp(attempt.id, StartFailure::internal(saga))
}

/// Nothing is linked and nothing pending.
fn rest(facts: &Facts, held: bool, soon: Option<DateTime<Utc>>) -> Next {
    let instance = &facts.instance;
    match (instance.state, instance.intended_state) {
        (InstanceState::Destroyed, _) => (None, None),
        (_, IntendedState::Destroyed) if held => (None, soon),
        (_, IntendedState::Destroyed) => (Some(Step::DeleteSaga), soon),
        (InstanceState::Failed, IntendedState::Running) => {
            let failed_to_start = instance.failed_starts > 0;
            match instance.next_retry_at {
                _ if !instance.auto_restart_enabled() => (None, None),
                // Its own earlier run may go on: nothing to retry yet.
                _ if held => (None, soon),
                Some(at) if facts.now >= at => match failed_to_start {
                    true => (Some(Step::Retry), soon),
                    false => (Some(Step::Restart), soon),
                },
                Some(later) => {
                    (failed_to_start.then_some(Step::CheckPlace), Some(later))
                }
                None if failed_to_start => {
                    (Some(Step::CheckPlace), Some(facts.now + PERMANENT_LOOK))
                }
                None => (None, None),
            }
        }
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests;
