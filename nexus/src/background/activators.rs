//! Wake-ups, without data but for what a saga leaves.

use db_model::InstanceId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// Wakes background tasks, and those who wait for a change of a view. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Activators {
    reconcile: Arc<Notify>,
    saga_ended: Arc<Notify>,
    /// Their instances.
    sagas_ended: Arc<Mutex<Vec<InstanceId>>>,
    watch: Arc<Notify>,
    watch_all: Arc<AtomicBool>,
    blocks_gone: Arc<Notify>,
    views: Arc<watch::Sender<()>>,
}

impl Default for Activators {
    fn default() -> Activators {
        Activators {
            reconcile: Arc::default(),
            saga_ended: Arc::default(),
            sagas_ended: Arc::default(),
            watch: Arc::default(),
            watch_all: Arc::default(),
            blocks_gone: Arc::default(),
            views: Arc::new(watch::Sender::new(())),
        }
    }
}

impl Activators {
    /// An instance may be unsettled.
    pub fn reconcile(&self) {
        self.reconcile.notify_one();
    }

    /// A saga of this process has ended: its instance is to be looked at.
    pub fn saga_ended(&self, instance: InstanceId) {
        self.ended().push(instance);
        self.saga_ended.notify_one();
    }

    /// Those of whom that was said, once there are any.
    pub async fn sagas_ended(&self) -> Vec<InstanceId> {
        loop {
            let some = std::mem::take(&mut *self.ended());
            if !some.is_empty() {
                return some;
            }
            self.saga_ended.notified().await;
        }
    }

    fn ended(&self) -> MutexGuard<'_, Vec<InstanceId>> {
        self.sagas_ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that users see may have changed.
    pub fn seen(&self) {
        self.views.send_replace(());
    }

    /// A sled may have something to say.
    pub fn watch(&self) {
        self.watch_all.store(true, Ordering::Relaxed);
        self.watch.notify_one();
    }

    /// Was the watcher woken since this was last asked? Else it is its time.
    pub fn watch_was_asked_for(&self) -> bool {
        self.watch_all.swap(false, Ordering::Relaxed)
    }

    /// There may be blocks to be rid of.
    pub fn blocks_gone(&self) {
        self.blocks_gone.notify_one();
    }

    /// Something that users see may have changed, and an instance may be
    /// unsettled with it.
    pub fn changed(&self) {
        self.seen();
        self.reconcile();
    }

    /// To wait for [`Activators::changed`]. Take it before reading what may
    /// change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.views.subscribe()
    }

    /// What wakes the reconciler.
    pub fn reconcile_wake_up(&self) -> Arc<Notify> {
        Arc::clone(&self.reconcile)
    }

    /// What wakes the reaper of blocks.
    pub fn blocks_gone_wake_up(&self) -> Arc<Notify> {
        Arc::clone(&self.blocks_gone)
    }

    /// What wakes the watcher.
    pub fn watch_wake_up(&self) -> Arc<Notify> {
        Arc::clone(&self.watch)
    }
}
