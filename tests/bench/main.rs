//! Measures, over real processes: `cargo xtask bench` starts the database, with
//! the durability of production, and tells what to measure.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "it reports to whoever runs it, and to nobody else"
)]

mod figures;
mod idle;
mod limit;
mod packing;
mod placement;
mod reads;
mod recovery;
mod stage;
mod starts;
mod statements;
mod table;
mod usage;
mod wire;

use clap::{Parser, Subcommand};

/// What `cargo xtask bench` is told.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How long sagas stand still when their Nexus is killed
    Recovery(recovery::Args),
    /// What a reservation costs, by the size of the fleet, and 64 at once
    Placement(placement::Args),
    /// How long a start takes, and how many a second there are at once
    Starts(starts::Args),
    /// How long reads take, and how many a second there are
    Reads(reads::Args),
    /// What a control plane takes of the machine while nobody asks anything
    Idle(idle::Args),
    /// How well a fleet is filled, by the order in which sleds are taken
    Packing(packing::Args),
}

#[tokio::main]
async fn main() {
    match Args::parse().what {
        What::Recovery(args) => recovery::run(&args).await,
        What::Placement(args) => placement::run(&args).await,
        What::Starts(args) => starts::run(&args).await,
        What::Reads(args) => reads::run(&args).await,
        What::Idle(args) => idle::run(&args).await,
        What::Packing(args) => packing::run(&args),
    }
}
