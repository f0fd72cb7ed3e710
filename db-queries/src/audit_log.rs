//! The audit log. Each entry is written in two statements, one before a change
//! and one before its answer, both by the database's clock, and each together with
//! those of other changes at that moment.

use crate::rows::{self, Row};
use crate::shared::{Answers, Queue, SharedStatement};
use crate::sql::{Keep, sql, statement};
use crate::{DataStore, Error, Page};
use chrono::{DateTime, Utc};
use db_model::schema::audit_log;
use db_model::{AuditLogActor, AuditLogBegin, AuditLogEnd, AuditLogEntry};
use diesel::sql_types::{BigInt, Bool, Nullable, Timestamptz};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, NullableExpressionMethods,
    PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
};
use serde::Serialize;
use uuid::Uuid;

/// Rows that one statement deletes or completes.
const BATCH: i64 = 500;

/// Entries by the time of their completion.
#[derive(Clone, Debug)]
pub struct ByTimeCompleted {
    /// From the newest to the oldest.
    pub descending: bool,
    /// The time and id of the last entry of the page before.
    pub after: Option<(DateTime<Utc>, Uuid)>,
}

/// An entry that is begun.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Begun(AuditLogBegin);

impl Row for Begun {
    const TABLE: &'static str = "audit_log";

    fn id(&self) -> Uuid {
        self.0.id
    }
}

impl SharedStatement for Begun {
    type Answer = ();

    fn about(&self) -> Uuid {
        self.0.id
    }

    fn queue(of: &DataStore) -> &Queue<Begun> {
        &of.audit_begun
    }

    fn ask(
        conn: &mut PgConnection,
        all: &[Begun],
    ) -> Result<Answers<Begun>, Error> {
        let rows: Vec<_> = all.iter().collect();
        rows::insert_new(&rows, ("time_started", "now()"))?
            .kept()
            .execute(conn)?;
        Ok(done(all))
    }
}

/// How an entry's change was answered.
#[derive(Debug, Serialize)]
pub(crate) struct Completed {
    id: Uuid,
    #[serde(flatten)]
    end: AuditLogEnd,
}

impl Row for Completed {
    const TABLE: &'static str = "audit_log";

    fn id(&self) -> Uuid {
        self.id
    }
}

impl SharedStatement for Completed {
    type Answer = ();

    fn about(&self) -> Uuid {
        self.id
    }

    fn queue(of: &DataStore) -> &Queue<Completed> {
        &of.audit_completed
    }

    fn ask(
        conn: &mut PgConnection,
        all: &[Completed],
    ) -> Result<Answers<Completed>, Error> {
        let rows: Vec<_> = all.iter().collect();
        rows::update_where(
            &rows,
            Some(("time_completed", "now()")),
            "audit_log.time_completed IS NULL",
        )?
        .kept()
        .execute(conn)?;
        Ok(done(all))
    }
}

fn done<S: SharedStatement<Answer = ()>>(all: &[S]) -> Answers<S> {
    all.iter().map(|one| (SharedStatement::about(one), Ok(()))).collect()
}

impl DataStore {
    /// Notes that something is about to be changed.
    pub async fn audit_log_begin(
        &self,
        row: AuditLogBegin,
    ) -> Result<(), Error> {
        self.ask(Begun(row)).await
    }

    /// Notes how it was answered, unless that is noted already; and who did it,
    /// if that was not known before.
    pub async fn audit_log_complete(
        &self,
        id: Uuid,
        end: AuditLogEnd,
        actor: Option<AuditLogActor>,
    ) -> Result<(), Error> {
        let Some(actor) = actor else {
            return self.ask(Completed { id, end }).await;
        };
        self.run(move |conn| {
            let row = audit_log::table
                .find(id)
                .filter(audit_log::time_completed.is_null());
            diesel::update(row)
                .set((
                    &end,
                    actor,
                    audit_log::time_completed
                        .eq(sql::<Nullable<Timestamptz>>("now()")),
                ))
                .kept()
                .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// Notes what has been answered already, as a refusal that changed nothing,
    /// unless that is noted already.
    pub async fn audit_log_insert(
        &self,
        row: AuditLogBegin,
        end: AuditLogEnd,
    ) -> Result<(), Error> {
        let now = || sql::<Timestamptz>("now()");
        self.run(move |conn| {
            diesel::insert_into(audit_log::table)
                .values((
                    &row,
                    &end,
                    audit_log::time_started.eq(now()),
                    audit_log::time_completed
                        .eq(sql::<Nullable<Timestamptz>>("now()")),
                ))
                .on_conflict_do_nothing()
                .kept()
                .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// The completed entries of a time, the last `settle_ms` left out: what is
    /// being completed right now may become visible later than what was
    /// completed after it.
    pub async fn audit_log_list(
        &self,
        start: DateTime<Utc>,
        end: Option<DateTime<Utc>>,
        settle_ms: u32,
        page: Page<ByTimeCompleted>,
    ) -> Result<Vec<AuditLogEntry>, Error> {
        self.run(move |conn| {
            let mut query = audit_log::table
                .filter(audit_log::time_completed.ge(start))
                .filter(
                    sql::<Bool>(
                        "time_completed < now() - $1 * INTERVAL '1 millisecond'",
                    )
                    .bind::<BigInt, _>(i64::from(settle_ms)),
                )
                .limit(page.limit)
                .select(AuditLogEntry::as_select())
                .into_boxed();
            if let Some(end) = end {
                query = query.filter(audit_log::time_completed.lt(end));
            }
            let (time, id) = (audit_log::time_completed, audit_log::id);
            let query = match (page.by.descending, page.by.after) {
                (false, None) => query.order((time.asc(), id.asc())),
                (true, None) => query.order((time.desc(), id.desc())),
                (false, Some((t, i))) => query
                    .filter(time.ge(t))
                    .filter(time.gt(t).or(id.gt(i).nullable()))
                    .order((time.asc(), id.asc())),
                (true, Some((t, i))) => query
                    .filter(time.le(t))
                    .filter(time.lt(t).or(id.lt(i).nullable()))
                    .order((time.desc(), id.desc())),
            };
            Ok(query.load(conn)?)
        })
        .await
    }

    /// Completes, without a result, what was begun so many seconds ago and is
    /// not completed: whoever began it is dead, or could not write. A batch of
    /// it; how many.
    pub async fn audit_log_give_up(&self, secs: u32) -> Result<usize, Error> {
        self.run(move |conn| {
            Ok(statement(
                "UPDATE audit_log SET time_completed = now() \
                 WHERE time_completed IS NULL AND id IN ( \
                     SELECT id FROM audit_log \
                     WHERE time_completed IS NULL \
                       AND time_started \
                           < now() - $1 * INTERVAL '1 second' \
                     ORDER BY time_started LIMIT $2)",
            )
            .bind::<BigInt, _>(i64::from(secs))
            .bind::<BigInt, _>(BATCH)
            .execute(conn)?)
        })
        .await
    }

    /// Deletes a batch of what was completed so many days ago; how many, and
    /// whether there may be more.
    pub async fn audit_log_prune(
        &self,
        keep_days: u32,
    ) -> Result<(usize, bool), Error> {
        self.run(move |conn| {
            let deleted = statement(
                "DELETE FROM audit_log WHERE id IN ( \
                     SELECT id FROM audit_log \
                     WHERE time_completed < now() - $1 * INTERVAL '1 day' \
                     ORDER BY time_completed LIMIT $2)",
            )
            .bind::<BigInt, _>(i64::from(keep_days))
            .bind::<BigInt, _>(BATCH)
            .execute(conn)?;
            let full = i64::try_from(deleted).is_ok_and(|n| n >= BATCH);
            Ok((deleted, full))
        })
        .await
    }
}
