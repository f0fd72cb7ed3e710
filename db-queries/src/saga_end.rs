//! The end of sagas: those that end at once do so in one statement.

use crate::fence::{self, Owes};
use crate::saga::{self, AFTER_SAGA};
use crate::shared::{Answers, Batch, Queue, Shared};
use crate::sql::{Statement, Values, statement};
use crate::together::{PART, Together};
use crate::{DataStore, Error};
use chrono::{DateTime, Utc};
use db_model::Fence;
use db_model::lifecycle::Rest;
use diesel::PgConnection;
use diesel::sql_types::{
    Array, BigInt, Bool, Nullable, Timestamptz, Uuid as SqlUuid,
};
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// A saga that is done.
pub(crate) struct SagaEnd {
    owes: Owes,
    /// How it has left its instance.
    left: Option<Rest>,
}

impl DataStore {
    /// A saga is done. It stamps its instance, since somebody may have waited for
    /// it: this process is to look at it at once, and if it dies, anybody a moment
    /// later. Says whether it did: not if the instance is still as the saga has left
    /// it, at rest, or has come to rest since. (One that has lost the saga just now
    /// may have somebody look once too often.)
    ///
    /// # Errors
    ///
    /// `Fenced`.
    pub(crate) async fn saga_end(&self, fence: Fence) -> Result<bool, Error> {
        let owes = self.owed.of(fence);
        let count = owes.records.len();
        let left = self.owed.left(fence);
        let stamped = self.ask(SagaEnd { owes, left }).await?;
        self.owed.paid(fence, count);
        Ok(stamped)
    }
}

impl Shared for SagaEnd {
    type Answer = bool;

    fn about(&self) -> Uuid {
        self.owes.fence.saga_id.0
    }

    fn queue(of: &DataStore) -> &Queue<SagaEnd> {
        &of.saga_ends
    }

    const APART: Duration = Duration::from_millis(20);

    /// One that leaves its instance at rest nobody waits for but who wants something
    /// else of that.
    fn hurries(&self) -> bool {
        self.left.is_none()
    }

    /// Its instance is locked, mostly by who takes in that it runs; or it has ended
    /// already, or is not ours.
    fn may_wait(&self) -> bool {
        true
    }

    async fn ask_together(
        batch: Batch<SagaEnd>,
        datastore: &DataStore,
    ) -> Result<Answers<SagaEnd>, Error> {
        let end = move |conn: &mut PgConnection| {
            batch.with(|all| end(conn, all, Locked::PassedOver))
        };
        datastore.together().run(end).await
    }

    async fn ask_alone(self, datastore: &DataStore) -> Result<bool, Error> {
        let fence = self.owes.fence;
        let all = [self];
        let end = move |conn: &mut PgConnection| {
            let ended = end(conn, &all, Locked::AwaitedFor)?;
            match ended.into_values().next() {
                Some(ended) => ended,
                // It had ended, or is not ours.
                None => fence::check(conn, &fence).map(|()| true),
            }
        };
        datastore.run(end).await
    }
}

/// What becomes of a saga whose instance somebody else has locked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Locked {
    /// It does not end yet.
    PassedOver,
    /// It ends when it is not any more.
    AwaitedFor,
}

/// Ends them, in one statement, and so each whole. It locks in the order of all
/// others.
fn end(
    conn: &mut PgConnection,
    all: &[SagaEnd],
    locked: Locked,
) -> Result<Answers<SagaEnd>, Error> {
    let owes: Vec<_> = all.iter().map(|one| &one.owes).collect();
    let mut together = Together::default();
    together.lock(lock_instances(all, locked));
    together.add_returning(stamp(), "instance.id");
    saga::write_owed(&mut together, &owes);
    let before = together.len();
    let done = set_done(all, locked, before);
    together.add_returning(done, "saga.id, saga.instance_id");
    let tell = format!(
        "SELECT done.id, EXISTS ( \
             SELECT 1 FROM part1 WHERE part1.id = done.instance_id) \
         FROM {PART}{before} AS done"
    );
    let ended = together.make_and(conn, &tell)?;
    let looks: HashMap<Uuid, bool> =
        all.iter().map(|one| (one.about(), one.left.is_none())).collect();
    let ended = ended.into_iter().map(|(id, stamped)| {
        (id, Ok(stamped || looks.get(&id).copied().unwrap_or(true)))
    });
    Ok(ended.collect())
}

/// Binds their fences to the first three parameters of a text.
fn of_these(text: String, all: &[SagaEnd]) -> Statement<impl Values + use<>> {
    let fences = || all.iter().map(|one| &one.owes.fence);
    let ids: Vec<_> = fences().map(|fence| fence.saga_id).collect();
    let secs: Vec<_> = fences().map(|fence| fence.sec_id).collect();
    let generations: Vec<_> =
        fences().map(|fence| fence.adopt_generation).collect();
    statement(text)
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<SqlUuid>, _>(secs)
        .bind::<Array<BigInt>, _>(generations)
}

/// Locks their instances, as they are now and not as they were when the statement
/// began: whoever wants something of one has said so by then, or sees the saga's end.
fn lock_instances(
    all: &[SagaEnd],
    locked: Locked,
) -> Statement<impl Values + use<>> {
    let skip = match locked {
        Locked::PassedOver => "SKIP LOCKED",
        Locked::AwaitedFor => "",
    };
    let looks: Vec<_> = all.iter().map(|one| one.left.is_none()).collect();
    let left: Vec<Option<DateTime<Utc>>> =
        all.iter().map(|one| one.left.and_then(Rest::reconcile_at)).collect();
    let text = format!(
        "SELECT i.id, i.reconcile_at, ends.saga_id, ends.looks, ends.left_at \
         FROM unnest($1::UUID[], $2::UUID[], $3::INT8[], $4::BOOL[], \
             $5::TIMESTAMPTZ[]) \
             AS ends (saga_id, sec, generation, looks, left_at) \
         JOIN saga s ON s.id = ends.saga_id AND s.current_sec = ends.sec \
           AND s.adopt_generation = ends.generation \
         JOIN instance i ON i.id = s.instance_id \
         WHERE s.id = ANY (ARRAY(SELECT unnest($1::UUID[]))) \
           AND s.state <> 'abandoned' AND i.state <> 'destroyed' \
         FOR UPDATE OF i {skip}"
    );
    of_these(text, all)
        .bind::<Array<Bool>, _>(looks)
        .bind::<Array<Nullable<Timestamptz>>, _>(left)
}

/// Has those of the instances that the first part has locked looked at that are not
/// at rest.
fn stamp() -> Statement<impl Values + use<>> {
    statement(
        "UPDATE instance \
         SET reconcile_at = now() + $1 * INTERVAL '1 millisecond' \
         FROM part0 AS locked \
         WHERE instance.id = locked.id \
           AND (locked.looks OR (locked.reconcile_at IS NOT NULL \
                AND locked.reconcile_at IS DISTINCT FROM locked.left_at))",
    )
    .bind::<BigInt, _>(AFTER_SAGA.num_milliseconds())
}

/// Ends those of them whose instances are locked, or not there; after the parts that
/// are before it, which could not lock any more a row that this has changed.
fn set_done(
    all: &[SagaEnd],
    locked: Locked,
    before: usize,
) -> Statement<impl Values + use<>> {
    let is_free = match locked {
        Locked::PassedOver => {
            "(saga.id IN (SELECT saga_id FROM part0) OR NOT EXISTS ( \
                 SELECT 1 FROM instance i WHERE i.id = saga.instance_id \
                     AND i.state <> 'destroyed'))"
        }
        Locked::AwaitedFor => "TRUE",
    };
    // They are so always: it has those parts made first, and in this order.
    let after_those = (0..before)
        .map(|n| format!("(SELECT count(*) FROM {PART}{n}) >= 0"))
        .collect::<Vec<_>>()
        .join(" AND ");
    let text = format!(
        "UPDATE saga SET state = 'done', time_ended = now() \
         FROM unnest($1::UUID[], $2::UUID[], $3::INT8[]) \
             AS ends (saga_id, sec, generation) \
         WHERE saga.id = ANY (ARRAY(SELECT unnest($1::UUID[]))) \
           AND saga.id = ends.saga_id AND saga.current_sec = ends.sec \
           AND saga.adopt_generation = ends.generation \
           AND saga.time_ended IS NULL AND {after_those} AND {is_free}"
    );
    of_these(text, all)
}
