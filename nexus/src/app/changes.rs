//! Waiting for instances to change. However many wait in this process, one task
//! asks the database for all of them, so that a thousand who wait cost a
//! statement a tick, as one does.

use crate::background::Activators;
use db_model::InstanceId;
use db_queries::DataStore;
use slog::{Logger, debug};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often to look though nothing changed here: another process may have
/// changed it.
pub(super) const TICK: Duration = Duration::from_millis(500);

/// How many times as long as a look takes there is none, however much changes
/// here: what comes in between is seen by the next. So no more than a fifth of a
/// connection's time goes into it, where more than a few wait.
const GAP: u32 = 4;

/// So few wait that each change is looked for at once.
const FEW: usize = 8;

/// How many instances a statement asks for at most.
const AT_ONCE: usize = 1_000;

/// What instances are told to have when they are no more: above any `view_gen`.
const GONE: i64 = i64::MAX;

/// Those who wait for instances to change, and the task that looks for them.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    datastore: DataStore,
    activators: Activators,
    watched: Arc<Mutex<Watched>>,
    log: Logger,
}

#[derive(Debug, Default)]
struct Watched {
    instances: HashMap<InstanceId, Waiters>,
    /// Runs while anybody waits.
    task: Option<JoinHandle<()>>,
}

/// Those who wait for one instance.
#[derive(Debug)]
struct Waiters {
    view_gen: watch::Sender<i64>,
    count: usize,
}

/// Somebody who waits for an instance, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    changes: Changes,
    instance: InstanceId,
    view_gen: watch::Receiver<i64>,
}

impl Changes {
    pub(super) fn new(
        datastore: DataStore,
        activators: Activators,
        log: Logger,
    ) -> Changes {
        Changes { datastore, activators, watched: Arc::default(), log }
    }

    /// From here on no change of the instance is missed: it is looked at
    /// at least once more, however soon it changes.
    pub(super) fn of(&self, instance: InstanceId) -> Waiter {
        let mut watched = self.watched();
        let waiters = watched.instances.entry(instance).or_insert_with(|| {
            Waiters { view_gen: watch::Sender::new(0), count: 0 }
        });
        waiters.count += 1;
        let view_gen = waiters.view_gen.subscribe();
        // One that panicked is replaced.
        if watched.task.as_ref().is_none_or(JoinHandle::is_finished) {
            watched.task = Some(tokio::spawn(self.clone().look()));
        }
        Waiter { changes: self.clone(), instance, view_gen }
    }

    /// Looks, as long as anybody waits.
    async fn look(self) {
        let mut changed = self.activators.changes();
        loop {
            let began = Instant::now();
            let Some(ids) = self.wanted() else { return };
            // Taken before the read: what changes during it is read again.
            changed.mark_unchanged();
            for ids in ids.chunks(AT_ONCE) {
                self.look_at(ids).await;
            }
            if ids.len() > FEW {
                tokio::time::sleep(TICK.min(GAP * began.elapsed())).await;
            }
            // Whichever comes first, the answer is to look.
            let _ =
                tokio::time::timeout_at(began + TICK, changed.changed()).await;
        }
    }

    /// The instances that are waited for, or that this task ends, since there
    /// are none.
    fn wanted(&self) -> Option<Vec<InstanceId>> {
        let mut watched = self.watched();
        if watched.instances.is_empty() {
            // Whoever comes next begins another.
            watched.task = None;
            return None;
        }
        Some(watched.instances.keys().copied().collect())
    }

    /// Looks at these, and wakes who waits for what it finds.
    async fn look_at(&self, ids: &[InstanceId]) {
        let found = self.datastore.instance_view_gens(ids.to_vec()).await;
        let found: HashMap<InstanceId, i64> = match found {
            Ok(found) => found.into_iter().collect(),
            Err(error) => {
                // Who waits is told when the time is over, if it lasts.
                debug!(self.log, "cannot look for changes"; "error" => %error);
                return;
            }
        };
        let watched = self.watched();
        for id in ids {
            let now = found.get(id).copied().unwrap_or(GONE);
            if let Some(waiters) = watched.instances.get(id) {
                waiters.view_gen.send_if_modified(|known| {
                    let rises = now > *known;
                    *known = now.max(*known);
                    rises
                });
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Returns when the instance's `view_gen` is above `seen` or it is no more,
    /// or at `until`.
    pub(super) async fn changed(&mut self, seen: i64, until: Instant) -> bool {
        let changed = self.view_gen.wait_for(|now| *now > seen);
        tokio::time::timeout_at(until, changed).await.is_ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut watched = self.changes.watched();
        if let Some(waiters) = watched.instances.get_mut(&self.instance) {
            waiters.count -= 1;
            if waiters.count == 0 {
                watched.instances.remove(&self.instance);
            }
        }
    }
}
