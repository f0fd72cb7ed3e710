//! What is done in which situation, row by row.

use super::super::{Plan, Step};
use super::host::GuestEvent;
use super::product::{Link, Passage, Product};
use chrono::TimeDelta;
use db_model::{
    AutoRestartPolicy, InstanceState, StartAttemptId, StartFailureKind, VmmId,
};

/// Nothing to do, and nothing to wait for.
const SETTLED: Plan = Plan { steps: Vec::new(), look_again: None };

/// How long until the next look.
fn look_in(product: &Product) -> Option<TimeDelta> {
    product.plan().look_again.map(|at| at - product.facts().now)
}

fn soon() -> Option<TimeDelta> {
    Some(crate::config::Tuning::default().look_period())
}

fn secs(n: i64) -> Option<TimeDelta> {
    Some(TimeDelta::seconds(n))
}

fn steps(product: &Product) -> Vec<Step> {
    product.plan().steps
}

fn attempt(product: &Product) -> StartAttemptId {
    product.facts().attempt.expect("an attempt is pending").id
}

/// The VMM that has not ended.
fn vmm(product: &Product) -> VmmId {
    product.vmms.values().find(|v| !v.ended()).expect("a VMM lives").id
}

fn unregister(product: &Product) -> Step {
    let id = vmm(product);
    Step::Unregister(id, product.vmms[&id].sled_id)
}

impl Product {
    fn saga_goes_to_its_end(&mut self) {
        while self.unfinished().is_some() {
            self.saga_goes_on(Passage::Well);
        }
    }

    fn nodes(&mut self, n: usize) {
        for _ in 0..n {
            self.saga_goes_on(Passage::Well);
        }
    }
}

/// At rest, never started.
fn stopped() -> Product {
    let mut product = Product::new(false);
    product.saga_goes_to_its_end();
    product
}

/// An attempt is pending, and nothing is done about it yet.
fn waiting() -> Product {
    let mut product = Product::new(true);
    product.saga_goes_to_its_end();
    product
}

/// A start saga is at work, and has done so many of its nodes.
fn starting(nodes: usize) -> Product {
    let mut product = waiting();
    product.looks();
    product.nodes(nodes);
    product
}

/// The start saga is through; the guest boots.
fn booting() -> Product {
    let mut product = starting(0);
    product.saga_goes_to_its_end();
    product
}

/// The start saga is through, and its sled was silent for the last node.
fn ordered() -> Product {
    let mut product = starting(4);
    product.connect(0, Link::Down);
    product.saga_goes_to_its_end();
    product
}

fn running() -> Product {
    let mut product = booting();
    product.guest(0, GuestEvent::Boot);
    product.pushes(0);
    product
}

/// It ran, and its guest crashed.
fn crashed() -> Product {
    let mut product = running();
    product.guest(0, GuestEvent::Panic);
    product.pushes(0);
    product
}

/// It ran and failed, and its VMM is unlinked.
fn failed() -> Product {
    let mut product = crashed();
    product.looks();
    product.saga_goes_to_its_end();
    product
}

/// Its start failed, and its VMM is unlinked.
fn failed_to_start() -> Product {
    let mut product = booting();
    product.guest(0, GuestEvent::FailToBoot);
    product.pushes(0);
    product.looks();
    product.saga_goes_to_its_end();
    product
}

/// Its VMM may run and was abandoned. `asked`: and it is to start again.
fn abandoned(asked: bool) -> Product {
    let mut product = booting();
    product.asks_to_stop();
    product.connect(0, Link::Down);
    while product.instance.active_vmm_id.is_some() {
        product.looks();
        product.passes(TimeDelta::seconds(2));
    }
    if asked {
        assert!(product.asks_to_start());
    }
    product
}

#[test]
fn while_the_create_saga_is_at_work_nothing_is_done() {
    let product = Product::new(true);
    assert_eq!(steps(&product), []);
    assert_eq!(look_in(&product), secs(30));
}

#[test]
fn what_a_create_saga_made_that_was_given_up_is_deleted() {
    for start in [false, true] {
        let mut product = Product::new(start);
        product.park_saga();
        assert_eq!(steps(&product), [Step::UndoCreate]);
        assert_eq!(look_in(&product), soon());
    }
}

#[test]
fn what_is_at_rest_as_it_was_wanted_is_settled() {
    assert_eq!(stopped().plan(), SETTLED);
    assert_eq!(running().plan(), SETTLED);

    let mut shut_down = running();
    shut_down.guest(0, GuestEvent::ShutDown);
    shut_down.guest(0, GuestEvent::Halt);
    shut_down.pushes(0);
    shut_down.looks();
    shut_down.saga_goes_to_its_end();
    assert_eq!(shut_down.plan(), SETTLED);

    let mut destroyed = stopped();
    destroyed.asks_to_delete();
    destroyed.looks();
    destroyed.saga_goes_to_its_end();
    assert_eq!(destroyed.instance.state, InstanceState::Destroyed);
    assert_eq!(destroyed.plan(), SETTLED);
}

#[test]
fn a_pending_attempt_that_nobody_works_on_gets_a_saga() {
    let product = waiting();
    assert_eq!(steps(&product), [Step::StartSaga(attempt(&product))]);
    assert_eq!(look_in(&product), soon());
}

#[test]
fn an_attempt_that_its_own_saga_works_on_is_left_to_it() {
    for nodes in 0..5 {
        let product = starting(nodes);
        assert_eq!(steps(&product), [], "after {nodes} nodes");
        assert_eq!(look_in(&product), secs(30));
    }
}

#[test]
fn an_attempt_waits_for_another_s_saga_though_not_without_a_bound() {
    // The saga that clears a crashed run away.
    let mut product = crashed();
    product.asks_to_start();
    product.looks();
    assert_eq!(steps(&product), [Step::HoldBack(attempt(&product))]);
    assert_eq!(look_in(&product), secs(30));
    for _ in 0..3 {
        product.passes(TimeDelta::seconds(30));
        product.looks();
    }
    let failure = product.view().start_failure().map(|(_, f)| f).unwrap();
    assert_eq!(failure.kind, StartFailureKind::HostUnreachable);
    assert!(failure.transient);
}

#[test]
fn an_attempt_waits_for_an_abandoned_vmm_that_may_run_up_to_a_bound() {
    let mut product = abandoned(true);
    let expected = [Step::HoldBack(attempt(&product)), unregister(&product)];
    assert_eq!(steps(&product), expected);
    assert_eq!(look_in(&product), soon());
    for _ in 0..3 {
        product.looks();
        product.passes(TimeDelta::seconds(2));
    }
    let failure = product.view().start_failure().map(|(_, f)| f).unwrap();
    assert_eq!(failure.kind, StartFailureKind::HostUnreachable);
}

#[test]
fn an_attempt_does_not_wait_for_an_abandoned_vmm_that_may_not_run() {
    let mut product = starting(3);
    product.connect(0, Link::Down);
    product.saga_goes_to_its_end();
    assert!(product.asks_to_start());
    let expected = [Step::StartSaga(attempt(&product)), unregister(&product)];
    assert_eq!(steps(&product), expected);
}

#[test]
fn an_attempt_whose_sagas_are_given_up_again_and_again_fails() {
    let mut product = waiting();
    for _ in 0..4 {
        product.looks();
        product.nodes(1);
        product.park_saga();
    }
    let steps = steps(&product);
    let [Step::GiveUp(id, failure)] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(*id, attempt(&product));
    assert_eq!(failure.kind, StartFailureKind::Internal);
}

#[test]
fn an_attempt_whose_saga_was_given_up_before_the_order_to_run_fails() {
    for nodes in [2, 3, 4] {
        let mut product = starting(nodes);
        product.park_saga();
        let steps = steps(&product);
        let [Step::GiveUp(_, failure)] = steps.as_slice() else {
            panic!("after {nodes} nodes: {steps:?}")
        };
        assert_eq!(failure.kind, StartFailureKind::Internal);
    }
}

#[test]
fn an_attempt_that_no_saga_gets_as_far_as_to_claim_is_given_up() {
    let mut product = waiting().with_patience(2);
    let id = attempt(&product);
    product.instance.reconcile_errors = 2;
    assert_eq!(steps(&product), [Step::StartSaga(id)]);
    product.instance.reconcile_errors = 3;
    let steps = steps(&product);
    let [Step::GiveUp(given_up, failure)] = steps.as_slice() else {
        panic!("{steps:?}");
    };
    assert_eq!(*given_up, id);
    assert_eq!(failure.kind, StartFailureKind::Internal);
}

#[test]
fn a_sled_that_did_not_take_the_order_to_run_is_told_again() {
    let product = ordered();
    let id = vmm(&product);
    let sled = product.vmms[&id].sled_id;
    assert_eq!(steps(&product), [Step::OrderRun(id, sled)]);
    assert_eq!(look_in(&product), soon());
}

#[test]
fn a_guest_that_boots_has_until_its_deadline() {
    let mut product = booting();
    let id = vmm(&product);
    let sled = product.vmms[&id].sled_id;
    let deadline = product.vmms[&id].boot_deadline;
    assert_eq!(steps(&product), []);
    assert_eq!(product.plan().look_again, deadline);

    product.passes(TimeDelta::minutes(3));
    let judge = Step::JudgeBoot(attempt(&product), id, sled);
    assert_eq!(steps(&product), [judge]);
    assert_eq!(look_in(&product), soon());
}

#[test]
fn a_vmm_that_never_ran_and_that_no_attempt_waits_for_is_unregistered() {
    let mut timed_out = booting();
    timed_out.passes(TimeDelta::minutes(3));
    timed_out.looks();
    assert_eq!(steps(&timed_out), [unregister(&timed_out)]);
    assert_eq!(look_in(&timed_out), soon());
    // A start that comes now waits for that.
    assert!(timed_out.asks_to_start());
    assert_eq!(steps(&timed_out), [unregister(&timed_out)]);

    let mut overtaken = booting();
    overtaken.asks_to_stop();
    assert_eq!(steps(&overtaken), [unregister(&overtaken)]);
}

#[test]
fn a_vmm_that_a_saga_works_on_is_left_to_it_though_its_attempt_is_over() {
    for nodes in [2, 3, 4] {
        let mut product = starting(nodes);
        product.asks_to_stop();
        assert_eq!(steps(&product), [], "after {nodes} nodes");
    }
}

#[test]
fn a_vmm_about_which_nothing_definite_is_heard_is_abandoned() {
    let product = abandoned(false);
    assert_eq!(product.instance.active_vmm_id, None);
    assert_eq!(steps(&product), [unregister(&product)]);
    assert_eq!(look_in(&product), soon());
}

#[test]
fn an_ended_vmm_is_parted_from_its_instance() {
    let product = crashed();
    let id = product.instance.active_vmm_id.unwrap();
    let sled = product.vmms[&id].sled_id;
    assert_eq!(steps(&product), [Step::UpdateSaga(id, sled)]);
    assert_eq!(look_in(&product), soon());
}

#[test]
fn a_vmm_that_is_not_wanted_is_told_to_stop_until_it_does() {
    let mut product = running();
    product.asks_to_stop();
    let id = vmm(&product);
    let sled = product.vmms[&id].sled_id;
    assert_eq!(steps(&product), [Step::OrderStop(id, sled)]);
    assert_eq!(look_in(&product), secs(5));
    product.looks();
    assert_eq!(steps(&product), [Step::OrderStop(id, sled)], "again");
}

#[test]
fn a_guest_that_shuts_down_is_stopped_once_a_new_run_is_wanted() {
    let mut product = running();
    product.guest(0, GuestEvent::ShutDown);
    product.pushes(0);
    assert_eq!(product.plan(), SETTLED, "it may take its time");
    assert!(product.asks_to_start());
    let id = vmm(&product);
    let sled = product.vmms[&id].sled_id;
    assert_eq!(steps(&product), [Step::OrderStop(id, sled)]);
    assert_eq!(look_in(&product), secs(5));
}

#[test]
fn an_instance_that_ran_and_failed_is_restarted_after_its_cooldown() {
    let mut product = failed();
    assert_eq!(steps(&product), [Step::Restart], "the first time at once");
    product.looks();
    product.looks();
    product.saga_goes_to_its_end();
    product.guest(0, GuestEvent::Boot);
    product.guest(0, GuestEvent::Panic);
    product.pushes(0);
    product.looks();
    product.saga_goes_to_its_end();
    assert_eq!(product.instance.state, InstanceState::Failed);

    let next = product.instance.next_retry_at;
    assert_eq!(steps(&product), []);
    assert_eq!(product.plan().look_again, next);
    assert!(look_in(&product) > secs(4 * 60), "{:?}", look_in(&product));
    product.passes(TimeDelta::minutes(5));
    assert_eq!(steps(&product), [Step::Restart]);
}

#[test]
fn a_start_that_failed_is_retried_by_backoff_or_when_there_is_room() {
    let mut product = failed_to_start();
    let next = product.instance.next_retry_at;
    assert_eq!(steps(&product), [Step::CheckPlace]);
    assert_eq!(product.plan().look_again, next);
    product.passes(TimeDelta::seconds(5));
    assert_eq!(steps(&product), [Step::Retry]);
    assert_eq!(look_in(&product), soon());
}

#[test]
fn a_permanent_failure_is_retried_only_when_there_is_room() {
    let mut product = failed_to_start();
    product.instance.next_retry_at = None;
    assert_eq!(steps(&product), [Step::CheckPlace]);
    assert_eq!(look_in(&product), secs(300));
}

#[test]
fn nothing_is_restarted_whose_user_wants_no_restarts() {
    for mut product in [failed(), failed_to_start()] {
        product.asks_for_restarts(AutoRestartPolicy::Never);
        assert_eq!(product.plan(), SETTLED);
        product.asks_for_restarts(AutoRestartPolicy::BestEffort);
        assert_ne!(product.plan(), SETTLED);
    }
}

#[test]
fn nothing_is_restarted_while_an_abandoned_vmm_of_it_may_run() {
    let mut product = ordered();
    while product.instance.active_vmm_id.is_some() {
        product.looks();
        product.passes(TimeDelta::seconds(2));
    }
    assert_eq!(product.instance.state, InstanceState::Failed);
    product.passes(TimeDelta::minutes(10));
    assert_eq!(steps(&product), [unregister(&product)]);
    assert_eq!(look_in(&product), soon());
}

#[test]
fn a_deleted_instance_is_cleaned_up_after() {
    let mut product = stopped();
    product.asks_to_delete();
    assert_eq!(steps(&product), [Step::DeleteSaga]);
    assert_eq!(look_in(&product), soon());
}

#[test]
fn a_deleted_instance_waits_for_an_abandoned_vmm_that_may_run() {
    let mut product = abandoned(false);
    product.asks_to_delete();
    assert_eq!(steps(&product), [unregister(&product)]);
    assert_eq!(look_in(&product), soon());
    product.connect(0, Link::Up);
    product.looks();
    assert_eq!(steps(&product), [Step::DeleteSaga]);
}

#[test]
fn a_deleted_instance_does_not_wait_for_one_that_may_not_run() {
    let mut product = starting(3);
    product.connect(0, Link::Down);
    product.saga_goes_to_its_end();
    product.asks_to_delete();
    let expected = [Step::DeleteSaga, unregister(&product)];
    assert_eq!(steps(&product), expected);
    product.looks();
    product.saga_goes_to_its_end();
    assert_eq!(product.instance.state, InstanceState::Destroyed);
    assert_eq!(steps(&product), [unregister(&product)], "still asked about");
}

#[test]
fn each_plan_is_explained_by_what_it_follows_from() {
    let given_up = {
        let mut product = Product::new(true);
        product.park_saga();
        product
    };
    let deleted = {
        let mut product = stopped();
        product.asks_to_delete();
        product
    };
    let stopping = {
        let mut product = running();
        product.asks_to_stop();
        product
    };
    let late = {
        let mut product = booting();
        product.passes(TimeDelta::minutes(3));
        product
    };
    for (product, words) in [
        (stopped(), "settled (intent stopped, state no_vmm)"),
        (running(), "settled (intent running, state vmm)"),
        (waiting(), "Run saga instance_start"),
        (starting(2), "is at work on it"),
        (booting(), "to boot"),
        (ordered(), "never said that it took the order"),
        (late, "fails as timed_out"),
        (crashed(), "has ended and is still linked"),
        (failed(), "may be restarted now"),
        (failed_to_start(), "its retry is planned for"),
        (stopping, "the intent is stopped"),
        (deleted, "instance_delete"),
        (given_up, "given up by an operator"),
        (abandoned(false), "neither started elsewhere nor destroyed"),
        (abandoned(true), "an instance never runs twice"),
    ] {
        let explained = product.explained();
        assert!(explained.contains(words), "{words}: {explained}");
    }
}
