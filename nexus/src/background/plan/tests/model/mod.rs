//! Every order of requests, crashes, duplicates, delays and losses within small
//! bounds: `stateright` drives the one [`Product`] through all its states.
//!
//! **Bounds.** At most so many requests of a user, and at most so many faults
//! of whatever kind: a call to a sled is late, arrives twice, or its answer is
//! lost; a report, or the news that a VMM is missing, is taken in late; a
//! saga's process dies after an effect and before its record, and another runs
//! the node again; a node fails after its effect; an operator gives the saga
//! up; a Nexus goes by facts that it read earlier, while another looks, too; a
//! guest fails to boot, crashes, shuts down or is lost; a sled is taken out.
//! What needs no fault (a saga's next node, a look, a boot, a push, time) is
//! not bounded: what it leads to is finite ([`key`]). `NEXUS_MODEL_DEPTH=n`
//! allows `n` faults more, for a long run.
//!
//! **Time** is left out: a planned look may come at any moment, and at each it
//! is open whether deadlines, retries and the cooldown are over by then. So
//! every order that clocks allow is among those that are tried, and more.
//!
//! **Properties.** I1, I2 and I4, in [`rules`] and [`step_is_wrong`]. That every
//! start ends is checked in each state: if from there on nothing more goes
//! wrong, all comes to rest, as it was wanted or with the reason why not.
//!
//! Each property is shown to see a world with something wrong in it ([`Flaw`]).

mod key;

use super::host::GuestEvent;
use super::product::{Fate, Flaw, Look, Passage, Product, ROUNDS};
use super::rules;
use db_model::{
    AutoRestartPolicy, IntendedState, StartAttempt, StartOutcome, Vmm,
};
use key::Key;
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// How much may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Bounds {
    requests: u8,
    faults: u8,
}

impl Bounds {
    /// Those of a run in CI, and of a longer one.
    fn of_this_run() -> [Bounds; 2] {
        let more: u8 = std::env::var("NEXUS_MODEL_DEPTH")
            .map_or(0, |n| n.parse().expect("NEXUS_MODEL_DEPTH is a number"));
        [
            Bounds { requests: 2, faults: 1 + more },
            Bounds { requests: 0, faults: 2 + more },
        ]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Start,
    Stop,
    Delete,
    Restarts(AutoRestartPolicy),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    UserAsksTo(Request),
    SagaGoesOn(Passage, Fate),
    SagaIsGivenUp,
    /// A whole look. `late`: deadlines, retries and the cooldown are over.
    Looks {
        late: bool,
        call: Fate,
    },
    /// A Nexus looks, and does nothing yet.
    LookBegins {
        late: bool,
    },
    LookGoesOn(Fate),
    Guest(usize, GuestEvent),
    Pushes(usize),
    Watches(usize),
    /// What is to be seen of the `n`th VMM's row is on its way.
    IsSeen(usize),
    WordArrives(usize),
    CallArrives(usize),
    IsExpunged,
}

impl Action {
    fn is_fault(self) -> bool {
        match self {
            Action::SagaGoesOn(how, call) => {
                how != Passage::Well || call != Fate::Answered
            }
            Action::Looks { call, .. } | Action::LookGoesOn(call) => {
                call != Fate::Answered
            }
            Action::Guest(_, event) => {
                !matches!(event, GuestEvent::Boot | GuestEvent::Halt)
            }
            Action::SagaIsGivenUp
            | Action::LookBegins { .. }
            | Action::IsSeen(_)
            | Action::IsExpunged => true,
            Action::UserAsksTo(_)
            | Action::Pushes(_)
            | Action::Watches(_)
            | Action::WordArrives(_)
            | Action::CallArrives(_) => false,
        }
    }

    /// What becomes of the first call to a sled in it.
    fn call(self) -> Fate {
        match self {
            Action::SagaGoesOn(_, call)
            | Action::Looks { call, .. }
            | Action::LookGoesOn(call) => call,
            Action::UserAsksTo(_)
            | Action::SagaIsGivenUp
            | Action::LookBegins { .. }
            | Action::Guest(..)
            | Action::Pushes(_)
            | Action::Watches(_)
            | Action::IsSeen(_)
            | Action::WordArrives(_)
            | Action::CallArrives(_)
            | Action::IsExpunged => Fate::Answered,
        }
    }
}

const CALLS: [Fate; 4] =
    [Fate::Answered, Fate::AnswerLost, Fate::Late, Fate::Twice];

#[derive(Clone, Debug)]
struct State {
    product: Product,
    /// The look of the Nexus that is slow.
    look: Option<Look>,
    left: Bounds,
    /// The rule that the last step broke.
    broken: Option<&'static str>,
    key: Key,
}

impl State {
    fn new(product: Product, left: Bounds) -> State {
        let mut state = State {
            product,
            look: None,
            left,
            broken: None,
            key: Key::default(),
        };
        state.rekey();
        state
    }

    fn rekey(&mut self) {
        self.key = Key::of(&self.product, self.look.as_ref());
    }

    /// Does it. Says whether it was there to be done.
    fn does(&mut self, action: Action) -> bool {
        let product = &mut self.product;
        product.fate = action.call();
        match action {
            Action::UserAsksTo(Request::Start) => {
                product.asks_to_start();
            }
            Action::UserAsksTo(Request::Stop) => {
                product.asks_to_stop();
            }
            Action::UserAsksTo(Request::Delete) => {
                product.asks_to_delete();
            }
            Action::UserAsksTo(Request::Restarts(policy)) => {
                product.asks_for_restarts(policy);
            }
            Action::SagaGoesOn(how, _) => product.saga_goes_on(how),
            Action::SagaIsGivenUp => product.park_saga(),
            Action::Looks { late, .. } => {
                if late {
                    product.all_is_due();
                }
                let mut look = product.look_begins();
                while product.look_goes_on(&mut look) {}
            }
            Action::LookBegins { late } => {
                if late {
                    product.all_is_due();
                }
                self.look = Some(product.look_begins());
            }
            Action::LookGoesOn(_) => {
                if let Some(mut look) = self.look.take()
                    && product.look_goes_on(&mut look)
                {
                    self.look = Some(look);
                }
            }
            Action::Guest(n, event) => product.guest(n, event),
            Action::Pushes(n) => product.pushes(n),
            Action::Watches(n) => product.watches(n),
            Action::IsSeen(n) => {
                let vmm = product.vmms.keys().nth(n).copied();
                product.is_seen(vmm.expect("a row that there is"));
            }
            Action::WordArrives(n) => product.word_arrives(n),
            Action::CallArrives(n) => product.call_arrives(n),
            Action::IsExpunged => product.expunge(),
        }
        // No call was made to which it could have happened.
        product.fate == Fate::Answered
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        let rest = |s: &State| (s.left, s.broken);
        self.key == other.key && rest(self) == rest(other)
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.key, self.left, self.broken).hash(state);
    }
}

/// What a step must not do, whatever it is.
fn step_is_wrong(
    before: &Product,
    after: &Product,
    action: Action,
) -> Option<&'static str> {
    let wanted =
        |p: &Product| p.instance.intended_state == IntendedState::Running;
    if !wanted(before)
        && wanted(after)
        && action != Action::UserAsksTo(Request::Start)
    {
        return Some(I4);
    }
    if !wanted(after) {
        let allowed =
            |p: &Product| p.vmms.values().filter(|v| v.may_run).count();
        if after.attempts.len() > before.attempts.len()
            || after.vmms.len() > before.vmms.len()
            || allowed(after) > allowed(before)
        {
            return Some(I4);
        }
    }
    // A look that is slow may count one wait, or one question in vain, more
    // than there were.
    let changed = |old: &StartAttempt| {
        let held_back = old.held_back;
        let new = StartAttempt { held_back, ..after.attempts[&old.id].clone() };
        old.outcome != StartOutcome::Pending && new != *old
    };
    let revived = |old: &Vmm| {
        let unanswered = old.unanswered;
        old.ended() && Vmm { unanswered, ..after.vmms[&old.id].clone() } != *old
    };
    let again = before.attempts.values().any(changed)
        || before.vmms.values().any(revived);
    again.then_some(ONCE)
}

const I1: &str = "I1: nothing is forgotten";
const I1_END: &str = "I1: every start ends, once faults do";
const ONCE: &str = "I1: what has ended has ended";
const I2: &str = "I2: one guest at a time";
const I4: &str = "I4: what is not wanted is not started";
const RULES: [&str; 5] = [I1, I1_END, ONCE, I2, I4];

/// The world, and what can happen in it.
struct World {
    bounds: Bounds,
    flaw: Option<Flaw>,
    /// States from which all is known to come to rest.
    rests: Mutex<HashSet<Key>>,
}

impl World {
    fn new(bounds: Bounds, flaw: Option<Flaw>) -> World {
        World { bounds, flaw, rests: Mutex::default() }
    }

    /// From here on nothing goes wrong any more, what is late is lost, and the
    /// Nexus that is slow is dead.
    fn comes_to_rest(&self, state: &State) -> Result<(), String> {
        let mut product = state.product.clone();
        product.nothing_arrives();
        let mut passed = Vec::new();
        for _ in 0..ROUNDS {
            let key = Key::of(&product, None);
            if self.known(|known| known.contains(&key)) {
                break;
            }
            passed.push(key);
            if product.calms() {
                rules::once_it_is_calm(&product)?;
                break;
            }
        }
        if passed.len() == ROUNDS {
            return Err(format!("there is no end of it: {product:#?}"));
        }
        self.known(|known| known.extend(passed));
        Ok(())
    }

    fn known<T>(&self, f: impl FnOnce(&mut HashSet<Key>) -> T) -> T {
        f(&mut self.rests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        [true, false]
            .map(|start| {
                let product = Product::new(start).with_patience(1);
                State::new(product.with(self.flaw), self.bounds)
            })
            .into()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let State { product, look, left, .. } = state;
        let faults = left.faults > 0;
        let calls = &CALLS[..if faults { 4 } else { 1 }];
        if left.requests > 0 {
            let other = match product.instance.auto_restart_enabled() {
                true => AutoRestartPolicy::Never,
                false => AutoRestartPolicy::BestEffort,
            };
            actions.extend(
                [
                    Request::Start,
                    Request::Stop,
                    Request::Delete,
                    Request::Restarts(other),
                ]
                .map(Action::UserAsksTo),
            );
        }
        let saga = |how| move |call: &Fate| Action::SagaGoesOn(how, *call);
        if product.saga.is_some() {
            actions.extend(calls.iter().map(saga(Passage::Well)));
        }
        if product.saga.is_some() && faults {
            actions.extend([
                Action::SagaGoesOn(Passage::Breaks, Fate::Answered),
                Action::SagaIsGivenUp,
            ]);
            // It died before the answer came.
            let unheard = [Fate::Answered, Fate::AnswerLost, Fate::Late];
            actions.extend(unheard.iter().map(saga(Passage::Dies)));
        }
        if product.instance.reconcile_at.is_some() {
            let late: &[bool] = match product.last_due() {
                Some(_) => &[false, true],
                None => &[false],
            };
            for late in late.iter().copied() {
                let with = |call: &Fate| Action::Looks { late, call: *call };
                actions.extend(calls.iter().map(with));
                if faults && look.is_none() {
                    actions.push(Action::LookBegins { late });
                }
            }
        }
        if look.is_some() {
            let with = |call: &Fate| Action::LookGoesOn(*call);
            actions.extend(calls.iter().map(with));
        }
        let guests = product.sleds.iter().flat_map(|s| s.guests.values());
        for (n, guest) in guests.enumerate() {
            let events = guest.prospects().iter();
            actions.extend(
                events
                    .map(|event| Action::Guest(n, *event))
                    .filter(|event| faults || !event.is_fault()),
            );
        }
        for (n, sled) in product.sleds.iter().enumerate() {
            if !sled.guests.is_empty() {
                actions.push(Action::Pushes(n));
            }
            actions.push(Action::Watches(n));
        }
        if faults {
            let rows = product.vmms.values().enumerate();
            let live = rows.filter(|(_, row)| !row.ended());
            actions.extend(live.map(|(n, _)| Action::IsSeen(n)));
            actions.push(Action::IsExpunged);
        }
        actions.extend((0..product.words.len()).map(Action::WordArrives));
        actions.extend((0..product.calls.len()).map(Action::CallArrives));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        if !next.does(action) {
            return None;
        }
        next.broken = step_is_wrong(&last.product, &next.product, action);
        next.rekey();
        if next == *last {
            return None;
        }
        next.left.faults -= u8::from(action.is_fault());
        let asked = matches!(action, Action::UserAsksTo(_));
        next.left.requests -= u8::from(asked);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<World>> {
        type Condition = fn(&World, &State) -> bool;
        let always: [(&str, Condition); 5] = [
            (I1, |_, s| rules::nothing_forgotten(&s.product).is_ok()),
            (ONCE, |_, s| s.broken != Some(ONCE)),
            (I1_END, |world, s| world.comes_to_rest(s).is_ok()),
            (I2, |_, s| rules::one_guest(&s.product).is_ok()),
            (I4, |_, s| s.broken != Some(I4)),
        ];
        always.map(|(name, holds)| Property::always(name, holds)).into()
    }
}

/// Explores it all; with a rule, until that is seen to be broken.
fn explore(
    bounds: Bounds,
    flaw: Option<Flaw>,
    until: &[&'static str],
) -> HashMap<&'static str, Vec<Action>> {
    let began = Instant::now();
    let until = until.iter().copied().collect();
    let checked = World::new(bounds, flaw)
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyOf(until))
        .spawn_bfs()
        .join();
    say(&format!(
        "{bounds:?}, flaw: {flaw:?}: {} states, {} steps, depth {}, {:?}",
        checked.unique_state_count(),
        checked.state_count(),
        checked.max_depth(),
        began.elapsed(),
    ));
    let discoveries = checked.discoveries().into_iter();
    discoveries
        .map(|(rule, path)| {
            let state = path.last_state();
            say(rule);
            for why in [
                rules::at_every_moment(&state.product),
                checked.model().comes_to_rest(state),
            ] {
                why.unwrap_or_else(|why| say(&format!("    {why}")));
            }
            let path = path.into_actions();
            path.iter().for_each(|action| say(&format!("    {action:?}")));
            (rule, path)
        })
        .collect()
}

#[expect(clippy::print_stderr, reason = "how much was explored, and a path")]
fn say(what: &str) {
    eprintln!("{what}");
}

#[test]
fn in_every_order_what_must_hold_holds() {
    for bounds in Bounds::of_this_run() {
        let broken = explore(bounds, None, &RULES);
        assert!(broken.is_empty(), "see above: {:?}", broken.keys());
    }
}

/// The way to where the world with `flaw` in it breaks `rule`.
fn sees(
    flaw: Flaw,
    rule: &'static str,
    requests: u8,
    faults: u8,
) -> Vec<Action> {
    let bounds = Bounds { requests, faults };
    let mut broken = explore(bounds, Some(flaw), &[rule]);
    broken.remove(rule).expect("it is broken, and seen to be")
}

#[test]
fn that_sleds_keep_no_tombstones_is_seen() {
    let path = sees(Flaw::NoTombstones, I2, 1, 2);
    let late = |a: &Action| matches!(a, Action::CallArrives(_));
    assert!(path.iter().any(late), "a call arrives late");
}

#[test]
fn that_a_look_is_given_back_blindly_is_seen() {
    let path = sees(Flaw::GivesBackBlindly, I1, 1, 1);
    let slow = |a: &Action| matches!(a, Action::LookBegins { .. });
    assert!(path.iter().any(slow), "a Nexus is slow");
}

#[test]
fn that_an_attempt_is_opened_unchecked_is_seen() {
    let path = sees(Flaw::OpensUnchecked, I4, 1, 2);
    let unwanted = [Request::Stop, Request::Delete].map(Action::UserAsksTo);
    assert!(unwanted.iter().any(|a| path.contains(a)), "it was wanted");
}

#[test]
fn that_nobody_asks_for_a_vmm_that_is_missing_is_seen() {
    let path = sees(Flaw::MissesNobody, I1_END, 0, 1);
    let fault = |a: &Action| a.is_fault();
    assert!(path.iter().any(fault), "without a fault none is missing");
}

/// In another order, other states stand for those that agree in their key. If
/// the key left out something that makes a difference, they would lead
/// elsewhere.
#[test]
fn states_that_agree_in_their_key_go_on_alike() {
    for (requests, faults) in [(2, 0), (0, 1)] {
        let world = || World::new(Bounds { requests, faults }, None);
        let breadth_first = world().checker().spawn_bfs().join();
        let depth_first = world().checker().spawn_dfs().join();
        let count = |states, steps| {
            assert!(states > 1_000, "that was not all");
            (states, steps)
        };
        assert_eq!(
            count(
                breadth_first.unique_state_count(),
                breadth_first.state_count()
            ),
            count(depth_first.unique_state_count(), depth_first.state_count()),
        );
    }
}
