//! How long a start takes, by how many there are at once.

use super::at_once;
use super::svg::{Line, draw as drawn};
use crate::figures::{as_index, at, count, median, ms, rounded};
use crate::stage::Stage;
use crate::table::Table;
use serde_json::json;
use std::path::Path;

/// As far as there are instances.
const LOADS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 200];

/// At least so many starts for each point.
const STARTS: usize = 60;

pub(super) async fn draw(stage: &Stage, rounds: u32, path: &Path) {
    let mut table = Table::new(
        "Latency by load.",
        &["at_once", "starts_per_s", "median_ms", "p99_ms"],
    );
    let mut loads = Vec::new();
    let mut medians = Vec::new();
    let mut p99s = Vec::new();
    for load in LOADS.into_iter().filter(|n| *n <= stage.instances.len()) {
        let rounds = as_index(rounds).max(STARTS / load);
        let mut times = Vec::new();
        let mut rates = Vec::new();
        for _ in 0..rounds {
            let (more, all) = at_once(stage, load).await;
            rates.push(count(more.len()) / all.as_secs_f64());
            times.extend(more);
            stage.stopped(&stage.instances[..load]).await;
        }
        times.sort();
        let per_s = median(rates).round();
        medians.push(ms(at(&times, 0.5)));
        p99s.push(ms(at(&times, 0.99)));
        loads.push((load.to_string(), format!("{per_s}/s")));
        table.figure(&json!({
            "figure": "latency",
            "at_once": load,
            "starts_per_s": per_s,
            "median_ms": medians.last().copied().map(rounded),
            "p99_ms": p99s.last().copied().map(rounded),
        }));
    }
    table.print();
    let lines = [
        Line { name: "p99", color: "#d1651a", values: p99s },
        Line { name: "median", color: "#2f81d6", values: medians },
    ];
    let picture = drawn(
        "From the request to start until the instance runs",
        "ms",
        "starts at once, and how many a second that makes",
        &loads,
        &lines,
    );
    std::fs::write(path, picture).unwrap();
    println!("Drawn: {}", path.display());
}
