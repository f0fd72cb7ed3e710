//! Measures, over real processes: `cargo xtask bench` starts the database, with
//! the durability of production, and tells what to measure.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "it reports to whoever runs it, and to nobody else"
)]

mod recovery;

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
}

#[tokio::main]
async fn main() {
    match Args::parse().what {
        What::Recovery(args) => recovery::run(&args).await,
    }
}
