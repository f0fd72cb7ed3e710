//! What sagas share when they ask sleds.

use super::{NodeError, SagaContext, SagaFailure};
use crate::error::chain;
use crate::sleds::{Reach, ReachError};
use db_model::{Sled, SledId};
use std::time::Instant;

/// The way to a sled: what is asked of a sled no transaction takes back, so the
/// log says first that it may have been asked.
///
/// # Errors
///
/// The database is away, or the sled's row makes no sense.
pub(super) async fn reach(
    cx: &SagaContext,
    sled: SledId,
) -> Result<Reach, NodeError> {
    cx.datastore.saga_pay(cx.fence).await?;
    reach_as_logged(cx, sled).await
}

/// The way to a sled for what may be asked with the log as it is: the saga's last
/// transaction has written all that is needed to ask again, or to undo it.
///
/// # Errors
///
/// As [`reach`].
pub(super) async fn reach_as_logged(
    cx: &SagaContext,
    sled: SledId,
) -> Result<Reach, NodeError> {
    cx.sleds.reach(sled).await.map_err(not_reached)
}

/// The same, by what was read of the sled a moment ago.
///
/// # Errors
///
/// As [`reach`].
pub(super) async fn reach_lately(
    cx: &SagaContext,
    sled: SledId,
) -> Result<Reach, NodeError> {
    cx.sleds.reach_lately(sled).await.map_err(not_reached)
}

/// The same, to a sled whose row has just been read, which was `asked` for then.
///
/// # Errors
///
/// As [`reach`].
pub(super) async fn reach_known(
    cx: &SagaContext,
    sled: &Sled,
    asked: Instant,
) -> Result<Reach, NodeError> {
    cx.sleds.reach_known(sled, asked).await.map_err(not_reached)
}

fn not_reached(error: ReachError) -> NodeError {
    match error {
        ReachError::Database(error) => NodeError::Database(error),
        error @ ReachError::Address(_) => {
            NodeError::Failed(SagaFailure::Internal { chain: chain(&error) })
        }
    }
}

/// Waits before each round of questions but the first.
pub(super) async fn pause_between(cx: &SagaContext, round: u32) {
    if round > 0 {
        tokio::time::sleep(cx.tuning.sled_retry()).await;
    }
}
