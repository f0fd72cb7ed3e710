//! What is started and stopped, in which order: the same for everybody.

use db_model::placement::{Amounts, SledRoom};
use db_model::{SledCpu, SledId, SledPolicy, SledProvisionPolicy};
use uuid::Uuid;

const GIB: i64 = 1 << 30;

/// Few are large, and those have much of all: vCPUs, and of how many hundred.
const SIZES: [(i64, u32); 7] =
    [(1, 25), (2, 25), (4, 20), (8, 15), (16, 9), (32, 4), (64, 2)];

/// GiB a vCPU that instances have.
const RATIOS: [i64; 3] = [2, 4, 8];

/// How much is asked of the fleet once it is filled, as a share of all that
/// there is, and at the end.
const LOAD: (f64, f64) = (0.90, 1.0);

/// What is asked of which fleet.
pub(crate) struct Mix {
    pub(crate) name: &'static str,
    /// vCPUs and GiB of the sleds, in rotation.
    shapes: &'static [(i64, i64)],
    /// How many of a hundred instances have each of the [`RATIOS`].
    ratios: [u32; 3],
}

/// 5.9 GiB a vCPU.
const SHAPES: &[(i64, i64)] = &[
    (128, 1024),
    (256, 1024),
    (64, 512),
    (128, 1024),
    (256, 1024),
    (64, 512),
    (128, 1024),
    (256, 1024),
    (64, 512),
    (128, 1024),
];

/// 6 GiB a vCPU.
const ALIKE: &[(i64, i64)] = &[(128, 768)];

/// 4.6 GiB a vCPU, so that vCPUs run out.
const LITTLE_MEMORY: [u32; 3] = [30, 40, 30];

/// 6.2 GiB a vCPU, so that memory runs out.
const MUCH_MEMORY: [u32; 3] = [10, 30, 60];

pub(crate) const MIXES: [Mix; 4] = [
    Mix {
        name: "sleds of three shapes, vCPUs run out",
        shapes: SHAPES,
        ratios: LITTLE_MEMORY,
    },
    Mix {
        name: "sleds of three shapes, memory runs out",
        shapes: SHAPES,
        ratios: MUCH_MEMORY,
    },
    Mix {
        name: "sleds all alike, vCPUs run out",
        shapes: ALIKE,
        ratios: LITTLE_MEMORY,
    },
    Mix {
        name: "sleds all alike, memory runs out",
        shapes: ALIKE,
        ratios: MUCH_MEMORY,
    },
];

/// Of which instance.
#[derive(Clone, Copy)]
pub(crate) enum Event {
    Start(usize),
    Stop(usize),
}

/// See the module.
pub(crate) struct Stream {
    pub(crate) sleds: Vec<SledRoom>,
    /// The size of each instance.
    pub(crate) sizes: Vec<Amounts>,
    pub(crate) events: Vec<Event>,
    /// The event at which half of the fleet is asked for.
    pub(crate) half: usize,
    pub(crate) seed: u64,
}

impl Stream {
    /// A fleet that is filled, and of which then slowly more is asked than it
    /// has. What is refused is asked for all the same, until it is stopped.
    pub(crate) fn new(
        mix: &Mix,
        sleds: usize,
        events: usize,
        seed: u64,
    ) -> Stream {
        let mut rng = fastrand::Rng::with_seed(seed);
        let sleds: Vec<SledRoom> = (0..sleds).map(|n| sled(mix, n)).collect();
        let total = sum(sleds.iter().map(|s| s.total));
        let mut stream =
            Stream { sleds, sizes: vec![], events: vec![], half: 0, seed };
        let mut asked = Amounts::default();
        let mut alive = Vec::new();
        while stream.events.len() < events {
            let at = stream.events.len();
            let load = share(asked, total);
            if load < 0.5 {
                stream.half = at;
            }
            if load < wanted(at, events) {
                let size = size(mix, &mut rng);
                asked = asked + size;
                alive.push(stream.sizes.len());
                stream.events.push(Event::Start(stream.sizes.len()));
                stream.sizes.push(size);
            } else {
                let gone = alive.swap_remove(stopped(&alive, &mut rng));
                asked = asked - stream.sizes[gone];
                stream.events.push(Event::Stop(gone));
            }
        }
        stream
    }
}

/// The load that is meant at an event.
fn wanted(at: usize, of: usize) -> f64 {
    let part = |n: usize| f64::from(u32::try_from(n).unwrap());
    LOAD.0 + (LOAD.1 - LOAD.0) * part(at) / part(of)
}

/// The place of who stops: the younger of two. So many do not live long, and a
/// few do very.
fn stopped(alive: &[usize], rng: &mut fastrand::Rng) -> usize {
    let (a, b) = (rng.usize(..alive.len()), rng.usize(..alive.len()));
    if alive[a] > alive[b] { a } else { b }
}

fn size(mix: &Mix, rng: &mut fastrand::Rng) -> Amounts {
    let ratios = RATIOS.into_iter().zip(mix.ratios);
    let vcpus = drawn(SIZES.into_iter(), rng);
    let memory = vcpus * drawn(ratios, rng) * GIB;
    Amounts { vcpus, memory, storage: 0 }
}

/// One of these, each as often as it says of a hundred.
fn drawn(of: impl Iterator<Item = (i64, u32)>, rng: &mut fastrand::Rng) -> i64 {
    let ticket = rng.u32(..100);
    let mut upto = 0;
    for (value, often) in of {
        upto += often;
        if ticket < upto {
            return value;
        }
    }
    unreachable!("they are a hundred")
}

fn sled(mix: &Mix, n: usize) -> SledRoom {
    let (vcpus, gib) = mix.shapes[n % mix.shapes.len()];
    SledRoom {
        id: SledId(Uuid::from_u128(u128::try_from(n).unwrap())),
        policy: SledPolicy::InService,
        provision_policy: SledProvisionPolicy::Provisionable,
        silent: false,
        cpu: SledCpu::Unknown,
        total: Amounts { vcpus, memory: gib * GIB, storage: 0 },
        reserved: Amounts::default(),
    }
}

pub(crate) fn sum(amounts: impl Iterator<Item = Amounts>) -> Amounts {
    amounts.fold(Amounts::default(), |sum, amounts| sum + amounts)
}

/// How much of the scarcer.
fn share(part: Amounts, of: Amounts) -> f64 {
    ratio(part.vcpus, of.vcpus).max(ratio(part.memory, of.memory))
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "all are far below 2^52"
)]
pub(crate) fn ratio(part: i64, of: i64) -> f64 {
    part as f64 / of as f64
}
