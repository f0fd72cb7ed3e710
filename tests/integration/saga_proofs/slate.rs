//! What is left when a saga is over.

use super::fixture::disks;
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use harness::{SagaBench, blocks_in_store};

/// Counts of what a saga may leave behind.
#[derive(Debug, Default, PartialEq, Eq, QueryableByName)]
struct Slate {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    live_vmms: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    reservations: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    reserved_vcpus: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    reserved_bytes: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    charged_vcpus: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    charged_bytes: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    claims: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    disks_kept_for_no_run: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    storage_miscounted: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    pending_attempts: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    unfinished_sagas: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    restless_instances: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    memberships: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    instances: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    disks_of_the_deleted: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    disks: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    blocks_to_be_rid_of: i64,
}

/// At rest is an instance that nothing is linked to, and that is where its
/// intent says.
const COUNTS: &str = "SELECT \
    (SELECT COUNT(*) FROM vmm WHERE time_ended IS NULL) AS live_vmms, \
    (SELECT COUNT(*) FROM sled_reservation) AS reservations, \
    (SELECT SUM(reserved_vcpus)::INT8 FROM sled) AS reserved_vcpus, \
    (SELECT SUM(reserved_memory_bytes)::INT8 FROM sled) AS reserved_bytes, \
    (SELECT SUM(used_vcpus)::INT8 FROM silo_quota) AS charged_vcpus, \
    (SELECT SUM(used_memory_bytes)::INT8 FROM silo_quota) AS charged_bytes, \
    (SELECT COUNT(*) FROM affinity_claim) AS claims, \
    (SELECT COUNT(*) FROM disk d JOIN vmm v ON v.id = d.allocated_by \
        WHERE NOT v.ever_ran) AS disks_kept_for_no_run, \
    (SELECT COUNT(*) FROM sled s, silo_quota q, ( \
        SELECT COALESCE(SUM(size_bytes), 0) AS bytes FROM ( \
            SELECT size_bytes FROM disk WHERE sled_id IS NOT NULL \
            UNION ALL SELECT size_bytes FROM blocks_gone \
            WHERE sled_id IS NOT NULL) l) l, ( \
        SELECT COALESCE(SUM(size_bytes), 0) AS bytes FROM ( \
            SELECT size_bytes FROM disk WHERE sled_id IS NOT NULL OR ( \
                backend = 'distributed' AND time_deleted IS NULL) \
            UNION ALL SELECT size_bytes FROM snapshot \
            WHERE time_deleted IS NULL \
            UNION ALL SELECT size_bytes FROM image \
            WHERE time_deleted IS NULL) c) c \
        WHERE s.reserved_storage_bytes <> l.bytes \
            OR q.used_storage_bytes <> c.bytes) AS storage_miscounted, \
    (SELECT COUNT(*) FROM start_attempt WHERE outcome = 'pending') \
        AS pending_attempts, \
    (SELECT COUNT(*) FROM saga WHERE time_ended IS NULL) AS unfinished_sagas, \
    (SELECT COUNT(*) FROM instance \
        WHERE active_vmm_id IS NOT NULL \
            OR state <> CASE intended_state \
                WHEN 'running' THEN 'failed'::instance_state \
                WHEN 'destroyed' THEN 'destroyed'::instance_state \
                ELSE 'no_vmm'::instance_state END) AS restless_instances, \
    (SELECT COUNT(*) FROM affinity_group_member m \
        JOIN instance i ON i.id = m.instance_id \
        WHERE i.time_deleted IS NOT NULL) AS memberships, \
    (SELECT COUNT(*) FROM instance WHERE time_deleted IS NULL) AS instances, \
    (SELECT COUNT(*) FROM disk d JOIN instance i ON i.id = d.instance_id \
        WHERE i.time_deleted IS NOT NULL) AS disks_of_the_deleted, \
    (SELECT COUNT(*) FROM disk WHERE time_deleted IS NULL) AS disks, \
    (SELECT COUNT(*) FROM blocks_gone) AS blocks_to_be_rid_of";

fn read(bench: &SagaBench) -> Slate {
    sql_query(COUNTS).get_result(&mut bench.database.connect()).unwrap()
}

/// Nothing holds anything of the sled, nothing is under way, and every instance
/// is at rest.
pub(super) async fn is_clean(bench: &SagaBench) {
    bench.reap().await;
    let slate = Slate { instances: 0, disks: 0, ..read(bench) };
    assert_eq!(slate, Slate::default());
    let alive = |v: &serde_json::Value| {
        v["state"] != "failed" && v["state"] != "destroyed"
    };
    let mut vmms = bench.agent.vmms().await;
    vmms.retain(alive);
    assert!(vmms.is_empty(), "alive on the sled: {vmms:?}");
}

/// Of the disks of an instance that was not created, the one that was to be made
/// is not, and the one that was there is attached to nothing.
pub(super) async fn no_disk_was_made_or_is_attached(bench: &SagaBench) {
    let left = disks(bench).await;
    let names: Vec<_> = left.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["there"]);
    assert!(left.iter().all(|d| d.instance_id.is_none()), "{left:?}");
}

/// As clean as it was before anything was there.
pub(super) async fn nothing_is_left(bench: &SagaBench) {
    bench.reap().await;
    let blocks = blocks_in_store(bench.dir());
    assert!(blocks.is_empty(), "left in the store: {blocks:?}");
    assert_eq!(read(bench), Slate::default());
    let vmms = bench.agent.vmms().await;
    assert!(vmms.is_empty(), "left on the sled: {vmms:?}");
}
