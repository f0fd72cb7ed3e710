//! The sled agent's process.

use clap::Parser;
use sled_agent::config::Config;
use sled_agent::{Server, Stage, logger};
use slog::{Logger, crit, info};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    if let Some(stage) = Stage::of(std::env::args_os()) {
        return stage.run();
    }
    let config = Config::parse();
    let log = logger::root(config.log_level);
    match run(&config, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crit!(log, "the agent cannot go on"; "error" => logger::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(
    config: &Config,
    log: &Logger,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut server = None;
    tokio::select! {
        started = Server::start(config, log) => server = Some(started?),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if let Some(server) = server {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!(log, "closing; guests run on");
        server.close().await;
    }
    Ok(())
}
