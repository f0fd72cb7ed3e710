//! Watches what runs where.

use crate::record::Record;
use chrono::Utc;
use harness::guests::{Guests, LOOK};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// Looks until `stop`, and takes down each instance of which two guests are
/// there at the same time. `dir` has a folder for each sled.
pub(crate) async fn watch(
    dir: PathBuf,
    record: Arc<Record>,
    stop: watch::Receiver<bool>,
) {
    let mut guests = Guests::default();
    let mut told = HashSet::new();
    while !*stop.borrow() {
        for (instance, vmms) in guests.twice(&dir) {
            if told.insert(instance.clone()) {
                let at = Utc::now();
                record.violation(format!(
                    "I2: instance {instance} runs as {vmms:?} at {at}"
                ));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}
