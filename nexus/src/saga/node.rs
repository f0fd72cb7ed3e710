//! A saga's node, and how it may fail.

use super::SagaContext;
use crate::error::chain;
use db_model::{
    DiskState, StagedFailure, StartFailure, StorageExceeded, kept_error,
};
use db_queries::{Error, FenceError, Limit};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use slog::{info, warn};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// Between two tries while the database is away, or refuses an undo.
const RETRY_PERIOD: Duration = Duration::from_millis(250);

type Step<P> = fn(SagaContext, P) -> BoxFuture<'static, Result<(), NodeError>>;

/// A step of a saga and the way back.
pub struct Node<P> {
    /// Its name, as kept; its own within its saga.
    pub name: &'static str,
    /// What it does.
    pub action: Step<P>,
    /// What takes that back, if anything must.
    pub undo: Option<Step<P>>,
}

impl<P> Clone for Node<P> {
    fn clone(&self) -> Self {
        Node { name: self.name, action: self.action, undo: self.undo }
    }
}

/// How a node did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The database said so. If it was away, the node is run again.
    #[error("the database did not do it")]
    Database(#[from] Error),
    /// The saga fails.
    #[error("the node failed: {0:?}")]
    Failed(SagaFailure),
}

/// Why a saga failed: kept in its log, and given to who waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SagaFailure {
    /// The name was taken.
    AlreadyExists,
    /// What it builds on is not there any more.
    NotFound,
    /// What it was to have is another's.
    InUse,
    /// There would be too many of something.
    TooMany {
        /// Of what.
        limit: Limit,
    },
    /// A disk's blocks are not as far as they must be, or farther.
    DiskState {
        /// How far they are.
        state: DiskState,
    },
    /// A disk is being copied.
    BeingCopied,
    /// The silo's quota has too little storage left.
    StorageExceeded {
        /// How little.
        exceeded: StorageExceeded,
    },
    /// The blocks cannot be made.
    BlocksFailed {
        /// Why, in a sentence that a user may read.
        message: String,
    },
    /// No sled answers that could make the blocks.
    NoAnswer {
        /// What came instead, for operators.
        chain: String,
    },
    /// A later request has overtaken it: there is nothing to say.
    Overtaken,
    /// The instance cannot start, for this reason.
    Start(Box<StagedFailure>),
    /// Something went wrong inside.
    Internal {
        /// The error's whole chain, for operators.
        chain: String,
    },
}

impl SagaFailure {
    /// The same, with texts that the database takes. What it refuses would be
    /// tried again for ever, and the saga be stuck.
    pub(super) fn fit_to_keep(self) -> SagaFailure {
        match self {
            SagaFailure::Start(mut staged) => {
                staged.internal_error = kept_error(&staged.internal_error);
                SagaFailure::Start(staged)
            }
            SagaFailure::Internal { chain } => {
                SagaFailure::Internal { chain: kept_error(&chain) }
            }
            SagaFailure::NoAnswer { chain } => {
                SagaFailure::NoAnswer { chain: kept_error(&chain) }
            }
            other @ (SagaFailure::AlreadyExists
            | SagaFailure::NotFound
            | SagaFailure::InUse
            | SagaFailure::TooMany { .. }
            | SagaFailure::DiskState { .. }
            | SagaFailure::BeingCopied
            | SagaFailure::StorageExceeded { .. }
            | SagaFailure::BlocksFailed { .. }
            | SagaFailure::Overtaken) => other,
        }
    }
}

impl NodeError {
    /// The saga fails, since the instance cannot start; `cause` is for
    /// operators.
    pub fn start(failure: StartFailure, cause: String) -> NodeError {
        NodeError::Failed(SagaFailure::Start(Box::new(StagedFailure {
            failure,
            internal_error: cause,
        })))
    }
}

/// What remains to be done about a node's error.
pub(super) enum Verdict {
    /// Run the node again after a while.
    Again,
    /// This saga is not ours any more: go no further, ever.
    Halt,
    /// The saga fails.
    Fail(SagaFailure),
}

pub(super) fn judge(context: &SagaContext, error: NodeError) -> Verdict {
    let error = match error {
        NodeError::Failed(failure) => return Verdict::Fail(failure),
        NodeError::Database(error) => error,
    };
    match error {
        Error::Unavailable(_) => Verdict::Again,
        Error::Fenced(FenceError::Parked) => {
            warn!(context.log, "an operator gave the saga up: parked");
            Verdict::Halt
        }
        Error::Fenced(FenceError::Adopted) => {
            context.zombie.declare();
            Verdict::Halt
        }
        Error::AlreadyExists => Verdict::Fail(SagaFailure::AlreadyExists),
        Error::InUse => Verdict::Fail(SagaFailure::InUse),
        Error::TooMany(limit) => Verdict::Fail(SagaFailure::TooMany { limit }),
        Error::NotFound => Verdict::Fail(SagaFailure::NotFound),
        Error::DiskState(state) => {
            Verdict::Fail(SagaFailure::DiskState { state })
        }
        Error::BeingCopied => Verdict::Fail(SagaFailure::BeingCopied),
        Error::StorageExceeded(exceeded) => {
            Verdict::Fail(SagaFailure::StorageExceeded { exceeded })
        }
        Error::Refused(refusal) => {
            info!(context.log, "the saga was overtaken"; "by" => %refusal);
            Verdict::Fail(SagaFailure::Overtaken)
        }
        error @ (Error::Internal(_)
        | Error::NoRoom
        | Error::BootDisk
        | Error::NotEmpty(_)
        | Error::SagaUnfinished) => {
            Verdict::Fail(SagaFailure::Internal { chain: chain(&error) })
        }
    }
}

/// Runs a step once, when this process may act. A panic in it is a bug of ours;
/// the saga is not to hang on it.
async fn attempt<P: Clone>(
    step: Step<P>,
    context: &SagaContext,
    params: &P,
) -> Result<(), NodeError> {
    context.lease.live().await;
    let step = step(context.clone(), params.clone());
    AssertUnwindSafe(step).catch_unwind().await.unwrap_or_else(|_| {
        let chain = "the step panicked".to_string();
        Err(NodeError::Failed(SagaFailure::Internal { chain }))
    })
}

/// Runs an action to its end: waits out a database that is away.
pub(super) async fn run_action<P: Clone>(
    step: Step<P>,
    context: &SagaContext,
    params: &P,
) -> Result<(), SagaFailure> {
    loop {
        let error = match attempt(step, context, params).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match judge(context, error) {
            Verdict::Again => tokio::time::sleep(RETRY_PERIOD).await,
            Verdict::Halt => std::future::pending().await,
            Verdict::Fail(failure) => return Err(failure),
        }
    }
}

/// Runs an undo until it is done. An undo that the database refuses is a bug
/// of ours; it is tried again, in the hope of an operator, rather than called
/// done.
pub(super) async fn run_undo<P: Clone>(
    step: Step<P>,
    context: &SagaContext,
    params: &P,
) {
    let mut pause = RETRY_PERIOD;
    loop {
        let error = match attempt(step, context, params).await {
            Ok(()) => return,
            Err(error) => error,
        };
        let text = chain(&error);
        match judge(context, error) {
            Verdict::Again => (),
            Verdict::Halt => std::future::pending().await,
            Verdict::Fail(_) => {
                slog::error!(context.log, "an undo failed, and is tried again";
                    "error" => text);
                pause = (pause * 2).min(Duration::from_secs(60));
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Stages a failure until it is staged.
pub(super) async fn run_stage<S: super::Saga>(
    context: &SagaContext,
    params: &S::Params,
    failure: &SagaFailure,
) {
    loop {
        let staged =
            S::stage(context.clone(), params.clone(), failure.clone()).await;
        let Err(error) = staged else { return };
        match judge(context, NodeError::Database(error)) {
            Verdict::Again => tokio::time::sleep(RETRY_PERIOD).await,
            Verdict::Halt => std::future::pending().await,
            // Then the failure is `internal`, which is true of this, too.
            Verdict::Fail(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_sled_keeps_a_failure_from_being_kept() {
        let chain = "a sled said \0 and then a lot".repeat(1000);
        for failure in [
            SagaFailure::Internal { chain: chain.clone() },
            SagaFailure::Start(Box::new(StagedFailure {
                failure: StartFailure::host_unreachable(),
                internal_error: chain,
            })),
        ] {
            let kept = serde_json::to_string(&failure.fit_to_keep());
            let kept = kept.expect("it is plain data");
            assert!(!kept.contains("\\u0000") && kept.len() < 5000);
        }
    }
}
