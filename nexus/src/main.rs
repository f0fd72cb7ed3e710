//! The `nexus` program.

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand};
use db_model::{Name, UserName};
use nexus::config::Config;
use nexus::error::chain;
use nexus::init::init;
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
    /// Makes the fleet's CA in pki_dir, unless it is there; then the first silo
    /// and the first user, who may do everything, and prints a token of its,
    /// and the password unless it was given one, as JSON. They are kept
    /// nowhere. Refuses a database that has any.
    Init {
        /// The configuration file (TOML).
        #[arg(long)]
        config: Utf8PathBuf,
        /// The silo's name.
        #[arg(long, default_value = "main")]
        silo: Name,
        /// The user's name.
        #[arg(long, default_value = "admin")]
        user: UserName,
        /// Take the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
        /// Make the CA, unless it is there, and nothing else.
        #[arg(long)]
        ca_only: bool,
    },
}

/// The process found that its sagas were adopted by another.
const EXIT_ZOMBIE: i32 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let (Command::Run { config } | Command::Init { config, .. }) =
        &args.command;
    let config = match Config::from_file(config) {
        Ok(config) => config,
        Err(error) => return fail(&chain(&error)),
    };
    let log = logging::logger(&config.log_level);
    let done = match args.command {
        Command::Run { .. } => run(&config, &log).await,
        Command::Init { silo, user, password_stdin, ca_only, .. } => {
            match fleet_pki::make_or_load(config.pki_dir.as_std_path()) {
                Err(error) => Err(chain(&error)),
                Ok(_) if ca_only => Ok(ExitCode::SUCCESS),
                Ok(_) => {
                    print_admin(&config, &log, silo, user, password_stdin).await
                }
            }
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

async fn print_admin(
    config: &Config,
    log: &Logger,
    silo: Name,
    user: UserName,
    password_stdin: bool,
) -> Result<ExitCode, String> {
    let password = match password_stdin {
        true => Some(first_line().map_err(|e| chain(&e))?),
        false => None,
    };
    let datastore = server::datastore(config);
    server::prepare(&datastore, log).await.map_err(|e| chain(&e))?;
    let made =
        init(&datastore, silo, user, password).await.map_err(|e| chain(&e))?;
    let json = serde_json::to_string(&made).map_err(|e| chain(&e))?;
    #[expect(clippy::print_stdout, reason = "it is what was asked for")]
    {
        println!("{json}");
    }
    Ok(ExitCode::SUCCESS)
}

fn first_line() -> Result<String, std::io::Error> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn fail(text: &str) -> ExitCode {
    #[expect(clippy::print_stderr, reason = "there may be no log yet")]
    {
        eprintln!("nexus: {text}");
    }
    ExitCode::FAILURE
}
