//! Halting the product at a chosen point: a test holds a lock in its database,
//! sees who waits for it, and lets go. Needs PostgreSQL.

use crate::{Database, eventually};
use diesel::{PgConnection, QueryableByName, RunQueryDsl, sql_query};
use nexus::saga::Saga;

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
    /// done all that comes before that, and nothing that comes after. The gates
    /// of a database are those that were asked for last.
    pub fn gate<S: Saga>(&self, node: &str, event: &str) -> Barrier {
        self.set_gates(&gate_sql::<S>(node, event))
    }

    /// As [`Database::gate`], for many at once: the next saga of the kind `S`
    /// halts at the first of these records, the one after it at the second.
    pub fn gates<S: Saga>(&self, points: &[(&str, &str)]) -> Barrier {
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
        self.set_gates(&sql.collect::<Vec<_>>().join(" OR "))
    }

    fn set_gates(&self, halts: &str) -> Barrier {
        self.try_sql(&format!(
            "CREATE OR REPLACE FUNCTION test_gate() RETURNS trigger \
             LANGUAGE plpgsql AS $$ BEGIN \
                 IF EXISTS (SELECT 1 FROM saga s \
                     WHERE s.id = NEW.saga_id AND ({halts})) \
                 THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; \
                 RETURN NEW; \
             END $$; \
             CREATE OR REPLACE TRIGGER test_gate \
                 BEFORE INSERT ON saga_node_event \
                 FOR EACH ROW EXECUTE FUNCTION test_gate()"
        ))
        .unwrap();
        self.hold("SELECT pg_advisory_xact_lock(1)")
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
