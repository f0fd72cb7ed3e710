//! What sagas share when they ask sleds.

use super::{NodeError, SagaContext, SagaFailure};
use crate::error::chain;
use crate::sleds::{Reach, ReachError};
use db_model::SledId;

/// The way to a sled.
///
/// # Errors
///
/// The database is away, or the sled's row makes no sense.
pub(super) async fn reach(
    cx: &SagaContext,
    sled: SledId,
) -> Result<Reach, NodeError> {
    cx.sleds.reach(sled).await.map_err(|error| match error {
        ReachError::Database(error) => NodeError::Database(error),
        error @ ReachError::Address(_) => {
            NodeError::Failed(SagaFailure::Internal { chain: chain(&error) })
        }
    })
}

/// Waits before each round of questions but the first.
pub(super) async fn pause_between(cx: &SagaContext, round: u32) {
    if round > 0 {
        tokio::time::sleep(cx.tuning.sled_retry()).await;
    }
}
