//! The loop that all background tasks share.

use futures::FutureExt;
use slog::{Logger, error, info};
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// How long a task rests after a panic.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// A background task.
pub trait Task: Send + Sync + 'static {
    /// What one activation did, in counts. The default is "nothing".
    type Status: Debug + Default + PartialEq + Send;

    /// Its name in the log.
    const NAME: &'static str;

    /// Does what there is to do now. Repeats nothing by itself.
    fn activate(&self) -> impl Future<Output = Self::Status> + Send;

    /// When to look again though nobody wakes it.
    fn pause(&self) -> impl Future<Output = Duration> + Send;

    /// Waits for what activations have left under way. Called once, after the
    /// last of them.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Activates `task` now, whenever it is woken, and after each pause, until
/// `stop` says so. What is under way is finished.
pub fn spawn<T: Task>(
    task: T,
    wake_up: Arc<Notify>,
    mut stop: watch::Receiver<bool>,
    log: Logger,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !*stop.borrow() {
            // A wake-up from here on is kept, so none falls between the
            // reading of the database and the waiting.
            // A panic is a bug, and costs this activation, not all to come.
            let activation = AssertUnwindSafe(task.activate()).catch_unwind();
            let Ok(status) = activation.await else {
                error!(log, "a background task panicked"; "task" => T::NAME);
                tokio::time::sleep(AFTER_PANIC).await;
                continue;
            };
            if status != T::Status::default() {
                info!(log, "background task"; "task" => T::NAME,
                    "status" => ?status);
            }
            let pause = task.pause().await;
            tokio::select! {
                () = wake_up.notified() => (),
                () = tokio::time::sleep(pause) => (),
                changed = stop.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
            }
        }
        task.finish().await;
    })
}
