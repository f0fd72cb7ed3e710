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
    Alignment,
    DotProduct,
    Balance,
    /// How much less balanced a sled gets weighs so many times as much as what
    /// is left there.
    Skew(u32),
    WorstFit,
    Random,
}

pub(crate) const ORDERS: [Order; 11] = [
    Order::FirstFit,
    Order::LeastMax,
    Order::LeastSum,
    Order::Alignment,
    Order::DotProduct,
    Order::Balance,
    Order::Skew(4),
    Order::Skew(16),
    Order::Skew(64),
    Order::WorstFit,
    Order::Random,
];

impl Order {
    /// The one of `db_model::placement`'s `score.rs`.
    pub(crate) const PRODUCT: Order = Order::Skew(16);

    pub(crate) fn name(self) -> String {
        let name = match self {
            Order::FirstFit => "first fit (lowest id)",
            Order::LeastMax => "best fit: least left, larger part",
            Order::LeastSum => "best fit: least left, sum of parts",
            Order::Alignment => "free is most like the demand (cosine)",
            Order::DotProduct => "dot product of demand and free",
            Order::Balance => "what is left is best balanced",
            Order::Skew(times) => {
                return format!("least left + {times} x less balanced");
            }
            Order::WorstFit => "worst fit (least full)",
            Order::Random => "random",
        };
        name.to_string()
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
            Order::Alignment => {
                let (asked, there) = (part(ask), part(free));
                let length = |(v, m): (f64, f64)| v.hypot(m);
                -dot(asked, there) / (length(asked) * length(there))
            }
            Order::DotProduct => -dot(part(ask), part(free)),
            Order::Balance => (vcpus - memory).abs(),
            Order::Skew(times) => {
                let before = part(free);
                let skewed =
                    (vcpus - memory).abs() - (before.0 - before.1).abs();
                (vcpus + memory) / 2.0 + f64::from(times) * skewed
            }
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
    let read: Vec<SledRoom> = way
        .read(ask, sleds, rng)
        .into_iter()
        .map(|at| sleds[at].clone())
        .collect();
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
