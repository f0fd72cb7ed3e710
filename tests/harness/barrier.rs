//! Halting the product at a chosen point: a test holds a lock in its database, or
//! has records of sagas refused, sees who is held up by that, and lets go. Needs
//! PostgreSQL.

use crate::{Database, eventually};
use diesel::connection::SimpleConnection;
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};
use nexus::saga::Saga;
use std::sync::atomic::{AtomicU32, Ordering};

/// A lock that the test holds until it is lifted or dropped.
pub struct Barrier {
    held: PgConnection,
    pid: i64,
    /// To look with while `held` holds.
    look: PgConnection,
}

impl Database {
    /// Runs `sql`, which takes locks, in a transaction that stays open: whoever
    /// wants the same locks waits.
    pub fn hold(&self, sql: &str) -> Barrier {
        let mut held = self.connect();
        sql_query("BEGIN").execute(&mut held).unwrap();
        sql_query(sql).execute(&mut held).unwrap();
        Barrier::new(held, self.connect())
    }

    /// From here on sagas of the kind `S` halt as they are about to record
    /// `event` (`started`, `succeeded`, `undo_started`, …) of `node`: they have
    /// done all that comes before the transaction that takes that record along,
    /// and nothing that comes after. They hold nothing meanwhile: what they try
    /// is refused, as by a database that cannot write, and they try it again.
    pub fn gate<S: Saga>(&self, node: &str, event: &str) -> Gate {
        self.set_gates(&[gate_sql::<S>(node, event)])
    }

    /// As [`Database::gate`], for many at once: the next saga of the kind `S`
    /// halts at the first of these records, the one after it at the second.
    pub fn gates<S: Saga>(&self, points: &[(&str, &str)]) -> Gate {
        let name = S::NAME;
        let before = self
            .count(&format!("SELECT count(*) FROM saga WHERE name = '{name}'"));
        let before = usize::try_from(before).unwrap();
        let sql = points.iter().enumerate().map(|(n, (node, event))| {
            format!(
                "{} AND (SELECT count(*) FROM saga WHERE name = '{name}' \
                 AND time_created < s.time_created) = {}",
                gate_sql::<S>(node, event),
                before + n,
            )
        });
        self.set_gates(&sql.collect::<Vec<_>>())
    }

    /// That one was reached is told by a sequence of its own, since a sequence
    /// keeps what a transaction did to it that came to nothing.
    fn set_gates(&self, halts: &[String]) -> Gate {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("test_gate_{}", MADE.fetch_add(1, Ordering::Relaxed));
        let sequences = (0..halts.len()).fold(String::new(), |sql, n| {
            sql + &format!("CREATE SEQUENCE {name}_{n}; ")
        });
        let ifs =
            halts.iter().enumerate().fold(String::new(), |sql, (n, halt)| {
                sql + &format!(
                    "IF EXISTS (SELECT 1 FROM saga s \
                     WHERE s.id = NEW.saga_id AND {halt}) \
                 THEN PERFORM nextval('{name}_{n}'); \
                      RAISE read_only_sql_transaction \
                          USING MESSAGE = 'a test holds this record up'; \
                 END IF; "
                )
            });
        let mut look = self.connect();
        look.batch_execute(&format!(
            "{sequences} \
             CREATE FUNCTION {name}() RETURNS trigger \
             LANGUAGE plpgsql AS $$ BEGIN {ifs} RETURN NEW; END $$; \
             CREATE TRIGGER {name} BEFORE INSERT ON saga_node_event \
                 FOR EACH ROW EXECUTE FUNCTION {name}()"
        ))
        .unwrap();
        Gate { name, count: halts.len(), look }
    }
}

/// Gates at which sagas halt until they are lifted or dropped.
pub struct Gate {
    name: String,
    count: usize,
    look: PgConnection,
}

impl Gate {
    /// Waits until `n` of the gates have somebody at them.
    ///
    /// # Panics
    ///
    /// They never do.
    pub async fn reached_by(&mut self, n: i64) {
        let reached = (0..self.count)
            .map(|n| format!("(SELECT is_called::INT FROM {}_{n})", self.name))
            .collect::<Vec<_>>()
            .join(" + ");
        let reached = format!("SELECT ({reached})::INT8 AS n");
        eventually("somebody is at the gate", async || {
            (number(&mut self.look, &reached) >= n).then_some(())
        })
        .await;
    }

    /// Lets everybody go on, the next time that they try.
    pub fn lift(self) {}
}

impl Drop for Gate {
    fn drop(&mut self) {
        let open = format!("DROP TRIGGER {} ON saga_node_event", self.name);
        // The database may have gone before it.
        _ = sql_query(open).execute(&mut self.look);
    }
}

/// Is the new record this event of this node of a saga `s` of this kind?
fn gate_sql<S: Saga>(node: &str, event: &str) -> String {
    let saga = S::NAME;
    let index = S::nodes()
        .iter()
        .position(|n| n.name == node)
        .unwrap_or_else(|| panic!("{saga} has no node {node}"));
    format!(
        "s.name = '{saga}' AND NEW.node_id = {index} \
         AND NEW.event_type = '{event}'"
    )
}

impl Barrier {
    fn new(mut held: PgConnection, look: PgConnection) -> Barrier {
        let pid = number(&mut held, "SELECT pg_backend_pid()::INT8 AS n");
        Barrier { held, pid, look }
    }

    /// Waits until at least `n` wait for this lock.
    ///
    /// # Panics
    ///
    /// They never do.
    pub async fn reached_by(&mut self, n: i64) {
        let waiting = format!(
            "SELECT count(*)::INT8 AS n FROM pg_stat_activity \
             WHERE {} = ANY (pg_blocking_pids(pid))",
            self.pid,
        );
        eventually("somebody waits at the barrier", async || {
            (number(&mut self.look, &waiting) >= n).then_some(())
        })
        .await;
    }

    /// Lets everybody go on.
    pub fn lift(mut self) {
        sql_query("COMMIT").execute(&mut self.held).unwrap();
    }
}

fn number(conn: &mut PgConnection, sql: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        n: i64,
    }
    let row: Row = sql_query(sql).get_result(conn).unwrap();
    row.n
}
