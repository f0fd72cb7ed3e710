//! Changes of several tables in one statement, so that the server is asked once.
//!
//! They are made in the order in which they were added, and none sees what another
//! has changed. No two may change the same table: not both engines would do it.

use crate::Error;
use crate::sql::Keep;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt};
use diesel::{PgConnection, QueryResult, RunQueryDsl};

/// See the module.
#[derive(Default)]
pub(crate) struct Together<'a> {
    parts: Vec<Part<'a>>,
}

struct Part<'a> {
    sql: Box<dyn QueryFragment<Pg> + 'a>,
    /// It changes rows, and does not only lock them.
    changes: bool,
    /// It is to be about one row; else this is the error.
    guard: Option<Error>,
}

impl<'a> Together<'a> {
    /// An INSERT, UPDATE or DELETE that returns nothing.
    pub(crate) fn add(&mut self, sql: impl QueryFragment<Pg> + 'a) {
        self.push(sql, true, None);
    }

    /// The same of one that must change one row; else nothing is to be done, and
    /// `error` is why.
    pub(crate) fn guarded(
        &mut self,
        sql: impl QueryFragment<Pg> + 'a,
        error: Error,
    ) {
        self.push(sql, true, Some(error));
    }

    /// A SELECT that locks.
    pub(crate) fn lock(&mut self, sql: impl QueryFragment<Pg> + 'a) {
        self.push(sql, false, None);
    }

    fn push(
        &mut self,
        sql: impl QueryFragment<Pg> + 'a,
        changes: bool,
        guard: Option<Error>,
    ) {
        self.parts.push(Part { sql: Box::new(sql), changes, guard });
    }

    /// Makes them; says how many rows each was about. In a transaction, which an
    /// error must end, if any is guarded.
    ///
    /// # Errors
    ///
    /// Of the first guarded one that changed no row.
    pub(crate) fn make(
        mut self,
        conn: &mut PgConnection,
    ) -> Result<Vec<i64>, Error> {
        let counts: Vec<i64> = match self.parts.len() {
            0 => Vec::new(),
            1 => {
                let rows = Alone(&self.parts).kept().execute(conn)?;
                vec![i64::try_from(rows).unwrap_or(i64::MAX)]
            }
            _ => All(&self.parts).kept().get_result(conn)?,
        };
        for (part, rows) in self.parts.iter_mut().zip(&counts) {
            if *rows != 1
                && let Some(error) = part.guard.take()
            {
                return Err(error);
            }
        }
        Ok(counts)
    }
}

/// One change, as it is.
struct Alone<'a>(&'a [Part<'a>]);

/// Several, of each of which the rows are counted.
struct All<'a>(&'a [Part<'a>]);

impl QueryFragment<Pg> for Alone<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.iter().try_for_each(|part| part.sql.walk_ast(out.reborrow()))
    }
}

impl QueryFragment<Pg> for All<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        for (n, part) in self.0.iter().enumerate() {
            out.push_sql(if n == 0 { "WITH " } else { ", " });
            out.push_identifier(&name(n))?;
            out.push_sql(" AS (");
            part.sql.walk_ast(out.reborrow())?;
            out.push_sql(if part.changes { " RETURNING 1)" } else { ")" });
        }
        for n in 0..self.0.len() {
            out.push_sql(if n == 0 { " SELECT ARRAY[" } else { ", " });
            out.push_sql("(SELECT count(*) FROM ");
            out.push_identifier(&name(n))?;
            out.push_sql(")");
        }
        out.push_sql("]");
        Ok(())
    }
}

fn name(n: usize) -> String {
    format!("part{n}")
}

impl QueryId for Alone<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryId for All<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for All<'_> {
    type SqlType = Array<BigInt>;
}
