//! What must hold of the product around one instance, whatever has happened.

use super::product::Product;
use db_model::lifecycle::{Changes, Rest};
use db_model::{InstanceState, IntendedState, RunState, StartOutcome};

/// At every moment.
pub(super) fn at_every_moment(product: &Product) -> Result<(), String> {
    one_guest(product)?;
    nothing_forgotten(product)?;
    told_truly(product)
}

/// What operators are told of the plan is said of what is so.
fn told_truly(product: &Product) -> Result<(), String> {
    let told = product.explained();
    let restarts = told.contains("its restart is planned");
    let boots = told.contains("to boot");
    if (restarts && product.instance.state != InstanceState::Failed)
        || (boots && product.facts().attempt.is_none())
    {
        return Err(format!("{told}: {:?}", product.instance));
    }
    Ok(())
}

/// I2: no two guests of the instance are up, on any sled. Nor is one up of
/// which the database says that it is over, since another might follow it, or
/// that it may not run.
pub(super) fn one_guest(product: &Product) -> Result<(), String> {
    let up = product.up();
    if up.len() > 1 {
        return Err(format!("two guests of one instance are up: {up:?}"));
    }
    for vmm in up {
        let row = &product.vmms[&vmm];
        if row.ended() || !row.may_run {
            return Err(format!("it is up, and should not be: {row:?}"));
        }
    }
    Ok(())
}

/// I1: whoever waits for something has somebody who will look, and what has
/// ended says how.
pub(super) fn nothing_forgotten(product: &Product) -> Result<(), String> {
    let plan = product.plan();
    if !plan.steps.is_empty() && plan.look_again.is_none() {
        return Err(format!(
            "nobody would see whether the steps succeed: {plan:?}"
        ));
    }
    // A saga's end has it looked at, so a saga alone needs no look. (A Nexus
    // that goes by what it read long ago may start one that finds nothing to
    // do, when all is settled.)
    let waits = plan.look_again.is_some() && product.saga.is_none();
    if product.instance.reconcile_at.is_none()
        && (!plan.steps.is_empty() || waits)
    {
        return Err(format!("forgotten: {plan:?} for {:?}", product.instance));
    }
    let facts = product.facts();
    if let Some(rest) = Rest::left_by(&facts, &Changes::default())
        && product.saga.is_none()
        && rest.reconcile_at().is_none_or(|at| facts.now < at)
        && (!plan.steps.is_empty() || plan.look_again != rest.reconcile_at())
    {
        return Err(format!("it is said to rest ({rest:?}): {plan:?}"));
    }
    if let Some(why) = unrest(product)
        && plan.look_again.is_none()
    {
        return Err(format!("{why}, and no look is planned"));
    }
    for attempt in product.attempts.values() {
        let failed = attempt.outcome == StartOutcome::Failed;
        if failed != attempt.failure().is_some() {
            return Err(format!("it failed for no reason: {attempt:?}"));
        }
    }
    Ok(())
}

/// Where intent and what is disagree, or something is left to be done; not
/// where it rests.
fn unrest(product: &Product) -> Option<&'static str> {
    let facts = product.facts();
    let instance = &facts.instance;
    let linked = facts.active_vmm();
    let wanted = instance.intended_state == IntendedState::Running;
    if instance.state == InstanceState::Creating {
        Some("it is being made")
    } else if facts.attempt.is_some() {
        Some("an attempt is pending")
    } else if linked.is_some_and(|v| v.ended()) {
        Some("an ended VMM is linked")
    } else if linked.is_some_and(|v| !v.ever_ran) {
        Some("a VMM is linked that never ran, and nothing is pending")
    } else if linked.is_some() && !wanted {
        Some("it is not wanted, and has a VMM")
    } else if facts.vmms.iter().any(|v| Some(v.id) != instance.active_vmm_id) {
        Some("nobody knows of an abandoned VMM")
    } else if instance.time_deleted.is_some()
        && instance.state != InstanceState::Destroyed
    {
        Some("it is deleted, and not destroyed")
    } else if instance.state == InstanceState::Failed
        && instance.auto_restart_enabled()
    {
        Some("it should run and does not")
    } else {
        None
    }
}

/// When nothing is left to do: what is wanted is, or its user reads why not.
pub(super) fn once_it_is_calm(product: &Product) -> Result<(), String> {
    let running = product.running();
    let instance = &product.instance;
    let view = product.view();
    let state = view.run_state();
    let expected: &[RunState] = match instance.intended_state {
        IntendedState::Running if instance.auto_restart_enabled() => {
            &[RunState::Running]
        }
        IntendedState::Running => &[RunState::Running, RunState::Failed],
        IntendedState::Stopped | IntendedState::GuestShutdown => {
            &[RunState::Stopped]
        }
        IntendedState::Destroyed => &[RunState::Destroyed],
    };
    let destroyed = instance.state == InstanceState::Destroyed;
    let linked: Vec<_> = instance.active_vmm_id.into_iter().collect();
    let told = view.start_failure().is_some()
        || instance.last_failure_message.is_some();
    let rules = [
        (expected.contains(&state), "it is not as it was wanted"),
        (
            destroyed == (instance.intended_state == IntendedState::Destroyed),
            "it is destroyed iff that was wanted",
        ),
        (linked == running, "what is said to run is what runs"),
        (
            (state == RunState::Running) != running.is_empty(),
            "a user is told whether it runs",
        ),
        (
            product
                .vmms
                .values()
                .all(|vmm| vmm.ended() != running.contains(&vmm.id)),
            "what does not run has ended",
        ),
        (
            product
                .attempts
                .values()
                .all(|attempt| attempt.outcome != StartOutcome::Pending),
            "every start ends",
        ),
        (
            state != RunState::Failed || told,
            "a user always learns why it does not run",
        ),
    ];
    match rules.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, rule)) => {
            Err(format!("broken: {rule}. It is {state:?}: {instance:?}"))
        }
    }
}
