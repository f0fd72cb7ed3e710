//! How long a request is waited for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dropshot::HttpError;
use slog::{Logger, info, warn};

use super::error::log_why;
use crate::error::Error;

/// Who was too slow is told to look again after so long.
const SLOW_RETRY_AFTER_SECS: u32 = 5;

/// Until when a request is to be answered. Cheap to clone.
#[derive(Clone)]
pub(super) struct Until(Arc<Mutex<tokio::time::Instant>>);

impl Until {
    pub(super) fn new(within: Duration) -> Until {
        let until = tokio::time::Instant::now() + within;
        Until(Arc::new(Mutex::new(until)))
    }

    fn get(&self) -> tokio::time::Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put_off(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }

    /// What `work` answers, or that it is slow; then it goes on all the same.
    pub(super) async fn answer<T: Send + 'static>(
        &self,
        within: Duration,
        log: Logger,
        work: impl Future<Output = Result<T, HttpError>> + Send + 'static,
    ) -> Result<T, HttpError> {
        let mut work = Box::pin(work);
        loop {
            let until = self.get();
            if let Ok(answer) = tokio::time::timeout_at(until, &mut work).await
            {
                return answer;
            }
            if self.get() <= until {
                break;
            }
        }
        warn!(log, "a request is slow: it is not waited for any more");
        tokio::spawn(async move {
            let end = work.await;
            info!(log, "a slow request came to its end"; "done" => end.is_ok());
            if let Err(error) = end {
                log_why(&error, &log);
            }
        });
        Err(Error::Unavailable {
            message: format!(
                "This request has taken {} s, which is as long as one is waited \
                 for. What it has begun goes on: look whether it is done before \
                 asking again.",
                within.as_secs()
            ),
            retry_after_secs: SLOW_RETRY_AFTER_SECS,
            source: None,
        }
        .into())
    }
}
