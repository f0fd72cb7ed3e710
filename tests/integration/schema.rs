//! The schema: that every way to it ends in the same catalog, that a migration
//! may be cut off anywhere, and that what a database held before stays true.

use chrono::Utc;
use db_model::schema::SCHEMA_VERSION;
use db_model::{SiloId, SiloQuota};
use db_queries::{MigrateError, Migrated, migrate, migrations};
use diesel::connection::SimpleConnection;
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use harness::{Client, Database, NexusProcess, Tuning, eventually};
use serde_json::json;
use std::path::{Path, PathBuf};

const DBINIT: &str = include_str!("../../schema/dbinit.sql");
const BASE: &str = include_str!("../../schema/base.sql");
const DIESEL: &str = include_str!("../../db-model/src/schema.rs");

// ---- The version, and what is on disk ----

/// The numbered folders: version and path, in order.
fn folders() -> Vec<(i64, PathBuf)> {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schema");
    let mut folders: Vec<(i64, PathBuf)> = std::fs::read_dir(schema)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            (name.split_once('-').unwrap().0.parse().unwrap(), path)
        })
        .collect();
    folders.sort();
    folders
}

/// The steps in a folder: each file's number and text, in order.
fn steps_on_disk(folder: &Path) -> Vec<(usize, String)> {
    let mut steps: Vec<(usize, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let number = name
                .strip_prefix("up")
                .and_then(|rest| rest.strip_suffix(".sql"))
                .expect("a step is named upNN.sql");
            let text = std::fs::read_to_string(&path).unwrap();
            (number.parse().unwrap(), text)
        })
        .collect();
    steps.sort();
    steps
}

#[tokio::test]
async fn the_code_the_sql_and_the_folders_are_of_one_version() {
    let insert =
        format!("INSERT INTO db_metadata (version) VALUES ({SCHEMA_VERSION});");
    assert!(DBINIT.trim_end().ends_with(&insert), "dbinit.sql: {insert}");
    assert!(
        DBINIT.starts_with(&format!(
            "-- The schema as it is now: version {SCHEMA_VERSION}."
        )),
        "the first line of dbinit.sql names the version"
    );
    assert!(BASE.trim_end().ends_with("(version) VALUES (1);"));
    assert_eq!(folders().last().unwrap().0, SCHEMA_VERSION);
    let database = Database::create().await;
    assert_eq!(version(&database), SCHEMA_VERSION);
}

#[test]
fn no_step_on_disk_is_forgotten() {
    let folders = folders();
    assert_eq!(
        folders.iter().map(|(version, _)| *version).collect::<Vec<_>>(),
        (2..=SCHEMA_VERSION).collect::<Vec<_>>(),
        "one folder for each version after the first"
    );
    assert_eq!(folders.len(), migrations().len());
    for ((version, folder), (to, steps)) in folders.iter().zip(migrations()) {
        assert_eq!(version, to);
        let on_disk = steps_on_disk(folder);
        assert_eq!(
            on_disk.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
            (1..=steps.len()).collect::<Vec<_>>(),
            "the steps of {}",
            folder.display()
        );
        for ((number, text), step) in on_disk.iter().zip(*steps) {
            assert_eq!(text, step, "step {number} to version {version}");
        }
    }
}

// ---- The catalog ----

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = diesel::sql_types::Text)]
    line: String,
}

/// The lines that a query of one text column named `line` answers with.
fn lines(database: &Database, sql: &str) -> Vec<String> {
    let rows: Vec<Line> = sql_query(sql).load(&mut database.connect()).unwrap();
    rows.into_iter().map(|row| row.line).collect()
}

/// All that makes one schema differ from another, a line for each.
fn catalog(database: &Database) -> Vec<String> {
    const COLUMNS: &str = "\
        SELECT concat_ws(' ', 'column', table_name, ordinal_position, \
            column_name, udt_name, character_maximum_length, \
            'nullable', is_nullable, 'default', column_default) AS line \
        FROM information_schema.columns WHERE table_schema = 'public' \
        ORDER BY table_name, ordinal_position";
    const ENUMS: &str = "\
        SELECT concat_ws(' ', 'enum', t.typname, \
            string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder)) AS line \
        FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid \
        GROUP BY t.typname ORDER BY t.typname";
    const INDEXES: &str = "\
        SELECT concat_ws(' ', 'index', pg_get_indexdef(i.indexrelid)) AS line \
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid \
        WHERE c.relnamespace = 'public'::regnamespace ORDER BY line";
    const CONSTRAINTS: &str = "\
        SELECT concat_ws(' ', 'constraint', r.relname, c.conname, \
            pg_get_constraintdef(c.oid)) AS line \
        FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid \
        WHERE c.connamespace = 'public'::regnamespace ORDER BY line";
    let mut catalog = Vec::new();
    for (kind, sql) in [
        ("column", COLUMNS),
        ("enum", ENUMS),
        ("index", INDEXES),
        ("constraint", CONSTRAINTS),
    ] {
        let of_kind = lines(database, sql);
        assert!(of_kind.len() > 5, "these are not all: {kind} {of_kind:?}");
        catalog.extend(of_kind);
    }
    catalog
}

/// Compared line by line, so that a failure names the one that differs.
fn assert_same_catalog(found: &Database, expected: &Database) {
    let (found, expected) = (catalog(found), catalog(expected));
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).cloned().collect()
    };
    assert_eq!(
        only(&found, &expected),
        only(&expected, &found),
        "left: only after the migrations; right: only in dbinit.sql"
    );
    assert_eq!(found.len(), expected.len());
}

#[tokio::test]
async fn the_first_version_and_all_migrations_end_in_the_schema_as_it_is() {
    let old = database_at_version_1().await;
    assert_eq!(migrate(&old.datastore()).await.unwrap(), Migrated::From(1));
    assert_same_catalog(&old, &Database::create().await);
    assert_migrated(&old);
}

#[tokio::test]
async fn diesel_sees_the_tables_as_they_are() {
    let database = Database::create().await;
    let columns = lines(
        &database,
        "SELECT concat_ws(' ', table_name, column_name, \
             CASE udt_name WHEN 'varchar' THEN 'text' ELSE udt_name END, \
             CASE is_nullable WHEN 'YES' THEN 'nullable' END) AS line \
         FROM information_schema.columns WHERE table_schema = 'public' \
         ORDER BY table_name, ordinal_position",
    );
    let keys = lines(
        &database,
        "SELECT concat_ws(' ', r.relname, \
             replace(pg_get_constraintdef(c.oid), 'PRIMARY KEY ', '')) AS line \
         FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid \
         WHERE c.contype = 'p' \
             AND c.connamespace = 'public'::regnamespace \
         ORDER BY r.relname",
    );
    let mut tables = diesel_tables();
    tables.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(
        tables.iter().map(|t| t.key.clone()).collect::<Vec<_>>(),
        keys,
        "the tables and their primary keys"
    );
    let in_rust: Vec<String> =
        tables.into_iter().flat_map(|t| t.columns).collect();
    assert_eq!(in_rust, columns, "left: in Rust; right: in the database");
}

/// A value that SQL has and Rust has not would be read by no Nexus, and the
/// other way round it would be written by none.
#[tokio::test]
async fn the_enums_of_rust_are_those_of_sql_value_by_value() {
    macro_rules! enums {
        ($($name:ident),+ $(,)?) => {
            [$((
                sql_name(stringify!($name)),
                db_model::$name::ALL.iter().map(|v| v.as_str()).collect(),
            )),+]
        };
    }
    let mut in_rust: Vec<(String, Vec<&str>)> = enums![
        AffinityGroupKind,
        AffinityPolicy,
        AuthMethod,
        AutoRestartPolicy,
        BlocksPlace,
        DiskBackend,
        DiskState,
        InstanceCpuPlatform,
        InstanceState,
        IntendedState,
        ReservationRole,
        RoleName,
        RoleResource,
        SagaState,
        SledCpu,
        SledPolicy,
        SledProvisionPolicy,
        StartFailureKind,
        StartOutcome,
        StartReason,
        VmmEndReason,
        VmmState,
    ]
    .into();
    in_rust.sort();
    let in_rust: Vec<String> = in_rust
        .into_iter()
        .map(|(name, values)| format!("enum {name} {}", values.join(" ")))
        .collect();
    let in_sql: Vec<String> = catalog(&Database::create().await)
        .into_iter()
        .filter(|line| line.starts_with("enum "))
        .collect();
    assert_eq!(in_rust, in_sql, "left: in Rust; right: in the database");
}

/// A table as the text of db-model/src/schema.rs has it, in the database's
/// words.
struct DieselTable {
    /// Its name and its primary key: `vmm (id)`.
    key: String,
    columns: Vec<String>,
}

fn diesel_tables() -> Vec<DieselTable> {
    let mut tables: Vec<DieselTable> = Vec::new();
    for line in DIESEL.lines().map(str::trim) {
        if let Some(key) = line.strip_suffix(" {") {
            if key.contains(" (") {
                let (key, columns) = (key.to_string(), Vec::new());
                tables.push(DieselTable { key, columns });
            }
        } else if let Some((column, kind)) = line.split_once(" -> ")
            && let Some(kind) = kind.strip_suffix(',')
        {
            let inner = kind
                .strip_prefix("Nullable<")
                .and_then(|rest| rest.strip_suffix('>'));
            let nullable = if inner.is_some() { " nullable" } else { "" };
            let kind = sql_name(inner.unwrap_or(kind));
            let table = tables.last_mut().unwrap();
            let name = table.key.split_once(' ').unwrap().0;
            table.columns.push(format!("{name} {column} {kind}{nullable}"));
        }
    }
    tables
}

/// `Uuid` is `uuid`, `VmmStateSql` is `vmm_state`.
fn sql_name(rust: &str) -> String {
    let name = rust.strip_suffix("Sql").unwrap_or(rust);
    let mut sql = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !sql.is_empty() {
            sql.push('_');
        }
        sql.push(c.to_ascii_lowercase());
    }
    sql
}

// ---- A database from before intended states ----

/// What a user had, and what is to become of it.
struct Before {
    name: &'static str,
    state: &'static str,
    linked: bool,
    pending: bool,
    deleted: bool,
    /// What it is wanted to be, after.
    wanted: &'static str,
    /// Its state, after.
    then: &'static str,
    /// Is its attempt still pending, after?
    still_pending: bool,
}

const fn before(
    name: &'static str,
    state: &'static str,
    wanted: &'static str,
) -> Before {
    Before {
        name,
        state,
        linked: false,
        pending: false,
        deleted: false,
        wanted,
        then: state,
        still_pending: false,
    }
}

const BEFORE: &[Before] = &[
    Before { linked: true, ..before("linked", "vmm", "running") },
    Before {
        linked: true,
        pending: true,
        still_pending: true,
        ..before("linked-and-booting", "vmm", "running")
    },
    Before { deleted: true, ..before("destroyed", "destroyed", "destroyed") },
    Before { deleted: true, ..before("deleted", "no_vmm", "destroyed") },
    Before { then: "no_vmm", ..before("failed", "failed", "stopped") },
    before("at-rest", "no_vmm", "stopped"),
    Before {
        pending: true,
        still_pending: true,
        ..before("starting", "no_vmm", "running")
    },
    before("in-creation", "creating", "stopped"),
    Before {
        pending: true,
        still_pending: true,
        ..before("in-creation-to-start", "creating", "running")
    },
    // Version 1 had no constraint against these, so they may be met.
    Before {
        deleted: true,
        then: "no_vmm",
        ..before("failed-then-deleted", "failed", "destroyed")
    },
    Before {
        pending: true,
        still_pending: true,
        then: "no_vmm",
        ..before("failed-then-starting", "failed", "running")
    },
    Before {
        deleted: true,
        pending: true,
        ..before("deleted-while-starting", "no_vmm", "destroyed")
    },
];

/// Version 1, with an instance in each situation, and a silo without any.
async fn database_at_version_1() -> Database {
    let database = Database::create_empty().await;
    database.try_sql(BASE).unwrap();
    database
        .try_sql(
            "INSERT INTO silo VALUES \
                 (gen_random_uuid(), 'main', '', now(), now(), NULL);
             INSERT INTO project \
                 SELECT gen_random_uuid(), id, 'demo', 'Kept', now(), now(), \
                     NULL FROM silo;
             INSERT INTO sled VALUES \
                 (gen_random_uuid(), '127.0.0.1:1', 'S1', 'P', 1, \
                  'in_service', 'provisionable', gen_random_uuid(), 64, \
                  64::INT8 << 30, 1, 0, 0, now(), now(), now());
             INSERT INTO silo VALUES \
                 (gen_random_uuid(), 'empty', '', now(), now(), NULL);",
        )
        .unwrap();
    let mut conn = database.connect();
    for it in BEFORE {
        let time_deleted = if it.deleted { "now()" } else { "NULL" };
        let attempt = if it.pending { "gen_random_uuid()" } else { "NULL" };
        let vmm = if it.linked { "gen_random_uuid()" } else { "NULL" };
        let (name, state) = (it.name, it.state);
        conn.batch_execute(&format!(
            "INSERT INTO instance (id, project_id, name, description, \
                     time_created, time_modified, time_deleted, hostname, \
                     ncpus, memory_bytes, user_data, network_interfaces, \
                     state, state_gen, time_state_updated, active_vmm_id, \
                     pending_start_attempt_id, latest_start_attempt_id, \
                     failed_starts, reconcile_errors, view_gen) \
                 SELECT gen_random_uuid(), id, '{name}', 'Kept', now(), \
                     now(), {time_deleted}, '{name}', 1, 1::INT8 << 30, '', \
                     '[]', '{state}', 5, now(), {vmm}, {attempt}, NULL, 0, 0, \
                     7 FROM project;
                 UPDATE instance \
                     SET latest_start_attempt_id = pending_start_attempt_id \
                     WHERE name = '{name}';
                 INSERT INTO start_attempt (id, instance_id, reason, \
                     time_started, outcome, held_back) \
                 SELECT pending_start_attempt_id, id, 'user', now(), \
                     'pending', 0 FROM instance \
                 WHERE name = '{name}' \
                     AND pending_start_attempt_id IS NOT NULL;
                 INSERT INTO vmm (id, instance_id, sled_id, \
                     start_attempt_id, state, generation, may_run, ever_ran, \
                     unanswered, time_created, time_state_updated) \
                 SELECT active_vmm_id, instance.id, sled.id, \
                     gen_random_uuid(), 'running', 3, TRUE, TRUE, 0, now(), \
                     now() FROM instance, sled \
                 WHERE instance.name = '{name}' AND active_vmm_id IS NOT NULL;
                 INSERT INTO sled_reservation \
                 SELECT vmm.id, instance_id, sled_id, 'active', 1, \
                     3::INT8 << 30, now() \
                 FROM vmm JOIN instance ON active_vmm_id = vmm.id \
                 WHERE name = '{name}';
                 UPDATE sled SET (reserved_vcpus, reserved_memory_bytes) = \
                     (SELECT count(*), count(*) * 3::INT8 << 30 \
                      FROM sled_reservation);"
        ))
        .unwrap();
    }
    database
}

/// That each instance is wanted to be what it was, and lost nothing.
fn assert_migrated(database: &Database) {
    let rows = database.row(
        "SELECT jsonb_object_agg(r.name, to_jsonb(r)) AS by_name FROM ( \
             SELECT i.*, a.outcome, v.state AS vmm_state \
             FROM instance i \
                 LEFT JOIN start_attempt a ON a.id = i.latest_start_attempt_id \
                 LEFT JOIN vmm v ON v.id = i.active_vmm_id) AS r",
    );
    for it in BEFORE {
        let name = it.name;
        let row = &rows["by_name"][name];
        assert_eq!(row["intended_state"], it.wanted, "{name}");
        assert_eq!(row["state"], it.then, "{name}");
        let changed = it.then != it.state || it.pending != it.still_pending;
        let by = i64::from(changed);
        assert_eq!(row["state_gen"], 5 + by, "{name}: once, if at all");
        assert_eq!(row["view_gen"], 7 + by, "{name}: once, if at all");
        assert_eq!(row["description"], "Kept", "{name}");
        assert_eq!(!row["time_deleted"].is_null(), it.deleted, "{name}");
        assert_eq!(row["vmm_state"] == "running", it.linked, "{name}");
        let pending = &row["pending_start_attempt_id"];
        assert_eq!(!pending.is_null(), it.still_pending, "{name}");
        let outcome = match (it.pending, it.still_pending) {
            (true, true) => json!("pending"),
            (true, false) => json!("superseded"),
            (false, _) => json!(null),
        };
        assert_eq!(row["outcome"], outcome, "{name}");
    }
    let count = i64::try_from(BEFORE.len()).unwrap();
    assert_eq!(database.count("SELECT count(*) FROM instance"), count);
    assert_charged(database);
    assert_eq!(version(database), SCHEMA_VERSION);
    let lock = database.row(
        "SELECT target_version, migrator_id, migrator_lease_expires \
         FROM db_metadata",
    );
    let free = json!({
        "target_version": null,
        "migrator_id": null,
        "migrator_lease_expires": null,
    });
    assert_eq!(lock, free);
}

/// That each silo has a quota that it does not feel, and is charged with what
/// its VMMs hold.
fn assert_charged(database: &Database) {
    let rows = database.row(
        "SELECT jsonb_object_agg(s.name, to_jsonb(q) - 'silo_id' \
                 - 'time_modified') AS by_name \
         FROM silo s JOIN silo_quota q ON q.silo_id = s.id",
    );
    let unfelt = SiloQuota::unfelt(SiloId::new_v4(), Utc::now());
    let quota = |vmms: i64| {
        json!({
            "vcpus": unfelt.vcpus,
            "memory_bytes": unfelt.memory_bytes,
            "storage_bytes": unfelt.storage_bytes,
            "used_vcpus": vmms,
            "used_memory_bytes": vmms * (3 << 30),
            "used_storage_bytes": 0,
        })
    };
    let linked = BEFORE.iter().filter(|it| it.linked).count();
    let linked = i64::try_from(linked).unwrap();
    assert!(linked > 0);
    let expected = json!({ "main": quota(linked), "empty": quota(0) });
    assert_eq!(rows["by_name"], expected);
    let charged = database.count(
        "SELECT count(*) FROM sled_reservation r \
         JOIN silo s ON s.id = r.silo_id WHERE s.name = 'main'",
    );
    assert_eq!(charged, linked, "each reservation is its silo's");
}

fn version(database: &Database) -> i64 {
    database.count("SELECT version FROM db_metadata")
}

// ---- Steps that run twice, processes that die, processes that race ----

#[tokio::test]
async fn each_step_may_run_twice() {
    let database = database_at_version_1().await;
    for step in migrations().iter().flat_map(|(_, steps)| *steps) {
        database.try_sql(step).unwrap();
    }
    // It still says version 1, so this runs all of them again.
    let again = migrate(&database.datastore()).await.unwrap();
    assert_eq!(again, Migrated::From(1));
    assert_same_catalog(&database, &Database::create().await);
    assert_migrated(&database);
}

#[tokio::test]
async fn a_migration_cut_off_after_any_step_is_finished_by_the_next() {
    let expected = Database::create().await;
    let total: usize = migrations().iter().map(|(_, steps)| steps.len()).sum();
    for cut in 0..=total {
        let database = database_at_version_1().await;
        cut_off_after(&database, cut);
        migrate(&database.datastore()).await.unwrap();
        assert_same_catalog(&database, &expected);
        assert_migrated(&database);
    }
}

/// What a migrator leaves that dies after its `cut`th step, before it can say
/// that it took it.
fn cut_off_after(database: &Database, cut: usize) {
    let mut conn = database.connect();
    let mut left = cut;
    for (to, steps) in migrations() {
        conn.batch_execute(&format!(
            "UPDATE db_metadata SET version = {to} - 1, \
                     target_version = {to}, migrator_id = gen_random_uuid(), \
                     migrator_lease_expires = now() - INTERVAL '1 second'"
        ))
        .unwrap();
        for step in *steps {
            if left == 0 {
                return;
            }
            conn.batch_execute(step).unwrap();
            left -= 1;
        }
        if left == 0 {
            return;
        }
    }
}

#[tokio::test]
async fn a_migrator_waits_until_the_lease_of_another_is_over() {
    let database = database_at_version_1().await;
    database
        .try_sql(
            "UPDATE db_metadata SET target_version = 2, \
                 migrator_id = gen_random_uuid(), \
                 migrator_lease_expires = \
                     clock_timestamp() + INTERVAL '700 milliseconds'; \
             CREATE TABLE lease AS \
                 SELECT migrator_lease_expires AS expires FROM db_metadata",
        )
        .unwrap();
    let migrated = migrate(&database.datastore()).await.unwrap();
    assert_eq!(migrated, Migrated::From(1));
    let waited = database.count(
        "SELECT count(*) FROM db_metadata, lease \
         WHERE time_modified > expires",
    );
    assert_eq!(waited, 1, "it began while the other was at it");
    assert_migrated(&database);
}

#[tokio::test]
async fn two_that_migrate_at_once_end_well() {
    let database = database_at_version_1().await;
    let (a, b) = (database.datastore(), database.datastore());
    let (a, b) = tokio::join!(migrate(&a), migrate(&b));
    a.unwrap();
    b.unwrap();
    assert_same_catalog(&database, &Database::create().await);
    assert_migrated(&database);
}

#[tokio::test]
async fn two_that_find_an_empty_database_at_once_end_well() {
    let expected = Database::create().await;
    // Which of them collide, and on what, differs from time to time.
    for _ in 0..4 {
        let database = Database::create_empty().await;
        let (a, b) = (database.datastore(), database.datastore());
        let (a, b) = tokio::join!(migrate(&a), migrate(&b));
        a.unwrap();
        b.unwrap();
        assert_same_catalog(&database, &expected);
        assert_eq!(database.count("SELECT count(*) FROM db_metadata"), 1);
        assert_eq!(version(&database), SCHEMA_VERSION);
    }
}

#[tokio::test]
async fn what_is_up_to_date_is_left_alone() {
    let database = Database::create().await;
    let row = database.row("SELECT * FROM db_metadata");
    let migrated = migrate(&database.datastore()).await.unwrap();
    assert_eq!(migrated, Migrated::UpToDate);
    assert_eq!(database.row("SELECT * FROM db_metadata"), row);
}

#[tokio::test]
async fn a_version_before_the_first_is_refused() {
    let database = Database::create().await;
    database.try_sql("UPDATE db_metadata SET version = 0").unwrap();
    let error = migrate(&database.datastore()).await.unwrap_err();
    assert!(matches!(error, MigrateError::Unknown { found: 0 }), "{error:?}");
    assert_eq!(version(&database), 0);
}

// ---- Nexus itself ----

#[tokio::test]
async fn nexus_upgrades_an_old_database_when_it_starts_and_serves_it() {
    let database = database_at_version_1().await;
    let dir = tempfile::tempdir().unwrap();
    let nexus =
        NexusProcess::start(dir.path(), &database.url, &Tuning::default())
            .await;
    let token = nexus.bootstrap("main", "admin", true).await;
    let client = Client::new(nexus.external(), &token);
    let project = client.get("/v1/projects/demo").await.expect(200);
    assert_eq!(project["description"], "Kept", "what was there is there");
    for (name, wanted, run_state) in [
        ("at-rest", "stopped", "stopped"),
        ("failed", "stopped", "stopped"),
        // Its sled does not answer, which says nothing of it.
        ("linked", "running", "running"),
        ("starting", "running", "starting"),
    ] {
        let path = format!("/v1/instances/{name}?project=demo");
        let instance = client.get(&path).await.expect(200);
        assert_eq!(instance["intended_state"], wanted, "{name}");
        assert_eq!(instance["run_state"], run_state, "{name}");
    }
    client
        .get("/v1/instances/deleted?project=demo")
        .await
        .error(404, "ObjectNotFound");
    assert_same_catalog(&database, &Database::create().await);
}

/// The step that it was at goes on in the database without it, as after any
/// death of a client, and nobody hears how it ends.
#[tokio::test]
async fn what_a_nexus_that_was_killed_left_half_migrated_the_next_one_finishes()
{
    let database = database_at_version_1().await;
    let mut holder = database.connect();
    let hold = "BEGIN; LOCK TABLE instance IN ACCESS SHARE MODE";
    holder.batch_execute(hold).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut dies = NexusProcess::begin(dir.path(), &database.url);
    eventually("a step waits for the table", async || {
        let waiting = "SELECT count(*) FROM pg_locks \
             WHERE NOT granted AND relation = 'instance'::regclass";
        (database.count(waiting) > 0).then_some(())
    })
    .await;
    dies.kill().await;
    holder.batch_execute("COMMIT").unwrap();
    eventually("the step is over", async || {
        let others = "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() \
               AND application_name = '' AND query LIKE 'ALTER TABLE%' \
               AND state = 'active'";
        (database.count(others) == 0).then_some(())
    })
    .await;
    let left = database.row("SELECT version, target_version FROM db_metadata");
    assert_eq!(left, json!({ "version": 1, "target_version": 2 }));

    // As if the dead one's lease had run out.
    let expire = "UPDATE db_metadata SET migrator_lease_expires = now()";
    database.try_sql(expire).unwrap();
    let tuning = Tuning::default();
    NexusProcess::start(dir.path(), &database.url, &tuning).await;
    assert_same_catalog(&database, &Database::create().await);
    assert_migrated(&database);
}

#[tokio::test]
async fn two_nexuses_that_start_on_an_old_database_at_once_both_serve_it() {
    let database = database_at_version_1().await;
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let tuning = Tuning::default();
    let start =
        |n: usize| NexusProcess::start(dirs[n].path(), &database.url, &tuning);
    let (a, b) = tokio::join!(start(0), start(1));
    let token = a.bootstrap("main", "admin", true).await;
    for nexus in [&a, &b] {
        let client = Client::new(nexus.external(), &token);
        client.get("/v1/projects/demo").await.expect(200);
    }
    assert_same_catalog(&database, &Database::create().await);
}

#[tokio::test]
async fn nexus_refuses_a_database_that_is_newer_than_it_knows_and_says_so() {
    let database = Database::create().await;
    database.try_sql("UPDATE db_metadata SET version = 999").unwrap();
    let before = catalog(&database);
    let dir = tempfile::tempdir().unwrap();
    let (code, stderr) = NexusProcess::refused(dir.path(), &database.url).await;
    assert_eq!(code, Some(1), "{stderr}");
    let sentence = format!(
        "the database's schema is version 999, newer than {SCHEMA_VERSION}"
    );
    // The log goes there too, in an order of its own.
    let said =
        |line: &str| line.starts_with("nexus: ") && line.contains(&sentence);
    assert!(stderr.lines().any(said), "{stderr}");
    assert_eq!(version(&database), 999, "nothing is changed");
    assert_eq!(catalog(&database), before, "nothing is changed");
}
