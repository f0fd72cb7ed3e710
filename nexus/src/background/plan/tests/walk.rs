//! Users, guests, hosts, the network, sagas and the reconciler, in any order.

use super::host::GuestEvent;
use super::product::{Link, Passage, Product};
use super::rules;
use db_model::AutoRestartPolicy;
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
        Event::SagaStep => product.saga_goes_on(Passage::Well),
        Event::SagaStepBreaks => product.saga_goes_on(Passage::Breaks),
        Event::SagaIsGivenUp => product.park_saga(),
        Event::Guest(n, event) => product.guest(*n, *event),
        Event::Push(n) => product.pushes(*n),
        Event::Watch(n) => product.watches(*n),
        Event::Connect(n, link) => product.connect(*n, *link),
        Event::Expunge => product.expunge(),
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
            prop_assert_eq!(rules::at_every_moment(&product), Ok(()));
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
        prop_assert_eq!(rules::once_it_is_calm(&product), Ok(()));
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
        "CheckPlace",
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
