//! The `nexus` program.

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand};
use db_model::Name;
use nexus::bootstrap::bootstrap;
use nexus::config::Config;
use nexus::error::chain;
use nexus::{Server, logging, server};
use slog::{Logger, error, info};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// The control plane's server.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until SIGTERM or SIGINT.
    Run {
        /// The configuration file (TOML).
        #[arg(long)]
        config: Utf8PathBuf,
    },
    /// Makes a silo and a user if they are not there, and a new token, which
    /// is printed as JSON and kept nowhere.
    Bootstrap {
        /// The configuration file (TOML).
        #[arg(long)]
        config: Utf8PathBuf,
        /// The silo's name.
        #[arg(long, default_value = "main")]
        silo: Name,
        /// The user's name.
        #[arg(long, default_value = "admin")]
        user: String,
        /// The user may not see or change what is the fleet's.
        #[arg(long)]
        no_fleet_admin: bool,
    },
}

/// The process found that its sagas were adopted by another.
const EXIT_ZOMBIE: i32 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let (Command::Run { config } | Command::Bootstrap { config, .. }) =
        &args.command;
    let config = match Config::from_file(config) {
        Ok(config) => config,
        Err(error) => return fail(&chain(&error)),
    };
    let log = logging::logger(&config.log_level);
    let done = match args.command {
        Command::Run { .. } => run(&config, &log).await,
        Command::Bootstrap { silo, user, no_fleet_admin, .. } => {
            print_token(&config, &log, silo, &user, !no_fleet_admin).await
        }
    };
    done.unwrap_or_else(|text| {
        error!(log, "cannot go on"; "error" => &text);
        // Waits for what is on its way to the log, which goes to stderr, too.
        drop(log);
        fail(&text)
    })
}

async fn run(config: &Config, log: &Logger) -> Result<ExitCode, String> {
    // Before anything that a signal should not interrupt.
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|e| chain(&e))?;
    let mut interrupt =
        signal(SignalKind::interrupt()).map_err(|e| chain(&e))?;
    let server = tokio::select! {
        server = Server::start(config, log.clone()) => {
            server.map_err(|e| chain(&e))?
        }
        _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => return Ok(ExitCode::SUCCESS),
    };
    tokio::select! {
        _ = terminate.recv() => (),
        _ = interrupt.recv() => (),
        () = server.zombie() => {
            error!(log, "another process has adopted this one's sagas");
            // At once: nothing here may go on, and nothing is waited for.
            std::process::exit(EXIT_ZOMBIE);
        }
    }
    info!(log, "closing");
    server.close().await;
    Ok(ExitCode::SUCCESS)
}

async fn print_token(
    config: &Config,
    log: &Logger,
    silo: Name,
    user: &str,
    fleet_admin: bool,
) -> Result<ExitCode, String> {
    let datastore = server::datastore(config);
    server::prepare(&datastore, log).await.map_err(|e| chain(&e))?;
    let made = bootstrap(&datastore, silo, user, fleet_admin)
        .await
        .map_err(|e| chain(&e))?;
    let json = serde_json::to_string(&made).map_err(|e| chain(&e))?;
    #[expect(clippy::print_stdout, reason = "it is what was asked for")]
    {
        println!("{json}");
    }
    Ok(ExitCode::SUCCESS)
}

fn fail(text: &str) -> ExitCode {
    #[expect(clippy::print_stderr, reason = "there may be no log yet")]
    {
        eprintln!("nexus: {text}");
    }
    ExitCode::FAILURE
}
