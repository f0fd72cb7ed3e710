//! Changes of several tables in one statement, so that the server is asked once.
//!
//! They are made in the order in which they were added, and none sees what another
//! has changed. No two may change the same table: not both engines would do it.

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
}

impl<'a> Together<'a> {
    /// An INSERT, UPDATE or DELETE that returns nothing.
    pub(crate) fn add(&mut self, sql: impl QueryFragment<Pg> + 'a) {
        self.parts.push(Part { sql: Box::new(sql), changes: true });
    }

    /// A SELECT that locks.
    pub(crate) fn lock(&mut self, sql: impl QueryFragment<Pg> + 'a) {
        self.parts.push(Part { sql: Box::new(sql), changes: false });
    }

    /// Makes them; says how many rows each was about.
    pub(crate) fn make(self, conn: &mut PgConnection) -> QueryResult<Vec<i64>> {
        match self.parts.as_slice() {
            [] => Ok(Vec::new()),
            parts => All(parts).kept().get_result(conn),
        }
    }
}

/// All of them, of each of which the rows are counted.
struct All<'a>(&'a [Part<'a>]);

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

impl QueryId for All<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for All<'_> {
    type SqlType = Array<BigInt>;
}
