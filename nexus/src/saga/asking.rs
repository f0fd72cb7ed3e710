//! What sagas share when they ask sleds.

use super::{NodeError, SagaContext, SagaFailure};
use crate::error::chain;
use crate::sleds::{Reach, ReachError};
use db_model::SledId;

/// The way to a sled, and the only one for sagas: what is asked of a sled no
/// transaction takes back, so the log says first that it may have been asked.
///
/// # Errors
///
/// The database is away, or the sled's row makes no sense.
pub(super) async fn reach(
    cx: &SagaContext,
    sled: SledId,
) -> Result<Reach, NodeError> {
    cx.datastore.saga_pay(cx.fence).await?;
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
