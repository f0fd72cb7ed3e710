//! Orders in which sleds may be taken that would all do. What comes first is
//! less.

use super::fleet::Way;
use super::stream::ratio;
use db_model::ByteCount;
use db_model::placement::{Amounts, Ask, Quota, SledRoom, choose};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    FirstFit,
    LeastMax,
    LeastSum,
    LeastNorm,
    LeastAbsolute,
    Alignment,
    DotProduct,
    Balance,
    WorstFit,
    Random,
}

pub(crate) const ORDERS: [Order; 10] = [
    Order::FirstFit,
    Order::LeastMax,
    Order::LeastSum,
    Order::LeastNorm,
    Order::LeastAbsolute,
    Order::Alignment,
    Order::DotProduct,
    Order::Balance,
    Order::WorstFit,
    Order::Random,
];

impl Order {
    /// The one of `db_model::placement`'s `score.rs`.
    pub(crate) const PRODUCT: Order = Order::LeastMax;

    pub(crate) fn name(self) -> &'static str {
        match self {
            Order::FirstFit => "first fit (lowest id)",
            Order::LeastMax => "best fit: least left of the larger part",
            Order::LeastSum => "best fit: least left, sum of parts",
            Order::LeastNorm => "best fit: least left, root of squares",
            Order::LeastAbsolute => "best fit: least left, not by its size",
            Order::Alignment => "what is free is most like the demand",
            Order::DotProduct => "dot product of demand and free",
            Order::Balance => "what is left is best balanced",
            Order::WorstFit => "worst fit (least full)",
            Order::Random => "random",
        }
    }

    pub(super) fn score(
        self,
        ask: Amounts,
        sled: &SledRoom,
        rng: &mut fastrand::Rng,
    ) -> f64 {
        let (free, total) = (sled.free(), sled.total);
        let part = |amounts: Amounts| {
            let memory = ratio(amounts.memory, total.memory);
            (ratio(amounts.vcpus, total.vcpus), memory)
        };
        let (vcpus, memory) = part(free - ask);
        match self {
            Order::FirstFit => 0.0,
            Order::LeastMax => vcpus.max(memory),
            Order::LeastSum => vcpus + memory,
            Order::LeastNorm => vcpus.hypot(memory),
            Order::LeastAbsolute => {
                let left = free - ask;
                ratio(left.vcpus, 128) + ratio(left.memory, 768 << 30)
            }
            Order::Alignment => {
                let (asked, there) = (part(ask), part(free));
                let length = |(v, m): (f64, f64)| v.hypot(m);
                -dot(asked, there) / (length(asked) * length(there))
            }
            Order::DotProduct => -dot(part(ask), part(free)),
            Order::Balance => (vcpus - memory).abs(),
            Order::WorstFit => -vcpus.min(memory),
            Order::Random => rng.f64(),
        }
    }
}

fn dot((a, b): (f64, f64), (c, d): (f64, f64)) -> f64 {
    a * c + b * d
}

/// The place of the sled that the product chooses.
pub(crate) fn chosen(
    way: Way,
    ask: Amounts,
    sleds: &[SledRoom],
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let read: Vec<SledRoom> =
        way.read(ask, sleds).into_iter().map(|at| sleds[at].clone()).collect();
    let boundless =
        Amounts { vcpus: i64::MAX, memory: i64::MAX, storage: i64::MAX };
    let ask = Ask {
        vcpus: ask.vcpus,
        memory: ByteCount::from_gib(u32::try_from(ask.memory >> 30).unwrap()),
        cpu_platform: None,
        groups: Vec::new(),
        disks: Vec::new(),
        quota: Quota { limit: boundless, used: Amounts::default() },
    };
    let id = choose(&ask, &read, way.spread, rng.u64(..)).ok()?;
    sleds.iter().position(|sled| sled.id == id)
}
