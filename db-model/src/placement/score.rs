//! In which order sleds are taken that would all do.

use super::{Ask, SledRoom};

/// Less is taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    /// Wishes of soft groups.
    pub(super) unfulfilled: usize,
    /// What is left over once the instance is there, in millionths.
    leftover_ppm: i64,
}

/// The sled's place in the order.
pub(super) fn of(ask: &Ask, sled: &SledRoom) -> Score {
    let left = sled.free() - ask.size();
    let vcpus = ppm(left.vcpus, sled.total.vcpus);
    let memory = ppm(left.memory, sled.total.memory);
    Score {
        unfulfilled: ask.unfulfilled(sled.id),
        leftover_ppm: vcpus.max(memory),
    }
}

fn ppm(part: i64, whole: i64) -> i64 {
    let ppm = i128::from(part) * 1_000_000 / i128::from(whole.max(1));
    i64::try_from(ppm).unwrap_or(i64::MAX)
}
