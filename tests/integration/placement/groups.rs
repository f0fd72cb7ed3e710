//! Groups: who is together, who is apart, and who waits.

use super::*;
use std::collections::HashSet;

#[tokio::test]
async fn of_a_hard_anti_affinity_group_no_two_are_on_one_sled_at_any_time() {
    let nexus = TestNexus::with(fleet(3, 64, 64)).await;
    let web = group(&nexus, APART, "web", "fail").await;
    let ids = members(&nexus, APART, &web, "web", 9).await;
    start_all(&nexus, &ids).await;
    let running = those_that_run(&nexus, &ids).await;
    assert_eq!(running.len(), 3, "as many as there are sleds");
    let sleds: HashSet<String> =
        running.iter().map(|id| sled_of(&nexus, id)).collect();
    assert_eq!(sleds.len(), 3);

    let waiting = ids.iter().find(|id| !running.contains(id)).unwrap();
    let failure = fails_as(&nexus, waiting, "anti_affinity").await;
    assert_eq!(failure["transient"], false);
    let details = &failure["details"];
    assert_eq!(details["excluded"]["anti_affinity"], 3);
    assert_eq!(details["groups"][0]["name"], "web");
    let named = details["groups"][0]["members"].as_array().unwrap();
    assert_eq!(named.len(), 3);
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("\"web\""), "{message}");
    nexus.check_invariants().await;

    // The place of one that stops is taken at once, by one of those that wait.
    put_off_retries(&nexus);
    let place = sled_of(&nexus, &running[0]);
    stop(&nexus, &running[0]).await;
    let next = eventually("another runs in its place", async || {
        ids.iter().find(|id| {
            let sql = format!(
                "SELECT count(*) FROM sled_reservation \
                 WHERE instance_id = '{id}' AND sled_id = '{place}'"
            );
            nexus.database.count(&sql) == 1
        })
    })
    .await;
    nexus.wait(next, is("running")).await;
    // And a sled that joins takes another.
    let mut nexus = nexus;
    put_off_retries(&nexus);
    nexus
        .add_sled(&AgentSettings {
            vcpus: 64,
            memory_gib: 64,
            ..AgentSettings::default()
        })
        .await;
    eventually("four run", async || {
        (count(&views(&nexus, "web").await, "running") == 4).then_some(())
    })
    .await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn of_a_soft_anti_affinity_group_all_run_as_far_apart_as_can_be() {
    let nexus = TestNexus::with(fleet(3, 64, 64)).await;
    let web = group(&nexus, APART, "web", "allow").await;
    let ids = members(&nexus, APART, &web, "web", 7).await;
    for id in &ids {
        start(&nexus, id).await;
        nexus.wait(id, is("running")).await;
    }
    let mut held: Vec<String> = held_by_sled(&nexus);
    held.iter_mut().for_each(|h| *h = h[h.len() - 1..].to_string());
    held.sort();
    assert_eq!(held, ["2", "2", "3"]);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_hard_affinity_group_is_on_one_sled_though_all_start_at_once() {
    let nexus = TestNexus::with(fleet(3, 4, 64)).await;
    let db = group(&nexus, TOGETHER, "db", "fail").await;
    let ids = members(&nexus, TOGETHER, &db, "db", 6).await;
    start_all(&nexus, &ids).await;
    let running = those_that_run(&nexus, &ids).await;
    assert_eq!(running.len(), 4, "as many as fit on one sled");
    let sleds: HashSet<String> =
        running.iter().map(|id| sled_of(&nexus, id)).collect();
    assert_eq!(sleds.len(), 1);

    let waiting = ids.iter().find(|id| !running.contains(id)).unwrap();
    let failure = fails_as(&nexus, waiting, "affinity").await;
    assert_eq!(failure["transient"], true);
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("that host has no room for it"), "{message}");
    assert_eq!(failure["details"]["groups"][0]["name"], "db");
    assert_eq!(failure["details"]["excluded"]["affinity"], 2);

    // When all others have stopped, nothing holds those that waited there.
    put_off_retries(&nexus);
    for id in &running {
        stop(&nexus, id).await;
    }
    for id in ids.iter().filter(|id| !running.contains(id)) {
        nexus.wait(id, is("running")).await;
    }
    nexus.check_invariants().await;
}

#[tokio::test]
async fn the_end_of_the_last_member_frees_the_others_of_its_sled() {
    let nexus = TestNexus::with(fleet(2, 4, 64)).await;
    let db = group(&nexus, TOGETHER, "db", "fail").await;
    let ids = members(&nexus, TOGETHER, &db, "db", 2).await;
    start(&nexus, &ids[0]).await;
    nexus.wait(&ids[0], is("running")).await;
    let sled = sled_of(&nexus, &ids[0]);
    nexus.set_provision_policy(&sled, "non_provisionable").await;
    start(&nexus, &ids[1]).await;
    let failure = fails_as(&nexus, &ids[1], "affinity").await;
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("takes no new instances"), "{message}");
    put_off_retries(&nexus);
    stop(&nexus, &ids[0]).await;
    nexus.wait(&ids[1], is("running")).await;
    assert_ne!(sled_of(&nexus, &ids[1]), sled);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn of_a_soft_affinity_group_all_run_as_close_as_can_be() {
    let nexus = TestNexus::with(fleet(3, 3, 64)).await;
    let db = group(&nexus, TOGETHER, "db", "allow").await;
    let ids = members(&nexus, TOGETHER, &db, "db", 5).await;
    for id in &ids {
        start(&nexus, id).await;
        nexus.wait(id, is("running")).await;
    }
    let mut held: Vec<String> = held_by_sled(&nexus);
    held.iter_mut().for_each(|h| *h = h[h.len() - 1..].to_string());
    held.sort();
    assert_eq!(held, ["2", "3"]);
    nexus.check_invariants().await;
}

#[tokio::test]
async fn groups_that_contradict_each_other_are_both_named() {
    let nexus = TestNexus::with(fleet(2, 8, 64)).await;
    let db = group(&nexus, TOGETHER, "db", "fail").await;
    let web = group(&nexus, APART, "web", "fail").await;
    let first = members(&nexus, TOGETHER, &db, "both", 2).await;
    for id in &first {
        join(&nexus, APART, &web, id).await;
    }
    start(&nexus, &first[0]).await;
    nexus.wait(&first[0], is("running")).await;
    start(&nexus, &first[1]).await;
    let failure = fails_as(&nexus, &first[1], "affinity_conflict").await;
    assert_eq!(failure["transient"], false);
    let message = failure["message"].as_str().unwrap();
    for name in ["\"db\"", "\"web\"", "\"both-0\""] {
        assert!(message.contains(name), "{message}");
    }
    // It is not tried again before something changes; then it is.
    nexus.rests_failed(&first[1]).await;
    leave(&nexus, APART, &web, &first[1]).await;
    nexus.wait(&first[1], is("running")).await;
    assert_eq!(sled_of(&nexus, &first[0]), sled_of(&nexus, &first[1]));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn two_hard_affinity_groups_on_two_sleds_are_a_contradiction() {
    let nexus = TestNexus::with(fleet(2, 8, 64)).await;
    let mut placed = Vec::new();
    for name in ["a", "b"] {
        let together = group(&nexus, TOGETHER, name, "fail").await;
        let ids = members(&nexus, TOGETHER, &together, name, 1).await;
        placed.push((together, ids[0].clone()));
    }
    // Each of the two on a sled of its own.
    let away = &nexus.agents[0].id;
    nexus.set_provision_policy(away, "non_provisionable").await;
    start(&nexus, &placed[0].1).await;
    nexus.wait(&placed[0].1, is("running")).await;
    nexus.set_provision_policy(away, "provisionable").await;
    let away = &nexus.agents[1].id;
    nexus.set_provision_policy(away, "non_provisionable").await;
    start(&nexus, &placed[1].1).await;
    nexus.wait(&placed[1].1, is("running")).await;
    nexus.set_provision_policy(away, "provisionable").await;

    let torn = make(&nexus, "torn".to_string(), 1, 1).await;
    for (together, _) in &placed {
        join(&nexus, TOGETHER, together, &torn).await;
    }
    start(&nexus, &torn).await;
    let failure = fails_as(&nexus, &torn, "affinity_conflict").await;
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("which is another"), "{message}");
    nexus.rests_failed(&torn).await;
    // A group that is deleted holds nobody.
    let path = format!("/v1/affinity-groups/{}", placed[0].0);
    nexus.delete(&path).await.expect(204);
    nexus.wait(&torn, is("running")).await;
    assert_eq!(sled_of(&nexus, &torn), sled_of(&nexus, &placed[1].1));
    nexus.check_invariants().await;
}

#[tokio::test]
async fn members_that_do_not_run_and_groups_of_others_do_not_matter() {
    let nexus = TestNexus::with(fleet(1, 8, 64)).await;
    let web = group(&nexus, APART, "web", "fail").await;
    let ids = members(&nexus, APART, &web, "web", 2).await;
    let other = group(&nexus, APART, "other", "fail").await;
    let others = members(&nexus, APART, &other, "other", 1).await;
    for id in [&others[0], &ids[0]] {
        start(&nexus, id).await;
        nexus.wait(id, is("running")).await;
    }
    stop(&nexus, &ids[0]).await;
    start(&nexus, &ids[1]).await;
    nexus.wait(&ids[1], is("running")).await;
    // One that leaves while it runs is in nobody's way any more.
    start(&nexus, &ids[0]).await;
    fails_as(&nexus, &ids[0], "anti_affinity").await;
    nexus.rests_failed(&ids[0]).await;
    leave(&nexus, APART, &web, &ids[1]).await;
    nexus.wait(&ids[0], is("running")).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn a_run_that_was_abandoned_still_keeps_members_away() {
    let mut nexus = TestNexus::with(fleet(2, 8, 64)).await;
    let web = group(&nexus, APART, "web", "fail").await;
    let ids = members(&nexus, APART, &web, "web", 3).await;
    start(&nexus, &ids[0]).await;
    nexus.wait(&ids[0], is("running")).await;
    let sled = sled_of(&nexus, &ids[0]);
    let at = nexus.agents.iter().position(|a| a.id == sled).unwrap();
    nexus.agents[at].kill().await;
    // It may go on running there, whatever its user wants.
    nexus.ask(&ids[0], "stop").await.expect(202);
    start(&nexus, &ids[1]).await;
    nexus.wait(&ids[1], is("running")).await;
    assert_ne!(sled_of(&nexus, &ids[1]), sled);
    start(&nexus, &ids[2]).await;
    fails_as(&nexus, &ids[2], "anti_affinity").await;
    nexus.agents[at].restart().await;
    nexus.wait(&ids[0], is("stopped")).await;
    nexus.wait(&ids[2], is("running")).await;
    nexus.check_invariants().await;
}
