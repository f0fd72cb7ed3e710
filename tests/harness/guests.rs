//! What runs where, by what stands on the sleds' disks: whether or not an agent
//! is there to say so.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use sled_agent::lease::{self, Left};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks: shorter than any run of a guest that is not noticed by
/// something else.
pub const LOOK: Duration = Duration::from_millis(50);

/// An instance that runs more than once, and its guests.
pub type Twice = (String, Vec<String>);

/// Sees guests. `dir` has a folder for each sled.
#[derive(Debug, Default)]
pub struct Guests {
    /// Whose each guest is that was ever seen.
    known: HashMap<String, String>,
}

impl Guests {
    /// The guests that are there, each with its instance.
    pub fn alive(&mut self, dir: &Path) -> HashMap<String, String> {
        alive(dir, &mut self.known)
    }

    /// The instances of which more than one guest is there at the same time.
    pub fn twice(&mut self, dir: &Path) -> Vec<Twice> {
        // The sleds are read one after the other. Two guests that are both
        // there in two rounds were there together between them.
        let first = self.alive(dir);
        let second: HashSet<String> = self.alive(dir).into_keys().collect();
        let mut runs: HashMap<String, Vec<String>> = HashMap::new();
        for (vmm, instance) in first {
            if second.contains(&vmm) {
                runs.entry(instance).or_default().push(vmm);
            }
        }
        runs.into_iter().filter(|(_, vmms)| vmms.len() > 1).collect()
    }
}

/// Looks, until it is asked, whether any instance ever runs twice.
#[derive(Debug)]
pub struct NeverTwice {
    stop: Arc<AtomicBool>,
    looking: Option<JoinHandle<Vec<Twice>>>,
}

impl NeverTwice {
    /// Begins to look.
    pub fn watch(dir: &Path) -> NeverTwice {
        let stop = Arc::new(AtomicBool::new(false));
        let (dir, stopped) = (dir.to_path_buf(), Arc::clone(&stop));
        let looking = std::thread::spawn(move || {
            let mut guests = Guests::default();
            let mut twice = Vec::new();
            loop {
                let is_last = stopped.load(Ordering::Relaxed);
                twice.extend(guests.twice(&dir));
                if is_last {
                    return twice;
                }
                std::thread::sleep(LOOK / 2);
            }
        });
        NeverTwice { stop, looking: Some(looking) }
    }

    /// Ends it: none did.
    pub fn check(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let twice = self.looking.take().unwrap().join().unwrap();
        assert!(twice.is_empty(), "ran twice: {twice:?}");
    }
}

impl Drop for NeverTwice {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
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
        // Whoever keeps them has stopped them all.
        if lease_is_over(&sled) {
            continue;
        }
        let mut guests = kept(&sled.join("simulated.db"), "guest");
        guests.retain(|(_, guest)| !ended(&guest["phase"], now));
        if guests.iter().any(|(vmm, _)| !known.contains_key(vmm)) {
            for (vmm, of) in kept(&sled.join("vmms.db"), "vmm") {
                let instance = of["spec"]["instance_id"].as_str().unwrap();
                known.insert(vmm, instance.to_string());
            }
        }
        for (vmm, _) in guests {
            // Its agent may have removed it since.
            let Some(instance) = known.get(&vmm) else { continue };
            alive.insert(vmm, instance.clone());
        }
    }
    alive
}

fn lease_is_over(sled: &Path) -> bool {
    let sled = camino::Utf8Path::from_path(sled).unwrap();
    !matches!(lease::left(sled), Ok(Left::Unbounded | Left::Lasts(_)))
}

/// What a sled keeps in a table of a file, by id; nothing if there is none.
pub(crate) fn kept(file: &Path, table: &str) -> Vec<(String, Value)> {
    let read = || -> rusqlite::Result<Vec<(String, String)>> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let file = Connection::open_with_flags(file, flags)?;
        file.busy_timeout(Duration::from_secs(10))?;
        file.prepare(&format!("SELECT id, json FROM {table}"))?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    };
    let rows = match read() {
        Ok(rows) => rows,
        Err(_) if !file.exists() => Vec::new(),
        // Its agent is about to make it.
        Err(error) if error.to_string().contains("no such table") => Vec::new(),
        Err(error) => panic!("{} cannot be read: {error}", file.display()),
    };
    rows.into_iter()
        .map(|(id, json)| (id, serde_json::from_str(&json).unwrap()))
        .collect()
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
