//! Waiting: until something is so, bounded, and never for a time by itself.

use std::time::{Duration, Instant};

/// How long anything may take before a test calls it stuck. Generous, since
/// machines are slow at times; nothing that works waits for it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `look` has an answer.
///
/// # Panics
///
/// It has none for too long.
pub async fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = look().await {
            return answer;
        }
        assert!(began.elapsed() < DEADLINE, "never: {what}");
        tokio::time::sleep(LOOK).await;
    }
}
