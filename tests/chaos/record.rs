//! What was seen: faults, requests by their outcome, and what is wrong.

use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// As many violations are told in full; the rest is counted.
const TOLD: usize = 10;

/// Shared by all who see something.
#[derive(Debug)]
pub(crate) struct Record {
    seed: u64,
    began: DateTime<Utc>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    faults: BTreeMap<String, usize>,
    answers: BTreeMap<String, usize>,
    notes: Vec<String>,
    violations: Vec<String>,
}

impl Record {
    pub(crate) fn new(seed: u64) -> Record {
        Record { seed, began: Utc::now(), seen: Mutex::default() }
    }

    /// A stream of chance of its own for `whom`, the same for the same seed.
    pub(crate) fn chance(&self, whom: &str) -> fastrand::Rng {
        let name = whom.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        fastrand::Rng::with_seed(self.seed.rotate_left(17) ^ name)
    }

    /// Something was done to the fleet.
    pub(crate) fn fault(&self, kind: &str) {
        *self.seen().faults.entry(kind.to_string()).or_default() += 1;
    }

    /// A user was answered, or not.
    pub(crate) fn answer(&self, outcome: String) {
        *self.seen().answers.entry(outcome).or_default() += 1;
    }

    /// A figure for the end.
    pub(crate) fn note(&self, text: String) {
        self.seen().notes.push(text);
    }

    /// Something is wrong.
    pub(crate) fn violation(&self, text: String) {
        println!("WRONG: {text}");
        self.seen().violations.push(text);
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.seen().violations.is_empty()
    }

    pub(crate) fn sign_of_life(&self) -> String {
        let seen = self.seen();
        format!(
            "{:>4} s: {} faults, {} requests, {} violations",
            (Utc::now() - self.began).num_seconds(),
            seen.faults.values().sum::<usize>(),
            seen.answers.values().sum::<usize>(),
            seen.violations.len(),
        )
    }

    /// All that was seen, for a person.
    pub(crate) fn summary(&self) -> String {
        let seen = self.seen();
        let mut text = String::new();
        for (title, counts) in
            [("Faults", &seen.faults), ("Requests", &seen.answers)]
        {
            let _ =
                writeln!(text, "{title}: {}", counts.values().sum::<usize>());
            for (kind, count) in counts {
                let _ = writeln!(text, "  {count:>6}  {kind}");
            }
        }
        for note in &seen.notes {
            let _ = writeln!(text, "{note}");
        }
        let _ = write!(text, "Violations: {}", seen.violations.len());
        for what in seen.violations.iter().take(TOLD) {
            let _ = write!(text, "\n  {what}");
        }
        text
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
