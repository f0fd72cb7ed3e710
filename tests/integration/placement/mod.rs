//! Where instances go: never where there is no room or no service.

mod cpus;
mod disks;
mod dry_run;
mod groups;
mod quotas;
mod remedies;
mod search;

use harness::{AgentSettings, Client, GIB, Setup, TestNexus, eventually, is};
use serde_json::{Value, json};

/// How many start at once.
const STORM: usize = 64;

fn fleet(sleds: usize, vcpus: u32, memory_gib: u32) -> Setup {
    let agent = AgentSettings::sized(vcpus, memory_gib);
    let mut setup = Setup { sleds, agent, ..Setup::default() };
    // So many at once make for slow answers on a small machine.
    setup.tuning.sled_timeout_ms = 20_000;
    setup
}

/// All instances whose names begin like this, as they are.
async fn views(nexus: &TestNexus, prefix: &str) -> Vec<Value> {
    let path = "/v1/instances?project=demo&limit=1000";
    let page = nexus.get(path).await.expect(200);
    let all = page["items"].as_array().unwrap().iter();
    all.filter(|i| i["name"].as_str().unwrap().starts_with(prefix))
        .cloned()
        .collect()
}

fn count(views: &[Value], run_state: &str) -> usize {
    views.iter().filter(|v| v["run_state"] == run_state).count()
}

/// Waits until of all instances named like this so many run, and all others
/// have failed for want of room.
async fn run_exactly(nexus: &TestNexus, prefix: &str, n: usize) {
    let views = eventually("as many run as fit", async || {
        never_too_much(nexus);
        let views = views(nexus, prefix).await;
        let (running, failed) =
            (count(&views, "running"), count(&views, "failed"));
        assert!(running <= n, "{running} run where {n} fit");
        (running == n && running + failed == views.len()).then_some(views)
    })
    .await;
    for view in views.iter().filter(|v| v["run_state"] == "failed") {
        let failure = &view["start_failure"];
        assert_eq!(failure["kind"], "insufficient_capacity", "{view:#}");
        assert_eq!(failure["transient"], true);
    }
}

/// Where an instance holds a place.
fn sled_of(nexus: &TestNexus, id: &str) -> String {
    let sleds = nexus.database.texts(&format!(
        "SELECT sled_id::TEXT FROM sled_reservation \
         WHERE instance_id = '{id}' AND role = 'active'"
    ));
    assert_eq!(sleds.len(), 1, "{id} is on {sleds:?}");
    sleds[0].clone()
}

/// Waits until an instance has failed to start for such a reason; the reason.
async fn fails_as(nexus: &TestNexus, id: &str, kind: &str) -> Value {
    let failed = |view: &Value| view["start_failure"]["kind"] == kind;
    let view = nexus.wait(id, failed).await;
    assert_eq!(view["run_state"], "failed", "{view:#}");
    view["start_failure"].clone()
}

async fn start(nexus: &TestNexus, id: &str) {
    nexus.ask(id, "start").await.expect(202);
}

async fn stop(nexus: &TestNexus, id: &str) {
    nexus.ask(id, "stop").await.expect(202);
    nexus.wait(id, is("stopped")).await;
}

/// Makes a group in the project; its id.
async fn group(
    nexus: &TestNexus,
    kind: &str,
    name: &str,
    policy: &str,
) -> String {
    let body = json!({
        "name": name,
        "description": "",
        "policy": policy,
        "failure_domain": "sled",
    });
    let path = format!("/v1/{kind}-groups?project=demo");
    let made = nexus.post(&path, body).await.expect(201);
    made["id"].as_str().unwrap().to_string()
}

async fn join(nexus: &TestNexus, kind: &str, group: &str, instance: &str) {
    let path = format!("/v1/{kind}-groups/{group}/members/instance/{instance}");
    nexus.post(&path, json!({})).await.expect(201);
}

async fn leave(nexus: &TestNexus, kind: &str, group: &str, instance: &str) {
    let path = format!("/v1/{kind}-groups/{group}/members/instance/{instance}");
    nexus.delete(&path).await.expect(204);
}

const APART: &str = "anti-affinity";
const TOGETHER: &str = "affinity";

/// Instances that have not been started, all in a group.
async fn members(
    nexus: &TestNexus,
    kind: &str,
    group: &str,
    prefix: &str,
    count: usize,
) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        let id = make(nexus, format!("{prefix}-{n}"), 1, 1).await;
        join(nexus, kind, group, &id).await;
        ids.push(id);
    }
    ids
}

async fn start_all(nexus: &TestNexus, ids: &[String]) {
    let starts = ids.iter().map(|id| nexus.ask(id, "start"));
    for answer in futures::future::join_all(starts).await {
        answer.expect(202);
    }
}

/// Waits until each of these runs or has failed; those that run.
async fn those_that_run(nexus: &TestNexus, ids: &[String]) -> Vec<String> {
    let mut running = Vec::new();
    for id in ids {
        let done = |v: &Value| is("running")(v) || is("failed")(v);
        if is("running")(&nexus.wait(id, done).await) {
            running.push(id.clone());
        }
    }
    running
}

/// Checks that no sled has given away more than it has, at this moment.
fn never_too_much(nexus: &TestNexus) {
    let over = nexus.database.texts(
        "SELECT s.id::TEXT FROM sled s \
         JOIN sled_reservation r ON r.sled_id = s.id \
         GROUP BY s.id \
         HAVING sum(r.vcpus) > s.vcpus OR sum(r.memory_bytes) > s.memory_bytes",
    );
    assert_eq!(over, Vec::<String>::new());
}

/// A retry by the clock is far: what starts is started by what happens.
fn put_off_retries(nexus: &TestNexus) {
    nexus.sql(
        "UPDATE instance SET next_retry_at = now() + INTERVAL '1 hour', \
             reconcile_at = now() + INTERVAL '1 hour' \
         WHERE state = 'failed'",
    );
}

async fn make(nexus: &TestNexus, name: String, vcpus: u64, gib: u64) -> String {
    let mut body = Client::instance(&name, false);
    body["ncpus"] = vcpus.into();
    body["memory"] = (gib * GIB).into();
    nexus.create_as(body).await
}

/// Half fills the fleet with `residents`, starts [`STORM`] others at once, of
/// which 16 fit, and stops the residents, so that 16 more do. Sizes in vCPUs
/// and GiB.
async fn storm(setup: Setup, resident: (u64, u64), other: (u64, u64)) {
    let nexus = TestNexus::with(setup).await;
    let mut residents = Vec::new();
    for n in 0..8 {
        let (vcpus, gib) = resident;
        let name = format!("resident-{n}");
        let id = nexus.create_sized(&name, vcpus, gib).await;
        nexus.wait(&id, is("running")).await;
        residents.push(id);
    }
    let others = (0..STORM)
        .map(|n| make(&nexus, format!("other-{n}"), other.0, other.1));
    let others = futures::future::join_all(others).await;
    let starts = others.iter().map(|id| nexus.ask(id, "start"));
    for answer in futures::future::join_all(starts).await {
        answer.expect(202);
    }
    run_exactly(&nexus, "other", 16).await;
    assert_eq!(count(&views(&nexus, "resident").await, "running"), 8);
    nexus.check_invariants().await;

    put_off_retries(&nexus);
    let stops = residents.iter().map(|id| nexus.ask(id, "stop"));
    for answer in futures::future::join_all(stops).await {
        answer.expect(202);
    }
    run_exactly(&nexus, "other", 32).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn as_many_run_as_fit_in_vcpus_however_many_start_at_once() {
    storm(fleet(4, 8, 64), (2, 1), (1, 1)).await;
}

#[tokio::test]
async fn as_many_run_as_fit_in_memory_however_many_start_at_once() {
    storm(fleet(4, 64, 16), (1, 4), (1, 2)).await;
}

#[tokio::test]
async fn the_last_room_goes_to_one_of_two_that_want_it() {
    let nexus = TestNexus::with(fleet(1, 3, 4)).await;
    for round in 0..5 {
        let names = ["a", "b"].map(|n| format!("r{round}-{n}"));
        let made = names.map(|name| make(&nexus, name, 2, 2));
        let made = futures::future::join_all(made).await;
        let starts = made.iter().map(|id| nexus.ask(id, "start"));
        futures::future::join_all(starts).await;
        run_exactly(&nexus, &format!("r{round}"), 1).await;
        for id in &made {
            nexus.ask(id, "stop").await.expect(202);
            nexus.wait(id, is("stopped")).await;
        }
    }
    nexus.check_invariants().await;
}

/// The sleds that hold something, and how much of it.
fn held_by_sled(nexus: &TestNexus) -> Vec<String> {
    nexus.database.texts(
        "SELECT sled_id || ' ' || count(*) FROM sled_reservation \
         GROUP BY sled_id ORDER BY sled_id",
    )
}

#[tokio::test]
async fn sleds_closed_expunged_or_silent_are_never_chosen() {
    let mut nexus = TestNexus::with(fleet(4, 6, 16)).await;
    let sled = |n: usize| nexus.agents[n].id.clone();
    let (closed, expunged, silent, open) = (sled(0), sled(1), sled(2), sled(3));
    nexus.set_provision_policy(&closed, "non_provisionable").await;
    nexus.expunge(&expunged).await.expect(204);
    nexus.agents[2].kill().await;
    nexus.silent_for_a_minute(&silent);
    let made = (0..6).map(|n| make(&nexus, format!("fits-{n}"), 1, 1));
    let made = futures::future::join_all(made).await;
    let starts = made.iter().map(|id| nexus.ask(id, "start"));
    futures::future::join_all(starts).await;
    run_exactly(&nexus, "fits", 6).await;
    assert_eq!(held_by_sled(&nexus), [format!("{open} 6")]);

    let id = nexus.create_sized("no-room", 1, 1).await;
    let view = nexus.wait(&id, is("failed")).await;
    let details = &view["start_failure"]["details"];
    assert_eq!(details["sleds_considered"], 4);
    let excluded = details["excluded"].as_object().unwrap();
    let some: Vec<&str> = excluded
        .iter()
        .filter(|(_, n)| **n == json!(1))
        .map(|(cause, _)| cause.as_str())
        .collect();
    let expected =
        ["not_in_service", "not_provisionable", "unreachable", "vcpus"];
    assert_eq!(some, expected);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn closing_a_sled_does_not_disturb_what_runs_there() {
    let nexus = TestNexus::start().await;
    let (id, vmm) = nexus.running("settled", json!({})).await;
    let before = nexus.instance_view(&id).await;
    let sled = nexus.agent_of(&vmm).await.id.clone();
    nexus.set_provision_policy(&sled, "non_provisionable").await;

    // What is started from now on goes elsewhere, also what ran here.
    let (_, other) = nexus.running("newcomer", json!({})).await;
    assert_ne!(nexus.agent_of(&other).await.id, sled);
    assert_eq!(nexus.instance_view(&id).await, before);
    nexus.ask(&id, "reboot").await.expect(202);
    nexus.wait(&id, is("running")).await;
    assert_eq!(nexus.vmm_of(&id).await, vmm);
    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    nexus.ask(&id, "start").await.expect(202);
    nexus.wait(&id, is("running")).await;
    let moved = nexus.vmm_of(&id).await;
    assert_ne!(nexus.agent_of(&moved).await.id, sled);
    nexus.check_invariants().await;
}

/// Starts many instances, does something to a sled in the midst of it, and
/// checks that from then on nothing more is placed there.
async fn taken_out_during_a_storm(
    out: impl AsyncFn(&TestNexus, &str),
) -> TestNexus {
    let nexus = TestNexus::with(fleet(3, 64, 64)).await;
    let sled = nexus.agents[0].id.clone();
    let made = (0..24).map(|n| make(&nexus, format!("other-{n}"), 1, 1));
    let made = futures::future::join_all(made).await;
    let placed_here = || {
        nexus.database.texts(&format!(
            "SELECT id::TEXT FROM vmm WHERE sled_id = '{sled}' ORDER BY id"
        ))
    };
    let starts = made.iter().map(|id| nexus.ask(id, "start"));
    let starts = futures::future::join_all(starts);
    let taken_out = async {
        eventually("some are placed", async || {
            (placed_here().len() >= 2).then_some(())
        })
        .await;
        out(&nexus, &sled).await;
        placed_here()
    };
    let (answers, before) = futures::future::join(starts, taken_out).await;
    for answer in answers {
        answer.expect(202);
    }
    run_exactly(&nexus, "other", 24).await;
    assert_eq!(placed_here(), before);
    nexus
}

#[tokio::test]
async fn nothing_is_placed_on_a_sled_once_it_is_closed() {
    let nexus = taken_out_during_a_storm(async |nexus, sled| {
        nexus.set_provision_policy(sled, "non_provisionable").await;
    })
    .await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn nothing_is_placed_on_a_sled_once_it_is_expunged() {
    let nexus = taken_out_during_a_storm(async |nexus, sled| {
        nexus.expunge(sled).await.expect(204);
    })
    .await;
    nexus.check_invariants().await;
    let held = format!(
        "SELECT count(*) FROM sled_reservation WHERE sled_id = '{}'",
        nexus.agents[0].id,
    );
    assert_eq!(nexus.database.count(&held), 0);
}

#[tokio::test]
async fn what_no_test_may_leave_behind_is_seen() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let (_, vmm) = nexus.running("healthy", json!({})).await;
    nexus.check_invariants().await;
    // So that nobody mends what is broken here.
    nexus.kill_nexus().await;
    for (wrong, broken, mended) in [
        (
            "does not add up",
            "UPDATE sled SET reserved_vcpus = reserved_vcpus + 1",
            "UPDATE sled SET reserved_vcpus = reserved_vcpus - 1",
        ),
        (
            "holds nothing of its sled",
            "UPDATE sled_reservation SET role = 'abandoned'",
            "UPDATE sled_reservation SET role = 'active'",
        ),
        (
            "unsettled instance",
            "UPDATE instance SET reconcile_at = now() + INTERVAL '1 hour'",
            "UPDATE instance SET reconcile_at = NULL",
        ),
        (
            "is pending, and not its instance's",
            "UPDATE start_attempt SET outcome = 'pending', time_ended = NULL",
            "UPDATE start_attempt SET outcome = 'started', time_ended = now()",
        ),
    ] {
        nexus.sql(broken);
        let seen = nexus.what_is_wrong().await;
        assert!(seen.iter().any(|w| w.contains(wrong)), "{wrong}: {seen:?}");
        nexus.sql(mended);
        assert_eq!(nexus.what_is_wrong().await, Vec::<String>::new());
    }
    let agent = &nexus.agents[0];
    agent.guest(&vmm, "forget").await;
    let seen = nexus.what_is_wrong().await;
    assert_eq!(seen, [format!("VMM {vmm} has a row, and is on no sled")]);
    let stray = uuid::Uuid::new_v4();
    let body = json!({
        "instance_id": uuid::Uuid::new_v4(),
        "hostname": "stray",
        "vcpus": 1,
        "memory_bytes": GIB,
    });
    agent.api().put(&format!("/vmms/{stray}"), body).await.expect(200);
    let seen = nexus.what_is_wrong().await;
    let astray = format!("VMM {stray} is on a sled, without a row");
    assert!(seen.contains(&astray), "{seen:?}");
}
