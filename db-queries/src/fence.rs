//! Fencing: a saga writes only while it is its process's. And what its log owes:
//! records that need not be durable before the next write of their saga is, and
//! so go with that.

use crate::saga::{self, Record};
use crate::sql::{Statement, Values, statement};
use crate::{DataStore, Error};
use db_model::lifecycle::Rest;
use db_model::schema::saga as saga_table;
use db_model::{Fence, SagaState, SecId};
use diesel::result::Error as DieselError;
use diesel::sql_types::{Array, BigInt, Uuid as SqlUuid};
use diesel::{OptionalExtension, PgConnection, QueryDsl, RunQueryDsl};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why a saga's write was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    /// Another process has adopted the saga: this one is a zombie.
    #[error("another process has adopted the saga")]
    Adopted,
    /// An operator has given the saga up: it is parked.
    #[error("an operator has given the saga up")]
    Parked,
}

/// Records of sagas that this process runs, and has not written yet, by the fence
/// under which they are to be written: what a run of a saga still says after the
/// next one has begun is none of that one's. Lost with the process, which is no
/// more than to die a moment earlier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owed(Arc<Mutex<HashMap<Fence, OfSaga>>>);

#[derive(Debug, Default)]
struct OfSaga {
    records: Vec<Record>,
    /// In which its last step has left its instance.
    rest: Option<Rest>,
}

/// What the log of a saga owes.
#[derive(Clone, Debug)]
pub(crate) struct Owes {
    pub(crate) fence: Fence,
    pub(crate) records: Vec<Record>,
}

impl Owed {
    fn lock(&self) -> MutexGuard<'_, HashMap<Fence, OfSaga>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be written with the next write of its saga.
    pub(crate) fn add(&self, fence: Fence, record: Record) {
        self.lock().entry(fence).or_default().records.push(record);
    }

    /// A step of the saga has left its instance at rest, or not.
    pub(crate) fn leaves(&self, fence: Fence, rest: Option<Rest>) {
        self.lock().entry(fence).or_default().rest = rest;
    }

    /// In which rest the last step that said so has left the instance.
    pub(crate) fn left(&self, fence: Fence) -> Option<Rest> {
        self.lock().get(&fence).and_then(|saga| saga.rest)
    }

    /// The saga is over, or not this process's any more.
    pub(crate) fn forget(&self, fence: Fence) {
        self.lock().remove(&fence);
    }

    pub(crate) fn of(&self, fence: Fence) -> Owes {
        let sagas = self.lock();
        let records = sagas.get(&fence).map(|saga| saga.records.clone());
        Owes { fence, records: records.unwrap_or_default() }
    }

    /// The first `count` are written.
    pub(crate) fn paid(&self, fence: Fence, count: usize) {
        if let Some(OfSaga { records, .. }) = self.lock().get_mut(&fence) {
            records.drain(..count.min(records.len()));
        }
    }
}

impl DataStore {
    /// A transaction of a saga: it happens only if the saga is still this
    /// process's, and takes along what its log owes.
    ///
    /// # Errors
    ///
    /// `Fenced`; what `work` returns.
    pub(crate) async fn fenced<T, F>(
        &self,
        fence: Fence,
        mut work: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<T, Error> + Send + 'static,
    {
        let owes = self.owed.of(fence);
        let count = owes.records.len();
        let done = self
            .transaction(move |conn| {
                saga::record(conn, &owes)?;
                work(conn)
            })
            .await?;
        self.owed.paid(fence, count);
        Ok(done)
    }

    /// What a saga looks at, while it is still this process's. It locks
    /// nothing, since to lock is to write, and what was seen may be otherwise a
    /// moment later in any case. What the log owes, it goes on owing.
    ///
    /// # Errors
    ///
    /// `Fenced`; what `look` returns.
    pub(crate) async fn fenced_look<T, F>(
        &self,
        fence: Fence,
        mut look: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<T, Error> + Send + 'static,
    {
        self.run(move |conn| {
            let held = saga_table::table
                .find(fence.saga_id)
                .select(columns())
                .first(conn)
                .optional()?;
            judge(held, &fence)?;
            look(conn)
        })
        .await
    }

    /// Writes what a saga's log owes: before it does anything that is not a
    /// transaction of this database, and so cannot take that along.
    ///
    /// # Errors
    ///
    /// `Fenced`.
    pub async fn saga_pay(&self, fence: Fence) -> Result<(), Error> {
        let owes = self.owed.of(fence);
        if owes.records.is_empty() {
            return Ok(());
        }
        let count = owes.records.len();
        self.run(move |conn| saga::record(conn, &owes)).await?;
        self.owed.paid(fence, count);
        Ok(())
    }
}

/// Checks that the saga is still this process's, and keeps it so until the
/// transaction ends.
pub(crate) fn check(
    conn: &mut PgConnection,
    fence: &Fence,
) -> Result<(), Error> {
    let held = saga_table::table
        .find(fence.saga_id)
        .select(columns())
        .for_share()
        .first(conn)
        .optional()?;
    judge(held, fence)
}

/// Why not all of these sagas could be locked as this process's.
pub(crate) fn why_not_ours(conn: &mut PgConnection, these: &[&Owes]) -> Error {
    let fences = these.iter().map(|owes| &owes.fence);
    let refused = fences.map(|fence| check(conn, fence)).find_map(Result::err);
    // They could, so we should not have come here.
    refused.unwrap_or(Error::Internal(DieselError::NotFound))
}

/// Locks the rows of those of these sagas that are still this process's; which
/// they are.
pub(crate) fn lock(these: &[&Owes]) -> Statement<impl Values + use<>> {
    let fences = || these.iter().map(|owes| &owes.fence);
    let ids: Vec<_> = fences().map(|fence| fence.saga_id).collect();
    let secs: Vec<_> = fences().map(|fence| fence.sec_id).collect();
    let generations: Vec<_> =
        fences().map(|fence| fence.adopt_generation).collect();
    statement(
        "SELECT saga.id FROM unnest($1::UUID[], $2::UUID[], $3::INT8[]) \
             AS f (saga_id, sec, generation) \
         JOIN saga ON saga.id = f.saga_id AND saga.current_sec = f.sec \
           AND saga.adopt_generation = f.generation \
         WHERE saga.id = ANY (ARRAY(SELECT unnest($1::UUID[]))) \
           AND saga.state <> 'abandoned' FOR SHARE OF saga",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Array<SqlUuid>, _>(secs)
    .bind::<Array<BigInt>, _>(generations)
}

/// Whose a saga is, and whether it still is.
pub(crate) type Held = (SecId, i64, SagaState);

/// Its columns.
pub(crate) fn columns()
-> (saga_table::current_sec, saga_table::adopt_generation, saga_table::state) {
    (saga_table::current_sec, saga_table::adopt_generation, saga_table::state)
}

/// Refuses if it is not what the fence says.
pub(crate) fn judge(held: Option<Held>, fence: &Fence) -> Result<(), Error> {
    match held {
        Some((_, _, SagaState::Abandoned)) => {
            Err(Error::Fenced(FenceError::Parked))
        }
        Some((sec, generation, _))
            if sec == fence.sec_id && generation == fence.adopt_generation =>
        {
            Ok(())
        }
        _ => Err(Error::Fenced(FenceError::Adopted)),
    }
}
