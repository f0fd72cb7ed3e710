//! Sagas at rest: created, logged, adopted, ended.

use crate::sql::{sql, statement};
use crate::{DataStore, Error, fence, lifecycle};
use chrono::{DateTime, Utc};
use db_model::lifecycle::steps;
use db_model::schema::{instance, nexus_lease, saga, saga_node_event};
use db_model::{
    Fence, InstanceId, InstanceState, Saga, SagaId, SagaNodeEvent, SagaState,
    SecId, StartAttemptId,
};
use diesel::dsl::{exists, not};
use diesel::sql_types::{
    Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, RunQueryDsl,
    SelectableHelper,
};

/// The saga that is at work on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct UnfinishedSaga {
    pub id: SagaId,
    pub name: String,
    pub current_sec: SecId,
    pub time_created: DateTime<Utc>,
}

pub(crate) fn unfinished(
    conn: &mut PgConnection,
    instance: InstanceId,
) -> Result<Option<UnfinishedSaga>, Error> {
    let row: Option<(SagaId, String, SecId, DateTime<Utc>)> = saga::table
        .filter(saga::instance_id.eq(instance))
        .filter(saga::time_ended.is_null())
        .select((saga::id, saga::name, saga::current_sec, saga::time_created))
        .first(conn)
        .optional()?;
    Ok(row.map(|(id, name, current_sec, time_created)| UnfinishedSaga {
        id,
        name,
        current_sec,
        time_created,
    }))
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

/// A record of a saga's log.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) node_id: i64,
    pub(crate) event_type: &'static str,
    pub(crate) data: Option<serde_json::Value>,
}

/// Writes records of a saga's log, in their order. Idempotent. One statement,
/// with the fence in it, since a saga has more of these than of anything else;
/// without records, the fence alone.
///
/// # Errors
///
/// `Fenced`.
pub(crate) fn record(
    conn: &mut PgConnection,
    fence: &Fence,
    records: &[Record],
) -> Result<(), Error> {
    if records.is_empty() {
        return fence::check(conn, fence);
    }
    let nodes: Vec<_> = records.iter().map(|r| r.node_id).collect();
    let types: Vec<_> = records.iter().map(|r| r.event_type).collect();
    // As texts: not both engines have arrays of JSON.
    let data: Vec<_> = records
        .iter()
        .map(|r| r.data.as_ref().map(serde_json::Value::to_string))
        .collect();
    let recorded = statement(
        "INSERT INTO saga_node_event \
             (saga_id, node_id, event_type, data, creator, event_time) \
         SELECT saga.id, r.node_id, r.event_type, r.data::JSONB, \
             saga.current_sec, clock_timestamp() + r.n * INTERVAL '1 microsecond' \
         FROM saga, unnest($4::INT8[], $5::TEXT[], $6::TEXT[]) \
             WITH ORDINALITY AS r (node_id, event_type, data, n) \
         WHERE saga.id = $1 AND saga.current_sec = $2 \
           AND saga.adopt_generation = $3 AND saga.state <> 'abandoned' \
         FOR SHARE OF saga \
         ON CONFLICT DO NOTHING",
    )
    .bind::<SqlUuid, _>(fence.saga_id)
    .bind::<SqlUuid, _>(fence.sec_id)
    .bind::<BigInt, _>(fence.adopt_generation)
    .bind::<Array<BigInt>, _>(nodes)
    .bind::<Array<Text>, _>(types)
    .bind::<Array<Nullable<Text>>, _>(data)
    .execute(conn)?;
    // Fewer are written if some were recorded before, or all are fenced off.
    if recorded == records.len() { Ok(()) } else { fence::check(conn, fence) }
}

fn database_time(conn: &mut PgConnection) -> Result<DateTime<Utc>, Error> {
    Ok(diesel::select(sql::<Timestamptz>("clock_timestamp()"))
        .get_result(conn)?)
}

impl DataStore {
    /// A new saga, run by `sec`, which takes `attempt`, if there is one. Idempotent
    /// by id.
    ///
    /// # Errors
    ///
    /// `SagaUnfinished`: another is at work on the instance; `Refused`: see
    /// [`steps::claim`].
    pub(crate) async fn saga_insert(
        &self,
        id: SagaId,
        name: String,
        instance_id: InstanceId,
        attempt: Option<StartAttemptId>,
        sec: SecId,
        dag: serde_json::Value,
    ) -> Result<(), Error> {
        self.transaction(move |conn| {
            let there: Option<SagaId> =
                saga::table.find(id).select(saga::id).first(conn).optional()?;
            if there.is_some() {
                return Ok(());
            }
            let now = database_time(conn)?;
            diesel::insert_into(saga::table)
                .values(&Saga {
                    id,
                    name: name.clone(),
                    instance_id,
                    state: SagaState::Running,
                    dag: dag.clone(),
                    creator_sec: sec,
                    current_sec: sec,
                    adopt_generation: 1,
                    time_adopted: now,
                    time_created: now,
                    time_ended: None,
                })
                .execute(conn)?;
            if let Some(attempt) = attempt {
                lifecycle::change(conn, instance_id, |_, facts| {
                    Ok((steps::claim(facts, attempt, id)?, ()))
                })?;
            }
            Ok(())
        })
        .await
    }

    /// How far a saga is. One that is done stamps its instance, since somebody
    /// may have waited for it.
    ///
    /// # Errors
    ///
    /// `Fenced`.
    pub(crate) async fn saga_set_state(
        &self,
        fence: Fence,
        state: SagaState,
    ) -> Result<(), Error> {
        self.fenced(fence, move |conn| {
            let now = database_time(conn)?;
            let instance_id: InstanceId =
                diesel::update(saga::table.find(fence.saga_id))
                    .set((
                        saga::state.eq(state),
                        saga::time_ended
                            .eq((state == SagaState::Done).then_some(now)),
                    ))
                    .returning(saga::instance_id)
                    .get_result(conn)?;
            if state == SagaState::Done {
                diesel::update(instance::table.find(instance_id))
                    .filter(instance::state.ne(InstanceState::Destroyed))
                    .set(instance::reconcile_at.eq(now))
                    .execute(conn)?;
            }
            Ok(())
        })
        .await
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
            let instance_id: InstanceId = diesel::update(saga::table.find(id))
                .filter(saga::time_ended.is_null())
                .set((
                    saga::state.eq(SagaState::Abandoned),
                    saga::time_ended.eq(diesel::dsl::now),
                ))
                .returning(saga::instance_id)
                .get_result(conn)?;
            diesel::update(instance::table.find(instance_id))
                .set(instance::reconcile_at.eq(diesel::dsl::now))
                .execute(conn)?;
            Ok(())
        })
        .await
    }
}
