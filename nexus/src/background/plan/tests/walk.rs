//! Users, guests, hosts, the network, sagas and the reconciler, in any order.

use super::product::{GuestEvent, Link, Product};
use db_model::{AutoRestartPolicy, InstanceState, IntendedState, RunState};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;

/// Something that happens.
#[derive(Clone, Debug)]
enum Event {
    Start,
    Stop,
    Delete,
    Restarts(AutoRestartPolicy),
    TimePasses(i64),
    Look,
    SagaStep,
    SagaStepBreaks,
    SagaIsGivenUp,
    Guest(usize, GuestEvent),
    Push(usize),
    Watch(usize),
    Connect(usize, Link),
    Expunge,
}

fn event() -> impl Strategy<Value = Event> {
    let policy = prop::sample::select(AutoRestartPolicy::ALL);
    let guest = prop::sample::select(
        &[
            GuestEvent::Boot,
            GuestEvent::Boot,
            GuestEvent::FailToBoot,
            GuestEvent::Panic,
            GuestEvent::ShutDown,
            GuestEvent::Halt,
            GuestEvent::BeLost,
        ][..],
    );
    let link =
        prop::sample::select(&[Link::Up, Link::Up, Link::Down, Link::Mute][..]);
    prop_oneof![
        4 => Just(Event::Start),
        2 => Just(Event::Stop),
        1 => Just(Event::Delete),
        1 => policy.prop_map(Event::Restarts),
        4 => (0..150i64).prop_map(Event::TimePasses),
        20 => Just(Event::Look),
        20 => Just(Event::SagaStep),
        2 => Just(Event::SagaStepBreaks),
        1 => Just(Event::SagaIsGivenUp),
        8 => (0..4usize, guest).prop_map(|(n, event)| Event::Guest(n, event)),
        5 => (0..2usize).prop_map(Event::Push),
        4 => (0..2usize).prop_map(Event::Watch),
        4 => (0..2usize, link).prop_map(|(n, link)| Event::Connect(n, link)),
        1 => Just(Event::Expunge),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 1..150)
}

fn happens(product: &mut Product, event: &Event) {
    match event {
        Event::Start => {
            product.asks_to_start();
        }
        Event::Stop => {
            product.asks_to_stop();
        }
        Event::Delete => {
            product.asks_to_delete();
        }
        Event::Restarts(policy) => product.asks_for_restarts(*policy),
        Event::TimePasses(secs) => {
            product.passes(chrono::TimeDelta::seconds(*secs));
        }
        Event::Look => product.looks(),
        Event::SagaStep => product.saga_goes_on(false),
        Event::SagaStepBreaks => product.saga_goes_on(true),
        Event::SagaIsGivenUp => product.park_saga(),
        Event::Guest(n, event) => product.guest(*n, *event),
        Event::Push(n) => product.pushes(*n),
        Event::Watch(n) => product.watches(*n),
        Event::Connect(n, link) => product.connect(*n, *link),
        Event::Expunge => product.expunge(),
    }
}

/// What must hold at every moment.
fn check(product: &Product) {
    let up = product.up();
    assert!(up.len() <= 1, "two guests of one instance are up: {up:?}");
    for vmm in up {
        assert!(
            !product.vmms[&vmm].ended(),
            "{vmm} is up, and said to be over"
        );
    }
    let plan = product.plan();
    assert!(
        plan.steps.is_empty() || plan.look_again.is_some(),
        "nobody would see whether the steps succeed: {plan:?}"
    );
    if product.instance.reconcile_at.is_none() {
        let settled = plan.steps.is_empty() && plan.look_again.is_none();
        assert!(settled, "forgotten: {plan:?} for {:#?}", product.instance);
    }
    let explained = product.explained();
    if explained.contains("its restart is planned") {
        assert_eq!(product.instance.state, InstanceState::Failed);
    }
    if explained.contains("to boot") {
        assert!(product.facts().attempt.is_some(), "{explained}");
    }
    if let Some(why) = unrest(product)
        && plan.look_again.is_none()
    {
        panic!("{why}, and no look is planned: {:#?}", product.instance);
    }
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

/// What must hold when nothing is left to do.
fn check_calm(product: &Product) {
    let running = product.running();
    let instance = &product.instance;
    let state = product.view().run_state();
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
    assert!(expected.contains(&state), "{state:?}: {instance:#?}");
    if instance.intended_state == IntendedState::Destroyed {
        assert_eq!(instance.state, InstanceState::Destroyed);
    }
    let linked: Vec<_> = instance.active_vmm_id.into_iter().collect();
    assert_eq!(linked, running, "what is said to run is what runs");
    assert_eq!(state == RunState::Running, !running.is_empty());
    for vmm in product.vmms.values() {
        assert_eq!(vmm.ended(), !running.contains(&vmm.id), "{vmm:?}");
    }
    if state == RunState::Failed {
        let view = product.view();
        assert!(
            view.start_failure().is_some()
                || instance.last_failure_message.is_some(),
            "a user always learns why it does not run: {instance:#?}"
        );
    }
}

proptest! {
    #[test]
    fn nothing_is_forgotten_and_no_two_guests_are_up(
        start: bool,
        events in events(),
    ) {
        let mut product = Product::new(start);
        for event in &events {
            happens(&mut product, event);
            check(&product);
        }
    }

    #[test]
    fn whatever_has_happened_all_is_as_it_was_wanted_once_it_is_calm(
        start: bool,
        events in events(),
    ) {
        let mut product = Product::new(start);
        for event in &events {
            happens(&mut product, event);
        }
        prop_assert!(product.calms_down(), "there is no end of it: {product:#?}");
        check_calm(&product);
    }
}

/// The walks would show nothing of a step that they never take.
#[test]
fn the_walks_take_every_step() {
    let steps = [
        "StartSaga",
        "UpdateSaga",
        "DeleteSaga",
        "UndoCreate",
        "HoldBack",
        "GiveUp",
        "OrderRun",
        "JudgeBoot",
        "OrderStop",
        "Unregister",
        "Restart",
        "Retry",
        "CheckRoom",
    ];
    let mut missing: BTreeSet<&str> = steps.into();
    let mut runner = TestRunner::deterministic();
    let walks = (any::<bool>(), events());
    for _ in 0..2_000 {
        let (start, events) = walks.new_tree(&mut runner).unwrap().current();
        let mut product = Product::new(start);
        for event in &events {
            happens(&mut product, event);
        }
        missing.retain(|step| !product.taken.contains(*step));
        if missing.is_empty() {
            return;
        }
    }
    panic!("never taken: {missing:?}");
}
