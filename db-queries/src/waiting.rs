//! Failed starts that wait for something, and whoever brings it about.
//!
//! What changes wakes those that it could help, and no others, longest waiting
//! first; at most a few, so that they do not race each other in vain; each of
//! them that gets what it wanted wakes the next. To wake is to have somebody
//! look: whether it would start, the look finds out.

use crate::Error;
use crate::sql::statement;
use db_model::{
    AffinityGroupId, InstanceCpuPlatform, InstanceId, MAX_GROUP_MEMBERS,
    SiloId, SledId,
};
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use diesel::{PgConnection, QueryableByName, RunQueryDsl};

/// Starts that something wakes at most: enough to use what one VMM leaves of a
/// sled, and few enough not to race each other in vain. Each of them that gets
/// room wakes others, so that as many are on their way while there is room.
const WOKEN_AT_ONCE: i64 = 8;

/// A failed start that the system may try again. `i` is the instance, `a` its
/// attempt.
const WAITING: &str = "i.state = 'failed' AND i.failed_starts > 0 \
     AND (i.auto_restart_policy IS NULL \
          OR i.auto_restart_policy = 'best_effort')";

/// Quota `q` is its silo's. Looked up for each: a join reads all projects.
const OF_ITS_SILO: &str = "q.silo_id = ( \
         SELECT p.silo_id FROM project p WHERE p.id = i.project_id)";

/// Its silo's quota `q` has enough left for it.
const WITHIN_QUOTA: &str = "i.ncpus <= q.vcpus - q.used_vcpus \
     AND i.memory_bytes <= q.memory_bytes - q.used_memory_bytes";

/// The bytes of its disks that are nowhere yet.
const UNALLOCATED: &str = "COALESCE(( \
         SELECT sum(d.size_bytes) FROM disk d \
         WHERE d.instance_id = i.id AND d.backend = 'local' \
           AND d.sled_id IS NULL), 0)";

/// Nothing speaks against sled `s`, as in `db_model::placement::Cause`, but
/// perhaps its silence.
const FITS: &str = "s.policy = 'in_service' \
     AND s.provision_policy = 'provisionable' \
     AND i.ncpus <= s.vcpus - s.reserved_vcpus \
     AND i.memory_bytes <= s.memory_bytes - s.reserved_memory_bytes \
     AND NOT EXISTS ( \
         SELECT 1 FROM disk d \
         WHERE d.instance_id = i.id AND d.sled_id <> s.id) \
     AND NOT EXISTS ( \
         SELECT 1 FROM affinity_group_member m \
         JOIN affinity_group g ON g.id = m.group_id \
         JOIN affinity_claim c ON c.group_id = m.group_id \
         WHERE m.instance_id = i.id AND c.instance_id <> i.id \
           AND g.policy = 'fail' \
           AND (g.kind = 'anti_affinity') = (c.sled_id = s.id))";

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Wakes those for whom a sled would do: it has given back room, is new, is
/// back, or has changed.
pub(crate) fn wake_room(
    conn: &mut PgConnection,
    sled: SledId,
) -> Result<(), Error> {
    room(conn, sled, WOKEN_AT_ONCE)
}

/// Wakes those whom a silo's quota kept from starting, and would not now.
pub(crate) fn wake_quota(
    conn: &mut PgConnection,
    silo: SiloId,
) -> Result<(), Error> {
    quota(conn, silo, WOKEN_AT_ONCE)
}

/// Wakes the members of a group that failed for want of a place: where its other
/// members are has changed.
pub(crate) fn wake_group(
    conn: &mut PgConnection,
    group: AffinityGroupId,
) -> Result<(), Error> {
    wake(
        conn,
        &format!(
            "SELECT i.id FROM instance i \
             JOIN affinity_group_member m ON m.instance_id = i.id \
             JOIN start_attempt a ON a.id = i.latest_start_attempt_id \
             WHERE m.group_id = $1 AND {WAITING} \
               AND a.failure_kind IN \
                   ('affinity', 'anti_affinity', 'affinity_conflict', \
                    'insufficient_capacity', 'local_storage')"
        ),
        group.0,
        MAX_GROUP_MEMBERS,
    )
}

/// A start of the system's own has got a place, and there may be room for
/// others there, and quota. Those that look for a place already count among
/// those to be woken: were they not, each start would wake eight more, and all
/// who wait would run for the room of a few. One is woken in any case: those
/// may all be held back.
pub(crate) fn wake_next(
    conn: &mut PgConnection,
    sled: SledId,
    silo_of: InstanceId,
) -> Result<(), Error> {
    let looking: Count = statement(
        "SELECT count(*) AS n FROM start_attempt \
         WHERE outcome = 'pending' AND reason = 'auto_restart' \
           AND vmm_id IS NULL",
    )
    .get_result(conn)?;
    let limit = (WOKEN_AT_ONCE - looking.n).max(1);
    room(conn, sled, limit)?;
    let silo: Silo = statement(
        "SELECT p.silo_id FROM instance i JOIN project p \
             ON p.id = i.project_id WHERE i.id = $1",
    )
    .bind::<SqlUuid, _>(silo_of)
    .get_result(conn)?;
    quota(conn, silo.silo_id, limit)
}

#[derive(QueryableByName)]
struct Silo {
    #[diesel(sql_type = SqlUuid)]
    silo_id: SiloId,
}

fn room(
    conn: &mut PgConnection,
    sled: SledId,
    limit: i64,
) -> Result<(), Error> {
    wake(
        conn,
        &format!(
            "SELECT i.id FROM instance i \
             JOIN start_attempt a ON a.id = i.latest_start_attempt_id \
             JOIN sled s ON s.id = $1 \
             WHERE {WAITING} \
               AND a.failure_kind IN \
                   ('insufficient_capacity', 'no_sled_in_service', \
                    'anti_affinity', 'affinity', 'affinity_conflict', \
                    'cpu_platform', 'local_storage') \
               AND {FITS} \
               AND (i.cpu_platform IS NULL OR {}) \
               AND {UNALLOCATED} \
                   <= s.storage_bytes - s.reserved_storage_bytes",
            cpu_matches(),
        ),
        sled.0,
        limit,
    )
}

fn quota(
    conn: &mut PgConnection,
    silo: SiloId,
    limit: i64,
) -> Result<(), Error> {
    wake(
        conn,
        &format!(
            "SELECT i.id FROM instance i \
             JOIN start_attempt a ON a.id = i.latest_start_attempt_id \
             JOIN silo_quota q ON {OF_ITS_SILO} \
             WHERE q.silo_id = $1 AND {WAITING} \
               AND a.failure_kind = 'quota_exceeded' \
               AND {WITHIN_QUOTA} \
               AND ({UNALLOCATED} = 0 OR {UNALLOCATED} \
                   <= q.storage_bytes - q.used_storage_bytes)"
        ),
        silo.0,
        limit,
    )
}

/// Sled `s` has a CPU that the instance `i` asks for.
fn cpu_matches() -> String {
    let pairs: Vec<String> = InstanceCpuPlatform::ALL
        .iter()
        .flat_map(|platform| {
            platform.runs_on().iter().map(move |cpu| {
                format!("(i.cpu_platform = '{platform}' AND s.cpu = '{cpu}')")
            })
        })
        .collect();
    pairs.join(" OR ")
}

/// Has those that `who` selects, as a query of instance `i` with one parameter,
/// looked at now. Those that are locked at this moment are passed over: whoever
/// holds them looks at them, or is about to have them looked at.
fn wake(
    conn: &mut PgConnection,
    who: &str,
    parameter: uuid::Uuid,
    limit: i64,
) -> Result<(), Error> {
    statement(format!(
        "UPDATE instance SET reconcile_at = clock_timestamp() \
         WHERE id IN ({who} \
             ORDER BY i.time_state_updated, i.id LIMIT $2 \
             FOR UPDATE OF i SKIP LOCKED)"
    ))
    .bind::<SqlUuid, _>(parameter)
    .bind::<BigInt, _>(limit)
    .execute(conn)?;
    Ok(())
}
