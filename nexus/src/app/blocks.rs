//! Making what has blocks in the store, for users who wait for it.

use super::{App, RETRY_AFTER_SECS};
use crate::error::Error;
use crate::saga::blocks_make::{BlocksMake, Params};
use crate::saga::{ExecError, Saga, SagaFailure, SagaHandle};
use db_model::SagaId;
use std::time::Duration;

/// How long a request waits for blocks: those that are no copy are there at
/// once, and those of a small one soon. The saga goes on without it.
const BLOCKS_WAIT: Duration = Duration::from_secs(30);

/// How many sleds are asked in the course of a request, if the first are silent.
pub(super) const SLEDS_ASKED: i64 = 3;

/// What is made, for its errors: "disk", and its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    /// As in "disk".
    pub kind: &'static str,
    /// As in "database-1".
    pub name: &'a str,
    /// What was to be done with it, as in "created".
    pub verb: &'static str,
}

impl App {
    /// Makes something that has blocks. Says whether it is there: if not, it is
    /// still being made.
    ///
    /// # Errors
    ///
    /// Why it is not made: `AlreadyExists`; `InvalidRequest`: what it is to be
    /// made from is not as it must be, or the quota is exceeded; `Conflict`:
    /// something came in between; `Unavailable`.
    pub(super) async fn make_blocks(
        &self,
        params: &Params,
        named: Named<'_>,
    ) -> Result<bool, Error> {
        self.run_blocks::<BlocksMake>(params, named).await
    }

    /// Runs a saga that works on blocks. Says whether it is over: if not, it
    /// goes on.
    ///
    /// # Errors
    ///
    /// As [`App::make_blocks`].
    pub(super) async fn run_blocks<S: Saga>(
        &self,
        params: &S::Params,
        named: Named<'_>,
    ) -> Result<bool, Error> {
        let saga = self.sagas.start::<S>(params).await;
        let saga: SagaHandle = saga.map_err(|error| not_begun(error, named))?;
        let id = saga.id;
        match tokio::time::timeout(BLOCKS_WAIT, saga.wait()).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(failure)) => Err(not_done(named, id, failure)),
            Err(_) => Ok(false),
        }
    }
}

/// Why it was not done.
fn not_done(named: Named<'_>, saga: SagaId, failure: SagaFailure) -> Error {
    let Named { kind, name, verb } = named;
    let because =
        |why: &str| format!("{kind} \"{name}\" was not {verb}: {why}");
    let refused = |why: &str| Error::InvalidRequest { message: because(why) };
    match failure {
        SagaFailure::AlreadyExists => {
            Error::AlreadyExists { kind, name: name.to_string() }
        }
        SagaFailure::NotFound => Error::Conflict {
            message: because(
                "it was deleted meanwhile, or what it was to be made from was",
            ),
        },
        SagaFailure::StorageExceeded { exceeded } => {
            refused(&exceeded.to_string())
        }
        SagaFailure::DiskState { state } => {
            refused(&format!("the disk's state is \"{state}\""))
        }
        SagaFailure::InUse => refused(
            "the disk is attached to an instance that is not stopped: stop it \
             first",
        ),
        SagaFailure::BeingCopied => refused("the disk is being copied"),
        SagaFailure::BlocksFailed { message } => Error::Unavailable {
            message: because(&message),
            retry_after_secs: RETRY_AFTER_SECS,
            source: None,
        },
        SagaFailure::NoAnswer { chain } => Error::Unavailable {
            message: because("no host answers that could do it. Ask again."),
            retry_after_secs: RETRY_AFTER_SECS,
            source: Some(chain.into()),
        },
        failure @ (SagaFailure::TooMany { .. }
        | SagaFailure::KeyUsed
        | SagaFailure::Overtaken
        | SagaFailure::Start(_)
        | SagaFailure::Internal { .. }) => {
            Error::internal(format!("saga {saga} failed: {failure:?}"))
        }
    }
}

fn not_begun(error: ExecError, named: Named<'_>) -> Error {
    let Named { kind, name, .. } = named;
    match error {
        ExecError::Unavailable(source) => Error::Unavailable {
            message: format!(
                "The database cannot be reached at the moment. Look for {kind} \
                 \"{name}\" before asking again.",
            ),
            retry_after_secs: RETRY_AFTER_SECS,
            source: Some(source),
        },
        ExecError::Create(source) => Error::internal(source),
        // It takes no attempt.
        error @ ExecError::Overtaken(_) => Error::internal(error),
        ExecError::Busy => Error::Conflict {
            message: format!(
                "{kind} \"{name}\" is being worked on: wait until that is over",
            ),
        },
        error @ ExecError::Closed => Error::Unavailable {
            message: "This server takes no such request now. Ask again."
                .to_string(),
            retry_after_secs: 1,
            source: Some(Box::new(error)),
        },
    }
}
