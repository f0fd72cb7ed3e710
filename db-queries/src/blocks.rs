//! Blocks in the store: how far those of a disk, a snapshot or an image are,
//! and which ones sleds must be rid of.
//!
//! A row that has blocks is deleted together with the writing of what is to
//! become of them, so none are forgotten, whoever dies. An id of blocks is never
//! used again.

use crate::silo_quota::refund_storage;
use crate::sql::{Keep, clock_timestamp, sql, statement};
use crate::waiting::wake_room;
use crate::{DataStore, Error, disk, image, snapshot};
use db_model::schema::{blocks_gone, sled};
use db_model::{
    BlocksGone, BlocksId, BlocksOf, BlocksPlace, ByteCount, DiskState, Fence,
    SiloId, SledId, SledPolicy, kept_error,
};
use diesel::sql_types::{BigInt, Timestamptz};
use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, RunQueryDsl,
};
use uuid::Uuid;

/// Until blocks are tried again that were claimed so often: longer than a sled is
/// waited for, and a few minutes at most, so that a sled that is back is soon rid
/// of them.
const NEXT_TRY: &str = "clock_timestamp() \
     + INTERVAL '1 second' * LEAST(8 * (tries + 1) * (tries + 1), 300)";

impl DataStore {
    /// Checks that blocks are still to be made, by this saga.
    ///
    /// # Errors
    ///
    /// `NotFound`: they are not; `Fenced`.
    pub async fn blocks_wanted(
        &self,
        fence: Fence,
        of: BlocksOf,
    ) -> Result<(), Error> {
        self.fenced_look(fence, move |conn| match of {
            BlocksOf::Disk(id) => disk::is_wanted(conn, id),
            BlocksOf::Snapshot(id) => snapshot::is_wanted(conn, id),
            BlocksOf::Image(id) => image::is_wanted(conn, id),
        })
        .await
    }

    /// Blocks are there; a disk is `disk_state` from now on. Idempotent.
    ///
    /// # Errors
    ///
    /// `NotFound`: they are not wanted any more; `Fenced`.
    pub async fn blocks_made(
        &self,
        fence: Fence,
        of: BlocksOf,
        disk_state: DiskState,
    ) -> Result<(), Error> {
        self.fenced(fence, move |conn| match of {
            BlocksOf::Disk(id) => disk::made(conn, id, disk_state),
            BlocksOf::Snapshot(id) => snapshot::made(conn, id),
            BlocksOf::Image(id) => image::made(conn, id),
        })
        .await
    }

    /// What was to have these blocks, if it has come to be, is deleted. Idempotent.
    pub async fn blocks_unmade(
        &self,
        fence: Fence,
        of: BlocksOf,
    ) -> Result<(), Error> {
        self.fenced(fence, move |conn| match of {
            BlocksOf::Disk(id) => disk::unmake(conn, id),
            BlocksOf::Snapshot(id) => snapshot::unmake(conn, id),
            BlocksOf::Image(id) => image::unmake(conn, id),
        })
        .await
    }

    /// Claims blocks to be rid of whose turn it is, for whoever is faster: no
    /// other gets them before they are due again.
    pub async fn blocks_gone_claim(
        &self,
        limit: i64,
    ) -> Result<Vec<BlocksGone>, Error> {
        self.run(move |conn| {
            Ok(statement(format!(
                "UPDATE blocks_gone \
                 SET tries = tries + 1, next_try_at = {NEXT_TRY} \
                 WHERE id IN ( \
                     SELECT id FROM blocks_gone \
                     WHERE next_try_at <= now() \
                     ORDER BY next_try_at LIMIT $1 \
                     FOR UPDATE SKIP LOCKED) \
                 RETURNING *",
            ))
            .bind::<BigInt, _>(limit)
            .load(conn)?)
        })
        .await
    }

    /// A sled has said that they are gone, or is gone with them. What it kept
    /// reserved for them is free. Idempotent.
    pub async fn blocks_gone_done(&self, id: BlocksId) -> Result<(), Error> {
        self.transaction(move |conn| {
            let gone: Option<(Option<SledId>, ByteCount)> =
                diesel::delete(blocks_gone::table.find(id))
                    .returning((blocks_gone::sled_id, blocks_gone::size_bytes))
                    .get_result(conn)
                    .optional()?;
            let Some((Some(sled), size)) = gone else { return Ok(()) };
            diesel::update(sled::table.find(sled))
                .set(
                    sled::reserved_storage_bytes
                        .eq(sled::reserved_storage_bytes - size.to_i64()),
                )
                .kept()
                .execute(conn)?;
            wake_room(conn, sled)
        })
        .await
    }

    /// They may not be gone yet: why, for operators.
    pub async fn blocks_gone_failed(
        &self,
        id: BlocksId,
        error: String,
    ) -> Result<(), Error> {
        let error = kept_error(&error);
        self.run(move |conn| {
            diesel::update(blocks_gone::table.find(id))
                .set(blocks_gone::last_error.eq(&error))
                .kept()
                .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// Some sleds in service that were heard of lately, in no special order: to
    /// ask one of them, and if it does not answer the next.
    pub async fn sleds_to_ask(&self, limit: i64) -> Result<Vec<SledId>, Error> {
        // All from a random one on, and from the first one on for what is
        // missing: not one statement, since an OR reads all sleds.
        let pivot = SledId(Uuid::new_v4());
        self.run(move |conn| {
            let heard = sql::<Timestamptz>(
                "clock_timestamp() - $1 * INTERVAL '1 second'",
            )
            .bind::<BigInt, _>(db_model::HEARTBEAT_ALLOWANCE.num_seconds());
            let open = sled::table
                .filter(sled::policy.eq(SledPolicy::InService))
                .filter(sled::time_last_heartbeat.gt(heard))
                .order(sled::id.asc())
                .select(sled::id);
            let mut found: Vec<SledId> =
                open.filter(sled::id.ge(pivot)).limit(limit).load(conn)?;
            let missing = limit - i64::try_from(found.len()).unwrap_or(limit);
            let before: Vec<SledId> =
                open.filter(sled::id.lt(pivot)).limit(missing).load(conn)?;
            found.extend(before);
            Ok(found)
        })
        .await
    }
}

/// Blocks in the store are to be gone, and their size is given back to their
/// silo's quota. In the transaction that deletes what has them.
pub(crate) fn let_go_of_store(
    conn: &mut PgConnection,
    of: BlocksOf,
    silo: SiloId,
    size: ByteCount,
) -> Result<(), Error> {
    insert_gone(conn, of.id(), None, size)?;
    refund_storage(conn, silo, size)
}

/// Blocks on a sled's own storage are to be gone. It keeps their room reserved
/// until they are; their silo's quota gets it back at once.
pub(crate) fn let_go_of_local(
    conn: &mut PgConnection,
    id: BlocksId,
    sled: SledId,
    silo: SiloId,
    size: ByteCount,
) -> Result<(), Error> {
    insert_gone(conn, id, Some(sled), size)?;
    refund_storage(conn, silo, size)
}

fn insert_gone(
    conn: &mut PgConnection,
    id: BlocksId,
    sled: Option<SledId>,
    size: ByteCount,
) -> Result<(), Error> {
    let now = diesel::select(clock_timestamp()).get_result(conn)?;
    diesel::insert_into(blocks_gone::table)
        .values(&BlocksGone {
            id,
            place: sled.map_or(BlocksPlace::Store, |_| BlocksPlace::Local),
            sled_id: sled,
            size_bytes: size,
            time_created: now,
            tries: 0,
            next_try_at: now,
            last_error: None,
        })
        .kept()
        .execute(conn)?;
    Ok(())
}
