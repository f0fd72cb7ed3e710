//! One CockroachDB node in memory, for running the tests against the other
//! engine. Not shipped, not installed: it must be on the PATH.

use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::process::{Launch, Process};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const STOP: &[(Signal, Duration)] = &[(Signal::TERM, Duration::from_secs(20))];
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(100);

pub(crate) fn process(dir: &Utf8Path) -> Process {
    Process {
        name: String::from("CockroachDB"),
        program: "cockroach",
        marker: vec![String::from("--listening-url-file"), url_file(dir)],
        log: dir.join("cockroach.log"),
        account: None,
        stop: STOP,
    }
}

/// Starts it on a free port and says where.
pub(crate) fn start(dir: &Utf8Path, interrupt: &Interrupt) -> Result<String> {
    let process = process(dir);
    let mut args = vec![String::from("start-single-node")];
    args.extend(process.marker.clone());
    args.extend(
        [
            "--insecure",
            "--listen-addr=127.0.0.1:0",
            "--http-addr=127.0.0.1:0",
            "--store=type=mem,size=2GiB",
        ]
        .map(String::from),
    );
    let program = Utf8PathBuf::from("cockroach");
    let launch = Launch { process, program, args };
    let mut started = launch.spawn()?;
    let end = Instant::now() + READY_TIMEOUT;
    loop {
        // It appears when the node takes connections.
        if let Ok(url) = std::fs::read_to_string(url_file(dir))
            && url.ends_with('\n')
        {
            return Ok(url.trim().to_owned());
        }
        if started.ended().is_some() || Instant::now() > end {
            return Err(Failure::new(format!(
                "CockroachDB does not start:\n{}",
                started.last_words()
            )));
        }
        interrupt.sleep(READY_POLL)?;
    }
}

fn url_file(dir: &Utf8Path) -> String {
    dir.join("cockroach.url").into()
}
