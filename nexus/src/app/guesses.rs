//! What may be guessed is guessed slowly.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::TimeDelta;

/// So many wrong ones in a row cost nothing: one mistypes.
const FREE_FAILURES: i64 = 4;

/// No more than so long must be waited, whatever was tried before.
const MAX_DELAY: TimeDelta = TimeDelta::minutes(5);

/// Of how many who guess, count is kept.
const WHO_MAX: usize = 10_000;

/// How long one must wait after so many wrong ones in a row: a second, and
/// twice as long each time.
pub(super) fn delay(failures: i64) -> TimeDelta {
    // Doubled that often, the delay is beyond the longest anyway.
    const ENOUGH: i64 = 16;
    let doubled = (failures - FREE_FAILURES - 1).min(ENOUGH);
    match u32::try_from(doubled) {
        Ok(doubled) => TimeDelta::seconds(1_i64 << doubled).min(MAX_DELAY),
        Err(_) => TimeDelta::zero(),
    }
}

/// How often each has guessed wrong in a row, in this process alone: another
/// has its own count, and a new one begins at zero.
#[derive(Debug)]
pub(super) struct Guesses<K>(Mutex<HashMap<K, (i64, Instant)>>);

impl<K> Default for Guesses<K> {
    fn default() -> Self {
        Guesses(Mutex::default())
    }
}

impl<K: Eq + Hash> Guesses<K> {
    /// One more guess, which counts as wrong until it is known to be
    /// [`Guesses::right`].
    ///
    /// # Errors
    ///
    /// How long must be waited before.
    pub(super) fn guess(&self, who: K) -> Result<(), Duration> {
        let mut guesses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if guesses.len() >= WHO_MAX {
            guesses.clear();
        }
        let now = Instant::now();
        let (failures, last) = guesses.entry(who).or_insert((0, now));
        let delay = delay(*failures).to_std().unwrap_or_default();
        let waited = now.duration_since(*last);
        if waited < delay {
            return Err(delay - waited);
        }
        *failures += 1;
        *last = now;
        Ok(())
    }

    /// That was right.
    pub(super) fn right(&self, who: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_some_wrong_ones_each_takes_twice_as_long() {
        let secs: Vec<i64> = (0..16).map(|n| delay(n).num_seconds()).collect();
        let grows = [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300];
        assert_eq!(secs, grows);
        assert_eq!(delay(i64::MAX), MAX_DELAY);
    }

    #[test]
    fn who_guesses_wrong_waits_and_who_guesses_right_begins_anew() {
        let guesses = Guesses::default();
        for _ in 0..=FREE_FAILURES {
            assert_eq!(guesses.guess("one"), Ok(()));
        }
        let wait = guesses.guess("one").expect_err("it has to wait");
        assert!(wait <= Duration::from_secs(1) && !wait.is_zero());
        assert_eq!(guesses.guess("other"), Ok(()));
        guesses.right(&"one");
        assert_eq!(guesses.guess("one"), Ok(()));
    }
}
