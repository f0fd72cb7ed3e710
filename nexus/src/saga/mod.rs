//! Sagas: two or more effects that happen whole, or are undone, whoever dies.
//!
//! A saga is a line of nodes, listed in its file in order. A node's action
//! makes one idempotent call; its undo takes that back. What connects the nodes
//! is in the database, and the ids of all that a saga makes are in its params,
//! so every node may run twice, and on another Nexus.
//!
//! Every transaction of a node is fenced ([`db_model::Fence`]). A node waits
//! out a database that is away; it fails for its own reasons alone. An undo
//! does not fail: what it cannot undo in a bounded time it leaves to the
//! reconciler.

mod asking;
pub mod blocks_make;
mod exec;
pub mod import_finish;
pub mod instance_create;
pub mod instance_delete;
pub mod instance_start;
pub mod instance_update;
mod kept;
mod node;
mod registry;
mod store;

pub use exec::{
    ExecError, OUTCOMES, Prepared, Recovered, SagaEnded, SagaExecutor,
    SagaHandle, SagasEnded,
};
pub use kept::{Kept, kept, kept_failure};
pub use node::{Node, NodeError, SagaFailure};
pub use registry::{Fault, NexusSaga, SAGAS, Wrap, dag, registry};

use crate::authz::{Action, Granted};
use crate::background::Activators;
use crate::config::Tuning;
use crate::lease::Lease;
use crate::sleds::Sleds;
use db_model::{Fence, InstanceId, ProjectId, SiloId, StartAttemptId};
use db_queries::{DataStore, Zombie};
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use slog::Logger;

/// All that a saga may touch.
#[derive(Clone, Debug)]
pub struct SagaContext {
    /// The database.
    pub datastore: DataStore,
    /// The hosts.
    pub sleds: Sleds,
    /// Wake-ups.
    pub activators: Activators,
    /// Times and bounds.
    pub tuning: Tuning,
    /// The log, naming the saga.
    pub log: Logger,
    /// What each of its transactions checks.
    pub fence: Fence,
    /// The right to act: no node begins without it.
    pub lease: Lease,
    /// To be told when the fence turns out to be another's.
    pub zombie: Zombie,
}

/// The silo in which a saga may do `action` in `project`, by what was granted
/// when it was asked for. `None`: that was not recorded yet when it began.
///
/// # Errors
///
/// It was granted something else: what is wanted is not there for it.
fn granted_silo(
    granted: Option<Granted>,
    action: Action,
    project: Option<ProjectId>,
) -> Result<Option<SiloId>, NodeError> {
    match granted {
        Some(granted) if !granted.covers(action, project) => Err(beyond()),
        granted => Ok(granted.map(|granted| granted.silo)),
    }
}

/// What a saga wants is not its caller's.
fn beyond() -> NodeError {
    NodeError::Failed(SagaFailure::NotFound)
}

/// A kind of saga.
pub trait Saga: Send + Sync + 'static {
    /// Its name, as kept.
    const NAME: &'static str;

    /// What it is told when it is created.
    type Params: Clone
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static;

    /// The instance that it works on, on which no other saga does meanwhile; or
    /// the disk, snapshot or image, which has no id of an instance.
    fn instance_id(params: &Self::Params) -> InstanceId;

    /// The attempt to start the instance that it takes as it is written down.
    fn attempt(_params: &Self::Params) -> Option<StartAttemptId> {
        None
    }

    /// Its nodes, in order.
    fn nodes() -> Vec<Node<Self::Params>>;

    /// Told of a node's failure before the undoing begins: steno tells undos
    /// nothing. May be told twice.
    fn stage(
        _context: SagaContext,
        _params: Self::Params,
        _failure: SagaFailure,
    ) -> BoxFuture<'static, Result<(), db_queries::Error>> {
        Box::pin(async { Ok(()) })
    }
}
