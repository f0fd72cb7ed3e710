//! Requests that go wrong on purpose, for tests.

use crate::counters::Operation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A fault to come: the next `count` requests of this kind have it. Faults
/// are used up in the order in which they were made.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Fault {
    /// Which requests.
    pub operation: FaultyOperation,
    /// How many of them.
    #[serde(default = "once")]
    pub count: u64,
    /// What happens to them.
    pub effect: Effect,
}

/// Which requests have a fault.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FaultyOperation {
    /// `PUT /vmms/{id}`
    Register,
    /// `DELETE /vmms/{id}`
    Unregister,
    /// `PUT /vmms/{id}/state`
    State,
    /// `GET /vmms/{id}`
    Get,
    /// `GET /vmms`
    List,
    /// `PUT /blocks/{id}`
    BlocksEnsure,
    /// `DELETE /blocks/{id}`
    BlocksDelete,
    /// `PUT /blocks/{id}/chunk`
    BlocksWrite,
    /// `PUT /blocks/{id}/finished`
    BlocksFinish,
    /// `GET /vmms/{id}/console`
    Console,
    /// `GET /vmms/{id}/console/stream`
    ConsoleStream,
    /// All of them.
    Any,
}

/// What happens to a request that has a fault.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It is answered with this HTTP status, and has no effect.
    Error(u16),
    /// It is refused as `HOST_REJECTED`, with this sentence.
    Reject(String),
    /// It is taken up after so long.
    DelayMs(u64),
    /// It takes effect, and is answered with a 500.
    DropAnswerAfterEffect(bool),
    /// It waits until the faults are cleared, and is taken up then: a request
    /// that arrives late.
    Hang(bool),
}

fn once() -> u64 {
    1
}

/// The faults to come.
pub(crate) struct Faults {
    waiting: Mutex<Vec<Fault>>,
    /// How often they were cleared.
    cleared: watch::Sender<u64>,
}

impl Faults {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::default(), cleared: watch::Sender::new(0) }
    }

    pub(crate) fn add(&self, fault: Fault) {
        self.lock().push(fault);
    }

    /// Ends all faults, and lets those requests go on that hang.
    pub(crate) fn clear(&self) {
        self.lock().clear();
        self.cleared.send_modify(|times| *times += 1);
    }

    /// The fault of this request, used up.
    pub(crate) fn take(&self, operation: Operation) -> Option<Effect> {
        let mut waiting = self.lock();
        let fault = waiting.iter_mut().find(|fault| fault.hits(operation))?;
        fault.count -= 1;
        let effect = fault.effect.clone();
        waiting.retain(|fault| fault.count > 0);
        Some(effect)
    }

    /// Changes when the faults are next cleared. To be asked for before the
    /// fault is taken, lest it be cleared in between.
    pub(crate) fn cleared(&self) -> watch::Receiver<u64> {
        self.cleared.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    fn hits(&self, operation: Operation) -> bool {
        let hit = match self.operation {
            FaultyOperation::Register => operation == Operation::Register,
            FaultyOperation::Unregister => operation == Operation::Unregister,
            FaultyOperation::State => operation == Operation::State,
            FaultyOperation::Get => operation == Operation::Get,
            FaultyOperation::List => operation == Operation::List,
            FaultyOperation::BlocksEnsure => {
                operation == Operation::BlocksEnsure
            }
            FaultyOperation::BlocksDelete => {
                operation == Operation::BlocksDelete
            }
            FaultyOperation::BlocksWrite => operation == Operation::BlocksWrite,
            FaultyOperation::BlocksFinish => {
                operation == Operation::BlocksFinish
            }
            FaultyOperation::Console => operation == Operation::Console,
            FaultyOperation::ConsoleStream => {
                operation == Operation::ConsoleStream
            }
            FaultyOperation::Any => true,
        };
        hit && self.count > 0
    }
}
