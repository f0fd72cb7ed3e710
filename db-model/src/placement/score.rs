//! In which order sleds are taken that would all do.
//!
//! What is left of a sled is of use if it is left of both, vCPUs and memory: so
//! an instance goes where it makes the sled more balanced, or least unbalanced.
//! Among such sleds, where least is left: what is free elsewhere stays in one
//! piece, for large instances. The figures: `cargo xtask bench packing`.

use super::{Amounts, Ask, SledRoom};

/// How much more to be balanced is worth than that little is left. Where all
/// sleds are alike, less would do; where they are not, more would.
const BALANCE: i64 = 16;

/// Less is taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    /// Wishes of soft groups.
    pub(super) unfulfilled: usize,
    /// What the instance makes of the sled, in millionths of it.
    waste_ppm: i64,
}

/// The sled's place in the order.
pub(super) fn of(ask: &Ask, sled: &SledRoom) -> Score {
    let before = Left::of(sled, sled.free());
    let after = Left::of(sled, sled.free() - ask.size());
    let unbalances = after.imbalance() - before.imbalance();
    Score {
        unfulfilled: ask.unfulfilled(sled.id),
        waste_ppm: after.mean() + BALANCE * unbalances,
    }
}

/// What is left of a sled, in millionths of what there is.
struct Left {
    vcpus: i64,
    memory: i64,
}

impl Left {
    fn of(sled: &SledRoom, left: Amounts) -> Left {
        Left {
            vcpus: ppm(left.vcpus, sled.total.vcpus),
            memory: ppm(left.memory, sled.total.memory),
        }
    }

    fn mean(&self) -> i64 {
        (self.vcpus + self.memory) / 2
    }

    fn imbalance(&self) -> i64 {
        (self.vcpus - self.memory).abs()
    }
}

/// Within a thousand times the whole, so that sums of it do not overflow.
fn ppm(part: i64, whole: i64) -> i64 {
    let most = 1_000_000_000;
    let ppm = i128::from(part) * 1_000_000 / i128::from(whole.max(1));
    i64::try_from(ppm).unwrap_or(most).clamp(-most, most)
}

#[cfg(test)]
mod tests {
    use super::super::{Amounts, Ask, Quota, SledRoom, choose};
    use crate::{ByteCount, SledCpu, SledId, SledPolicy, SledProvisionPolicy};
    use uuid::Uuid;

    const GIB: i64 = 1 << 30;

    /// A sled of 64 vCPUs and 256 GiB, of which so much is free.
    fn sled(id: u128, vcpus: i64, gib: i64) -> SledRoom {
        let total = Amounts { vcpus: 64, memory: 256 * GIB, storage: 0 };
        let free = Amounts { vcpus, memory: gib * GIB, storage: 0 };
        SledRoom {
            id: SledId(Uuid::from_u128(id)),
            policy: SledPolicy::InService,
            provision_policy: SledProvisionPolicy::Provisionable,
            silent: false,
            cpu: SledCpu::Unknown,
            total,
            reserved: total - free,
        }
    }

    /// The first sled for an instance of so much.
    fn first(vcpus: i64, gib: u32, sleds: &[SledRoom]) -> u128 {
        let much = Amounts { vcpus: 1 << 20, memory: 1 << 50, storage: 0 };
        let ask = Ask {
            vcpus,
            memory: ByteCount::from_gib(gib),
            cpu_platform: None,
            groups: Vec::new(),
            disks: Vec::new(),
            quota: Quota { limit: much, used: Amounts::default() },
        };
        choose(&ask, sleds, 1, 0).unwrap().0.as_u128()
    }

    #[test]
    fn of_sleds_that_are_alike_the_fullest_is_taken() {
        let sleds = [sled(1, 64, 256), sled(2, 8, 32), sled(3, 32, 128)];
        assert_eq!(first(4, 16, &sleds), 2);
        assert_eq!(first(16, 64, &sleds), 3);
        assert_eq!(first(48, 192, &sleds), 1);
    }

    #[test]
    fn much_memory_is_taken_where_it_is_left_over() {
        let sleds = [sled(1, 8, 32), sled(2, 8, 128), sled(3, 32, 64)];
        assert_eq!(first(2, 16, &sleds), 2);
        assert_eq!(first(8, 8, &sleds), 3);
    }

    #[test]
    fn sizes_without_bounds_do_no_harm() {
        let huge = SledRoom {
            total: Amounts { vcpus: i64::MAX, memory: i64::MAX, storage: 0 },
            ..sled(1, 0, 0)
        };
        let none = SledRoom {
            total: Amounts::default(),
            reserved: Amounts::default(),
            ..sled(2, 0, 0)
        };
        assert_eq!(first(1, 1, &[huge, none]), 1);
    }
}
