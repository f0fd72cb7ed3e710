//! What holds whatever runs the guests: each test is run with simulated ones
//! and with real ones.

use crate::agent::{Agent, GIB, refusal, vmm};
use crate::eventually::eventually;
use crate::guests::Kind;
use crate::nexus::Nexus;
use sled_agent::Settings;
use sled_agent::lease::{self, Left};
use sled_agent_client::{
    EndReason, Error, FailureReason, RefusalCode, RequestedState, Unreachable,
    VmmState,
};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Makes two tests of each of these functions: `simulated::…` and `real::…`.
macro_rules! with_both {
    ($($name:ident)*) => {
        mod simulated {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::guests::Kind::Simulated).await;
            })*
        }

        mod real {
            $(#[tokio::test]
            async fn $name() {
                if crate::guests::Kind::Qemu.is_possible() {
                    super::$name(crate::guests::Kind::Qemu).await;
                }
            })*
        }
    };
}

with_both! {
    a_vmm_runs_reboots_and_stops
    a_stop_is_graceful_first
    a_stop_is_forced_after_the_grace_period_and_is_no_failure
    a_vmm_that_never_started_is_stopped_at_once
    a_guest_that_shuts_itself_down_says_so
    a_guest_that_panics_has_failed_and_stays_so
    a_hypervisor_that_dies_takes_its_vmm_with_it
    a_guest_that_panics_while_told_to_stop_is_stopped
    unregister_kills_a_running_vmm_and_answers_the_same_each_time
    two_unregisters_at_once_give_one_answer
    a_failed_vmm_leaves_nothing_when_it_is_unregistered
    an_expunged_sled_stops_its_guests_and_takes_no_more
    an_expunged_sled_that_cannot_record_it_stops_its_guests
    a_sled_that_is_not_heard_stops_its_guests_and_runs_others_later
    guests_end_with_their_lease_though_the_agent_is_dead
    a_killed_agent_answers_503_until_it_has_found_its_vmms_again
    the_grace_period_goes_on_while_the_agent_is_dead
    what_was_ordered_before_a_crash_is_done_after_it
    guests_that_the_host_lost_have_failed
    an_ended_vmm_is_still_listed_after_a_restart
    an_agent_told_to_end_does_so_and_leaves_its_guests_running
}

fn grace(ms: u64) -> Settings {
    Settings { grace_ms: Some(ms), ..Settings::default() }
}

async fn a_vmm_runs_reboots_and_stops(kind: Kind) {
    let nexus = Nexus::start();
    let agent = Agent::start_on(kind, vec![nexus.url()], &[]).await;
    let vmm_id = agent.run().await;
    let running = agent.until(vmm_id, VmmState::Running).await;
    assert!(running.ever_ran);
    let again = agent.order(vmm_id, RequestedState::Running).await;
    assert_eq!(again, running);

    let rebooting = agent.order(vmm_id, RequestedState::Reboot).await;
    assert_eq!(rebooting.state, VmmState::Rebooting);
    agent.until(vmm_id, VmmState::Running).await;
    agent.until_ready(vmm_id, 2).await;

    let stopping = agent.order(vmm_id, RequestedState::Stopped).await;
    assert_eq!(stopping.state, VmmState::Stopping);
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Requested));
    assert_eq!(end.generation, 8, "each state once");
    let state =
        nexus.until("the end", |state| state.last(vmm_id) == Some(&end)).await;
    assert!(state.generations(vmm_id).is_sorted_by(|a, b| a < b));
    assert_eq!(agent.told("kill").await, 0);
    agent.until_nothing_is_left().await;
}

async fn a_stop_is_graceful_first(kind: Kind) {
    let agent = Agent::of(kind).await;
    agent.set(&grace(600_000)).await;
    let vmm_id = agent.run().await;
    agent.order(vmm_id, RequestedState::Stopped).await;
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Requested));
    assert_eq!(agent.told("shut_down").await, 1);
    assert_eq!(agent.told("kill").await, 0);
}

async fn a_stop_is_forced_after_the_grace_period_and_is_no_failure(kind: Kind) {
    let agent = Agent::of(kind).await;
    agent.set(&grace(50)).await;
    let vmm_id = agent.run().await;
    agent.make_deaf(vmm_id).await;
    agent.order(vmm_id, RequestedState::Stopped).await;
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Requested));
    assert_eq!(end.failure, None);
    assert_eq!(agent.told("shut_down").await, 1);
    assert_eq!(agent.told("kill").await, 1);
    agent.until_nothing_is_left().await;
}

async fn a_vmm_that_never_started_is_stopped_at_once(kind: Kind) {
    let agent = Agent::of(kind).await;
    let vmm_id = agent.register().await;
    let end = agent.order(vmm_id, RequestedState::Stopped).await;
    assert_eq!(end.state, VmmState::Destroyed);
    assert_eq!(end.end_reason, Some(EndReason::Requested));
    assert!(!end.ever_ran);
    assert_eq!(agent.counts().await.hypervisor.len(), 0);
}

async fn a_guest_that_shuts_itself_down_says_so(kind: Kind) {
    let agent = Agent::of(kind).await;
    let vmm_id = agent.run().await;
    agent.shut_itself_down(vmm_id).await;
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::GuestShutdown));
    assert_eq!(end.failure, None);
    assert_eq!(agent.told("kill").await, 0);
    agent.until_nothing_is_left().await;
}

async fn a_guest_that_panics_has_failed_and_stays_so(kind: Kind) {
    let agent = Agent::of(kind).await;
    let vmm_id = agent.run().await;
    agent.panic(vmm_id).await;
    let end = agent.until(vmm_id, VmmState::Failed).await;
    assert_eq!(end.end_reason, Some(EndReason::Panic));
    assert_eq!(end.failure.as_ref().unwrap().reason, FailureReason::Panic);
    assert!(end.ever_ran);
    agent.until_nothing_is_left().await;
    assert_eq!(agent.order(vmm_id, RequestedState::Stopped).await, end);
    let last = agent.client.vmm_unregister(vmm_id).await.unwrap().report;
    assert_eq!(last, Some(end));
}

async fn a_hypervisor_that_dies_takes_its_vmm_with_it(kind: Kind) {
    let agent = Agent::of(kind).await;
    let vmm_id = agent.run().await;
    agent.kill_hypervisor(vmm_id).await;
    let end = agent.until(vmm_id, VmmState::Failed).await;
    assert_eq!(end.end_reason, Some(EndReason::HypervisorDied));
    agent.until_nothing_is_left().await;
}

async fn a_guest_that_panics_while_told_to_stop_is_stopped(kind: Kind) {
    let agent = Agent::of(kind).await;
    let vmm_id = agent.run().await;
    agent.make_deaf(vmm_id).await;
    agent.order(vmm_id, RequestedState::Stopped).await;
    agent.panic(vmm_id).await;
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Requested));
    assert_eq!(end.failure, None);
}

async fn unregister_kills_a_running_vmm_and_answers_the_same_each_time(
    kind: Kind,
) {
    let mut agent = Agent::of(kind).await;
    let vmm_id = agent.run().await;
    // It would take its time, if it were asked.
    agent.make_deaf(vmm_id).await;
    let first = agent.client.vmm_unregister(vmm_id).await.unwrap();
    let last = first.report.clone().unwrap();
    assert_eq!(last.state, VmmState::Destroyed);
    assert_eq!(last.end_reason, Some(EndReason::Requested));
    assert_eq!(agent.told("kill").await, 1);
    assert!(agent.has_no_process(vmm_id));

    let view = agent.client.vmm_view(vmm_id).await;
    assert!(matches!(view, Err(Error::NoSuchVmm)), "{view:?}");
    assert_eq!(agent.client.vmm_list().await.unwrap().vmms, []);
    assert_eq!(agent.client.vmm_unregister(vmm_id).await.unwrap(), first);
    agent.restart().await;
    assert_eq!(agent.client.vmm_unregister(vmm_id).await.unwrap(), first);
    assert_eq!(agent.client.vmm_list().await.unwrap().vmms, []);
}

async fn two_unregisters_at_once_give_one_answer(kind: Kind) {
    let agent = Agent::of(kind).await;
    let vmm_id = agent.run().await;
    let (one, two) = tokio::join!(
        agent.client.vmm_unregister(vmm_id),
        agent.client.vmm_unregister(vmm_id),
    );
    assert_eq!(one.unwrap(), two.unwrap());
}

async fn a_failed_vmm_leaves_nothing_when_it_is_unregistered(kind: Kind) {
    let agent = Agent::of(kind).await;
    for _ in 0..3 {
        let vmm_id = agent.run().await;
        agent.panic(vmm_id).await;
        agent.until(vmm_id, VmmState::Failed).await;
        agent.client.vmm_unregister(vmm_id).await.unwrap();
        assert!(agent.nothing_is_left(), "as soon as it is answered");
    }
}

async fn an_expunged_sled_stops_its_guests_and_takes_no_more(kind: Kind) {
    let nexus = Nexus::start();
    let mut agent = Agent::start_on(kind, vec![nexus.url()], &[]).await;
    let guests = [agent.run().await, agent.run().await];
    for vmm_id in guests {
        // They would take their time, if they were asked.
        agent.make_deaf(vmm_id).await;
    }
    let never_ran = agent.register().await;
    nexus.set(|state| state.expunged = true);
    for vmm_id in guests.into_iter().chain([never_ran]) {
        let end = agent.until(vmm_id, VmmState::Destroyed).await;
        assert_eq!(end.end_reason, Some(EndReason::Fenced));
        nexus.until("the end", |state| state.last(vmm_id) == Some(&end)).await;
    }
    let register = agent.try_register(1, GIB).await;
    assert_eq!(refusal(register), RefusalCode::HostRejected);

    nexus.set(|state| state.heartbeats = 0);
    nexus.until("heartbeats", |state| state.heartbeats > 2).await;

    // It stays so, even if Nexus says nothing.
    nexus.set(|state| state.expunged = false);
    agent.restart().await;
    let register = agent.try_register(1, GIB).await;
    assert_eq!(refusal(register), RefusalCode::HostRejected);
}

async fn an_expunged_sled_that_cannot_record_it_stops_its_guests(kind: Kind) {
    let nexus = Nexus::start();
    let agent = Agent::start_on(kind, vec![nexus.url()], &[]).await;
    let vmm_id = agent.run().await;
    agent.make_deaf(vmm_id).await;
    // No file can take the place of a directory that is not empty.
    let identity = agent.dir().join("sled.json");
    std::fs::remove_file(&identity).unwrap();
    std::fs::create_dir_all(identity.join("in the way")).unwrap();
    nexus.set(|state| state.expunged = true);
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Fenced));

    std::fs::remove_dir_all(&identity).unwrap();
    eventually("it is recorded", async || {
        let recorded = std::fs::read_to_string(&identity).ok()?;
        recorded.contains("true").then_some(())
    })
    .await;
}

/// Much shorter than what Nexus waits for it.
const STOPPED_SOON: Duration = Duration::from_secs(4);

/// So that a test can see a lease run out.
const SHORT_LEASE: [&str; 2] = ["--fence-after-secs", "2"];

async fn a_sled_that_is_not_heard_stops_its_guests_and_runs_others_later(
    kind: Kind,
) {
    let nexus = Nexus::start();
    let agent = Agent::start_on(kind, vec![nexus.url()], &SHORT_LEASE).await;
    let vmm_id = agent.run().await;
    // It would take its time, if it were asked.
    agent.make_deaf(vmm_id).await;
    let never_ran = agent.register().await;
    nexus.set(|state| state.hears_no_sled = true);
    for vmm_id in [vmm_id, never_ran] {
        let end = agent.until(vmm_id, VmmState::Destroyed).await;
        assert_eq!(end.end_reason, Some(EndReason::Fenced));
        assert_eq!(end.failure, None);
        nexus.until("the end", |state| state.last(vmm_id) == Some(&end)).await;
    }
    assert_eq!(lease::left(agent.dir()).unwrap(), Left::Over);
    agent.until_nothing_is_left().await;
    let register = agent.try_register(1, GIB).await;
    assert!(matches!(register, Err(Error::Unreachable(_))), "{register:?}");

    nexus.set(|state| state.hears_no_sled = false);
    agent.until_it_has_a_lease().await;
    agent.run().await;
}

async fn guests_end_with_their_lease_though_the_agent_is_dead(kind: Kind) {
    let nexus = Nexus::start();
    let mut agent =
        Agent::start_on(kind, vec![nexus.url()], &SHORT_LEASE).await;
    let vmm_id = agent.run().await;
    agent.kill();
    assert_eq!(agent.has_no_process(vmm_id), kind == Kind::Simulated);
    agent.until_its_lease_is_over().await;
    let over = Instant::now();
    eventually("its processes are gone", async || {
        agent.has_no_process(vmm_id).then_some(())
    })
    .await;
    assert!(over.elapsed() < STOPPED_SOON, "{:?}", over.elapsed());

    agent.start_again(&SHORT_LEASE).await;
    agent.recovered().await;
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Fenced));
    assert_eq!(end.failure, None);
    nexus.until("the end", |state| state.last(vmm_id) == Some(&end)).await;
    agent.until_nothing_is_left().await;
    agent.until_it_has_a_lease().await;
    agent.run().await;
}

async fn a_killed_agent_answers_503_until_it_has_found_its_vmms_again(
    kind: Kind,
) {
    let nexus = Nexus::start();
    let mut agent = Agent::start_on(kind, vec![nexus.url()], &[]).await;
    let vmm_id = agent.run().await;
    let running = agent.until(vmm_id, VmmState::Running).await;
    nexus.until("it", |state| state.last(vmm_id) == Some(&running)).await;
    agent.kill();
    agent.start_again(&["--hold-recovery"]).await;

    let view = agent.client.vmm_view(vmm_id).await.map(|_| ());
    let list = agent.client.vmm_list().await.map(|_| ());
    let order =
        agent.client.vmm_put_state(vmm_id, RequestedState::Stopped).await;
    let gone = agent.client.vmm_unregister(vmm_id).await.map(|_| ());
    let spec = vmm(1, GIB);
    let new = agent.client.vmm_register(Uuid::new_v4(), &spec).await;
    for answer in [view, list, order.map(|_| ()), gone, new.map(|_| ())] {
        assert!(
            matches!(
                answer,
                Err(Error::Unreachable(Unreachable::Status {
                    status: 503,
                    ..
                }))
            ),
            "{answer:?}"
        );
    }

    nexus.set(|state| state.taken.clear());
    agent.let_it_recover().await;
    agent.recovered().await;
    assert_eq!(agent.client.vmm_view(vmm_id).await.unwrap(), running);
    assert_eq!(agent.told("boot").await, 0, "it was running all the while");
    let state =
        nexus.until("it again", |state| state.last(vmm_id).is_some()).await;
    assert_eq!(state.last(vmm_id), Some(&running));
    agent.until_ready(vmm_id, 1).await;
}

async fn the_grace_period_goes_on_while_the_agent_is_dead(kind: Kind) {
    let mut agent = Agent::of(kind).await;
    agent.set(&grace(300)).await;
    let vmm_id = agent.run().await;
    agent.make_deaf(vmm_id).await;
    agent.order(vmm_id, RequestedState::Stopped).await;
    agent.kill();
    // Guests of the agent that comes after take so long that a test would not
    // live to see it: what comes about was under way before.
    let slow = ["--stop-ms", "600000", "--grace-ms", "600000"];
    agent.start_again(&slow).await;
    agent.recovered().await;
    let end = agent.until(vmm_id, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Requested));
}

async fn what_was_ordered_before_a_crash_is_done_after_it(kind: Kind) {
    let mut agent = Agent::of(kind).await;
    let [rebooted, stopped] = [agent.run().await, agent.run().await];
    let started = agent.register().await;
    agent.order(started, RequestedState::Running).await;
    agent.order(rebooted, RequestedState::Reboot).await;
    agent.order(stopped, RequestedState::Stopped).await;
    // It may be killed before it tells its hypervisor, or after.
    agent.restart().await;
    agent.until(started, VmmState::Running).await;
    agent.until(rebooted, VmmState::Running).await;
    agent.until_ready(rebooted, 2).await;
    let end = agent.until(stopped, VmmState::Destroyed).await;
    assert_eq!(end.end_reason, Some(EndReason::Requested));
}

async fn guests_that_the_host_lost_have_failed(kind: Kind) {
    let mut agent = Agent::of(kind).await;
    let running = agent.run().await;
    let creating = agent.register().await;
    agent.kill();
    agent.lose_guests().await;
    agent.start_again(&[]).await;
    agent.recovered().await;
    let lost = agent.client.vmm_view(running).await.unwrap();
    assert_eq!(lost.state, VmmState::Failed);
    assert_eq!(lost.end_reason, Some(EndReason::HypervisorDied));
    let kept = agent.client.vmm_view(creating).await.unwrap();
    assert_eq!(kept.state, VmmState::Creating);
}

async fn an_ended_vmm_is_still_listed_after_a_restart(kind: Kind) {
    let mut agent = Agent::of(kind).await;
    let vmm_id = agent.run().await;
    agent.panic(vmm_id).await;
    let end = agent.until(vmm_id, VmmState::Failed).await;
    agent.restart().await;
    assert_eq!(agent.client.vmm_list().await.unwrap().vmms, [end]);
}

async fn an_agent_told_to_end_does_so_and_leaves_its_guests_running(
    kind: Kind,
) {
    let mut agent = Agent::of(kind).await;
    let vmm_id = agent.run().await;
    let running = agent.until(vmm_id, VmmState::Running).await;
    assert!(agent.terminate().await.success());
    agent.start_again(&[]).await;
    agent.recovered().await;
    assert_eq!(agent.client.vmm_view(vmm_id).await.unwrap(), running);
    assert_eq!(agent.told("boot").await, 0);
}
