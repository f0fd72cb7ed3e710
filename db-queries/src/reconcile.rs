//! The reconciler's rows: claimed by pushing their time ahead, given back by
//! compare-and-set, so that a stamp which came in between is never lost.

use crate::saga::{AFTER_SAGA, UnfinishedSaga};
use crate::sql::{Keep, clock_timestamp, statement};
use crate::{DataStore, Error, facts};
use chrono::{DateTime, TimeDelta, Utc};
use db_model::lifecycle::{Changes, Facts};
use db_model::schema::{instance, saga};
use db_model::{InstanceId, SagaId, SagaState};
use diesel::sql_types::{BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName,
    RunQueryDsl,
};

/// An instance that this process looks after until `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, QueryableByName)]
pub struct Claimed {
    /// Which.
    #[diesel(sql_type = SqlUuid)]
    pub id: InstanceId,
    /// What the claim wrote; giving it back compares with this.
    #[diesel(sql_type = Timestamptz)]
    pub until: DateTime<Utc>,
}

/// When to look again at an instance that something went wrong with, by how
/// often it did so before: in 1 s, doubling to 5 min.
const ERROR_BACKOFF: &str = "clock_timestamp() + LEAST(300, \
     POWER(2, LEAST(reconcile_errors, 9))) * INTERVAL '1 second'";

/// What is not done, whoever is to do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Instances that somebody must look at, now or later.
    pub instances: i64,
    /// For how long the longest due of them has not been claimed: zero if none
    /// is due.
    pub lag: TimeDelta,
    /// Sagas by state.
    pub sagas: Vec<(SagaState, i64)>,
}

/// Claims, until `until`, the instance that `changes` would make due at once; or
/// nothing, if they do not.
pub(crate) fn claim_with(
    changes: &mut Changes,
    until: DateTime<Utc>,
) -> Option<Claimed> {
    let instance = changes.instance.as_mut()?;
    instance.reconcile_at.as_mut().map(|at| {
        *at = until;
        Claimed { id: instance.id, until }
    })
}

impl DataStore {
    /// What is not done. Reads what is unfinished, and nothing else, however
    /// much there is.
    pub async fn unfinished(&self) -> Result<Unfinished, Error> {
        self.snapshot(|conn| {
            let (instances, next, now) = instance::table
                .filter(instance::reconcile_at.is_not_null())
                .select((
                    diesel::dsl::count_star(),
                    diesel::dsl::min(instance::reconcile_at),
                    clock_timestamp(),
                ))
                .first::<(i64, Option<DateTime<Utc>>, DateTime<Utc>)>(conn)?;
            let sagas = saga::table
                .filter(saga::time_ended.is_null())
                .group_by(saga::state)
                .select((saga::state, diesel::dsl::count_star()))
                .load(conn)?;
            let lag = next.map_or(TimeDelta::zero(), |next| now - next);
            Ok(Unfinished { instances, lag: lag.max(TimeDelta::zero()), sagas })
        })
        .await
    }

    /// Claims unsettled instances whose time has come, longest due first.
    /// Nobody else gets them for `visibility`, unless they are stamped anew.
    pub async fn reconcile_claim(
        &self,
        limit: i64,
        visibility: TimeDelta,
    ) -> Result<Vec<Claimed>, Error> {
        self.run(move |conn| {
            Ok(statement(
                "UPDATE instance \
                 SET reconcile_at = \
                     clock_timestamp() + $2 * INTERVAL '1 millisecond' \
                 WHERE id IN ( \
                     SELECT id FROM instance \
                     WHERE reconcile_at <= now() \
                     ORDER BY reconcile_at LIMIT $1 \
                     FOR UPDATE SKIP LOCKED) \
                 RETURNING id, reconcile_at AS until",
            )
            .bind::<BigInt, _>(limit)
            .bind::<BigInt, _>(visibility.num_milliseconds())
            .load(conn)?)
        })
        .await
    }

    /// Makes due what may be claimed by a process that is no more, which is
    /// whatever is due within `visibility`: it need not wait for those claims
    /// to run out. A look too many does no harm, also where the process that
    /// claimed it lives.
    pub async fn reconcile_claimed_is_due(
        &self,
        visibility: TimeDelta,
    ) -> Result<(), Error> {
        self.run(move |conn| {
            statement(
                "UPDATE instance SET reconcile_at = clock_timestamp() \
                 WHERE reconcile_at > clock_timestamp() \
                   AND reconcile_at <= clock_timestamp() \
                       + $1 * INTERVAL '1 millisecond'",
            )
            .bind::<BigInt, _>(visibility.num_milliseconds())
            .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// When the next unsettled instance is due, if any is.
    pub async fn reconcile_next_due(&self) -> Result<Option<TimeDelta>, Error> {
        self.run(|conn| {
            let (next, now): (Option<DateTime<Utc>>, DateTime<Utc>) =
                instance::table
                    .select((
                        diesel::dsl::min(instance::reconcile_at),
                        clock_timestamp(),
                    ))
                    .filter(instance::reconcile_at.is_not_null())
                    .first(conn)?;
            Ok(next.map(|next| next - now))
        })
        .await
    }

    /// What the reconciler goes by: the facts, and the instance's unfinished
    /// saga, all of one moment. Read without a lock; whatever it then does
    /// re-checks.
    pub async fn reconcile_facts(
        &self,
        id: InstanceId,
    ) -> Result<(Facts, Option<UnfinishedSaga>), Error> {
        self.run(move |conn| facts::read(conn, id)).await
    }

    /// Claims, for `visibility`, an instance that was to be looked at `then`, if it
    /// has not been stamped since.
    pub async fn reconcile_claim_one(
        &self,
        id: InstanceId,
        then: DateTime<Utc>,
        visibility: TimeDelta,
    ) -> Result<Option<Claimed>, Error> {
        self.run(move |conn| {
            Ok(statement(
                "UPDATE instance \
                 SET reconcile_at = \
                     clock_timestamp() + $3 * INTERVAL '1 millisecond' \
                 WHERE id = $1 AND reconcile_at = $2 \
                 RETURNING id, reconcile_at AS until",
            )
            .bind::<SqlUuid, _>(id)
            .bind::<Timestamptz, _>(then)
            .bind::<BigInt, _>(visibility.num_milliseconds())
            .get_result(conn)
            .optional()?)
        })
        .await
    }

    /// Gives a claimed instance back: settled, or to be looked at `next`. Does
    /// nothing if it was stamped in between: then somebody looks anyhow.
    pub async fn reconcile_give_back(
        &self,
        claimed: Claimed,
        next: Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        self.run(move |conn| {
            let query = instance::table
                .find(claimed.id)
                .filter(instance::reconcile_at.eq(claimed.until));
            match next {
                // A saga that it started may fail yet, so errors are forgotten
                // only when it is settled.
                Some(_) => diesel::update(query)
                    .set(instance::reconcile_at.eq(next))
                    .kept()
                    .execute(conn)?,
                None => diesel::update(query)
                    .set((
                        instance::reconcile_at.eq(next),
                        instance::reconcile_errors.eq(0),
                        instance::reconcile_last_error.eq(None::<String>),
                    ))
                    .kept()
                    .execute(conn)?,
            };
            Ok(())
        })
        .await
    }

    /// As [`DataStore::reconcile_give_back`], after a look that failed: counts
    /// the error, for operators, and has the next look come later than the last
    /// did: in 1 s, doubling to 5 min.
    pub async fn reconcile_give_back_error(
        &self,
        claimed: Claimed,
        error: String,
    ) -> Result<(), Error> {
        let error = db_model::kept_error(&error);
        self.run(move |conn| {
            statement(format!(
                "UPDATE instance \
                 SET reconcile_errors = reconcile_errors + 1, \
                     reconcile_last_error = $2, \
                     reconcile_at = {ERROR_BACKOFF} \
                 WHERE id = $1 AND reconcile_at = $3",
            ))
            .bind::<SqlUuid, _>(claimed.id)
            .bind::<Text, _>(&error)
            .bind::<Timestamptz, _>(claimed.until)
            .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// A saga of this instance went wrong inside, so the next one waits: 1 s,
    /// doubling with each failure in a row to 5 min. Only the stamp that the
    /// saga's own end has left is put off; a newer one is somebody's wish.
    pub async fn reconcile_back_off(
        &self,
        id: InstanceId,
        saga: SagaId,
        error: String,
    ) -> Result<(), Error> {
        let error = db_model::kept_error(&error);
        self.run(move |conn| {
            statement(format!(
                "UPDATE instance \
                 SET reconcile_errors = reconcile_errors + 1, \
                     reconcile_last_error = $2, \
                     reconcile_at = CASE WHEN reconcile_at = ( \
                         SELECT time_ended + $4 * INTERVAL '1 millisecond' \
                         FROM saga WHERE id = $3) \
                     THEN {ERROR_BACKOFF} \
                     ELSE reconcile_at END \
                 WHERE id = $1 AND state <> 'destroyed'",
            ))
            .bind::<SqlUuid, _>(id)
            .bind::<Text, _>(&error)
            .bind::<SqlUuid, _>(saga)
            .bind::<BigInt, _>(AFTER_SAGA.num_milliseconds())
            .execute(conn)?;
            Ok(())
        })
        .await
    }
}
