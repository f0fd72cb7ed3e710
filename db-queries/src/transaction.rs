//! The one place where statements are run and transactions are retried.

use crate::reservation::PREPARE_TAKING;
use crate::{DataStore, Error};
use async_bb8_diesel::AsyncConnection;
use db_model::InstanceId;
use diesel::connection::{
    AnsiTransactionManager, SimpleConnection, TransactionManager,
};
use diesel::result::Error as DieselError;
use diesel::{Connection, PgConnection};
use std::time::Duration;

/// How often a transaction that lost a race is run before its caller hears of
/// it. Each loss means that somebody else won, so this many in a row point at
/// something other than a race.
const MAX_TRIES: u32 = 10;

/// How long to wait for the server, which ends a statement of its own accord
/// before that: longer means that it is not there, though the connection is.
const MAX_WAIT: Duration = Duration::from_secs(25);

/// How a transaction begins and ends, where diesel is not told of it.
const BEGIN: &str = "BEGIN";
const ROLLBACK: &str = "ROLLBACK";
const COMMIT: &str = "COMMIT";

impl DataStore {
    /// Runs one statement. In a blocking closure on a thread of its own: it is
    /// carried through though the caller's future is dropped.
    pub(crate) async fn run<T, F>(&self, mut f: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<T, Error> + Send + 'static,
    {
        self.with_retries(MAX_WAIT, move |conn| f(conn)).await
    }

    /// Runs one statement that may take as long as it takes: a migration's step.
    pub(crate) async fn run_at_length<T, F>(&self, mut f: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<T, Error> + Send + 'static,
    {
        self.with_retries(Duration::MAX, move |conn| f(conn)).await
    }

    /// Runs one transaction, again if it loses a race (40001, 40P01).
    pub(crate) async fn transaction<T, F>(&self, mut f: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<T, Error> + Send + 'static,
    {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the helper that all others must use"
        )]
        self.with_retries(MAX_WAIT, move |conn| {
            conn.transaction(|conn| f(conn))
        })
        .await
    }

    /// The same of one that begins with a lock on an instance's row, taken in the
    /// question that begins it. If it turns out to have nothing to write, it is
    /// rolled back: a row that is locked is written to, and to commit that would
    /// wait for the disk.
    pub(crate) async fn locked_of<T, F>(
        &self,
        id: InstanceId,
        mut f: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<Work<T>, Error> + Send + 'static,
    {
        self.with_retries(MAX_WAIT, move |conn| {
            begin_with_lock(conn, id)?;
            let done = f(conn);
            end(conn, done)
        })
        .await
    }

    /// The same of one that takes its locks itself.
    pub(crate) async fn locked<T, F>(&self, mut f: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<Work<T>, Error> + Send + 'static,
    {
        self.with_retries(MAX_WAIT, move |conn| {
            AnsiTransactionManager::begin_transaction_sql(conn, BEGIN)?;
            let done = f(conn);
            end(conn, done)
        })
        .await
    }

    /// Runs one transaction that only reads, all of it as it was at one moment.
    /// At the default isolation each statement has a moment of its own, and
    /// what changed in between is seen by halves.
    pub(crate) async fn snapshot<T, F>(&self, mut f: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<T, Error> + Send + 'static,
    {
        self.transaction(move |conn| {
            conn.batch_execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            )?;
            f(conn)
        })
        .await
    }

    async fn with_retries<T, F>(
        &self,
        max_wait: Duration,
        mut f: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection) -> Result<T, Error> + Send + 'static,
    {
        let pooled = self
            .pool
            .get()
            .await
            .map_err(|e| Error::Unavailable(Box::new(e)))?;
        // Until it has come back whole: what panics in there, or hangs, leaves
        // it in a state that nobody knows.
        pooled.mark_broken(true);
        let work = pooled.connection.run(move |conn| {
            let mut tries = 1;
            loop {
                match f(conn) {
                    Err(e) if e.retryable() && tries < MAX_TRIES => {
                        std::thread::sleep(backoff(tries));
                        tries += 1;
                    }
                    result => return result,
                }
            }
        });
        let result = tokio::time::timeout(max_wait, work)
            .await
            .unwrap_or_else(|e| Err(Error::Unavailable(Box::new(e))));
        if !matches!(result, Err(Error::Unavailable(_))) {
            pooled.mark_broken(false);
            pooled.mark_used();
        }
        result
    }
}

/// What a connection has the server prepare, so that it may stand in a text of
/// several statements: there are no values in one, so diesel cannot prepare what does.
/// For [`begin_with_lock`] and [`Work::Last`].
pub(crate) const PREPARED: [&str; 2] = [
    "PREPARE lock_instance (UUID) AS \
     SELECT 1 FROM instance WHERE id = $1 FOR UPDATE",
    PREPARE_TAKING,
];

/// Begins a transaction with the lock on an instance's row.
fn begin_with_lock(
    conn: &mut PgConnection,
    id: InstanceId,
) -> Result<(), Error> {
    let begin = format!("{BEGIN}; EXECUTE lock_instance ('{id}')");
    let begun = AnsiTransactionManager::begin_transaction_sql(conn, &begin);
    if begun.is_err() {
        // It may have begun, and not got the lock.
        conn.batch_execute(ROLLBACK)?;
    }
    Ok(begun?)
}

/// Ends a transaction as its work says.
fn end<T>(
    conn: &mut PgConnection,
    done: Result<Work<T>, Error>,
) -> Result<T, Error> {
    let ended = match done {
        Ok(Work::Written(answer)) => {
            AnsiTransactionManager::commit_transaction(conn)?;
            return Ok(answer);
        }
        Ok(Work::Last(answer, statement)) => {
            match conn.batch_execute(&format!("{statement}; {COMMIT}")) {
                // Diesel sees for itself that no transaction is left.
                Ok(()) => return Ok(answer),
                Err(error) => Err(error.into()),
            }
        }
        Ok(Work::Nothing(answer)) => Ok(answer),
        Err(error) => Err(error),
    };
    match AnsiTransactionManager::rollback_transaction(conn) {
        // The first error says more.
        Ok(())
        | Err(
            DieselError::BrokenTransactionManager
            | DieselError::NotInTransaction,
        ) => ended,
        Err(error) => Err(error.into()),
    }
}

/// What came of a transaction's work.
pub(crate) enum Work<T> {
    /// It has written, or may have.
    Written(T),
    /// It has written, and says this statement with its last word: what it locks is
    /// held for the commit alone, and not while this side is told and says what is
    /// next. It has no values in it but what its text says.
    Last(T, String),
    /// It has only looked, though with locks.
    Nothing(T),
}

impl<T> Work<T> {
    /// The same with another answer.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Work<U> {
        match self {
            Work::Written(answer) => Work::Written(f(answer)),
            Work::Last(answer, statement) => Work::Last(f(answer), statement),
            Work::Nothing(answer) => Work::Nothing(f(answer)),
        }
    }
}

/// 1 ms, doubling to 64 ms, and up to as much again by chance, so that those
/// who lost together do not meet again.
fn backoff(tries: u32) -> Duration {
    let base = 1u64 << tries.min(6);
    let jitter = u64::from(uuid::Uuid::new_v4().as_fields().0) % base;
    Duration::from_millis(base + jitter)
}
