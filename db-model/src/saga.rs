//! Sagas, as they are kept.

use crate::schema::{saga, saga_node_event};
use crate::{InstanceId, SagaId, SecId};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, QueryableByName, Selectable};

sql_enum! {
    /// How far a saga is.
    pub enum SagaState: SagaStateSql {
        /// Going forward.
        Running = "running",
        /// Going back.
        Unwinding = "unwinding",
        /// Over, either way.
        Done = "done",
        /// Given up by an operator: nobody runs it any more.
        Abandoned = "abandoned",
    }
}

/// A saga. Unfinished is one whose `time_ended` is null.
#[derive(Clone, Debug, Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = saga)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct Saga {
    pub id: SagaId,
    pub name: String,
    pub instance_id: InstanceId,
    pub state: SagaState,
    pub dag: serde_json::Value,
    pub creator_sec: SecId,
    pub current_sec: SecId,
    pub adopt_generation: i64,
    pub time_adopted: DateTime<Utc>,
    pub time_created: DateTime<Utc>,
    pub time_ended: Option<DateTime<Utc>>,
}

/// One record of a saga's log.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = saga_node_event)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct SagaNodeEvent {
    pub saga_id: SagaId,
    pub node_id: i64,
    pub event_type: String,
    pub data: Option<serde_json::Value>,
    pub creator: SecId,
    pub event_time: DateTime<Utc>,
}

/// Who may write for a saga: the process that runs it, in the adoption in which
/// it does. Every transaction of an action or an undo checks it against the
/// saga's row, which it locks, so that a process from which the saga was taken
/// writes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Fence {
    pub saga_id: SagaId,
    pub sec_id: SecId,
    pub adopt_generation: i64,
}
