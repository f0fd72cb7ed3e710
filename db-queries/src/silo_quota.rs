//! What silos may have at once, and what they have.

use crate::pagination::begun_at;
use crate::sql::Keep;
use crate::waiting::wake_quota;
use crate::{ById, ByNameOrId, DataStore, Error, Page};
use db_model::schema::{silo, silo_quota};
use db_model::{
    ByteCount, Name, NameOrId, SiloId, SiloQuota, SiloQuotaChange,
    StorageExceeded,
};
use diesel::dsl::now;
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
};

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
            let query = begun_at!(query, page.by, silo);
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
                .kept()
                .get_result(conn)?;
            let raised = new.vcpus > old.vcpus
                || new.memory_bytes > old.memory_bytes
                || new.storage_bytes > old.storage_bytes;
            if raised {
                wake_quota(conn, id)?;
            }
            Ok(new)
        })
        .await
    }
}

/// Charges a silo's quota with storage, if there is as much left.
///
/// # Errors
///
/// `StorageExceeded`.
pub(crate) fn charge_storage(
    conn: &mut PgConnection,
    silo: SiloId,
    size: ByteCount,
) -> Result<(), Error> {
    let bytes = size.to_i64();
    let charged = diesel::update(silo_quota::table.find(silo))
        .filter(
            (silo_quota::used_storage_bytes + bytes)
                .le(silo_quota::storage_bytes),
        )
        .set(
            silo_quota::used_storage_bytes
                .eq(silo_quota::used_storage_bytes + bytes),
        )
        .kept()
        .execute(conn)?;
    if charged == 1 {
        return Ok(());
    }
    let (used, limit) = silo_quota::table
        .find(silo)
        .select((silo_quota::used_storage_bytes, silo_quota::storage_bytes))
        .first(conn)?;
    Err(Error::StorageExceeded(StorageExceeded {
        used,
        limit,
        requested: size,
    }))
}

/// Gives storage back to a silo's quota, and wakes who waited for it.
pub(crate) fn refund_storage(
    conn: &mut PgConnection,
    silo: SiloId,
    size: ByteCount,
) -> Result<(), Error> {
    diesel::update(silo_quota::table.find(silo))
        .set(
            silo_quota::used_storage_bytes
                .eq(silo_quota::used_storage_bytes - size.to_i64()),
        )
        .kept()
        .execute(conn)?;
    wake_quota(conn, silo)
}
