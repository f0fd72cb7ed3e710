//! Leases: which processes live, by the database's time.

use crate::sql::{Keep, statement};
use crate::{DataStore, Error};
use chrono::TimeDelta;
use db_model::SecId;
use db_model::schema::nexus_lease;
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel::{ExpressionMethods, QueryDsl, QueryableByName, RunQueryDsl};

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: SecId,
}

impl DataStore {
    /// A process begins.
    pub async fn lease_begin(
        &self,
        id: SecId,
        internal_address: String,
        lease: TimeDelta,
    ) -> Result<(), Error> {
        self.run(move |conn| {
            statement(
                "INSERT INTO nexus_lease \
                     (id, internal_address, time_started, lease_expires, \
                      steady_since) \
                 VALUES ($1, $2, clock_timestamp(), \
                     clock_timestamp() + $3 * INTERVAL '1 millisecond', \
                     clock_timestamp()) \
                 ON CONFLICT (id) DO NOTHING",
            )
            .bind::<SqlUuid, _>(id)
            .bind::<Text, _>(&internal_address)
            .bind::<BigInt, _>(lease.num_milliseconds())
            .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// A process lives. `false`: its lease was taken, and it must exit.
    pub async fn lease_renew(
        &self,
        id: SecId,
        lease: TimeDelta,
    ) -> Result<bool, Error> {
        self.run(move |conn| {
            let hit = statement(
                "UPDATE nexus_lease \
                 SET steady_since = CASE \
                         WHEN lease_expires < clock_timestamp() \
                             THEN clock_timestamp() \
                         ELSE steady_since END, \
                     lease_expires = clock_timestamp() \
                         + $2 * INTERVAL '1 millisecond' \
                 WHERE id = $1 AND taken_by IS NULL",
            )
            .bind::<SqlUuid, _>(id)
            .bind::<BigInt, _>(lease.num_milliseconds())
            .execute(conn)?;
            Ok(hit == 1)
        })
        .await
    }

    /// Takes the leases that have expired, if the taker's own has been renewed
    /// without a gap for a whole lease; says whose. Each is taken by one.
    pub async fn lease_take_expired(
        &self,
        taker: SecId,
        lease: TimeDelta,
    ) -> Result<Vec<SecId>, Error> {
        self.run(move |conn| {
            let taken: Vec<Id> = statement(
                "UPDATE nexus_lease \
                 SET taken_by = $1, time_taken = clock_timestamp() \
                 WHERE id <> $1 \
                   AND taken_by IS NULL \
                   AND lease_expires < clock_timestamp() \
                   AND EXISTS ( \
                       SELECT 1 FROM nexus_lease me \
                       WHERE me.id = $1 \
                         AND me.taken_by IS NULL \
                         AND me.lease_expires > clock_timestamp() \
                         AND me.steady_since <= clock_timestamp() \
                             - $2 * INTERVAL '1 millisecond') \
                 RETURNING id",
            )
            .bind::<SqlUuid, _>(taker)
            .bind::<BigInt, _>(lease.num_milliseconds())
            .load(conn)?;
            Ok(taken.into_iter().map(|row| row.id).collect())
        })
        .await
    }

    /// A process has closed in order: its sagas are anybody's at once.
    pub async fn lease_give_back(&self, id: SecId) -> Result<(), Error> {
        self.run(move |conn| {
            diesel::update(nexus_lease::table.find(id))
                .filter(nexus_lease::taken_by.is_null())
                .set((
                    nexus_lease::taken_by.eq(id),
                    nexus_lease::time_taken.eq(diesel::dsl::now),
                ))
                .kept()
                .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// The processes that live, by id.
    pub async fn lease_live(&self) -> Result<Vec<SecId>, Error> {
        self.run(|conn| {
            let live: Vec<Id> = statement(
                "SELECT id FROM nexus_lease \
                 WHERE taken_by IS NULL AND lease_expires > clock_timestamp() \
                 ORDER BY id",
            )
            .load(conn)?;
            Ok(live.into_iter().map(|row| row.id).collect())
        })
        .await
    }

    /// Forgets processes that ended long ago and left no saga behind.
    pub async fn lease_forget_old(&self) -> Result<usize, Error> {
        self.run(|conn| {
            Ok(statement(
                "DELETE FROM nexus_lease l \
                 WHERE l.time_taken < clock_timestamp() - INTERVAL '1 day' \
                   AND NOT EXISTS ( \
                       SELECT 1 FROM saga s \
                       WHERE s.current_sec = l.id AND s.time_ended IS NULL)",
            )
            .execute(conn)?)
        })
        .await
    }
}
