//! The queries that run all the time reach their rows through an index,
//! however much there is beside them: the real methods are called on a database
//! that has been in use for long, and the server's own counters say what they
//! read.

use chrono::TimeDelta;
use db_model::lifecycle::reports::{Observation, VmmReport};
use db_model::{
    AffinityGroupChange, AffinityGroupId, AffinityGroupKind, AuditLogEnd,
    DiskId, Fence, InstanceId, KeyedRequest, ProjectId, SagaId, SagaState,
    SecId, SiloId, SiloQuotaChange, SiloUserId, SledId, StartAttemptId,
    UserCode, VmmId, VmmState,
};
use db_queries::{
    ById, ByNameOrId, ByTime, DataStore, DevicePoll, DevicePolling,
    InstancePath, NewDeviceRequest, Page, PoolSettings, SessionLife,
};
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};
use futures::future::join_all;
use harness::{Database, eventually, name};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// What grows with use. A sled, a silo and a Nexus are few, and are scanned.
const GROWING: [&str; 22] = [
    "affinity_claim",
    "affinity_group",
    "affinity_group_member",
    "api_token",
    "blocks_gone",
    "console_session",
    "device_auth_request",
    "disk",
    "image",
    "idempotency_key",
    "instance",
    "instance_ssh_key",
    "login_guess",
    "project",
    "saga",
    "saga_node_event",
    "silo_user",
    "sled_reservation",
    "ssh_key",
    "snapshot",
    "start_attempt",
    "vmm",
];

/// How often each method is called, on one connection: from the sixth time on,
/// PostgreSQL may take a plan that fits any parameters.
const CALLS: usize = 10;

/// A page. It is to these tables as the API's page, of 100, is to larger ones:
/// where a page is a good part of a table, to scan that is right.
const LIMIT: i64 = 25;

/// What one call may read of one table. Each table has many times as many rows,
/// and no project, silo or sled has more of anything that lives.
const ROWS_A_CALL: i64 = 250;

/// What reads more, and how much, since no index has just what it asks for. Here
/// 1000 instances have failed to start, and 7000 VMMs hold something.
const READS_MORE: [(&str, i64); 9] = [
    // All that have failed, of whichever project.
    ("start_failure_list", 1250),
    // All that have failed, with their four groups each, to find which of them
    // wait for room, and how long.
    ("vmm_unlink", 4500),
    ("vmm_link", 5500),
    // The same, for which of them wait for the silo's quota.
    ("silo_quota_change", 1250),
    ("disk_delete", 4500),
    // Other sleds' VMMs in passing, for want of the sled's own in order.
    ("sled_instance_list", 3500),
    // All that lives on its sleds, to count it.
    ("sled_load_list", 2000),
    // All that is unsettled, to count it and to find what errs.
    ("instance_unsettled", 400),
    ("instance_erring", 400),
];

/// A database in use: 10 000 instances in 50 projects (of 2500), on 100 sleds;
/// of ten, seven run, one is stopped, one has failed to start, one is deleted.
/// Each that is not has a disk, and there are as many disks that are deleted.
const FILL: &str = "
INSERT INTO silo
SELECT md5('silo-' || n)::UUID, 'silo-' || n, '', now(), now(), NULL
FROM generate_series(0, 9) n;

INSERT INTO silo_quota
SELECT id, 10000, 1 << 50, 1 << 60, 5000, 1 << 49, 1 << 50, now() FROM silo;

INSERT INTO silo_user
SELECT md5('user-' || n)::UUID, md5('silo-' || n % 10)::UUID, 'user-' || n,
    FALSE, now(), now(), NULL
FROM generate_series(0, 4999) n;

-- Each user has had 40 keys, and has half of them.
INSERT INTO ssh_key
SELECT md5('key-' || n)::UUID, md5('user-' || n / 40)::UUID, 'key-' || n, '',
    'ssh-ed25519 ' || n, now(), now(), CASE n % 2 WHEN 1 THEN now() END
FROM generate_series(0, 39999) n;

INSERT INTO console_session
SELECT md5('session-' || n)::UUID, md5('user-' || n % 5000)::UUID,
    encode(sha256(('session-' || n)::BYTEA), 'hex'),
    CASE WHEN n % 100 = 0 THEN now() - INTERVAL '2 days' ELSE now() END, now()
FROM generate_series(0, 9999) n;

INSERT INTO login_guess
SELECT encode(sha256(('name-' || n)::BYTEA), 'hex'), 1,
    CASE WHEN n % 100 = 0 THEN now() - INTERVAL '2 hours' ELSE now() END
FROM generate_series(0, 9999) n;

-- Nearly all of them are over.
INSERT INTO device_auth_request
SELECT md5('device-' || n)::UUID, md5('client')::UUID,
    encode(sha256(('device-' || n)::BYTEA), 'hex'),
    'BBBB-' || translate(lpad(n::TEXT, 4, '0'), '0123456789', 'BCDFGHJKLM'),
    NULL,
    now(), CASE WHEN n % 100 = 0 THEN now() + INTERVAL '1 hour' ELSE now() END,
    NULL, NULL, NULL, NULL, NULL, NULL
FROM generate_series(0, 9999) n;

INSERT INTO api_token
SELECT md5('token-' || n)::UUID, md5('user-' || n % 5000)::UUID,
    md5('a-' || n) || md5('b-' || n), now(), NULL
FROM generate_series(0, 9999) n;

INSERT INTO idempotency_key
SELECT md5('key-' || n)::UUID, md5('user-' || n % 5000)::UUID,
    md5('a-' || n) || md5('b-' || n), 'request', md5('instance-' || n)::UUID,
    '{}', now()
FROM generate_series(0, 9999) n;

INSERT INTO project
SELECT md5('project-' || n)::UUID, md5('silo-' || n % 10)::UUID,
    'project-' || n, '', now(), now(), NULL
FROM generate_series(0, 2499) n;

INSERT INTO sled
SELECT md5('sled-' || n)::UUID, '[::1]:' || n, 'serial-' || n, 'part', 1,
    'in_service', 'provisionable', md5('agent-' || n)::UUID, 1024, 1 << 42,
    1 << 42, 512, 1 << 41, now(), now(), now()
FROM generate_series(0, 99) n;

INSERT INTO instance (id, project_id, name, description, time_created,
    time_modified, time_deleted, hostname, ncpus, memory_bytes, user_data,
    network_interfaces, state, state_gen, time_state_updated, active_vmm_id,
    latest_start_attempt_id, failed_starts, reconcile_at, reconcile_errors,
    view_gen, intended_state)
SELECT md5('instance-' || n)::UUID, md5('project-' || n / 200)::UUID,
    'instance-' || n, '', now(), now(),
    CASE WHEN n % 10 = 9 THEN now() END, 'host', 2, 1 << 30, '',
    '{\"type\": \"none\"}',
    CASE n % 10 WHEN 7 THEN 'no_vmm'::instance_state WHEN 8 THEN 'failed'
        WHEN 9 THEN 'destroyed' ELSE 'vmm' END,
    1, now() - n * INTERVAL '1 second',
    CASE WHEN n % 10 < 7 THEN md5('vmm-' || n)::UUID END,
    md5('attempt-' || n)::UUID, CASE WHEN n % 10 = 8 THEN 1 ELSE 0 END,
    CASE n % 100 WHEN 0 THEN now() - INTERVAL '1 minute'
        WHEN 1 THEN now() + INTERVAL '1 hour' END,
    0, 1,
    CASE n % 10 WHEN 7 THEN 'stopped'::intended_state
        WHEN 9 THEN 'destroyed' ELSE 'running' END
FROM generate_series(0, 9999) n;

INSERT INTO start_attempt (id, instance_id, reason, saga_id, vmm_id,
    time_started, time_ended, outcome, failure_kind, failure_message,
    failure_transient, failure_details, held_back)
SELECT md5('attempt-' || n)::UUID, md5('instance-' || n % 10000)::UUID, 'user',
    md5('saga-' || n)::UUID,
    CASE WHEN n % 10 < 7 THEN md5('vmm-' || n)::UUID END,
    now() - n * INTERVAL '1 second', now(),
    CASE n % 10 WHEN 8 THEN 'failed'::start_outcome ELSE 'started' END,
    CASE n % 10 WHEN 8 THEN 'insufficient_capacity'::start_failure_kind END,
    CASE n % 10 WHEN 8 THEN 'no room' END,
    CASE n % 10 WHEN 8 THEN TRUE END,
    CASE n % 10 WHEN 8 THEN '{}'::JSONB END, 0
FROM generate_series(0, 19999) n;

INSERT INTO instance_ssh_key
SELECT md5('instance-' || n)::UUID, md5('key-' || n * 4 + k)::UUID
FROM generate_series(0, 9999) n, generate_series(0, 3) k;

-- The second ten thousand are over.
INSERT INTO vmm (id, instance_id, sled_id, start_attempt_id, state, generation,
    may_run, ever_ran, end_reason, unanswered, time_created,
    time_state_updated, time_ended)
SELECT md5('vmm-' || n)::UUID, md5('instance-' || n % 10000)::UUID,
    md5('sled-' || n / 10 % 100)::UUID, md5('attempt-' || n)::UUID,
    CASE WHEN n < 10000 THEN 'running'::vmm_state ELSE 'destroyed' END, 3,
    TRUE, TRUE,
    CASE WHEN n < 10000 THEN NULL ELSE 'requested'::vmm_end_reason END, 0,
    now(), now(), CASE WHEN n < 10000 THEN NULL ELSE now() END
FROM generate_series(0, 19999) n
WHERE n >= 10000 OR n % 10 < 7;

INSERT INTO disk
SELECT md5('disk-' || n)::UUID, md5('project-' || n % 10000 / 200)::UUID,
    'disk-' || n, '', 1 << 30, now(), now(),
    CASE WHEN n >= 10000 THEN now() END,
    CASE WHEN n < 10000 AND n % 10 < 9
        THEN md5('instance-' || n)::UUID END,
    CASE WHEN n < 10000 THEN md5('sled-' || n / 10 % 100)::UUID END,
    CASE WHEN n < 10000 THEN md5('vmm-' || n)::UUID END
FROM generate_series(0, 19999) n;

UPDATE sled SET reserved_storage_bytes = 100 * (1 << 30);

-- Every hundredth is being made.
INSERT INTO snapshot
SELECT md5('snapshot-' || n)::UUID, md5('project-' || n % 10000 / 200)::UUID,
    'snapshot-' || n, '', 1 << 30, 512, md5('disk-' || n)::UUID, n % 100 > 0,
    now(), now(), CASE WHEN n >= 10000 THEN now() END
FROM generate_series(0, 19999) n;

INSERT INTO image
SELECT md5('image-' || n)::UUID, md5('silo-' || n % 10)::UUID,
    CASE WHEN n % 20 < 10 THEN md5('project-' || n % 10000 / 200)::UUID END,
    'image-' || n, '', 'debian', '12', 1 << 30, 512, TRUE,
    now(), now(), CASE WHEN n >= 10000 THEN now() END
FROM generate_series(0, 19999) n;

-- Few are due.
INSERT INTO blocks_gone
SELECT md5('gone-' || n)::UUID, 'store', NULL, 1 << 30, now(), 1,
    CASE WHEN n % 100 = 0 THEN now() ELSE now() + INTERVAL '1 hour' END, NULL
FROM generate_series(0, 9999) n;


INSERT INTO sled_reservation
SELECT id, instance_id, sled_id, 'active', 2, 1 << 30, now()
FROM vmm WHERE time_ended IS NULL;

-- Each of the 50 projects has 100 groups of each kind, and each instance that
-- lives is in two of each kind. Of those that run, one in seven has claims.
INSERT INTO affinity_group
SELECT md5('group-' || n)::UUID, md5('project-' || n / 200)::UUID,
    CASE n / 50 % 2 WHEN 0 THEN 'anti_affinity'::affinity_group_kind
        ELSE 'affinity' END,
    'group-' || n, '', 'fail', now(), now(), CASE n % 10 WHEN 9 THEN now() END
FROM generate_series(0, 9999) n;

INSERT INTO affinity_group_member
SELECT md5('group-' || n / 200 * 200 + (n % 200 + k) % 200)::UUID,
    md5('instance-' || n)::UUID
FROM generate_series(0, 9999) n, generate_series(0, 150, 50) k
WHERE n % 10 < 9;

INSERT INTO affinity_claim
SELECT m.group_id, r.vmm_id, r.instance_id, r.sled_id, FALSE
FROM generate_series(4, 9999, 10) n
JOIN sled_reservation r ON r.instance_id = md5('instance-' || n)::UUID
JOIN affinity_group_member m ON m.instance_id = r.instance_id;

-- One in a hundred is not over: of each such two, one is run by a process that
-- lives and one by one that does not.
INSERT INTO nexus_lease (id, internal_address, time_started, lease_expires,
    steady_since)
SELECT md5('sec-1')::UUID, '[::1]:1', now(), now() + INTERVAL '1 hour', now();

INSERT INTO saga
SELECT md5('saga-' || n)::UUID, 'instance-start',
    md5('instance-' || n)::UUID,
    CASE WHEN n % 100 IN (2, 3) THEN 'running'::saga_state ELSE 'done' END,
    '{}', md5('sec-0')::UUID,
    CASE n % 100 WHEN 2 THEN md5('sec-1')::UUID ELSE md5('sec-0')::UUID END,
    1, now(), now(),
    CASE WHEN n % 100 IN (2, 3) THEN NULL ELSE now() END
FROM generate_series(0, 9999) n;

INSERT INTO saga_node_event
SELECT md5('saga-' || n)::UUID, e, 'succeeded', '{}', md5('sec-0')::UUID, now()
FROM generate_series(0, 9999) n, generate_series(0, 1) e;

ANALYZE;
";

/// Of those that have failed to start, one in ten is being tried again, where its
/// disk is and its groups allow it; nobody means to look at the others.
const RETRY: &str = "
UPDATE instance SET reconcile_at = NULL
WHERE state = 'failed' AND reconcile_at IS NOT NULL;

INSERT INTO start_attempt (id, instance_id, reason, saga_id, time_started,
    outcome, held_back)
SELECT md5('retry-' || n)::UUID, md5('instance-' || n)::UUID, 'auto_restart',
    md5('saga-' || n - 16)::UUID, now(), 'pending', 0
FROM generate_series(18, 9999, 100) n;

UPDATE instance SET state = 'no_vmm', pending_start_attempt_id = a.id,
    latest_start_attempt_id = a.id
FROM start_attempt a WHERE a.instance_id = instance.id AND a.outcome = 'pending';

UPDATE affinity_group SET policy = 'allow';

UPDATE disk SET sled_id = md5('sled-0')::UUID
FROM start_attempt a WHERE a.instance_id = disk.instance_id AND a.outcome = 'pending';

ANALYZE;
";

#[tokio::test]
#[expect(clippy::print_stderr, reason = "who skips a test must say so")]
async fn the_queries_that_run_all_the_time_scan_no_table_that_grows() {
    let database = Database::create().await;
    let version = database.row("SELECT version() AS version");
    if version["version"].as_str().unwrap().contains("CockroachDB") {
        eprintln!("skipped: CockroachDB does not count what PostgreSQL does");
        return;
    }
    database.try_sql(&FILL.replace("1 <<", "1::INT8 <<")).unwrap();
    let mut counters = Counters::of(&database);

    let instances: Vec<InstanceId> = ids(&database, "instance", 2);
    // It is seen when a method scans: this one does, and may.
    let seen = counters
        .reads(async |db, n| {
            db.placement_case(instances[n]).await.unwrap();
        })
        .await;
    assert_eq!(seen["sled"].scans, i64::try_from(CALLS).unwrap());

    let projects: Vec<ProjectId> = ids(&database, "project", 0);
    let silos: Vec<SiloId> = ids(&database, "silo", 0);
    let users: Vec<SiloUserId> = ids(&database, "user", 0);
    let vmms: Vec<VmmId> = ids(&database, "vmm", 2);
    let disks: Vec<DiskId> = ids(&database, "disk", 0);
    let held: Vec<DiskId> = ids(&database, "disk", 2);
    let sagas: Vec<SagaId> = ids(&database, "saga", 2);
    let attempts: Vec<StartAttemptId> = ids(&database, "attempt", 2);
    let sleds: Vec<SledId> = ids(&database, "sled", 0);
    let secs: Vec<SecId> = ids(&database, "sec", 0);
    let (project, silo, sled) = (projects[0], silos[0], sleds[0]);
    let first_user = users[0];
    // Of anti-affinity, whose members have failed to start.
    let groups: Vec<AffinityGroupId> = ids(&database, "group", 8);
    // Of affinity, and a member of each, which is stopped.
    let bound: Vec<AffinityGroupId> = ids(&database, "group", 57);
    let at_rest: Vec<InstanceId> = ids(&database, "instance", 57);
    let apart = AffinityGroupKind::AntiAffinity;
    let living = secs[1];
    let middle = Uuid::from_u128(u128::MAX / 2);
    let token = database.row("SELECT token_hash FROM api_token LIMIT 1");
    let token = token["token_hash"].as_str().unwrap().to_string();
    let by_id = |after| Page { by: ByNameOrId::Id { after }, limit: LIMIT };
    let by_name = |after: Option<&str>, descending| Page {
        by: ByNameOrId::Name { after: after.map(name), descending },
        limit: LIMIT,
    };

    let mut faults = Vec::new();
    macro_rules! probe {
        ($what:literal, |$db:ident, $n:ident| $call:expr) => {
            let reads = counters.reads(async |$db, $n| $call).await;
            faults.extend(faults_of($what, &reads));
        };
    }

    probe!("authenticate", |db, _n| {
        db.authenticate(token.clone()).await.unwrap();
    });
    let hash = database.row(
        "SELECT token_hash FROM console_session \
         WHERE time_created > now() - INTERVAL '1 day' LIMIT 1",
    );
    let session = hash["token_hash"].as_str().unwrap().to_string();
    let life = SessionLife {
        idle: TimeDelta::hours(8),
        absolute: TimeDelta::hours(24),
    };
    probe!("session_authenticate", |db, _n| {
        let often = TimeDelta::minutes(1);
        let session = session.clone();
        db.session_authenticate(session, life, often).await.unwrap();
    });
    let device = database.row(
        "SELECT device_code_hash FROM device_auth_request \
         WHERE time_expires > now() ORDER BY id LIMIT 1",
    );
    let device = device["device_code_hash"].as_str().unwrap().to_string();
    let client = database.row("SELECT client_id FROM device_auth_request");
    let client: Uuid = client["client_id"].as_str().unwrap().parse().unwrap();
    let polling = DevicePolling {
        least: TimeDelta::zero(),
        again_within: TimeDelta::zero(),
    };
    probe!("device_request_poll", |db, _n| {
        let device = device.clone();
        let hash = |_| "t".repeat(64);
        let poll = db.device_request_poll(client, device, polling, hash).await;
        assert_eq!(poll.unwrap(), DevicePoll::Pending);
    });
    probe!("device_request_insert", |db, n| {
        let new = NewDeviceRequest {
            client_id: client,
            device_code_hash: format!("{n:064}"),
            user_code: format!(
                "ZZZZ-ZZZ{}",
                ["B", "C", "D", "F", "G", "H", "J", "K", "L", "M"][n]
            )
            .parse()
            .unwrap(),
            ttl_secs: None,
        };
        let life = TimeDelta::minutes(10);
        assert!(db.device_request_insert(new, life, 10_000).await.unwrap());
    });
    let code = "BBBB-BBBB".parse::<UserCode>().unwrap();
    probe!("device_request_view", |db, _n| {
        db.device_request_view(code.clone()).await.unwrap();
    });
    probe!("api_tokens_prune", |db, _n| {
        db.api_tokens_prune().await.unwrap();
    });
    probe!("sessions_prune", |db, _n| {
        db.sessions_prune(life).await.unwrap();
    });
    probe!("login_guesses_prune", |db, _n| {
        db.login_guesses_prune().await.unwrap();
    });
    probe!("password_guess", |db, n| {
        let user = format!("user-{n}").parse().unwrap();
        let at_once = |_| TimeDelta::zero();
        db.password_guess(name("silo-0"), user, at_once).await.unwrap();
    });
    probe!("device_requests_prune", |db, _n| {
        db.device_requests_prune().await.unwrap();
    });
    let users: Vec<SiloUserId> = ids(&database, "user", 7);
    let key = database.row(
        "SELECT key_hash FROM idempotency_key \
         WHERE silo_user_id = md5('user-7')::UUID LIMIT 1",
    );
    let request = KeyedRequest {
        silo_user_id: users[0],
        key_hash: key["key_hash"].as_str().unwrap().to_string(),
        request_hash: "request".to_string(),
    };
    probe!("idempotency_key", |db, _n| {
        let found = db.idempotency_key(request.clone()).await.unwrap();
        assert!(found.is_some());
    });
    probe!("idempotency_answer", |db, _n| {
        let answer = serde_json::json!([1]);
        let kept = db.idempotency_answer(request.clone(), answer).await;
        assert_eq!(kept.unwrap(), serde_json::json!({}));
    });
    probe!("project_list by name", |db, _n| {
        let page = by_name(None, false);
        assert_eq!(db.project_list(silo, None, page).await.unwrap().len(), 25);
    });
    probe!("project_list by name, from the middle back", |db, _n| {
        let page = by_name(Some("project-2000"), true);
        assert_eq!(db.project_list(silo, None, page).await.unwrap().len(), 25);
    });
    probe!("project_list by id", |db, _n| {
        let page = by_id(None);
        assert_eq!(db.project_list(silo, None, page).await.unwrap().len(), 25);
    });
    probe!("project_view by name", |db, _n| {
        let which = db_model::NameOrId::Name(name("project-10"));
        db.project_view(silo, which).await.unwrap();
    });
    probe!("instance_list by name", |db, _n| {
        let page = by_name(None, false);
        assert_eq!(db.instance_list(project, page).await.unwrap().len(), 25);
    });
    probe!("instance_list by name, from the middle back", |db, _n| {
        let page = by_name(Some("instance-50"), true);
        assert_eq!(db.instance_list(project, page).await.unwrap().len(), 25);
    });
    probe!("instance_list by id", |db, _n| {
        let page = by_id(None);
        assert_eq!(db.instance_list(project, page).await.unwrap().len(), 25);
    });
    probe!("instance_list by id, from the middle on", |db, _n| {
        let page = by_id(Some(middle));
        let list = db.instance_list(project, page).await.unwrap();
        assert_eq!(list.len(), 25);
    });
    probe!("instance_id_by_name", |db, _n| {
        let name = name("instance-2");
        db.instance_id_by_name(project, name).await.unwrap();
    });
    probe!("instance_view", |db, n| {
        assert!(db.instance_view(instances[n]).await.unwrap().vmm.is_some());
    });
    probe!("instance_views", |db, n| {
        let some = vec![instances[n], instances[(n + 1) % CALLS]];
        assert_eq!(db.instance_views(some).await.unwrap().len(), 2);
    });
    probe!("vmm_of_last_run", |db, n| {
        let run = db.vmm_of_last_run(instances[n]).await.unwrap();
        assert!(run.unwrap().may_run);
    });
    probe!("ssh_key_list by name", |db, n| {
        let page = by_name(None, n % 2 == 0);
        assert_eq!(db.ssh_key_list(users[n], page).await.unwrap().len(), 20);
    });
    probe!("ssh_key_list by id", |db, n| {
        let page = by_id(None);
        assert_eq!(db.ssh_key_list(users[n], page).await.unwrap().len(), 20);
    });
    probe!("ssh_key_view by name", |db, _n| {
        let which = db_model::NameOrId::Name(name("key-10"));
        db.ssh_key_view(first_user, which).await.unwrap();
    });
    probe!("ssh_key_list_of_instance", |db, n| {
        let page = by_name(None, false);
        let list = db.ssh_key_list_of_instance(instances[n], page).await;
        assert_eq!(list.unwrap().len(), 2);
    });
    probe!("affinity_group_list by name", |db, _n| {
        let page = by_name(None, false);
        let list = db.affinity_group_list(project, apart, page).await;
        assert_eq!(list.unwrap().len(), 25);
    });
    probe!("affinity_group_list by name, from the middle back", |db, _n| {
        let page = by_name(Some("group-50"), true);
        let list = db.affinity_group_list(project, apart, page).await;
        assert_eq!(list.unwrap().len(), 25);
    });
    probe!("affinity_group_list by id", |db, _n| {
        let page = by_id(None);
        let list = db.affinity_group_list(project, apart, page).await;
        assert_eq!(list.unwrap().len(), 25);
    });
    probe!("affinity_group_view by name", |db, _n| {
        let (within, which) = (Some(project), name("group-10").into());
        let group = db.affinity_group_view(silo, apart, within, which).await;
        group.unwrap();
    });
    probe!("affinity_group_view by id", |db, _n| {
        let which = groups[0].0.into();
        let group = db.affinity_group_view(silo, apart, None, which).await;
        group.unwrap();
    });
    probe!("affinity_group_member_list by name", |db, n| {
        let page = by_name(None, n % 2 == 0);
        let list = db.affinity_group_member_list(groups[n], page).await;
        assert_eq!(list.unwrap().len(), 4);
    });
    probe!("affinity_group_member_list by id", |db, n| {
        let page = by_id(None);
        let list = db.affinity_group_member_list(groups[n], page).await;
        assert_eq!(list.unwrap().len(), 4);
    });
    probe!("affinity_group_member_view", |db, n| {
        let (group, id) = (bound[n], at_rest[n]);
        db.affinity_group_member_view(group, id).await.unwrap();
    });
    probe!("instance_affinity_group_list by name", |db, n| {
        let (id, page) = (at_rest[n], by_name(None, n % 2 == 0));
        let list = db.instance_affinity_group_list(id, apart, page).await;
        assert_eq!(list.unwrap().len(), 2);
    });
    probe!("instance_affinity_group_list by id", |db, n| {
        let (id, page) = (at_rest[n], by_id(None));
        let list = db.instance_affinity_group_list(id, apart, page).await;
        assert_eq!(list.unwrap().len(), 2);
    });
    probe!("disk_list by name", |db, _n| {
        let page = by_name(None, false);
        assert_eq!(db.disk_list(project, page).await.unwrap().len(), 25);
    });
    probe!("disk_list by name, from the middle back", |db, _n| {
        let page = by_name(Some("disk-50"), true);
        assert_eq!(db.disk_list(project, page).await.unwrap().len(), 25);
    });
    probe!("disk_list by id", |db, _n| {
        let page = by_id(None);
        assert_eq!(db.disk_list(project, page).await.unwrap().len(), 25);
    });
    probe!("disk_list_of_instance by name", |db, n| {
        let page = by_name(None, false);
        let list = db.disk_list_of_instance(instances[n], page).await.unwrap();
        assert_eq!(list.len(), 1);
    });
    probe!("disk_list_of_instance by id", |db, n| {
        let page = by_id(None);
        let list = db.disk_list_of_instance(instances[n], page).await.unwrap();
        assert_eq!(list.len(), 1);
    });
    probe!("disk_list_named", |db, _n| {
        let named = ["disk-1", "disk-2", "disk-3"].map(name).to_vec();
        assert_eq!(db.disk_list_named(project, named).await.unwrap().len(), 3);
    });
    probe!("disk_view by name", |db, _n| {
        let which = db_model::NameOrId::Name(name("disk-10"));
        db.disk_view(silo, Some(project), which).await.unwrap();
    });
    probe!("disk_view by id", |db, n| {
        let which = db_model::NameOrId::Id(disks[n].0);
        db.disk_view(silo, None, which).await.unwrap();
    });
    probe!("disks_to_boot", |db, n| {
        assert_eq!(db.disks_to_boot(instances[n]).await.unwrap().len(), 1);
    });
    probe!("snapshot_list by name", |db, _n| {
        let page = by_name(None, false);
        assert_eq!(db.snapshot_list(project, page).await.unwrap().len(), 25);
    });
    probe!("snapshot_list by id", |db, _n| {
        let page = by_id(None);
        assert_eq!(db.snapshot_list(project, page).await.unwrap().len(), 25);
    });
    probe!("snapshot_view by name", |db, _n| {
        let which = db_model::NameOrId::Name(name("snapshot-10"));
        db.snapshot_view(silo, Some(project), which).await.unwrap();
    });
    probe!("image_list by name", |db, _n| {
        let page = by_name(None, false);
        let list = db.image_list(silo, Some(project), page).await;
        assert_eq!(list.unwrap().len(), 25);
    });
    probe!("image_list of the silo", |db, _n| {
        let page = by_id(None);
        db.image_list(silo, None, page).await.unwrap();
    });
    probe!("image_view by name", |db, _n| {
        let which = db_model::NameOrId::Name(name("image-0"));
        db.image_view(silo, Some(project), which).await.unwrap();
    });
    probe!("blocks_gone_claim", |db, _n| {
        assert_eq!(db.blocks_gone_claim(5).await.unwrap().len(), 5);
    });
    probe!("sleds_to_ask", |db, _n| {
        db.sleds_to_ask(3).await.unwrap();
    });
    probe!("disk_holder", |db, n| {
        assert!(db.disk_holder(held[n]).await.unwrap().is_some());
    });
    probe!("start_failure_list", |db, _n| {
        let page = Page { by: ById { after: None }, limit: LIMIT };
        let list = db.start_failure_list(project, page).await.unwrap();
        assert_eq!(list.len(), 20);
    });
    probe!("start_attempt_list", |db, n| {
        let page = Page { by: ByTime { before: None }, limit: LIMIT };
        let list = db.start_attempt_list(instances[n], page).await.unwrap();
        assert_eq!(list.len(), 2);
        let before = Some((list[0].time_started, list[0].id.0));
        let page = Page { by: ByTime { before }, limit: LIMIT };
        let list = db.start_attempt_list(instances[n], page).await.unwrap();
        assert_eq!(list.len(), 1);
    });
    probe!("start_attempt_view", |db, n| {
        db.start_attempt_view(instances[n], attempts[n]).await.unwrap();
    });
    probe!("sled_instance_list", |db, _n| {
        let page = Page { by: ById { after: None }, limit: LIMIT };
        let list = db.sled_instance_list(sled, page).await.unwrap();
        assert_eq!(list.len(), 25);
    });
    probe!("placement_look", |db, n| {
        let look = db.placement_look(instances[n], None).await.unwrap();
        assert_eq!(look.ask.vcpus, 2);
        assert!(look.unavailable.is_none());
        let placed = Some(vmms[n]);
        let look = db.placement_look(instances[n], placed).await.unwrap();
        assert!(look.placed_on.is_some());
    });
    probe!("vmm_live_on_sled", |db, _n| {
        let live = db.vmm_live_on_sled(sled, None, LIMIT).await.unwrap();
        assert_eq!(live.len(), 25);
        let after = Some(live[20].id);
        let live = db.vmm_live_on_sled(sled, after, LIMIT).await.unwrap();
        assert_eq!(live.len(), 25);
    });
    probe!("vmm_ended_or_unknown", |db, _n| {
        let known = db.vmm_ended_or_unknown(vmms.clone()).await.unwrap();
        assert_eq!(known, (Vec::new(), Vec::new()));
    });
    probe!("reconcile_next_due", |db, _n| {
        assert!(db.reconcile_next_due().await.unwrap().is_some());
    });
    probe!("unfinished", |db, _n| {
        let unfinished = db.unfinished().await.unwrap();
        assert_eq!(unfinished.instances, 200);
        assert_eq!(unfinished.sagas, [(SagaState::Running, 200)]);
        assert!(unfinished.lag >= TimeDelta::minutes(1));
    });
    probe!("instance_view_gens", |db, n| {
        let ids = vec![instances[n]];
        let found = db.instance_view_gens(ids).await.unwrap();
        assert_eq!(found, [(instances[n], 1)]);
    });
    probe!("reconcile_facts", |db, n| {
        let (facts, saga) = db.reconcile_facts(instances[n]).await.unwrap();
        assert!(facts.vmms.len() == 1 && saga.is_some());
    });
    probe!("reconcile_claim", |db, n| {
        let time = TimeDelta::hours(1);
        let claimed = db.reconcile_claim(10, time).await.unwrap();
        assert_eq!(claimed.len(), 10);
        if n % 2 == 0 {
            db.reconcile_give_back(claimed[0], None).await.unwrap();
        } else {
            let error = "it went wrong".to_string();
            db.reconcile_give_back_error(claimed[0], error).await.unwrap();
        }
    });
    probe!("saga_unfinished_of", |db, _n| {
        let unfinished = db.saga_unfinished_of(living).await.unwrap();
        assert_eq!(unfinished.len(), 100);
    });
    probe!("saga_log", |db, n| {
        assert_eq!(db.saga_log(sagas[n]).await.unwrap().len(), 2);
    });
    probe!("saga_unfinished_counts", |db, _n| {
        let counts = db.saga_unfinished_counts().await.unwrap();
        assert_eq!((counts[0].count, counts[0].without_runner), (200, 100));
    });
    probe!("saga_unfinished_list", |db, _n| {
        let list = db.saga_unfinished_list(None, None, LIMIT).await.unwrap();
        assert_eq!(list.len(), 25);
    });
    probe!("saga_unfinished_list of an instance", |db, n| {
        let instance = Some(instances[n]);
        let list = db.saga_unfinished_list(None, instance, LIMIT).await;
        assert_eq!(list.unwrap().len(), 1);
    });
    probe!("saga_list", |db, _n| {
        let page = Page { by: ById { after: Some(middle) }, limit: LIMIT };
        assert_eq!(db.saga_list(page).await.unwrap().len(), 25);
    });
    probe!("saga_whole", |db, n| {
        let record = db.saga_whole(sagas[n]).await.unwrap();
        assert_eq!((record.log.len(), record.lease.is_some()), (2, true));
    });
    probe!("instance_unsettled", |db, _n| {
        assert!(db.instance_unsettled().await.unwrap().count > 100);
    });
    probe!("instance_erring", |db, _n| {
        assert!(!db.instance_erring(LIMIT).await.unwrap().is_empty());
    });
    probe!("instance_id_by_path", |db, _n| {
        let path = InstancePath {
            silo: name("silo-0"),
            project: name("project-10"),
            name: name("instance-2002"),
        };
        db.instance_id_by_path(path).await.unwrap();
    });
    probe!("instance_paths", |db, _n| {
        let paths = db.instance_paths(instances.clone()).await.unwrap();
        assert_eq!(paths.len(), CALLS);
    });
    probe!("instance_whole", |db, n| {
        let record = db.instance_whole(instances[n], LIMIT).await.unwrap();
        let found = (record.reservations.len(), record.attempts.len());
        assert_eq!(found, (1, 2));
    });
    probe!("sled_load_list", |db, _n| {
        let page = Page { by: ById { after: None }, limit: LIMIT };
        let list = db.sled_load_list(page).await.unwrap();
        assert_eq!((list.len(), list[0].vmms), (25, 70));
    });
    probe!("saga_adopt", |db, _n| {
        assert_eq!(db.saga_adopt(living, 5).await.unwrap(), 5);
    });
    probe!("silo_quota_view", |db, _n| {
        let which = db_model::NameOrId::Name(name("silo-0"));
        assert_eq!(db.silo_quota_view(which).await.unwrap().1.vcpus, 10_000);
    });
    probe!("silo_quota_list", |db, _n| {
        let page = Page { by: ById { after: Some(middle) }, limit: LIMIT };
        db.silo_quota_list(page).await.unwrap();
    });
    probe!("silo_utilization_list", |db, _n| {
        for page in [by_id(None), by_name(Some("silo-9"), true)] {
            let list = db.silo_utilization_list(page).await.unwrap();
            assert!(list.len() > 5);
        }
    });
    // Who waits for the quota is woken in the same transaction.
    probe!("silo_quota_change", |db, n| {
        let vcpus = Some(10_001 + i64::try_from(n).unwrap());
        let change = SiloQuotaChange { vcpus, ..SiloQuotaChange::default() };
        db.silo_quota_change(silo, change).await.unwrap();
    });
    probe!("lease_forget_old", |db, _n| {
        db.lease_forget_old().await.unwrap();
    });
    // Those whom a change of their group may help are woken with it.
    probe!("affinity_group_member_remove, and _add", |db, n| {
        let id = at_rest[n];
        db.affinity_group_member_remove(bound[n], id).await.unwrap();
        let nothing = AffinityGroupChange::default();
        let group = db.affinity_group_change(bound[n], nothing).await.unwrap();
        db.affinity_group_member_add(&group, id).await.unwrap();
    });
    probe!("affinity_group_delete", |db, n| {
        db.affinity_group_delete(groups[n]).await.unwrap();
    });
    let woken = "SELECT count(*) FROM instance \
         WHERE state = 'failed' AND reconcile_at IS NOT NULL";
    assert!(database.count(woken) > 0, "nobody was woken");
    let asleep = "UPDATE instance SET reconcile_at = NULL \
         WHERE state = 'failed' AND reconcile_at IS NOT NULL";
    database.try_sql(asleep).unwrap();
    // Who waits for room is woken in the same transaction.
    let waiting = "SELECT count(*) FROM instance \
         WHERE state = 'failed' AND reconcile_at IS NOT NULL";
    assert_eq!(database.count(waiting), 0);
    probe!("vmm_to_register", |db, n| {
        let fence =
            Fence { saga_id: sagas[n], sec_id: living, adopt_generation: 1 };
        let boot = db.vmm_to_register(fence, vmms[n]);
        let boot = boot.await.unwrap();
        assert_eq!(boot.ssh_public_keys.len(), 2);
        assert_eq!(boot.disks.len(), 1);
    });
    // The same of many at once, which ask together.
    probe!("placement_look, together", |db, _n| {
        let looks = instances.iter().map(|id| db.placement_look(*id, None));
        let looks = join_all(looks).await;
        assert!(looks.into_iter().all(|look| look.is_ok()));
    });
    probe!("vmm_to_register, together", |db, _n| {
        let boots = sagas.iter().zip(&vmms).map(|(saga, vmm)| {
            let (saga_id, adopt_generation) = (*saga, 1);
            let fence = Fence { saga_id, sec_id: living, adopt_generation };
            db.vmm_to_register(fence, *vmm)
        });
        let boots = join_all(boots).await;
        assert!(boots.into_iter().all(|boot| boot.is_ok()));
    });
    probe!("vmm_observe, together", |db, _n| {
        let allowance = TimeDelta::seconds(1);
        let reports = vmms.iter().map(|vmm| {
            let report = VmmReport {
                state: VmmState::Creating,
                generation: 0,
                ever_ran: false,
                end: None,
            };
            let seen = Observation::Reported(report);
            db.vmm_observe(sled, *vmm, seen, allowance)
        });
        join_all(reports).await;
    });
    probe!("instance_to_reboot, together", |db, _n| {
        let reboots = instances.iter().map(|id| db.instance_to_reboot(*id));
        join_all(reboots).await;
    });
    probe!("audit_log_complete, together", |db, _n| {
        let ends = (0..CALLS).map(|_| {
            let end = AuditLogEnd {
                resource_id: None,
                http_status: Some(200),
                error_code: None,
                error_message: None,
            };
            db.audit_log_complete(Uuid::new_v4(), end, None)
        });
        let ends = join_all(ends).await;
        assert!(ends.into_iter().all(|end| end.is_ok()));
    });
    probe!("vmm_unlink", |db, n| {
        let fence =
            Fence { saga_id: sagas[n], sec_id: living, adopt_generation: 1 };
        db.vmm_unlink(fence, instances[n], vmms[n]).await.unwrap();
    });
    assert!(database.count(waiting) > 0, "nobody was woken");
    let at_rest: Vec<InstanceId> = ids(&database, "instance", 7);
    let theirs: Vec<DiskId> = ids(&database, "disk", 7);
    probe!("disk_detach", |db, n| {
        db.disk_detach(at_rest[n], theirs[n]).await.unwrap();
    });
    probe!("disk_attach", |db, n| {
        db.disk_attach(at_rest[n], theirs[n]).await.unwrap();
    });
    let free: Vec<DiskId> = ids(&database, "disk", 9);
    probe!("disk_delete", |db, n| {
        db.disk_delete(free[n]).await.unwrap();
    });
    database.try_sql(RETRY).unwrap();
    let retried: Vec<InstanceId> = ids(&database, "instance", 18);
    let retries: Vec<StartAttemptId> = ids(&database, "retry", 18);
    probe!("vmm_link", |db, n| {
        let fence =
            Fence { saga_id: sagas[n], sec_id: living, adopt_generation: 1 };
        let (instance, attempt) = (retried[n], retries[n]);
        let vmm = VmmId::new_v4();
        db.vmm_link(fence, instance, attempt, vmm, sled).await.unwrap();
    });
    // So many look for room already that each wakes the next alone: the same.
    assert_eq!(database.count(waiting), 1);
    assert!(faults.is_empty(), "{faults:#?}");
}

/// What [`CALLS`] calls have read of a table.
#[derive(Clone, Copy, Debug)]
struct Reads {
    scans: i64,
    rows: i64,
}

fn faults_of(what: &str, reads: &BTreeMap<String, Reads>) -> Vec<String> {
    let calls = i64::try_from(CALLS).unwrap();
    let mut faults = Vec::new();
    for table in GROWING {
        let Reads { scans, rows } = reads[table];
        let more = READS_MORE.iter().find(|(method, _)| *method == what);
        let most = more.map_or(ROWS_A_CALL, |(_, rows)| *rows);
        if scans > 0 {
            faults.push(format!("{what}: {scans} scans of {table}"));
        } else if rows > most * calls {
            let rows = rows / calls;
            faults.push(format!("{what}: reads {rows} rows of {table}"));
        }
    }
    faults
}

/// The server's counters of what is read of each table.
struct Counters<'a> {
    database: &'a Database,
    conn: PgConnection,
}

#[derive(QueryableByName)]
struct Counter {
    #[diesel(sql_type = diesel::sql_types::Text)]
    name: String,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    scans: i64,
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    rows: i64,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    n: i64,
}

impl Counters<'_> {
    fn of(database: &Database) -> Counters<'_> {
        Counters { database, conn: database.connect() }
    }

    /// What the calls read: all of them on one connection of their own.
    async fn reads(
        &mut self,
        call: impl AsyncFn(&DataStore, usize),
    ) -> BTreeMap<String, Reads> {
        self.all_counted().await;
        let before = self.now();
        let settings = PoolSettings {
            max_connections: 1,
            acquire_timeout: Duration::from_secs(30),
            ..PoolSettings::default()
        };
        let datastore = DataStore::new(&self.database.url, settings);
        for n in 0..CALLS {
            call(&datastore, n).await;
        }
        drop(datastore);
        self.all_counted().await;
        let mut reads = self.now();
        for (table, reads) in &mut reads {
            reads.scans -= before[table].scans;
            reads.rows -= before[table].rows;
        }
        reads
    }

    /// A connection's counts are in once it has ended, and maybe not before:
    /// waits until there is none but this one.
    async fn all_counted(&mut self) {
        eventually("the connections have ended", async || {
            let others: Number = sql_query(
                "SELECT count(*) AS n FROM pg_stat_activity \
                 WHERE datname = current_database() \
                   AND backend_type = 'client backend' \
                   AND pid <> pg_backend_pid()",
            )
            .get_result(&mut self.conn)
            .unwrap();
            (others.n == 0).then_some(())
        })
        .await;
    }

    fn now(&mut self) -> BTreeMap<String, Reads> {
        let counters: Vec<Counter> = sql_query(
            "SELECT t.relname::TEXT AS name, t.seq_scan AS scans, \
                 (t.seq_tup_read + coalesce(( \
                     SELECT sum(i.idx_tup_read) \
                     FROM pg_stat_user_indexes i \
                     WHERE i.relid = t.relid), 0))::INT8 AS rows \
             FROM pg_stat_user_tables t",
        )
        .load(&mut self.conn)
        .unwrap();
        let reads =
            |c: Counter| (c.name, Reads { scans: c.scans, rows: c.rows });
        counters.into_iter().map(reads).collect()
    }
}

/// The ids of some of what was filled in: the `first`, and then each hundredth,
/// but of the few things each.
fn ids<T: From<Uuid>>(database: &Database, what: &str, first: usize) -> Vec<T> {
    let step = if first == 0 { 1 } else { 100 };
    let last = first + (CALLS - 1) * step;
    let ids = database.row(&format!(
        "SELECT json_agg(md5('{what}-' || n)::UUID ORDER BY n) AS ids \
         FROM generate_series({first}, {last}, {step}) n"
    ));
    let ids = ids["ids"].as_array().unwrap();
    ids.iter()
        .map(|id| id.as_str().unwrap().parse::<Uuid>().unwrap().into())
        .collect()
}
