//! Changes of several tables in one statement, so that the server is asked once.
//!
//! They are made in the order in which they were added, and none sees what another
//! has changed. No two may change the same table: not both engines would do it.

use crate::sql::Keep;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Uuid as SqlUuid};
use diesel::{PgConnection, QueryResult, RunQueryDsl};
use std::marker::PhantomData;
use uuid::Uuid;

/// See the module.
#[derive(Default)]
pub(crate) struct Together<'a> {
    parts: Vec<Part<'a>>,
}

struct Part<'a> {
    sql: Box<dyn QueryFragment<Pg> + 'a>,
    /// What it returns, unless it says so itself: a SELECT does.
    returns: Option<&'static str>,
}

impl<'a> Together<'a> {
    /// An INSERT, UPDATE or DELETE that returns nothing.
    pub(crate) fn add(&mut self, sql: impl QueryFragment<Pg> + 'a) {
        self.add_returning(sql, "1");
    }

    /// The same of one of whose rows something is told.
    pub(crate) fn add_returning(
        &mut self,
        sql: impl QueryFragment<Pg> + 'a,
        what: &'static str,
    ) {
        let sql = Box::new(sql);
        self.parts.push(Part { sql, returns: Some(what) });
    }

    /// A SELECT that locks. Says which part that is, for the text of others.
    pub(crate) fn lock(&mut self, sql: impl QueryFragment<Pg> + 'a) -> usize {
        self.parts.push(Part { sql: Box::new(sql), returns: None });
        self.parts.len() - 1
    }

    /// How many parts there are so far.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Makes them; says how many rows each was about.
    pub(crate) fn make(self, conn: &mut PgConnection) -> QueryResult<Vec<i64>> {
        match self.parts.as_slice() {
            [] => Ok(Vec::new()),
            parts => {
                let counts: Vec<_> = (0..parts.len())
                    .map(|n| format!("(SELECT count(*) FROM {PART}{n})"))
                    .collect();
                let tell = format!("SELECT ARRAY[{}]", counts.join(", "));
                All::<Array<BigInt>>::new(parts, &tell).kept().get_result(conn)
            }
        }
    }

    /// Makes them; `tell`, which selects from them (`part0` and so on), says of
    /// which something is so.
    pub(crate) fn make_and(
        self,
        conn: &mut PgConnection,
        tell: &str,
    ) -> QueryResult<Vec<(Uuid, bool)>> {
        All::<(SqlUuid, Bool)>::new(&self.parts, tell).kept().load(conn)
    }
}

/// What parts are called, before their number.
pub(crate) const PART: &str = "part";

/// All of them, and what is told of them.
struct All<'a, ST> {
    parts: &'a [Part<'a>],
    tell: &'a str,
    tells: PhantomData<ST>,
}

impl<'a, ST> All<'a, ST> {
    fn new(parts: &'a [Part<'a>], tell: &'a str) -> All<'a, ST> {
        All { parts, tell, tells: PhantomData }
    }
}

impl<ST> QueryFragment<Pg> for All<'_, ST> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        for (n, part) in self.parts.iter().enumerate() {
            out.push_sql(if n == 0 { "WITH " } else { ", " });
            out.push_sql(&format!("{PART}{n} AS ("));
            part.sql.walk_ast(out.reborrow())?;
            if let Some(what) = part.returns {
                out.push_sql(" RETURNING ");
                out.push_sql(what);
            }
            out.push_sql(")");
        }
        out.push_sql(" ");
        out.push_sql(self.tell);
        Ok(())
    }
}

impl<ST> QueryId for All<'_, ST> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST> Query for All<'_, ST> {
    type SqlType = ST;
}
