//! Sagas at rest: created, logged, adopted, ended.

use crate::fence::{self, Owes};
use crate::sql::{Keep, Statement, Values, statement};
use crate::together::{PART, Together};
use crate::{DataStore, Error};
use chrono::{DateTime, TimeDelta, Utc};
use db_model::schema::{instance, nexus_lease, saga, saga_node_event};
use db_model::sql_types::SagaStateSql;
use db_model::{
    Fence, InstanceId, Saga, SagaId, SagaNodeEvent, SagaState, SecId,
    StartAttemptId,
};
use diesel::dsl::{exists, not};
use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, Queryable, RunQueryDsl,
    Selectable, SelectableHelper,
};

/// The saga that is at work on an instance.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = saga)]
#[expect(missing_docs, reason = "the names say it")]
pub struct UnfinishedSaga {
    pub id: SagaId,
    pub name: String,
    pub current_sec: SecId,
    pub time_created: DateTime<Utc>,
}

/// Is a saga at work on any of these, whatever they are?
pub(crate) fn may_work_on(
    conn: &mut PgConnection,
    ids: &[uuid::Uuid],
) -> Result<bool, Error> {
    let ids: Vec<_> = ids.iter().copied().map(InstanceId).collect();
    let unfinished = saga::table
        .filter(saga::instance_id.eq_any(ids))
        .filter(saga::time_ended.is_null());
    Ok(diesel::select(exists(unfinished)).get_result(conn)?)
}

/// How long after a saga's end its instance is due for others than the process
/// that ran it.
pub(crate) const AFTER_SAGA: TimeDelta = TimeDelta::seconds(1);

/// A record of a saga's log.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) node_id: i64,
    pub(crate) event_type: &'static str,
    pub(crate) data: Option<serde_json::Value>,
}

/// Writes what a saga's log owes, in its order. Idempotent. One statement, with the
/// fence in it, since a saga has more of these than of anything else.
///
/// # Errors
///
/// `Fenced`.
pub(crate) fn record(
    conn: &mut PgConnection,
    owes: &Owes,
) -> Result<(), Error> {
    let mut together = Together::default();
    let ours = write_owed(&mut together, &[owes]);
    match together.make(conn)?.get(ours) {
        Some(1) => Ok(()),
        _ => Err(fence::why_not_ours(conn, &[owes])),
    }
}

/// Locks those of these sagas that are still this process's, and writes what their
/// logs owe. Says which part locks.
pub(crate) fn write_owed<'a>(
    together: &mut Together<'a>,
    these: &[&Owes],
) -> usize {
    let ours = together.lock(fence::lock(these));
    if these.iter().any(|owes| !owes.records.is_empty()) {
        together.add(insert(these, ours));
    }
    ours
}

/// The records of these sagas, but for those that were recorded before and those of
/// sagas that the part `ours` has not locked.
fn insert(these: &[&Owes], ours: usize) -> Statement<impl Values + use<>> {
    type Numbered<'a> = (&'a Fence, i64, &'a Record);
    fn all<'a, T>(
        records: &[Numbered<'a>],
        of: impl Fn(&Numbered<'a>) -> T,
    ) -> Vec<T> {
        records.iter().map(of).collect()
    }
    let records: Vec<Numbered<'_>> = these
        .iter()
        .flat_map(|owes| {
            let numbered = (0..).zip(&owes.records);
            numbered.map(|(n, record)| (&owes.fence, n, record))
        })
        .collect();
    // All by one clock: the server makes them in any order.
    let text = format!(
        "INSERT INTO saga_node_event \
             (saga_id, node_id, event_type, data, creator, event_time) \
         SELECT r.saga_id, r.node_id, r.event_type, r.data::JSONB, r.sec, \
             statement_timestamp() + r.n * INTERVAL '1 microsecond' \
         FROM unnest($1::UUID[], $2::UUID[], $3::INT8[], $4::INT8[], \
                 $5::TEXT[], $6::TEXT[]) \
             AS r (saga_id, sec, n, node_id, event_type, data) \
         WHERE r.saga_id IN (SELECT id FROM {PART}{ours}) \
         ON CONFLICT DO NOTHING"
    );
    statement(text)
        .bind::<Array<SqlUuid>, _>(all(&records, |(fence, ..)| fence.saga_id))
        .bind::<Array<SqlUuid>, _>(all(&records, |(fence, ..)| fence.sec_id))
        .bind::<Array<BigInt>, _>(all(&records, |(_, n, _)| *n))
        .bind::<Array<BigInt>, _>(all(&records, |(.., r)| r.node_id))
        .bind::<Array<Text>, _>(all(&records, |(.., r)| r.event_type))
        // As texts: not both engines have arrays of JSON.
        .bind::<Array<Nullable<Text>>, _>(all(&records, |(.., r)| {
            r.data.as_ref().map(serde_json::Value::to_string)
        }))
}

fn set_state(
    fence: &Fence,
    state: SagaState,
) -> Statement<impl Values + use<>> {
    statement(
        "UPDATE saga SET state = $4 \
         WHERE id = $1 AND current_sec = $2 \
           AND adopt_generation = $3 AND state <> 'abandoned'",
    )
    .bind::<SqlUuid, _>(fence.saga_id)
    .bind::<SqlUuid, _>(fence.sec_id)
    .bind::<BigInt, _>(fence.adopt_generation)
    .bind::<SagaStateSql, _>(state)
}

/// A saga that is yet to be.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewSaga {
    pub id: SagaId,
    pub name: String,
    pub instance_id: InstanceId,
    /// The process that runs it.
    pub sec: SecId,
    pub dag: serde_json::Value,
}

impl NewSaga {
    /// The statement that writes these down. Idempotent by id.
    pub(crate) fn insert(these: &[&NewSaga]) -> Statement<impl Values + use<>> {
        fn all<'a, T>(
            these: &[&'a NewSaga],
            of: impl Fn(&'a NewSaga) -> T,
        ) -> Vec<T> {
            these.iter().copied().map(of).collect()
        }
        statement(
            "INSERT INTO saga (id, name, instance_id, state, dag, \
                 creator_sec, current_sec, adopt_generation, time_adopted, \
                 time_created) \
             SELECT id, name, instance_id, 'running', dag::JSONB, sec, sec, 1, \
                 clock_timestamp(), clock_timestamp() \
             FROM unnest($1::UUID[], $2::TEXT[], $3::UUID[], $4::TEXT[], \
                 $5::UUID[]) AS new (id, name, instance_id, dag, sec) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind::<Array<SqlUuid>, _>(all(these, |new| new.id))
        .bind::<Array<Text>, _>(all(these, |new| new.name.clone()))
        .bind::<Array<SqlUuid>, _>(all(these, |new| new.instance_id))
        .bind::<Array<Text>, _>(all(these, |new| new.dag.to_string()))
        .bind::<Array<SqlUuid>, _>(all(these, |new| new.sec))
    }
}

impl DataStore {
    /// A new saga, which takes `attempt`, if there is one. Idempotent by id.
    ///
    /// # Errors
    ///
    /// `SagaUnfinished`: another is at work on the instance; `Refused`: see
    /// `steps::claim` of `db_model::lifecycle`.
    pub(crate) async fn saga_insert(
        &self,
        new: NewSaga,
        attempt: Option<StartAttemptId>,
    ) -> Result<(), Error> {
        if let Some(attempt) = attempt {
            return self.saga_insert_with(new, attempt).await;
        }
        self.run(move |conn| {
            NewSaga::insert(&[&new]).execute(conn)?;
            Ok(())
        })
        .await
    }

    /// How far a saga is that is not done.
    ///
    /// # Errors
    ///
    /// `Fenced`.
    pub(crate) async fn saga_set_state(
        &self,
        fence: Fence,
        state: SagaState,
    ) -> Result<(), Error> {
        if state == SagaState::Unwinding {
            self.owed.leaves(fence, None);
        }
        let owes = self.owed.of(fence);
        let count = owes.records.len();
        // One statement, and so whole.
        let set = self.run(move |conn| {
            let mut together = Together::default();
            write_owed(&mut together, &[&owes]);
            together.add(set_state(&fence, state));
            match together.make(conn)?.last() {
                Some(1) => Ok(()),
                _ => fence::check(conn, &fence),
            }
        });
        set.await?;
        self.owed.paid(fence, count);
        Ok(())
    }

    /// Adopts unfinished sagas whose process has no lease any more (it was
    /// taken, or given back, or never was), passing over rows that are locked:
    /// come back for the rest. From here on whoever ran them is fenced off.
    /// Says how many they are; each is then to be taken
    /// ([`DataStore::saga_take`]).
    pub async fn saga_adopt(
        &self,
        sec: SecId,
        limit: i64,
    ) -> Result<usize, Error> {
        self.transaction(move |conn| {
            let leased = nexus_lease::table
                .filter(nexus_lease::id.eq(saga::current_sec))
                .filter(nexus_lease::taken_by.is_null());
            let ids: Vec<SagaId> = saga::table
                .filter(saga::time_ended.is_null())
                .filter(saga::current_sec.ne(sec))
                .filter(not(exists(leased)))
                // The order of the index of unfinished sagas: by id alone, the
                // primary key would do, and all that ever ran be read.
                .order((saga::current_sec.asc(), saga::id.asc()))
                .limit(limit)
                .select(saga::id)
                .for_update()
                .skip_locked()
                .load(conn)?;
            Ok(diesel::update(saga::table.filter(saga::id.eq_any(ids)))
                .set((
                    saga::current_sec.eq(sec),
                    saga::adopt_generation.eq(saga::adopt_generation + 1),
                    saga::time_adopted.eq(diesel::dsl::now),
                ))
                .kept()
                .execute(conn)?)
        })
        .await
    }

    /// Takes an unfinished saga that `sec` is said to run and does not: it was
    /// adopted, or its creation was reported as failed and had not. Raises its
    /// generation, so that nothing of `sec`'s own from before writes for it.
    ///
    /// # Errors
    ///
    /// `NotFound`: it is over, or another's.
    pub async fn saga_take(
        &self,
        sec: SecId,
        id: SagaId,
    ) -> Result<(Saga, Fence), Error> {
        self.run(move |conn| {
            let row: Saga = diesel::update(saga::table.find(id))
                .filter(saga::time_ended.is_null())
                .filter(saga::current_sec.eq(sec))
                .set((
                    saga::adopt_generation.eq(saga::adopt_generation + 1),
                    saga::time_adopted.eq(diesel::dsl::now),
                ))
                .returning(Saga::as_returning())
                .kept()
                .get_result(conn)?;
            let fence = Fence {
                saga_id: row.id,
                sec_id: sec,
                adopt_generation: row.adopt_generation,
            };
            Ok((row, fence))
        })
        .await
    }

    /// The unfinished sagas that `sec` is said to run.
    pub async fn saga_unfinished_of(
        &self,
        sec: SecId,
    ) -> Result<Vec<SagaId>, Error> {
        self.run(move |conn| {
            Ok(saga::table
                .filter(saga::time_ended.is_null())
                .filter(saga::current_sec.eq(sec))
                .select(saga::id)
                .load(conn)?)
        })
        .await
    }

    /// The saga of this id.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn saga_view(&self, id: SagaId) -> Result<Saga, Error> {
        self.run(move |conn| {
            Ok(saga::table.find(id).select(Saga::as_select()).first(conn)?)
        })
        .await
    }

    /// The newest saga of an instance, over or not.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn saga_latest_of(
        &self,
        instance: InstanceId,
    ) -> Result<SagaId, Error> {
        self.run(move |conn| {
            Ok(saga::table
                .filter(saga::instance_id.eq(instance))
                .order(saga::time_created.desc())
                .select(saga::id)
                .first(conn)?)
        })
        .await
    }

    /// A saga's log, whole.
    pub async fn saga_log(
        &self,
        id: SagaId,
    ) -> Result<Vec<SagaNodeEvent>, Error> {
        self.run(move |conn| {
            Ok(saga_node_event::table
                .filter(saga_node_event::saga_id.eq(id))
                .order(saga_node_event::event_time.asc())
                .select(SagaNodeEvent::as_select())
                .load(conn)?)
        })
        .await
    }

    /// Gives a saga up: nobody runs it any more. What it was for is looked
    /// after. For operators.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such unfinished saga.
    pub async fn saga_abandon(&self, id: SagaId) -> Result<(), Error> {
        self.transaction(move |conn| {
            let of: InstanceId =
                saga::table.find(id).select(saga::instance_id).first(conn)?;
            // The instance before the saga, as all lock them.
            diesel::update(instance::table.find(of))
                .set(instance::reconcile_at.eq(diesel::dsl::now))
                .kept()
                .execute(conn)?;
            let given_up = diesel::update(saga::table.find(id))
                .filter(saga::time_ended.is_null())
                .set((
                    saga::state.eq(SagaState::Abandoned),
                    saga::time_ended.eq(diesel::dsl::now),
                ))
                .kept()
                .execute(conn)?;
            if given_up == 1 { Ok(()) } else { Err(Error::NotFound) }
        })
        .await
    }
}
