//! A fleet in use, loaded straight into the tables.

use harness::Database;

/// Instances that are started, and what they are.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// So many of them.
    pub(super) count: u32,
    /// vCPUs and GiB, of the one with number `n`.
    size: (&'static str, &'static str),
}

pub(super) const KINDS: [Kind; 4] = [
    Kind {
        name: "vm",
        what: "plain",
        count: 100,
        size: ("(ARRAY[1, 2, 2, 4, 6])[1 + n % 5]", "(4 + n / 5 % 2 * 4)"),
    },
    Kind {
        name: "grouped",
        what: "of an anti-affinity group of 32, and with a local disk",
        count: GROUPS,
        size: ("2", "4"),
    },
    Kind {
        name: "even",
        what: "plain, all alike",
        count: 64,
        size: ("2", "4"),
    },
    Kind {
        name: "roomy",
        what: "of much memory, where 20 sleds have any",
        count: 20,
        size: ("2", "24"),
    },
];

/// Each with 31 members that have a place, and one of those that are started.
const GROUPS: u32 = 20;

/// After [`few_places`].
pub(super) const FEW_PLACES: usize = 40;

/// The process whose sagas they are.
pub(super) const SEC: &str = "00000000-0000-0000-0000-000000000001";

/// `{sleds}` sleds of 128 vCPUs and 768 GiB with about 30 instances each; 300 of
/// these are a project. No constraint that looks at another table is checked
/// for these, which takes most of the time.
const IN_USE: &str = "
SET session_replication_role = replica;
SET synchronous_commit = off;

INSERT INTO nexus_lease (id, internal_address, time_started, lease_expires,
    steady_since)
VALUES ('{sec}', '[::1]:1', now(), now() + INTERVAL '1 day', now());

INSERT INTO silo
SELECT md5('silo-' || n)::UUID, 'silo-' || n, '', now(), now(), NULL
FROM generate_series(0, 9) n;

INSERT INTO project
SELECT md5('project-' || n)::UUID, md5('silo-' || n % 10)::UUID,
    'project-' || n, '', now(), now(), NULL
FROM generate_series(0, {sleds} * 30 / 300) n;

CREATE TABLE bench AS
SELECT n, md5('instance-' || n)::UUID AS instance, md5('vmm-' || n)::UUID AS vmm,
    md5('attempt-' || n)::UUID AS attempt,
    md5('project-' || n / 300)::UUID AS project,
    md5('silo-' || n / 300 % 10)::UUID AS silo,
    md5('sled-' || n % {sleds})::UUID AS sled, vcpus, memory
FROM (
    SELECT n, vcpus, memory, sum(vcpus) OVER upto AS vcpus_upto,
        sum(memory) OVER upto AS memory_upto
    FROM (
        SELECT n, vcpus,
            (vcpus * (4 + get_byte(hash, 1) % 2 * 4))::INT8 << 30 AS memory
        FROM (
            SELECT n, hash,
                (ARRAY[1, 2, 2, 4, 6])[1 + get_byte(hash, 0) % 5]::INT8 AS vcpus
            FROM (
                SELECT n, decode(md5('size-' || n), 'hex') AS hash
                FROM generate_series(0, {sleds} * 30 - 1) n
            ) h
        ) v
    ) m
    WINDOW upto AS (PARTITION BY n % {sleds} ORDER BY n)
) s
WHERE vcpus_upto <= 128 AND memory_upto <= 768::INT8 << 30;

INSERT INTO silo_quota
SELECT silo.id, 1::INT8 << 40, 1::INT8 << 60, 1::INT8 << 60,
    COALESCE(sum(vcpus), 0), COALESCE(sum(memory), 0), 0, now()
FROM silo LEFT JOIN bench ON silo = silo.id GROUP BY silo.id;

INSERT INTO sled (id, address, serial, part, revision, policy,
    provision_policy, incarnation, vcpus, memory_bytes, storage_bytes,
    reserved_vcpus, reserved_memory_bytes, time_last_heartbeat, time_created,
    time_modified, cpu)
SELECT sled, '[::1]:1', sled::TEXT, 'part', 1, 'in_service', 'provisionable',
    sled, 128, 768::INT8 << 30, 10::INT8 << 40, sum(vcpus), sum(memory),
    now() + INTERVAL '1 day', now(), now(), 'amd_milan'
FROM bench GROUP BY sled;

INSERT INTO instance (id, project_id, name, description, time_created,
    time_modified, hostname, ncpus, memory_bytes, user_data,
    network_interfaces, state, state_gen, time_state_updated, active_vmm_id,
    latest_start_attempt_id, failed_starts, reconcile_errors, view_gen,
    intended_state)
SELECT instance, project, 'instance-' || n, '', now(), now(), 'host', vcpus,
    memory, '', '{\"type\": \"none\"}', 'vmm', 1, now(), vmm, attempt, 0, 0, 1,
    'running'
FROM bench;

INSERT INTO start_attempt (id, instance_id, reason, vmm_id, time_started,
    time_ended, outcome, held_back)
SELECT attempt, instance, 'user', vmm, now(), now(), 'started', 0 FROM bench;

INSERT INTO vmm (id, instance_id, sled_id, start_attempt_id, state, generation,
    may_run, ever_ran, unanswered, time_created, time_state_updated)
SELECT vmm, instance, sled, attempt, 'running', 3, TRUE, TRUE, 0, now(), now()
FROM bench;

INSERT INTO sled_reservation
SELECT vmm, instance, sled, 'active', vcpus, memory, now(), silo FROM bench;
";

/// So many of `{kind}`, in a project with 300 that have a place, about to be
/// started.
const STARTS: &str = "
INSERT INTO instance (id, project_id, name, description, time_created,
    time_modified, hostname, ncpus, memory_bytes, user_data,
    network_interfaces, state, state_gen, time_state_updated,
    pending_start_attempt_id, latest_start_attempt_id, failed_starts,
    reconcile_at, reconcile_errors, view_gen, intended_state)
SELECT md5('{kind}-' || n)::UUID, md5('project-0')::UUID, '{kind}-' || n, '',
    now(), now(), 'host', {vcpus}, ({vcpus} * {gib})::INT8 << 30, '',
    '{\"type\": \"none\"}', 'no_vmm', 1, now(),
    md5('{kind}-attempt-' || n)::UUID, md5('{kind}-attempt-' || n)::UUID, 0,
    now(), 0, 1, 'running'
FROM generate_series(0, {count} - 1) n;

INSERT INTO saga
SELECT md5('{kind}-saga-' || n)::UUID, 'instance_start',
    md5('{kind}-' || n)::UUID, 'running', '{}', '{sec}', '{sec}', 1, now(),
    now(), NULL
FROM generate_series(0, {count} - 1) n;

INSERT INTO start_attempt (id, instance_id, reason, saga_id, time_started,
    outcome, held_back)
SELECT md5('{kind}-attempt-' || n)::UUID, md5('{kind}-' || n)::UUID, 'user',
    md5('{kind}-saga-' || n)::UUID, now(), 'pending', 0
FROM generate_series(0, {count} - 1) n;
";

/// The members of a group have places on 31 sleds.
const GROUPED: &str = "
INSERT INTO affinity_group
SELECT md5('group-' || n)::UUID, md5('project-0')::UUID, 'anti_affinity',
    'group-' || n, '', 'fail', now(), now(), NULL
FROM generate_series(0, {groups} - 1) n;

INSERT INTO affinity_group_member
SELECT md5('group-' || n / 31)::UUID, instance
FROM bench WHERE n < {groups} * 31;

INSERT INTO affinity_claim
SELECT md5('group-' || n / 31)::UUID, vmm, instance, sled, TRUE
FROM bench WHERE n < {groups} * 31;

INSERT INTO affinity_group_member
SELECT md5('group-' || n)::UUID, md5('grouped-' || n)::UUID
FROM generate_series(0, {groups} - 1) n;

INSERT INTO disk
SELECT md5('disk-' || n)::UUID, md5('project-0')::UUID, 'disk-' || n, '',
    10::INT8 << 30, now(), now(), NULL, md5('grouped-' || n)::UUID, NULL, NULL
FROM generate_series(0, {groups} - 1) n;
";

/// Every sled is full, but ten have room for four each.
const FEW: &str = "
UPDATE sled SET vcpus = reserved_vcpus;
UPDATE sled SET vcpus = reserved_vcpus + 8,
    memory_bytes = reserved_memory_bytes + (32::INT8 << 30)
WHERE id IN (SELECT id FROM sled ORDER BY id LIMIT 10);
";

/// 30 % of the vCPUs are free and 5 % of the memory, but for 20 sleds, and an
/// index by vCPUs leads to those last.
const SHORT_OF_MEMORY: &str = "
UPDATE sled SET vcpus = 128, memory_bytes = reserved_memory_bytes / 95 * 100;
UPDATE sled SET memory_bytes = reserved_memory_bytes + (96::INT8 << 30)
WHERE id IN (SELECT id FROM sled ORDER BY vcpus - reserved_vcpus DESC LIMIT 20);
";

const FULL: &str = "
UPDATE sled SET vcpus = reserved_vcpus, memory_bytes = 768::INT8 << 30;
";

/// A sum that is not that of its parts, or a sled with more than there is; more
/// of a group than one.
const WRONG: &str = "
SELECT (
    SELECT count(*) FROM sled s
    LEFT JOIN (
        SELECT sled_id, sum(vcpus) AS vcpus, sum(memory_bytes) AS memory
        FROM sled_reservation GROUP BY sled_id
    ) r ON r.sled_id = s.id
    LEFT JOIN (
        SELECT sled_id, sum(size_bytes) AS storage FROM disk GROUP BY sled_id
    ) d ON d.sled_id = s.id
    WHERE s.reserved_vcpus <> COALESCE(r.vcpus, 0)
        OR s.reserved_memory_bytes <> COALESCE(r.memory, 0)
        OR s.reserved_storage_bytes <> COALESCE(d.storage, 0)
        OR r.vcpus > s.vcpus OR r.memory > s.memory_bytes
        OR d.storage > s.storage_bytes
) + (
    SELECT count(*) FROM silo_quota q
    LEFT JOIN (
        SELECT silo_id, sum(vcpus) AS vcpus, sum(memory_bytes) AS memory
        FROM sled_reservation GROUP BY silo_id
    ) r ON r.silo_id = q.silo_id
    WHERE q.used_vcpus <> COALESCE(r.vcpus, 0)
        OR q.used_memory_bytes <> COALESCE(r.memory, 0)
        OR r.vcpus > q.vcpus OR r.memory > q.memory_bytes
) + (
    SELECT count(*) FROM (
        SELECT 1 FROM affinity_claim GROUP BY group_id, sled_id
        HAVING count(*) > 1
    ) twice
)";

/// The fleet, and all that is started later.
pub(super) fn fleet(database: &Database, sleds: u32) {
    let count = sleds.to_string();
    run(database, IN_USE, &[("{sleds}", &count), ("{sec}", SEC)]);
    for kind in &KINDS {
        let count = kind.count.to_string();
        let values = [
            ("{kind}", kind.name),
            ("{count}", &count),
            ("{vcpus}", kind.size.0),
            ("{gib}", kind.size.1),
            ("{sec}", SEC),
        ];
        run(database, STARTS, &values);
    }
    run(database, GROUPED, &[("{groups}", &GROUPS.to_string())]);
    tidy(database);
}

/// Leaves [`FEW_PLACES`] for those that are all alike.
pub(super) fn few_places(database: &Database) {
    run(database, FEW, &[]);
    tidy(database);
}

/// Leaves memory on few sleds, and vCPUs on all.
pub(super) fn short_of_memory(database: &Database) {
    run(database, SHORT_OF_MEMORY, &[]);
    tidy(database);
}

/// Leaves no room.
pub(super) fn full(database: &Database) {
    run(database, FULL, &[]);
    tidy(database);
}

/// How many sums are wrong, when all is counted again.
pub(super) fn wrong(database: &Database) -> i64 {
    database.count(WRONG)
}

/// As a server does of itself, in time.
fn tidy(database: &Database) {
    database.try_sql("VACUUM ANALYZE").unwrap();
}

fn run(database: &Database, sql: &str, values: &[(&str, &str)]) {
    let filled =
        |sql: String, (name, value): &(&str, &str)| sql.replace(name, value);
    let sql = values.iter().fold(sql.to_string(), filled);
    database.try_sql(&sql).unwrap();
}
