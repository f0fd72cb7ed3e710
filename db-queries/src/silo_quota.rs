//! What silos may have at once, and what they have.

use crate::{ById, ByNameOrId, DataStore, Error, Page};
use db_model::schema::{silo, silo_quota};
use db_model::{Name, NameOrId, SiloId, SiloQuota, SiloQuotaChange};
use diesel::dsl::now;
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
    sql_query,
};

/// Starts that a raised limit wakes at most: it may have been raised a lot, and
/// all who wait at once would race each other in vain. Those that are left out
/// are woken as others end, or look for themselves within minutes.
const WOKEN_AT_ONCE: i64 = 8;

impl DataStore {
    /// A live silo's quota and use, with its name.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn silo_quota_view(
        &self,
        which: NameOrId,
    ) -> Result<(Name, SiloQuota), Error> {
        self.run(move |conn| {
            let query = silo_quota::table
                .inner_join(silo::table)
                .filter(silo::time_deleted.is_null())
                .select((silo::name, SiloQuota::as_select()))
                .into_boxed();
            let query = match &which {
                NameOrId::Id(id) => query.filter(silo::id.eq(*id)),
                NameOrId::Name(name) => query.filter(silo::name.eq(name)),
            };
            Ok(query.first(conn)?)
        })
        .await
    }

    /// The live silos' quotas, by the silo's id.
    pub async fn silo_quota_list(
        &self,
        page: Page<ById>,
    ) -> Result<Vec<SiloQuota>, Error> {
        self.run(move |conn| {
            let query = silo_quota::table
                .inner_join(silo::table)
                .filter(silo::time_deleted.is_null())
                .order(silo_quota::silo_id.asc())
                .limit(page.limit)
                .select(SiloQuota::as_select())
                .into_boxed();
            let query = match page.by.after {
                Some(after) => {
                    query.filter(silo_quota::silo_id.gt(SiloId(after)))
                }
                None => query,
            };
            Ok(query.load(conn)?)
        })
        .await
    }

    /// The live silos' quotas and use, each with its silo's name.
    pub async fn silo_utilization_list(
        &self,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<(Name, SiloQuota)>, Error> {
        self.run(move |conn| {
            let query = silo::table
                .inner_join(silo_quota::table)
                .filter(silo::time_deleted.is_null())
                .limit(page.limit)
                .select((silo::name, SiloQuota::as_select()))
                .into_boxed();
            let query = match page.by.clone() {
                ByNameOrId::Name { after, descending: false } => {
                    let query = query.order(silo::name.asc());
                    match after {
                        Some(after) => query.filter(silo::name.gt(after)),
                        None => query,
                    }
                }
                ByNameOrId::Name { after, descending: true } => {
                    let query = query.order(silo::name.desc());
                    match after {
                        Some(after) => query.filter(silo::name.lt(after)),
                        None => query,
                    }
                }
                ByNameOrId::Id { after } => {
                    let query = query.order(silo::id.asc());
                    match after {
                        Some(after) => query.filter(silo::id.gt(after)),
                        None => query,
                    }
                }
            };
            Ok(query.load(conn)?)
        })
        .await
    }

    /// Changes what `change` names. A limit may fall below the use: what is
    /// there stays, and nothing more starts. A limit that rises wakes who
    /// waited for it.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn silo_quota_change(
        &self,
        id: SiloId,
        change: SiloQuotaChange,
    ) -> Result<SiloQuota, Error> {
        self.transaction(move |conn| {
            let old: SiloQuota = silo_quota::table
                .find(id)
                .select(SiloQuota::as_select())
                .for_update()
                .first(conn)?;
            let new: SiloQuota = diesel::update(silo_quota::table.find(id))
                .set((
                    silo_quota::vcpus.eq(change.vcpus.unwrap_or(old.vcpus)),
                    silo_quota::memory_bytes
                        .eq(change.memory.unwrap_or(old.memory_bytes)),
                    silo_quota::storage_bytes
                        .eq(change.storage.unwrap_or(old.storage_bytes)),
                    silo_quota::time_modified.eq(now),
                ))
                .returning(SiloQuota::as_returning())
                .get_result(conn)?;
            let raised = new.vcpus > old.vcpus
                || new.memory_bytes > old.memory_bytes
                || new.storage_bytes > old.storage_bytes;
            if raised {
                wake_for_quota(conn, id)?;
            }
            Ok(new)
        })
        .await
    }
}

/// Has failed starts of a silo looked at that wait for its quota and that now
/// fit what is left of it: at most a few, longest waiting first. Of their disks
/// the look finds out. Those that are locked at this moment are passed over:
/// whoever holds them looks at them, or is about to have them looked at.
pub(crate) fn wake_for_quota(
    conn: &mut PgConnection,
    silo: SiloId,
) -> Result<(), Error> {
    sql_query(
        "UPDATE instance \
         SET reconcile_at = clock_timestamp() \
         WHERE id IN ( \
             SELECT i.id \
             FROM instance i \
             JOIN start_attempt a ON a.id = i.latest_start_attempt_id \
             JOIN project p ON p.id = i.project_id \
             JOIN silo_quota q ON q.silo_id = p.silo_id \
             WHERE q.silo_id = $1 \
               AND i.state = 'failed' \
               AND i.failed_starts > 0 \
               AND (i.auto_restart_policy IS NULL \
                    OR i.auto_restart_policy = 'best_effort') \
               AND a.failure_kind = 'quota_exceeded' \
               AND i.ncpus <= q.vcpus - q.used_vcpus \
               AND i.memory_bytes <= q.memory_bytes - q.used_memory_bytes \
             ORDER BY i.time_state_updated, i.id \
             LIMIT $2 \
             FOR UPDATE OF i SKIP LOCKED)",
    )
    .bind::<SqlUuid, _>(silo)
    .bind::<BigInt, _>(WOKEN_AT_ONCE)
    .execute(conn)?;
    Ok(())
}
