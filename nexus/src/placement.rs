//! What is worked out about a placement, where it disturbs nobody.

use db_model::StartFailure;
use db_queries::PlacementCase;

/// Why the instance of this case would not start; `None` if it would. To look
/// for remedies on a large fleet takes a while of computing, so it is done on a
/// thread of its own: leases are renewed meanwhile.
pub async fn explained(case: PlacementCase) -> Option<StartFailure> {
    let work = tokio::task::spawn_blocking(move || case.explain());
    // It neither panics nor is cancelled.
    work.await.unwrap_or(None)
}
