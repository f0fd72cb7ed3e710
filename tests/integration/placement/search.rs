//! The search for sleds, which is SQL, and the decision, which is Rust, say the
//! same of any fleet.

use db_model::InstanceId;
use db_model::placement::{SledRoom, choose, starts};
use fastrand::Rng;
use harness::Database;
use std::collections::HashSet;
use uuid::Uuid;

/// Fleets that are tried. Each has up to eight sleds, two groups and two disks,
/// of every kind that there is.
const FLEETS: u64 = 150;

fn id(kind: u64, n: u64) -> Uuid {
    Uuid::from_u64_pair(kind, n)
}

/// A fleet by chance, with the instance that is to be placed.
fn fill(chance: &mut Rng) -> (String, InstanceId) {
    let mut sql = "DELETE FROM affinity_claim; DELETE FROM sled_reservation; \
         DELETE FROM vmm; DELETE FROM affinity_group_member; DELETE FROM disk; \
         DELETE FROM affinity_group; DELETE FROM instance; DELETE FROM sled; \
         UPDATE silo_quota SET vcpus = 8, memory_bytes = 8, storage_bytes = 8;"
        .to_string();
    let sleds = chance.u64(1..8);
    for sled in 0..sleds {
        let total = [(); 3].map(|()| chance.u64(4..16));
        let used = total.map(|t| chance.u64(0..=t));
        let (policy, provision, silent, cpu) = (
            ["in_service", "expunged"][usize::from(chance.u8(0..8) == 0)],
            ["provisionable", "non_provisionable"]
                [usize::from(chance.u8(0..8) == 0)],
            if chance.u8(0..8) == 0 { 60 } else { 0 },
            ["unknown", "amd_milan", "amd_turin"][chance.usize(0..3)],
        );
        sql += &format!(
            "INSERT INTO sled VALUES ('{}', 'a', 's', 'p', 1, '{policy}', \
                 '{provision}', gen_random_uuid(), {}, {}, {}, {}, {}, \
                 now() - {silent} * INTERVAL '1 second', now(), now(), \
                 '{cpu}', {});",
            id(1, sled),
            total[0],
            total[1],
            total[2],
            used[0],
            used[1],
            used[2],
        );
    }
    let platform =
        ["NULL", "NULL", "'amd_milan'", "'amd_turin'"][chance.usize(0..4)];
    for instance in 0..6 {
        sql += &format!(
            "INSERT INTO instance (id, project_id, name, description, \
                 time_created, time_modified, hostname, ncpus, memory_bytes, \
                 user_data, network_interfaces, state, state_gen, \
                 time_state_updated, failed_starts, reconcile_errors, view_gen, \
                 intended_state, cpu_platform) \
             SELECT '{}', id, 'i{instance}', '', now(), now(), 'h', {}, {}, '', \
                 '[]', 'no_vmm', 1, now(), 0, 0, 1, 'stopped', {} \
             FROM project;",
            id(2, instance),
            chance.u64(1..5),
            chance.u64(1..5),
            if instance == 0 { platform } else { "NULL" },
        );
    }
    // The other instances are on sleds, and members of groups with the first.
    for instance in 1..6 {
        sql += &format!(
            "INSERT INTO vmm (id, instance_id, sled_id, start_attempt_id, \
                 state, generation, may_run, ever_ran, unanswered, \
                 time_created, time_state_updated) \
             VALUES ('{0}', '{1}', '{2}', '{0}', 'running', 1, TRUE, TRUE, 0, \
                 now(), now()); \
             INSERT INTO sled_reservation VALUES ('{0}', '{1}', '{2}', \
                 'active', 1, 1, now(), NULL);",
            id(3, instance),
            id(2, instance),
            id(1, chance.u64(0..sleds)),
        );
    }
    for group in 0..chance.u64(0..3) {
        let kind = ["affinity", "anti_affinity"][chance.usize(0..2)];
        let policy = ["allow", "fail"][chance.usize(0..2)];
        sql += &format!(
            "INSERT INTO affinity_group SELECT '{0}', id, '{kind}', 'g{group}', \
                 '', '{policy}', now(), now(), NULL FROM project; \
             INSERT INTO affinity_group_member VALUES ('{0}', '{1}');",
            id(4, group),
            id(2, 0),
        );
        for member in 1..6 {
            if chance.u8(0..4) == 0 {
                // Not exclusive, so that any arrangement can be written.
                sql += &format!(
                    "INSERT INTO affinity_claim SELECT '{}', vmm_id, \
                         instance_id, sled_id, FALSE FROM sled_reservation \
                     WHERE instance_id = '{}';",
                    id(4, group),
                    id(2, member),
                );
            }
        }
    }
    for disk in 0..chance.u64(0..3) {
        let at = match chance.u8(0..3) {
            0 => {
                format!("'{}', gen_random_uuid()", id(1, chance.u64(0..sleds)))
            }
            _ => "NULL, NULL".to_string(),
        };
        sql += &format!(
            "INSERT INTO disk SELECT '{}', id, 'd{disk}', '', {}, now(), now(), \
                 NULL, '{}', {at} FROM project;",
            id(5, disk),
            chance.u64(1..4),
            id(2, 0),
        );
    }
    (sql, InstanceId(id(2, 0)))
}

#[tokio::test]
async fn the_search_for_sleds_finds_what_the_decision_would_choose() {
    let database = Database::create().await;
    database
        .try_sql(
            "INSERT INTO silo VALUES (gen_random_uuid(), 's', '', now(), \
                 now(), NULL); \
             INSERT INTO silo_quota SELECT id, 8, 8, 8, 0, 0, 0, now() \
                 FROM silo; \
             INSERT INTO project SELECT gen_random_uuid(), id, 'p', '', \
                 now(), now(), NULL FROM silo;",
        )
        .unwrap();
    let datastore = database.datastore();
    let mut placed = 0;
    for seed in 0..FLEETS {
        let (sql, instance) = fill(&mut Rng::with_seed(seed));
        database.try_sql(&sql).unwrap();
        let look = datastore.placement_look(instance, None).await.unwrap();
        let (ask, found) = (look.ask, look.sleds);
        let case = datastore.placement_case(instance).await.unwrap();
        assert_eq!(case.ask, ask, "fleet {seed}");
        assert_eq!(
            starts(&ask, &found),
            starts(&ask, &case.sleds),
            "fleet {seed}: {ask:#?} {found:#?} {:#?}",
            case.sleds,
        );
        assert_eq!(
            case.explain().is_none(),
            starts(&ask, &found),
            "fleet {seed}"
        );
        // Of what is found the best is the best of all.
        let all = |sleds: &[SledRoom]| -> HashSet<_> {
            let among = sleds.len();
            (0..64).filter_map(|t| choose(&ask, sleds, among, t).ok()).collect()
        };
        assert!(all(&found).is_subset(&all(&case.sleds)), "fleet {seed}");
        placed += usize::from(starts(&ask, &found));
    }
    // Neither nearly all nor nearly none of them can be placed.
    assert!((30..120).contains(&placed), "{placed} of {FLEETS}");
}
