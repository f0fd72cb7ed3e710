//! Fencing: a saga writes only while it is its process's. And what its log owes:
//! records that need not be durable before the next write of their saga is, and
//! so go with that.

use crate::saga::{self, Record};
use crate::{DataStore, Error, Work};
use db_model::schema::saga as saga_table;
use db_model::{Fence, SagaState, SecId};
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
pub(crate) struct Owed(Arc<Mutex<HashMap<Fence, Vec<Record>>>>);

impl Owed {
    fn lock(&self) -> MutexGuard<'_, HashMap<Fence, Vec<Record>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be written with the next write of its saga.
    pub(crate) fn add(&self, fence: Fence, record: Record) {
        self.lock().entry(fence).or_default().push(record);
    }

    /// The saga is over, or not this process's any more.
    pub(crate) fn forget(&self, fence: Fence) {
        self.lock().remove(&fence);
    }

    fn of(&self, fence: Fence) -> Vec<Record> {
        self.lock().get(&fence).cloned().unwrap_or_default()
    }

    /// The first `count` are written.
    fn paid(&self, fence: Fence, count: usize) {
        if let Some(records) = self.lock().get_mut(&fence) {
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
        self.fenced_of(fence, move |conn| Ok(Work::Written(work(conn)?))).await
    }

    /// The same of one that may turn out to have nothing to write, but what the
    /// log owes.
    ///
    /// # Errors
    ///
    /// `Fenced`; what `work` returns.
    pub(crate) async fn fenced_of<T, F>(
        &self,
        fence: Fence,
        mut work: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<Work<T>, Error> + Send + 'static,
    {
        let owed = self.owed.of(fence);
        let count = owed.len();
        let done = self
            .transaction_of(move |conn| {
                saga::record(conn, &fence, &owed)?;
                match work(conn)? {
                    Work::Nothing(answer) if owed.is_empty() => {
                        Ok(Work::Nothing(answer))
                    }
                    Work::Nothing(answer) | Work::Written(answer) => {
                        Ok(Work::Written(answer))
                    }
                }
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
            let held = held().find(fence.saga_id).first(conn).optional()?;
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
        let owed = self.owed.of(fence);
        if owed.is_empty() {
            return Ok(());
        }
        let count = owed.len();
        self.run(move |conn| saga::record(conn, &fence, &owed)).await?;
        self.owed.paid(fence, count);
        Ok(())
    }
}

/// Checks that the saga is still this process's, and keeps it so until the
/// transaction ends. The first statement of every transaction of a saga.
pub(crate) fn check(
    conn: &mut PgConnection,
    fence: &Fence,
) -> Result<(), Error> {
    let held = held().find(fence.saga_id).for_share().first(conn).optional()?;
    judge(held, fence)
}

/// Whose a saga is, and whether it still is.
type Held = (SecId, i64, SagaState);

#[diesel::dsl::auto_type(no_type_alias)]
fn held() -> _ {
    saga_table::table.select((
        saga_table::current_sec,
        saga_table::adopt_generation,
        saga_table::state,
    ))
}

fn judge(held: Option<Held>, fence: &Fence) -> Result<(), Error> {
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
