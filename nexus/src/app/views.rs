//! Reading instances' views. Those who read at once share a statement: while one
//! is on its way, whoever comes meanwhile waits for the next, which reads for
//! all of them. So each sees what was written before it asked, and many cost
//! little more than one.

use crate::error::Error;
use db_model::{InstanceId, InstanceView};
use db_queries::DataStore;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// How many statements are on their way at most: with two, each reads for fewer, and
/// that costs more than that the database rests while an answer is taken apart.
pub(crate) const AT_ONCE: u32 = 1;

/// How many instances a statement reads at most.
pub(super) const MOST: usize = 100;

/// What a reader is told: `None`, if there is no such instance.
type Answer = Result<Option<InstanceView>, Arc<db_queries::Error>>;

/// Who reads an instance, and how it is told.
type Reader = (InstanceId, oneshot::Sender<Answer>);

/// Those who read. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Views {
    datastore: DataStore,
    reading: Arc<Mutex<Reading>>,
}

#[derive(Debug, Default)]
struct Reading {
    /// Who waits for the next statement.
    waiting: Vec<Reader>,
    /// Statements on their way.
    at_once: u32,
}

impl Views {
    pub(super) fn new(datastore: DataStore) -> Views {
        Views { datastore, reading: Arc::default() }
    }

    /// The instance of this id, deleted ones too, as it is after this was
    /// called. `None`: there is none.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub(super) async fn of(
        &self,
        id: InstanceId,
    ) -> Result<Option<InstanceView>, Error> {
        let (tell, told) = oneshot::channel();
        self.reading().waiting.push((id, tell));
        self.go_on();
        // One that is not told has met a panic.
        told.await.map_err(Error::internal)?.map_err(|error| {
            if let db_queries::Error::Unavailable(_) = *error {
                db_queries::Error::Unavailable(Box::new(error)).into()
            } else {
                Error::internal(error)
            }
        })
    }

    /// Begins a statement for those who wait, unless there are enough.
    fn go_on(&self) {
        let mut reading = self.reading();
        if reading.waiting.is_empty() || reading.at_once >= AT_ONCE {
            return;
        }
        let mut ids = HashSet::new();
        let (readers, left) = std::mem::take(&mut reading.waiting)
            .into_iter()
            .partition(|(id, _)| {
                ids.contains(id) || (ids.len() < MOST && ids.insert(*id))
            });
        reading.waiting = left;
        reading.at_once += 1;
        let on_its_way = OnItsWay(self.clone());
        drop(reading);
        // Not as a part of what one of them does, which may be given up.
        tokio::spawn(async move { on_its_way.read(ids, readers).await });
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A statement on its way, until it is dropped, which begins the next.
struct OnItsWay(Views);

impl OnItsWay {
    async fn read(self, ids: HashSet<InstanceId>, mut readers: Vec<Reader>) {
        let ids = ids.into_iter().collect();
        let found = self.0.datastore.instance_views(ids).await;
        if let Err(db_queries::Error::Unavailable(_)) = found {
            // Who came meanwhile has waited as well, and would wait as long again.
            readers.append(&mut self.0.reading().waiting);
        }
        drop(self);
        let found = found.map_err(Arc::new).map(|views| {
            let by_id = views.into_iter().map(|view| (view.instance.id, view));
            by_id.collect::<HashMap<_, _>>()
        });
        for (id, tell) in readers {
            let answer = found.as_ref().map(|views| views.get(&id).cloned());
            // It may have given up.
            let _ = tell.send(answer.map_err(Arc::clone));
        }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.reading().at_once -= 1;
        self.0.go_on();
    }
}
