//! Chaos: seeded users against a seeded adversary, on a whole fleet of real
//! processes on this machine.
//!
//! ```text
//!  users ──link──▶ Nexus 0..n ──link──▶ PostgreSQL
//!                    │    ▲
//!                  link  link            each link: cut, silent, slow,
//!                    ▼    │              answers lost, sent again later
//!                  sled 0..m             each process: kill -9, paused, ended
//! ```
//!
//! When the time is over all faults end. Within a bounded time every instance
//! must then be where its intent says, or say why it is not, and nothing may be
//! wrong: in the database, on the sleds, in what users were answered. The seed
//! decides what is done to whom and when; how processes take turns it does not,
//! so a run that is repeated is alike and not the same.
//!
//! `cargo xtask chaos` starts PostgreSQL, and again whenever this kills it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "it reports to whoever runs it, and to nobody else"
)]

mod adversary;
mod guests;
mod postgres;
mod record;
mod users;
mod verdict;
mod world;

use clap::Parser;
use postgres::Postgres;
use record::Record;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinError;
use world::World;

/// Between two lines that say that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// How long what users have under way may take once the time is over: a little
/// more than they wait for an answer.
const USERS_LEAVE: Duration = Duration::from_secs(30);

/// What `cargo xtask chaos` is told.
#[derive(Debug, Parser)]
struct Args {
    /// How long to make trouble
    #[arg(long, default_value_t = 1.5)]
    minutes: f64,
    /// What decides who is struck when; by default another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// How many Nexuses
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nexus: u8,
    /// How many sleds
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=20))]
    sleds: u8,
    /// How many users, of one instance each
    #[arg(long, default_value_t = 20)]
    users: u16,
    /// Where PostgreSQL keeps its pid
    #[arg(long)]
    postgres_pid_file: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let minutes = args.minutes;
    println!(
        "Chaos with seed {seed}: {minutes} min, {} Nexuses, {} sleds, {} users",
        args.nexus, args.sleds, args.users,
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tasks = tokio::task::LocalSet::new();
    let record = Arc::new(Record::new(seed));
    let dir = tempfile::tempdir().unwrap().keep();
    let done = async {
        tokio::select! {
            done = run(&args, dir.clone(), &record) => Some(done),
            // What was started is killed as it is dropped.
            () = interrupted() => None,
        }
    };
    match tasks.block_on(&runtime, done) {
        Some(Ok(())) => (),
        Some(Err(died)) => record
            .violation(format!("what was hurt could not be healed: {died}")),
        None => {
            drop((tasks, runtime));
            let _ = std::fs::remove_dir_all(dir);
            return ExitCode::FAILURE;
        }
    }
    println!("{}", record.summary());
    if record.is_clean() {
        println!("Nothing is wrong.");
        std::fs::remove_dir_all(dir).unwrap();
        return ExitCode::SUCCESS;
    }
    println!("The logs are kept in {}", dir.display());
    println!(
        "To repeat it: cargo xtask chaos --seed {seed} --minutes {minutes} \
         --nexus {} --sleds {} --users {}",
        args.nexus, args.sleds, args.users,
    );
    ExitCode::FAILURE
}

/// Answers when somebody wants it to end.
async fn interrupted() {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let mut interrupt = signal(SignalKind::interrupt()).unwrap();
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
    }
}

async fn run(
    args: &Args,
    dir: PathBuf,
    record: &Arc<Record>,
) -> Result<(), JoinError> {
    let postgres = Postgres::new(args.postgres_pid_file.clone());
    let (nexuses, sleds) = (usize::from(args.nexus), usize::from(args.sleds));
    let world = World::start(nexuses, sleds, dir.clone()).await;
    let (stop, stopped) = watch::channel(false);
    let watching =
        tokio::spawn(guests::watch(dir, Arc::clone(record), stopped.clone()));
    let users: Vec<_> = (0..args.users)
        .map(|n| {
            let user = users::User::new(n, &world, record);
            tokio::spawn(user.go_on(stopped.clone()))
        })
        .collect();
    let adversary =
        adversary::unleash(world, postgres, record, stopped.clone());
    let ends = Instant::now() + Duration::from_secs_f64(args.minutes * 60.0);
    while let Some(left) = ends.checked_duration_since(Instant::now()) {
        tokio::time::sleep(left.min(SIGN_OF_LIFE)).await;
        println!("{}", record.sign_of_life());
    }
    println!("No more faults.");
    stop.send_replace(true);
    let world = adversary.retreat().await?;
    let mut left = Vec::new();
    for user in users {
        match tokio::time::timeout(USERS_LEAVE, user).await {
            Ok(Ok(user)) => left.push(user),
            Ok(Err(died)) => record.violation(format!("a user died: {died}")),
            Err(_) => record.violation("a user is stuck".to_string()),
        }
    }
    verdict::judge(&world, left, record).await;
    watching.await
}
