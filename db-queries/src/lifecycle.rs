//! The transaction in which every change of an instance is made: lock, read
//! the facts, decide (purely), write.

use crate::{AttemptEnded, DataStore, Error, affinity_group, disk, fence};
use chrono::{DateTime, Utc};
use db_model::lifecycle::{Changes, Facts, ReservationFate};
use db_model::schema::{instance, sled, sled_reservation, start_attempt, vmm};
use db_model::{
    ByteCount, Fence, Instance, InstanceId, InstanceState, ReservationRole,
    SledId, SledPolicy, SledProvisionPolicy, SledReservation, StartAttempt,
    StartReason, Vmm, VmmId,
};
use diesel::result::Error as DieselError;
use diesel::sql_types::{BigInt, Timestamptz, Uuid as SqlUuid};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, PgConnection,
    QueryDsl, QueryResult, QueryableByName, RunQueryDsl, SelectableHelper,
    sql_query,
};

/// Starts that freed room wakes at most: enough to use what one VMM leaves of a
/// sled, and few enough not to race each other in vain. Each of them that gets
/// room wakes others, so that as many are on their way while there is room.
const WOKEN_AT_ONCE: i64 = 8;

#[derive(QueryableByName)]
struct Locked {
    #[diesel(embed)]
    instance: Instance,
    #[diesel(sql_type = Timestamptz)]
    now: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

impl DataStore {
    /// One transaction: the instance is locked, `decide` is given its facts
    /// and says what is written. A saga's transaction checks its fence first.
    ///
    /// # Errors
    ///
    /// `NotFound`; what `decide` returns; `NoRoom` when a new VMM's sled has
    /// none any more; `Fenced`. Nothing is written then.
    pub(crate) async fn lifecycle<T, F>(
        &self,
        fence: Option<Fence>,
        id: InstanceId,
        mut decide: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection, &Facts) -> Result<(Changes, T), Error>
            + Send
            + 'static,
    {
        let (answer, ended) = self
            .transaction(move |conn| {
                if let Some(fence) = &fence {
                    fence::check(conn, fence)?;
                }
                let facts = lock(conn, id)?;
                let (changes, answer) = decide(conn, &facts)?;
                write(conn, &facts, &changes)?;
                Ok((
                    answer,
                    changes.attempt.as_ref().and_then(AttemptEnded::of),
                ))
            })
            .await?;
        // Only a pending attempt is ever written, so it ended just now.
        if let Some(ended) = ended {
            self.attempts_ended().get_or_create(&ended).inc();
        }
        Ok(answer)
    }
}

/// Locks the instance and reads its facts.
fn lock(conn: &mut PgConnection, id: InstanceId) -> Result<Facts, Error> {
    let locked: Locked = sql_query(
        "SELECT instance.*, clock_timestamp() AS now \
         FROM instance WHERE id = $1 FOR UPDATE",
    )
    .bind::<SqlUuid, _>(id)
    .get_result(conn)?;
    read_rest(conn, locked.instance, locked.now)
}

/// Reads what belongs to an instance: while it is locked, or in a snapshot.
pub(crate) fn read_rest(
    conn: &mut PgConnection,
    instance: Instance,
    now: DateTime<Utc>,
) -> Result<Facts, Error> {
    let vmms = vmm::table
        .filter(vmm::instance_id.eq(instance.id))
        .filter(vmm::time_ended.is_null())
        .select(Vmm::as_select())
        .load(conn)?;
    let mut facts = Facts { attempt: None, vmms, instance, now };
    if let Some(active) = facts.instance.active_vmm_id
        && facts.vmm(active).is_none()
    {
        let linked =
            vmm::table.find(active).select(Vmm::as_select()).first(conn);
        facts.vmms.push(linked_to(linked)?);
    }
    if let Some(pending) = facts.instance.pending_start_attempt_id {
        let attempt = start_attempt::table
            .find(pending)
            .select(StartAttempt::as_select())
            .first(conn);
        facts.attempt = Some(linked_to(attempt)?);
    }
    Ok(facts)
}

/// A link that leads nowhere is our fault, and no "not found".
fn linked_to<T>(row: QueryResult<T>) -> Result<T, Error> {
    row.map_err(|error| {
        if matches!(error, DieselError::NotFound) {
            Error::Internal(error)
        } else {
            error.into()
        }
    })
}

/// Writes a transition's changes.
fn write(
    conn: &mut PgConnection,
    facts: &Facts,
    changes: &Changes,
) -> Result<(), Error> {
    if let Some(row) = &changes.attempt {
        diesel::update(start_attempt::table.find(row.id))
            .set(row)
            .execute(conn)?;
    }
    if let Some(row) = &changes.new_attempt {
        diesel::insert_into(start_attempt::table).values(row).execute(conn)?;
    }
    if let Some((row, held)) = &changes.new_vmm {
        reserve(conn, held)?;
        diesel::insert_into(vmm::table).values(row).execute(conn)?;
        diesel::insert_into(sled_reservation::table)
            .values(held)
            .execute(conn)?;
    }
    if let Some(row) = &changes.vmm {
        diesel::update(vmm::table.find(row.id)).set(row).execute(conn)?;
    }
    if let Some(row) = &changes.instance {
        diesel::update(instance::table.find(row.id)).set(row).execute(conn)?;
        if facts.instance.time_deleted.is_none() && row.time_deleted.is_some() {
            deleted(conn, &facts.instance)?;
        }
    }
    match changes.reservation {
        Some((vmm, ReservationFate::Release)) => release(conn, vmm)?,
        Some((vmm, ReservationFate::Abandon)) => {
            diesel::update(sled_reservation::table.find(vmm))
                .set(sled_reservation::role.eq(ReservationRole::Abandoned))
                .execute(conn)?;
        }
        None => (),
    }
    if let (Some((_, held)), Some(attempt)) =
        (&changes.new_vmm, &changes.attempt)
        && attempt.reason == StartReason::AutoRestart
    {
        wake_next(conn, held.sled_id)?;
    }
    Ok(())
}

/// A deleted instance is in no group and has no disk. What was made with it, if
/// it never came to be, goes with it.
fn deleted(conn: &mut PgConnection, was: &Instance) -> Result<(), Error> {
    affinity_group::leave_all(conn, was.id)?;
    if was.state == InstanceState::Creating {
        disk::delete_made_with(conn, was.id, was.time_created)?;
    }
    disk::detach_all(conn, was.id)
}

/// Takes room on a sled, if it is there and the sled takes instances: one
/// guarded statement on the sled's own sums.
fn reserve(
    conn: &mut PgConnection,
    held: &SledReservation,
) -> Result<(), Error> {
    let reserved = diesel::update(sled::table.find(held.sled_id))
        .filter(sled::policy.eq(SledPolicy::InService))
        .filter(sled::provision_policy.eq(SledProvisionPolicy::Provisionable))
        .filter(
            (sled::reserved_vcpus + held.vcpus).le(sled::vcpus).and(
                (sled::reserved_memory_bytes + held.memory_bytes.to_i64())
                    .le(sled::memory_bytes),
            ),
        )
        .set((
            sled::reserved_vcpus.eq(sled::reserved_vcpus + held.vcpus),
            sled::reserved_memory_bytes
                .eq(sled::reserved_memory_bytes + held.memory_bytes.to_i64()),
        ))
        .execute(conn)?;
    if reserved == 1 { Ok(()) } else { Err(Error::NoRoom) }
}

/// Gives back what a VMM held, and wakes who waited for it.
fn release(conn: &mut PgConnection, vmm: VmmId) -> Result<(), Error> {
    let held: Option<(SledId, i64, ByteCount)> =
        diesel::delete(sled_reservation::table.find(vmm))
            .returning((
                sled_reservation::sled_id,
                sled_reservation::vcpus,
                sled_reservation::memory_bytes,
            ))
            .get_result(conn)
            .optional()?;
    let Some((sled_id, vcpus, memory)) = held else { return Ok(()) };
    diesel::update(sled::table.find(sled_id))
        .set((
            sled::reserved_vcpus.eq(sled::reserved_vcpus - vcpus),
            sled::reserved_memory_bytes
                .eq(sled::reserved_memory_bytes - memory.to_i64()),
        ))
        .execute(conn)?;
    wake_waiting(conn, sled_id)
}

/// Has failed starts looked at that wait for room and that this sled could
/// take: at most a few, longest waiting first. Whether there is room for them,
/// the look finds out. Those that are locked at this moment are passed over:
/// whoever holds them looks at them, or is about to have them looked at.
pub(crate) fn wake_waiting(
    conn: &mut PgConnection,
    sled: SledId,
) -> Result<(), Error> {
    wake(conn, sled, WOKEN_AT_ONCE)
}

/// A start of the system's own has got room on a sled, and there may be more.
/// Those that look for room already count among those to be woken: were they
/// not, each start would wake eight more, and all who wait would run for the
/// room of a few. One is woken in any case: those may all be held back.
fn wake_next(conn: &mut PgConnection, sled: SledId) -> Result<(), Error> {
    let looking: Count = sql_query(
        "SELECT count(*) AS n FROM start_attempt \
         WHERE outcome = 'pending' AND reason = 'auto_restart' \
           AND vmm_id IS NULL",
    )
    .get_result(conn)?;
    wake(conn, sled, (WOKEN_AT_ONCE - looking.n).max(1))
}

fn wake(
    conn: &mut PgConnection,
    sled: SledId,
    limit: i64,
) -> Result<(), Error> {
    sql_query(
        "UPDATE instance \
         SET reconcile_at = clock_timestamp() \
         WHERE id IN ( \
             SELECT i.id \
             FROM instance i \
             JOIN start_attempt a ON a.id = i.latest_start_attempt_id \
             JOIN sled s ON s.id = $1 \
             WHERE i.state = 'failed' \
               AND i.failed_starts > 0 \
               AND (i.auto_restart_policy IS NULL \
                    OR i.auto_restart_policy = 'best_effort') \
               AND a.failure_kind IN \
                   ('insufficient_capacity', 'no_sled_in_service') \
               AND s.policy = 'in_service' \
               AND s.provision_policy = 'provisionable' \
               AND i.ncpus <= s.vcpus - s.reserved_vcpus \
               AND i.memory_bytes <= s.memory_bytes - s.reserved_memory_bytes \
             ORDER BY i.time_state_updated, i.id \
             LIMIT $2 \
             FOR UPDATE OF i SKIP LOCKED)",
    )
    .bind::<SqlUuid, _>(sled)
    .bind::<BigInt, _>(limit)
    .execute(conn)?;
    Ok(())
}
