//! Hearing from sleds. Nearly every heartbeat says what the last one said, and
//! those that come within a moment are written down together: a thousand sleds
//! cost a few statements a second.

use db_model::SledId;
use db_queries::{DataStore, Error, HeardFrom, SledFacts};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the first heartbeat waits for others. A sled counts its lease from
/// when it sent one, so this takes as much from it.
const MOMENT: Duration = Duration::from_millis(100);

/// How many a statement writes down at most.
const MOST: usize = 500;

/// A heartbeat, and how its sled is told whether it was written down: not, if it
/// has news.
type Waiting = (SledFacts, oneshot::Sender<Result<bool, Arc<Error>>>);

/// Those that are still to be written down. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    datastore: DataStore,
    waiting: Arc<Mutex<Vec<Waiting>>>,
}

impl Heard {
    pub(super) fn new(datastore: DataStore) -> Heard {
        Heard { datastore, waiting: Arc::default() }
    }

    /// A sled that is known is there still.
    ///
    /// # Errors
    ///
    /// `NotFound`: never registered; `Unavailable`.
    pub(super) async fn again(
        &self,
        facts: SledFacts,
    ) -> Result<HeardFrom, Error> {
        let written_down = match self.wait(&facts) {
            Some(told) => told.await.unwrap_or(Ok(false)),
            None => Ok(false),
        };
        match written_down {
            Ok(true) => Ok(HeardFrom { expunged: false, news: false }),
            Ok(false) => self.datastore.sled_heard_from(facts, false).await,
            Err(error) => Err(Error::Unavailable(Box::new(error))),
        }
    }

    /// Has it written down with others; but not beside another of the same sled,
    /// which may say something else.
    fn wait(
        &self,
        facts: &SledFacts,
    ) -> Option<oneshot::Receiver<Result<bool, Arc<Error>>>> {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.iter().any(|(other, _)| other.id == facts.id) {
            return None;
        }
        if waiting.is_empty() {
            tokio::spawn(self.clone().write_soon());
        }
        waiting.push((facts.clone(), tell));
        Some(told)
    }

    async fn write_soon(self) {
        tokio::time::sleep(MOMENT).await;
        let mut waiting = std::mem::take(&mut *self.waiting());
        while !waiting.is_empty() {
            let some = waiting.split_off(waiting.len().saturating_sub(MOST));
            self.write(some).await;
        }
    }

    async fn write(&self, some: Vec<Waiting>) {
        let facts = some.iter().map(|(facts, _)| facts.clone()).collect();
        let known = self.datastore.sleds_heard_again(facts).await;
        let known: Result<HashSet<SledId>, _> = known.map_err(Arc::new);
        for (facts, tell) in some {
            let known = known.as_ref().map(|known| known.contains(&facts.id));
            // It may have given up.
            let _ = tell.send(known.map_err(Arc::clone));
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
