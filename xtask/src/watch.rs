//! `up` in the foreground, after the start: shows what dies and what comes
//! back, and stops everything when it is told to.

use crate::failure::Result;
use crate::home::Lock;
use crate::interrupt::Interrupt;
use crate::process::Started;
use crate::say::say;
use crate::stack::Stack;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

const POLL: Duration = Duration::from_secs(1);

/// Stays until a signal comes, then stops everything. What dies is reported
/// and not restarted: whoever killed it wants to see what follows.
pub(crate) fn watch(
    stack: &Stack,
    mut begun: Vec<Started>,
    interrupt: &Interrupt,
    _foreground: Lock,
) -> Result<ExitCode> {
    let mut running: BTreeMap<&str, bool> =
        stack.all().map(|p| (p.name.as_str(), true)).collect();
    while interrupt.sleep(POLL).is_ok() {
        let mut ended: BTreeMap<String, String> = BTreeMap::new();
        for started in &mut begun {
            if let Some(status) = started.ended() {
                let name = started.process.name.clone();
                ended.insert(name, format!(" ({status})"));
            }
        }
        if !stack.home.manifest().exists() {
            say("Stopped by `cargo xtask down`.");
            return Ok(ExitCode::SUCCESS);
        }
        for process in stack.all() {
            let now = process.find().is_some();
            let before = running.insert(&process.name, now);
            match (before, now) {
                (Some(true), false) => say(format_args!(
                    "{} ended{}. `cargo xtask up --dir {}` in another \
                     terminal starts it again. Its log: {}",
                    process.name,
                    ended.remove(&process.name).unwrap_or_default(),
                    stack.home.dir(),
                    process.log
                )),
                (Some(false), true) => {
                    say(format_args!("{} runs again", process.name));
                }
                _ => {}
            }
        }
    }
    say("");
    let _lock = stack.home.lock_patiently()?;
    stack.stop()?;
    say("Stopped.");
    Ok(ExitCode::SUCCESS)
}
