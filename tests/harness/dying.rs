//! A process that dies at a chosen record of a saga's log: what it has done by
//! then stays, and nothing that it tries after that is written. Needs
//! PostgreSQL.

use crate::{Database, eventually};
use db_model::{SagaId, SecId};

/// What became of a saga whose process was to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Died {
    /// The process died, and left the saga unfinished.
    Midway,
    /// The saga has no more records: it was over first.
    TooLate,
}

impl Database {
    /// From here on the process `sec` writes the first `records` records of a
    /// saga, and neither another one nor that the saga is over. So it does no
    /// more than a process that dies right before the next record: all that
    /// comes before that record is done, and nothing that comes after.
    ///
    /// One process of a database at a time; whoever adopts the saga is not
    /// kept from anything.
    pub fn dies_after(&self, sec: SecId, records: usize) {
        let kept = "SELECT count(*) FROM saga_node_event e WHERE e.saga_id =";
        let death = "PERFORM nextval('test_deaths'); \
                     RAISE EXCEPTION 'this process is dead';";
        self.try_sql(&format!(
            "CREATE SEQUENCE IF NOT EXISTS test_deaths; \
             ALTER SEQUENCE test_deaths RESTART; \
             CREATE OR REPLACE FUNCTION test_dies_record() RETURNS trigger \
             LANGUAGE plpgsql AS $$ BEGIN \
                 IF NEW.creator = '{sec}' \
                     AND ({kept} NEW.saga_id) >= {records} \
                 THEN {death} END IF; \
                 RETURN NEW; \
             END $$; \
             CREATE OR REPLACE FUNCTION test_dies_done() RETURNS trigger \
             LANGUAGE plpgsql AS $$ BEGIN \
                 IF OLD.current_sec = '{sec}' AND NEW.state = 'done' \
                     AND ({kept} NEW.id) >= {records} \
                 THEN {death} END IF; \
                 RETURN NEW; \
             END $$; \
             CREATE OR REPLACE TRIGGER test_dies_record \
                 BEFORE INSERT ON saga_node_event \
                 FOR EACH ROW EXECUTE FUNCTION test_dies_record(); \
             CREATE OR REPLACE TRIGGER test_dies_done \
                 BEFORE UPDATE ON saga \
                 FOR EACH ROW EXECUTE FUNCTION test_dies_done()"
        ))
        .unwrap();
    }

    /// Waits until the process that was to die has died, or its saga is over.
    ///
    /// # Panics
    ///
    /// Neither happens.
    pub async fn died(&self, saga: SagaId) -> Died {
        let deaths = "SELECT count(*) FROM test_deaths WHERE is_called";
        let over = format!(
            "SELECT count(*) FROM saga WHERE id = '{saga}' AND state = 'done'"
        );
        eventually("the process dies, or its saga is over", async || {
            if self.count(deaths) == 1 {
                return Some(Died::Midway);
            }
            (self.count(&over) == 1).then_some(Died::TooLate)
        })
        .await
    }
}
