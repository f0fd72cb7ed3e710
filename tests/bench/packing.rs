//! How well a fleet is filled, by the order in which sleds are taken that would
//! all do: many starts and stops, in memory, with the product's own choice
//! among others that it might have made.

mod fleet;
mod order;
mod stream;

use crate::table::Table;
use db_model::placement::{Amounts, SledRoom};
use fastrand::Rng;
use fleet::{Filled, Way, fill};
use order::{ORDERS, Order};
use serde_json::{Value, json};
use stream::{MIXES, Mix, Stream};

/// How much is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many sleds there are
    #[arg(long, default_value_t = 200)]
    sleds: usize,
    /// How many starts and stops
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// How many streams of them
    #[arg(long, default_value_t = 5)]
    seeds: u64,
}

/// What is told of each order.
const COLUMNS: &[&str] = &[
    "order",
    "one of",
    "refused",
    "±",
    "refused vCPUs %",
    "stranded vCPUs %",
    "stranded memory %",
    "in use at half load %",
    "on the fullest %",
];

pub(crate) fn run(args: &Args) {
    for mix in &MIXES {
        let streams: Vec<Stream> = (0..args.seeds)
            .map(|seed| Stream::new(mix, args.sleds, args.events, seed))
            .collect();
        let title = format!(
            "{}, {} sleds, {} starts and stops, {} seeds",
            mix.name, args.sleds, args.events, args.seeds
        );
        let report = Report { mix, streams: &streams };
        let tables = [
            report.whole_fleet(&title, args.sleds),
            report.few(&title),
            report.ways(&title, args.sleds),
        ];
        tables.iter().for_each(Table::print);
    }
}

/// All streams of a mix, carried out in one way and another.
struct Report<'a> {
    mix: &'a Mix,
    streams: &'a [Stream],
}

impl Report<'_> {
    /// The best of all.
    fn whole_fleet(&self, title: &str, sleds: usize) -> Table {
        let title = format!("Any sled ({title})");
        let mut table = Table::new(&title, COLUMNS);
        let way = Way { fullest: sleds, by_chance: 0, spread: 1 };
        // No order can do better than if all sleds were one.
        let bound: Vec<_> = self.streams.iter().map(fleet::pooled).collect();
        table.figure(&self.told("lower bound: one big sled", way, &bound));
        for order in ORDERS {
            table.figure(&self.of(order, way));
        }
        table
    }

    /// One of the best of a few, as the product does.
    fn few(&self, title: &str) -> Table {
        let title = format!("As the product chooses ({title})");
        let mut table = Table::new(&title, COLUMNS);
        let way = Way::product();
        for order in ORDERS {
            table.figure(&self.of(order, way));
        }
        let chosen = self
            .fill_all(|ask, sleds, rng| order::chosen(way, ask, sleds, rng));
        table.figure(&self.told("the product itself", way, &chosen));
        table
    }

    /// By how many are read, and how many are chosen among.
    fn ways(&self, title: &str, sleds: usize) -> Table {
        let title = format!("The product's order ({title})");
        let mut table = Table::new(&title, COLUMNS);
        for (fullest, by_chance) in
            [(64, 0), (16, 16), (32, 32), (64, 64), (sleds, 0)]
        {
            for spread in [1, 4, 16] {
                let way = Way { fullest, by_chance, spread };
                table.figure(&self.of(Order::PRODUCT, way));
            }
        }
        table
    }

    fn of(&self, order: Order, way: Way) -> Value {
        let filled =
            self.fill_all(|ask, sleds, rng| way.take(order, ask, sleds, rng));
        self.told(&order.name(), way, &filled)
    }

    fn fill_all(
        &self,
        take: impl Fn(Amounts, &[SledRoom], &mut Rng) -> Option<usize>,
    ) -> Vec<Filled> {
        self.streams.iter().map(|stream| fill(stream, &take)).collect()
    }

    fn told(&self, order: &str, way: Way, filled: &[Filled]) -> Value {
        let refused = spread(filled, |f| f.refused);
        json!({
            "figure": "packing",
            "mix": self.mix.name,
            "order": order,
            "one of": format!(
                "{} of {} + {}", way.spread, way.fullest, way.by_chance
            ),
            "refused": refused.0,
            "±": refused.1,
            "refused vCPUs %": spread(filled, |f| f.refused_vcpus).0,
            "stranded vCPUs %": spread(filled, |f| f.stranded_vcpus).0,
            "stranded memory %": spread(filled, |f| f.stranded_memory).0,
            "in use at half load %": spread(filled, |f| f.in_use).0,
            "on the fullest %": spread(filled, |f| f.at_stake).0,
        })
    }
}

/// Mean and standard deviation, to two places.
fn spread(filled: &[Filled], of: impl Fn(&Filled) -> f64) -> (f64, f64) {
    let n = f64::from(u32::try_from(filled.len()).unwrap());
    let mean = filled.iter().map(&of).sum::<f64>() / n;
    let squares = filled.iter().map(|f| (of(f) - mean).powi(2)).sum::<f64>();
    let deviation = (squares / (n - 1.0).max(1.0)).sqrt();
    let short = |x: f64| (x * 100.0).round() / 100.0;
    (short(mean), short(deviation))
}
