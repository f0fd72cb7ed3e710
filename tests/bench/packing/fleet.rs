//! A stream, carried out.

use super::order::Order;
use super::stream::{Event, Stream, ratio, sum};
use db_model::placement::{Amounts, SledRoom};

/// An instance of the middle: where it does not fit, what is free is stranded.
const MEDIAN: Amounts = Amounts { vcpus: 8, memory: 32 << 30, storage: 0 };

/// How it went.
#[derive(Default)]
pub(crate) struct Filled {
    /// Starts.
    pub(crate) refused: f64,
    /// In percent of what was asked for.
    pub(crate) refused_vcpus: f64,
    /// What is free where an instance of the middle does not fit, in percent of
    /// all that there is, on the average of the second half.
    pub(crate) stranded_vcpus: f64,
    pub(crate) stranded_memory: f64,
    /// Sleds with anything on them when half of the fleet is asked for, and the
    /// instances on the one that has most, in percent.
    pub(crate) in_use: f64,
    pub(crate) at_stake: f64,
}

/// Among which sleds is chosen, of those that would do.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    /// So many with the least free vCPUs are read,
    pub(crate) fullest: usize,
    /// and so many by chance.
    pub(crate) by_chance: usize,
    /// One of so many of the best is taken.
    pub(crate) spread: usize,
}

impl Way {
    /// What the product does.
    pub(crate) fn product() -> Way {
        let count = |n: i64| usize::try_from(n).unwrap();
        Way {
            fullest: count(db_queries::FULLEST),
            by_chance: count(db_queries::BY_CHANCE),
            spread: nexus::saga::instance_start::SPREAD,
        }
    }

    /// The places of those that are read.
    pub(super) fn read(
        self,
        ask: Amounts,
        sleds: &[SledRoom],
        rng: &mut fastrand::Rng,
    ) -> Vec<usize> {
        let fits = |at: &usize| sleds[*at].free().cover(ask);
        let mut read: Vec<usize> = (0..sleds.len()).filter(fits).collect();
        if read.len() > self.fullest {
            let free = |at: &usize| {
                let free = sleds[*at].free();
                (free.vcpus, free.memory)
            };
            read.select_nth_unstable_by_key(self.fullest, free);
            read.truncate(self.fullest);
        }
        let looked_at = usize::try_from(db_queries::LOOKED_AT).unwrap();
        let some = (rng.usize(..sleds.len())..sleds.len()).take(looked_at);
        read.extend(some.filter(fits).take(self.by_chance));
        read.sort_unstable();
        read.dedup();
        read
    }

    pub(crate) fn take(
        self,
        order: Order,
        ask: Amounts,
        sleds: &[SledRoom],
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let mut open: Vec<(f64, usize)> = self
            .read(ask, sleds, rng)
            .into_iter()
            .map(|at| (order.score(ask, &sleds[at], rng), at))
            .collect();
        open.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        open.truncate(self.spread);
        rng.choice(open).map(|(_, at)| at)
    }
}

/// Carries a stream out: `take` says where each instance goes.
pub(crate) fn fill(
    stream: &Stream,
    mut take: impl FnMut(Amounts, &[SledRoom], &mut fastrand::Rng) -> Option<usize>,
) -> Filled {
    let mut rng = fastrand::Rng::with_seed(!stream.seed);
    let mut sleds = stream.sleds.clone();
    let mut placed: Vec<Option<usize>> = vec![None; stream.sizes.len()];
    let mut seen = Seen::default();
    for (n, event) in stream.events.iter().enumerate() {
        match *event {
            Event::Start(instance) => {
                let size = stream.sizes[instance];
                let at = take(size, &sleds, &mut rng);
                seen.asked(size, at.is_some());
                placed[instance] = at;
                if let Some(at) = at {
                    sleds[at].reserved = sleds[at].reserved + size;
                    assert!(sleds[at].total.cover(sleds[at].reserved));
                }
            }
            Event::Stop(instance) => {
                if let Some(at) = placed[instance].take() {
                    let size = stream.sizes[instance];
                    sleds[at].reserved = sleds[at].reserved - size;
                }
            }
        }
        if n == stream.half {
            seen.half(&sleds, &placed);
        }
        if n >= stream.events.len() / 2 {
            seen.stranded(&sleds);
        }
    }
    seen.filled(stream)
}

/// The same, if all sleds were one.
pub(crate) fn pooled(stream: &Stream) -> Filled {
    let whole = SledRoom {
        total: sum(stream.sleds.iter().map(|sled| sled.total)),
        ..stream.sleds[0].clone()
    };
    let one = Stream {
        sleds: vec![whole],
        sizes: stream.sizes.clone(),
        events: stream.events.clone(),
        ..*stream
    };
    fill(&one, |ask, sleds, _| sleds[0].free().cover(ask).then_some(0))
}

/// What is counted on the way.
#[derive(Default)]
struct Seen {
    asked: Amounts,
    refused: Amounts,
    refusals: f64,
    stranded: Amounts,
    looks: f64,
    in_use: f64,
    at_stake: f64,
}

impl Seen {
    fn asked(&mut self, size: Amounts, placed: bool) {
        self.asked = self.asked + size;
        if !placed {
            self.refused = self.refused + size;
            self.refusals += 1.0;
        }
    }

    fn half(&mut self, sleds: &[SledRoom], placed: &[Option<usize>]) {
        let mut there = vec![0_i64; sleds.len()];
        placed.iter().flatten().for_each(|at| there[*at] += 1);
        let percent = |part: i64, of: i64| 100.0 * ratio(part, of);
        let used = there.iter().filter(|n| **n > 0).count();
        let count = |n: usize| i64::try_from(n).unwrap();
        self.in_use = percent(count(used), count(sleds.len()));
        self.at_stake =
            percent(*there.iter().max().unwrap(), there.iter().sum());
    }

    fn stranded(&mut self, sleds: &[SledRoom]) {
        let stranded = |sled: &&SledRoom| !sled.free().cover(MEDIAN);
        let free = sum(sleds.iter().filter(stranded).map(SledRoom::free));
        self.stranded = self.stranded + free;
        self.looks += 1.0;
    }

    fn filled(self, stream: &Stream) -> Filled {
        let total = sum(stream.sleds.iter().map(|sled| sled.total));
        let stranded =
            |part: i64, of: i64| 100.0 * ratio(part, of) / self.looks;
        Filled {
            refused: self.refusals,
            refused_vcpus: 100.0 * ratio(self.refused.vcpus, self.asked.vcpus),
            stranded_vcpus: stranded(self.stranded.vcpus, total.vcpus),
            stranded_memory: stranded(self.stranded.memory, total.memory),
            in_use: self.in_use,
            at_stake: self.at_stake,
        }
    }
}
