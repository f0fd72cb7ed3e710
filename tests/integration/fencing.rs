//! Sleds that Nexus does not hear, or that do not hear Nexus, for longer than
//! they may run guests alone.

use camino::{Utf8Path, Utf8PathBuf};
use harness::guests::{Guests, NeverTwice};
use harness::{
    Agent, AgentSettings, Client, GIB, Link, Setup, TestNexus, Weather,
    eventually, is,
};
use serde_json::{Value, json};
use sled_agent::lease::{self, Left};
use std::time::Duration;

/// Said of what was stopped.
const CUT_OFF: &str = "Its host could not be reached and has stopped it.";

/// How long guests may run alone.
fn seconds(secs: u32) -> AgentSettings {
    AgentSettings::default().fenced_after(secs)
}

/// The ways to and from a sled.
struct Ways {
    to_sled: Link,
    to_nexus: Link,
}

impl Ways {
    fn set(&self, weather: Weather) {
        self.to_sled.set(weather);
        self.to_nexus.set(weather);
    }
}

/// A Nexus and one sled, with ways between them that can be cut.
async fn nexus_and_sled(settings: &AgentSettings) -> (TestNexus, Ways) {
    let mut nexus = TestNexus::with(Setup::no_sled()).await;
    let to_nexus = Link::to_nexus(nexus.process.internal()).await;
    let to_sled = Link::open().await;
    let nexuses = [to_nexus.address()];
    let (dir, here) = (nexus.dir.path(), Some(to_sled.address()));
    let agent = Agent::start(dir, 0, &nexuses, here, settings).await;
    to_sled.lead_to(&agent);
    let path = format!("/v1/system/hardware/sleds/{}", agent.id);
    eventually("the sled is registered", async || {
        (nexus.get(&path).await.status == 200).then_some(())
    })
    .await;
    nexus.agents.push(agent);
    (nexus, Ways { to_sled, to_nexus })
}

/// Where the first sled keeps its data.
fn sled_dir(nexus: &TestNexus) -> Utf8PathBuf {
    Utf8Path::from_path(nexus.dir.path()).unwrap().join("sled-0")
}

fn left(nexus: &TestNexus) -> Left {
    lease::left(&sled_dir(nexus)).unwrap()
}

/// Waits until less than this is left of the first sled's lease, which holds
/// all the time.
async fn lease_runs_down_to(nexus: &TestNexus, least: Duration) {
    eventually("the lease runs down", async || {
        let left = left(nexus);
        assert_ne!(left, Left::Over);
        matches!(left, Left::Lasts(left) if left < least).then_some(())
    })
    .await;
}

/// Waits until as many seconds are left of the first sled's lease, which holds
/// all the time.
async fn lease_is_renewed_to(nexus: &TestNexus, seconds: u64) {
    eventually("the lease is renewed", async || {
        let left = left(nexus);
        assert_ne!(left, Left::Over);
        matches!(left, Left::Lasts(left) if left.as_secs() >= seconds)
            .then_some(())
    })
    .await;
}

/// Waits until the first sled's lease is over.
async fn lease_is_over(nexus: &TestNexus) {
    eventually("the lease is over", async || {
        (left(nexus) == Left::Over).then_some(())
    })
    .await;
}

/// Waits until the first sled has a lease again: it takes nothing in before.
async fn lease_holds(nexus: &TestNexus) {
    eventually("the lease holds", async || {
        matches!(left(nexus), Left::Lasts(_)).then_some(())
    })
    .await;
}

/// Is this guest there, on whichever sled?
fn is_alive(nexus: &TestNexus, vmm: &str) -> bool {
    Guests::default().alive(nexus.dir.path()).contains_key(vmm)
}

/// Was it restarted, and does it run?
fn runs_anew(view: &Value) -> bool {
    is("running")(view) && !view["time_last_auto_restarted"].is_null()
}

/// By how many milliseconds its sled had been silent when a VMM was ended.
fn silent_at_end(nexus: &TestNexus, vmm: &str) -> i64 {
    nexus.database.count(&format!(
        "SELECT (extract(epoch FROM vmm.time_ended - \
             sled.time_last_heartbeat) * 1000)::INT8 \
         FROM vmm JOIN sled ON sled.id = vmm.sled_id WHERE vmm.id = '{vmm}'"
    ))
}

/// What Nexus counts on, of the first sled; -1: on nothing.
fn promise(nexus: &TestNexus) -> i64 {
    nexus.database.count(&format!(
        "SELECT coalesce(fences_after_ms, -1) FROM sled WHERE id = '{}'",
        nexus.agents[0].id
    ))
}

/// Waits until the sled is rid of all its VMMs.
async fn rid_of_all(agent: &Agent) {
    eventually("the sled is rid of its VMMs", async || {
        agent.vmms().await.is_empty().then_some(())
    })
    .await;
}

fn never_restarted() -> Value {
    json!({ "auto_restart_policy": "never" })
}

#[tokio::test]
async fn what_a_sled_ran_that_is_cut_off_is_stopped_and_then_runs_elsewhere() {
    let (mut nexus, ways) = nexus_and_sled(&seconds(3)).await;
    let (db, db_vmm) = nexus.running("db", json!({})).await;
    let (web, web_vmm) = nexus.running("web", never_restarted()).await;
    nexus.add_sled(&AgentSettings::default()).await;
    // What is ended too early runs elsewhere at once, and not again here.
    nexus.set_provision_policy(&nexus.agents[0].id, "non_provisionable").await;
    let never_twice = NeverTwice::watch(nexus.dir.path());

    ways.set(Weather::Cut);
    lease_is_over(&nexus).await;
    for (instance, vmm) in [(&db, &db_vmm), (&web, &web_vmm)] {
        assert!(!is_alive(&nexus, vmm));
        // Nobody but the sled knows it yet.
        let view = nexus.instance_view(instance).await;
        assert_eq!(view["run_state"], "running");
        assert_eq!(nexus.attempts(instance).await.len(), 1);
    }
    nexus.wait(&db, runs_anew).await;
    let failed = nexus.wait(&web, is("failed")).await;
    assert_eq!(failed["last_failure"]["kind"], "fenced");
    assert_eq!(failed["last_failure"]["message"], CUT_OFF);
    for vmm in [&db_vmm, &web_vmm] {
        // The lease, a hundredth of it, and the margin.
        assert!(silent_at_end(&nexus, vmm) > 4_030);
    }
    let metrics = nexus.process.metrics().await;
    assert_eq!(metrics.at("nexus_vmms_cut_off_total"), 2.0);
    assert_ne!(nexus.vmm_of(&db).await, db_vmm);

    // It comes back, with nothing that runs, and is used again.
    ways.set(Weather::Clear);
    rid_of_all(&nexus.agents[0]).await;
    lease_holds(&nexus).await;
    never_twice.check();
    nexus.set_provision_policy(&nexus.agents[0].id, "provisionable").await;
    nexus.set_provision_policy(&nexus.agents[1].id, "non_provisionable").await;
    nexus.ask(&web, "start").await.expect(202);
    nexus.wait(&web, is("running")).await;
    assert_eq!(nexus.agents[0].vmms().await.len(), 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn no_instance_runs_twice_when_its_sled_is_cut_off() {
    // Long enough for it to be started elsewhere before, if that were done.
    let (mut nexus, ways) = nexus_and_sled(&seconds(6)).await;
    let (id, _vmm) = runs_with_another_sled_at_hand(&mut nexus).await;
    let never_twice = NeverTwice::watch(nexus.dir.path());
    ways.set(Weather::Cut);
    nexus.wait(&id, runs_anew).await;
    never_twice.check();
}

#[tokio::test]
async fn guests_of_an_agent_that_is_gone_are_stopped_as_well() {
    let (mut nexus, _ways) = nexus_and_sled(&seconds(2)).await;
    let (id, vmm) = runs_with_another_sled_at_hand(&mut nexus).await;
    let never_twice = NeverTwice::watch(nexus.dir.path());
    nexus.agents[0].kill().await;
    is_stopped_and_moved(&nexus, &id, &vmm).await;
    nexus.agents[0].restart().await;
    has_stopped_all(&nexus, never_twice).await;
}

#[tokio::test]
async fn guests_of_an_agent_that_stands_still_are_stopped_as_well() {
    let (mut nexus, _ways) = nexus_and_sled(&seconds(2)).await;
    let (id, vmm) = runs_with_another_sled_at_hand(&mut nexus).await;
    let never_twice = NeverTwice::watch(nexus.dir.path());
    nexus.agents[0].child.pause();
    is_stopped_and_moved(&nexus, &id, &vmm).await;
    nexus.agents[0].child.resume();
    has_stopped_all(&nexus, never_twice).await;
}

/// An instance on the first sled, and its guest; and another sled, to which it
/// is to go if it starts anew.
async fn runs_with_another_sled_at_hand(
    nexus: &mut TestNexus,
) -> (String, String) {
    let runs = nexus.running("db", json!({})).await;
    nexus.add_sled(&AgentSettings::default()).await;
    nexus.set_provision_policy(&nexus.agents[0].id, "non_provisionable").await;
    runs
}

/// Waits until what ran on the first sled has been stopped there, by nobody's
/// order, and runs on the other.
async fn is_stopped_and_moved(nexus: &TestNexus, id: &str, vmm: &str) {
    assert!(is_alive(nexus, vmm), "it does not need its agent");
    lease_is_over(nexus).await;
    assert!(!is_alive(nexus, vmm));
    nexus.wait(id, runs_anew).await;
    assert!(silent_at_end(nexus, vmm) > 3_020);
}

/// Waits until the first sled's agent has stopped all that it finds.
async fn has_stopped_all(nexus: &TestNexus, never_twice: NeverTwice) {
    rid_of_all(&nexus.agents[0]).await;
    let log = nexus.agents[0].child.log();
    assert!(log.contains("stopping all guests"));
    never_twice.check();
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_an_agent_says_after_its_lease_is_that_its_guests_were_stopped() {
    let (mut nexus, ways) = nexus_and_sled(&seconds(2)).await;
    let (id, vmm) = nexus.running("db", never_restarted()).await;
    nexus.agents[0].kill().await;
    // Nexus hears nothing that it could judge by, but what the sled says.
    nexus.kill_nexus().await;
    lease_is_over(&nexus).await;
    ways.to_nexus.set(Weather::Cut);
    nexus.agents[0].restart().await;
    // From when it answers it does not say that the guest runs.
    let kept = nexus.agents[0].vmms().await;
    assert_eq!(kept[0]["vmm_id"], vmm.as_str());
    assert_ne!(kept[0]["state"], "running");
    eventually("the VMM has ended there", async || {
        let kept = nexus.agents[0].vmms().await;
        (kept[0]["end_reason"] == "fenced").then_some(())
    })
    .await;
    ways.to_nexus.set(Weather::Clear);
    nexus.restart_nexus().await;
    let failed = nexus.wait(&id, is("failed")).await;
    assert_eq!(failed["last_failure"]["kind"], "fenced");
    assert_eq!(failed["last_failure"]["message"], CUT_OFF);
    let metrics = nexus.process.metrics().await;
    assert_eq!(metrics.at("nexus_vmms_cut_off_total"), 0.0);
    rid_of_all(&nexus.agents[0]).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_sled_that_is_heard_again_in_time_keeps_its_guests() {
    let (mut nexus, ways) = nexus_and_sled(&seconds(6)).await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.add_sled(&AgentSettings::default()).await;
    // A sled that was not heard tries again every 2 s at worst.
    for _ in 0..2 {
        ways.set(Weather::Cut);
        lease_runs_down_to(&nexus, Duration::from_secs(3)).await;
        ways.set(Weather::Clear);
        lease_is_renewed_to(&nexus, 5).await;
    }
    // An agent that is restarted in time, too.
    nexus.agents[0].kill().await;
    lease_runs_down_to(&nexus, Duration::from_millis(4_500)).await;
    nexus.agents[0].restart().await;
    lease_is_renewed_to(&nexus, 5).await;
    assert!(is_alive(&nexus, &vmm));
    assert_eq!(nexus.vmm_of(&id).await, vmm);
    assert_eq!(nexus.instance_view(&id).await["run_state"], "running");
    nexus.check_invariants().await;
}

#[tokio::test]
async fn what_runs_on_a_sled_that_never_stops_its_guests_is_not_moved() {
    let (mut nexus, _ways) = nexus_and_sled(&seconds(0)).await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    assert_eq!(promise(&nexus), -1);
    assert_eq!(left(&nexus), Left::Unbounded);
    nexus.agents[0].kill().await;
    nexus.silent_for_a_minute(&nexus.agents[0].id);
    nexus.add_sled(&AgentSettings::default()).await;
    nexus.wait(&id, |view| !view["state_unconfirmed_since"].is_null()).await;
    nexus.heard(&nexus.agents[1].id, 5).await;
    let view = nexus.instance_view(&id).await;
    assert_eq!(view["run_state"], "running");
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    assert!(is_alive(&nexus, &vmm));
}

#[tokio::test]
async fn a_sled_that_hears_no_answers_stops_its_guests_and_says_so() {
    let (nexus, ways) = nexus_and_sled(&seconds(2)).await;
    let (id, vmm) = nexus.running("db", never_restarted()).await;
    ways.to_nexus.set(Weather::AnswersLost);
    let failed = nexus.wait(&id, is("failed")).await;
    assert_eq!(failed["last_failure"]["kind"], "fenced");
    assert_eq!(failed["last_failure"]["message"], CUT_OFF);
    assert!(!is_alive(&nexus, &vmm));
    // Nexus hears it all the time: it had no ground to judge by.
    let metrics = nexus.process.metrics().await;
    assert_eq!(metrics.at("nexus_vmms_cut_off_total"), 0.0);

    // Nothing is taken in meanwhile.
    nexus.ask(&id, "start").await.expect(202);
    let failed = nexus.wait(&id, is("failed")).await;
    assert_eq!(failed["start_failure"]["kind"], "host_unreachable");
    assert!(Guests::default().alive(nexus.dir.path()).is_empty());

    ways.set(Weather::Clear);
    lease_holds(&nexus).await;
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_promise_that_changes_is_counted_on_in_the_order_that_is_safe() {
    let (mut nexus, _ways) = nexus_and_sled(&seconds(2)).await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    assert_eq!(promise(&nexus), 2_000);

    // Longer: Nexus counts on it before the sled does.
    nexus.agents[0].kill().await;
    nexus.agents[0].fence_after(60);
    nexus.agents[0].restart().await;
    lease_is_renewed_to(&nexus, 50).await;
    assert_eq!(promise(&nexus), 60_000);

    // Shorter: the sled does at once, and Nexus when the longer has run out.
    nexus.agents[0].kill().await;
    nexus.agents[0].fence_after(3);
    nexus.agents[0].restart().await;
    lease_runs_down_to(&nexus, Duration::from_secs(3)).await;
    assert!(promise(&nexus) > 30_000);

    // Never, and then again.
    nexus.agents[0].kill().await;
    nexus.agents[0].fence_after(0);
    nexus.agents[0].restart().await;
    eventually("there is no end to the lease", async || {
        (left(&nexus) == Left::Unbounded).then_some(())
    })
    .await;
    assert_eq!(promise(&nexus), -1);
    nexus.agents[0].kill().await;
    nexus.agents[0].fence_after(5);
    nexus.agents[0].restart().await;
    eventually("Nexus counts on it", async || {
        (promise(&nexus) == 5_000).then_some(())
    })
    .await;
    assert!(matches!(left(&nexus), Left::Lasts(_)));
    assert!(is_alive(&nexus, &vmm));
    assert_eq!(nexus.vmm_of(&id).await, vmm);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_outage_of_the_database_that_is_shorter_than_the_lease_stops_none() {
    let setup =
        Setup { agent: seconds(5), database_link: true, ..Setup::default() };
    let nexus = TestNexus::with(setup).await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    let link = nexus.database_link.as_ref().unwrap();
    link.set(Weather::Cut);
    lease_runs_down_to(&nexus, Duration::from_secs(2)).await;
    link.set(Weather::Clear);
    lease_is_renewed_to(&nexus, 4).await;
    nexus.settled(&id).await;
    assert!(is_alive(&nexus, &vmm));
    assert_eq!(nexus.vmm_of(&id).await, vmm);
    assert_eq!(nexus.attempts(&id).await.len(), 1);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn an_instance_with_a_local_disk_waits_for_its_host_and_says_so() {
    let (mut nexus, ways) = nexus_and_sled(&seconds(2)).await;
    let mut body = Client::instance("db", true);
    body["disks"] = json!([{
        "type": "create",
        "name": "data",
        "description": "",
        "disk_backend": { "type": "local" },
        "size": GIB,
    }]);
    let id = nexus.create_as(body).await;
    nexus.wait(&id, is("running")).await;
    nexus.add_sled(&AgentSettings::default()).await;
    ways.set(Weather::Cut);
    // What a sled that was heard just now does not answer, another may: it is
    // the disk that keeps the instance from going there.
    nexus.wait(&id, |view| !view["start_failure"].is_null()).await;
    nexus.silent_for_a_minute(&nexus.agents[0].id);
    nexus.make_due(&id);
    let failed = nexus
        .wait(&id, |view| {
            is("failed")(view)
                && view["start_failure"]["kind"] == "local_storage"
        })
        .await;
    let why = &failed["start_failure"];
    assert_eq!(why["transient"], true, "{why}");
    let message = why["message"].as_str().unwrap();
    assert!(message.contains("\"data\" is on a host"), "{message}");
    ways.set(Weather::Clear);
    rid_of_all(&nexus.agents[0]).await;
    lease_holds(&nexus).await;
    nexus.make_due(&id);
    nexus.wait(&id, is("running")).await;
    assert_eq!(nexus.agents[0].vmms().await.len(), 1);
    nexus.check_invariants().await;
}
