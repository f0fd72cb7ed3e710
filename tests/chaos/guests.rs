//! Watches what runs where, by what stands on the sleds' disks: whether or not
//! an agent is there to say so.

use crate::record::Record;
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks: shorter than any run of a guest that is not noticed by
/// something else.
const LOOK: Duration = Duration::from_millis(50);

/// Looks until `stop`, and takes down each instance of which two guests are
/// there at the same time. `dir` has a folder for each sled.
pub(crate) async fn watch(
    dir: PathBuf,
    record: Arc<Record>,
    stop: watch::Receiver<bool>,
) {
    let mut known = HashMap::new();
    let mut told = HashSet::new();
    while !*stop.borrow() {
        // The sleds are read one after the other. Two guests that are both
        // there in two rounds were there together between them.
        let first = alive(&dir, &mut known);
        let second: HashSet<String> =
            alive(&dir, &mut known).into_keys().collect();
        let mut runs: HashMap<String, Vec<String>> = HashMap::new();
        for (vmm, instance) in first {
            if second.contains(&vmm) {
                runs.entry(instance).or_default().push(vmm);
            }
        }
        for (instance, vmms) in runs {
            if vmms.len() > 1 && told.insert(instance.clone()) {
                let at = Utc::now();
                record.violation(format!(
                    "I2: instance {instance} runs as {vmms:?} at {at}"
                ));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The guests that have not ended, each with its instance. `known` remembers
/// whose each is.
fn alive(
    dir: &Path,
    known: &mut HashMap<String, String>,
) -> HashMap<String, String> {
    let now = Utc::now();
    let mut alive = HashMap::new();
    let Ok(sleds) = std::fs::read_dir(dir) else { return alive };
    for sled in sleds.flatten().map(|sled| sled.path()) {
        for (vmm, guest) in files(&sled.join("guests")) {
            if ended(&guest["phase"], now) {
                continue;
            }
            let instance = known.get(&vmm).cloned().or_else(|| {
                let path = sled.join("vmms").join(format!("{vmm}.json"));
                let vmm = read(&path)?;
                Some(vmm["spec"]["instance_id"].as_str()?.to_string())
            });
            // Its agent has removed it since.
            let Some(instance) = instance else { continue };
            known.insert(vmm.clone(), instance.clone());
            alive.insert(vmm, instance);
        }
    }
    alive
}

fn files(dir: &Path) -> Vec<(String, Value)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let id = name.strip_suffix(".json")?.to_string();
            Some((id, read(&entry.path())?))
        })
        .collect()
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Has a guest in this phase ended by now? Some of what it does it does by
/// itself when its time has come.
fn ended(phase: &Value, now: DateTime<Utc>) -> bool {
    let over = |phase: &Value| {
        let until = phase["until"].as_str();
        until
            .and_then(|t| t.parse::<DateTime<Utc>>().ok())
            .is_some_and(|t| t <= now)
    };
    if !phase["ended"].is_null() {
        return true;
    }
    let going = &phase["shutting_down"];
    let booting = &phase["booting"];
    (!going.is_null() && over(going))
        || (booting["fails"] == true && over(booting))
}
