//! What is being made, in the background, one task for each id.

use super::error::Outcome;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long who asks waits for the end: most of what is made is made by then,
/// and need not be asked for again.
const SHORT_WORK: Duration = Duration::from_millis(500);

/// See the module. What went well is forgotten at once, as it can be seen on
/// the disk; what did not is kept until somebody asks.
#[derive(Clone, Default)]
pub(super) struct Jobs(Arc<Mutex<HashMap<Uuid, Job>>>);

struct Job {
    outcome: watch::Receiver<Option<Outcome>>,
    task: JoinHandle<()>,
}

impl Jobs {
    /// How the making of these ends, if it is under way or has failed; none if
    /// it is not. The inner one is none if it goes on for longer. Who is told
    /// of a failure is the last to hear of it.
    pub(super) async fn join(&self, id: Uuid) -> Option<Option<Outcome>> {
        let outcome = self.lock().get(&id)?.outcome.clone();
        Some(self.wait(id, outcome).await)
    }

    /// Makes these, unless that is under way: then joins it.
    pub(super) async fn begin(
        &self,
        id: Uuid,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) -> Option<Outcome> {
        let outcome = {
            let mut jobs = self.lock();
            let job = jobs.entry(id).or_insert_with(|| self.spawn(id, work));
            job.outcome.clone()
        };
        self.wait(id, outcome).await
    }

    /// Ends the making of these, wherever it is, and whatever runs for it.
    pub(super) async fn cancel(&self, id: Uuid) {
        let job = self.lock().remove(&id);
        if let Some(job) = job {
            job.task.abort();
            // An error says that it was aborted.
            let _ = job.task.await;
        }
    }

    fn spawn(
        &self,
        id: Uuid,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) -> Job {
        let (sender, outcome) = watch::channel(None);
        let jobs = self.clone();
        let task = tokio::spawn(async move {
            let outcome = work.await;
            if outcome == Outcome::Ready {
                jobs.lock().remove(&id);
            }
            sender.send_replace(Some(outcome));
        });
        Job { outcome, task }
    }

    async fn wait(
        &self,
        id: Uuid,
        mut outcome: watch::Receiver<Option<Outcome>>,
    ) -> Option<Outcome> {
        let ended = outcome.wait_for(Option::is_some);
        let ended = match tokio::time::timeout(SHORT_WORK, ended).await {
            Err(_) => return None,
            Ok(Ok(ended)) => ended.clone(),
            Ok(Err(_)) => None,
        };
        let mut jobs = self.lock();
        let job = jobs.get(&id);
        let is_ours = job.is_some_and(|job| job.outcome.same_channel(&outcome));
        if is_ours {
            jobs.remove(&id);
        }
        // One that ends without a word was cancelled, as they were deleted, and
        // is not kept; or else it broke down.
        Some(ended.unwrap_or_else(|| match is_ours {
            false => Outcome::Gone,
            true => Outcome::Failed("An internal error.".to_string()),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
