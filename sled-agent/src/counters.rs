//! How often what was called, for tests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What Nexus may ask of a sled.
#[derive(
    Clone,
    Copy,
    Debug,
    Deserialize,
    Eq,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
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
}

/// What the agent tells its hypervisor.
#[derive(
    Clone,
    Copy,
    Debug,
    Deserialize,
    Eq,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HypervisorCall {
    /// Boot a guest.
    Boot,
    /// Reset a guest.
    Reset,
    /// Ask a guest to shut down.
    ShutDown,
    /// End a guest by force.
    Kill,
}

/// How often, since the agent started.
#[derive(
    Clone, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize,
)]
pub struct Counts {
    /// Requests with the right secret, those that a fault swallowed too.
    pub api: BTreeMap<String, u64>,
    /// Orders to the hypervisor, repeated ones too.
    pub hypervisor: BTreeMap<String, u64>,
}

/// Counts.
#[derive(Default)]
pub(crate) struct Counters(Mutex<Counts>);

impl Counters {
    pub(crate) fn api(&self, operation: Operation) {
        let name = match operation {
            Operation::Register => "register",
            Operation::Unregister => "unregister",
            Operation::State => "state",
            Operation::Get => "get",
            Operation::List => "list",
            Operation::BlocksEnsure => "blocks_ensure",
            Operation::BlocksDelete => "blocks_delete",
            Operation::BlocksWrite => "blocks_write",
            Operation::BlocksFinish => "blocks_finish",
            Operation::Console => "console",
            Operation::ConsoleStream => "console_stream",
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.api.entry(name.to_string()).or_default() += 1;
    }

    pub(crate) fn hypervisor(&self, call: HypervisorCall) {
        let name = match call {
            HypervisorCall::Boot => "boot",
            HypervisorCall::Reset => "reset",
            HypervisorCall::ShutDown => "shut_down",
            HypervisorCall::Kill => "kill",
        };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.hypervisor.entry(name.to_string()).or_default() += 1;
    }

    pub(crate) fn all(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
