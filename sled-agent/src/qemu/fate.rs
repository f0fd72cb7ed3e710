//! What became of a guest, by what its directory says.

use super::dir::{Exit, Facts, GuestDir};
use super::refused;
use crate::files::FileError;
use crate::machine::GuestEvent;
use std::io;

/// How a guest stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It never came to be: it may be made, or made again.
    NotThere,
    /// Its processes are alive.
    Alive,
    /// They are gone.
    Ended {
        /// What befell it last.
        event: GuestEvent,
        /// What QEMU said of that, for operators.
        stderr: Option<String>,
    },
}

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum FateError {
    #[error("the guest's directory cannot be read")]
    Io(#[from] io::Error),
    #[error("what is known of the guest cannot be read or written")]
    File(#[from] FileError),
}

/// How the guest of this directory stands.
pub(super) async fn of(dir: &GuestDir) -> Result<Fate, FateError> {
    if !dir.is_there() {
        return Ok(Fate::NotThere);
    }
    // Before anything is read: what is written by processes that are gone
    // stays as it is.
    if dir.is_alive()? {
        return Ok(Fate::Alive);
    }
    let (facts, exit) = (dir.facts().await?, dir.exit().await?);
    let stderr = exit.as_ref().map(|exit| exit.stderr.clone());
    Ok(match end(&facts, dir.has_started(), exit) {
        None => Fate::NotThere,
        Some(event) => Fate::Ended { event, stderr },
    })
}

/// What befell a guest last, if there ever was one; its processes are gone.
fn end(
    facts: &Facts,
    has_started: bool,
    exit: Option<Exit>,
) -> Option<GuestEvent> {
    if let Some(end) = &facts.end {
        return Some(end.clone());
    }
    let Some(exit) = exit else {
        return has_started.then(|| died("The host lost the instance."));
    };
    if exit.fenced {
        return Some(GuestEvent::Fenced);
    }
    if facts.booted {
        let message = "The hypervisor ended unexpectedly.";
        return Some(died(exit.message.as_deref().unwrap_or(message)));
    }
    Some(GuestEvent::BootFailed {
        message: exit
            .message
            .unwrap_or_else(|| refused::sentence(&exit.stderr)),
    })
}

fn died(message: &str) -> GuestEvent {
    GuestEvent::Died { message: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_befell_a_guest_is_told_by_what_is_left_of_it() {
        let exit = |code, signal, message: Option<&str>| {
            Some(Exit {
                code,
                signal,
                message: message.map(str::to_string),
                fenced: false,
                stderr: "nonsense".to_string(),
            })
        };
        let facts = |booted, end| Facts { booted, turn: 0, end };
        let shut = Some(GuestEvent::ShutDown);
        let fenced =
            Some(Exit { fenced: true, ..exit(Some(0), None, None).unwrap() });
        let failed = |message: &str| {
            Some(GuestEvent::BootFailed { message: message.to_string() })
        };
        let stopped = Some(GuestEvent::Fenced);
        let started = "The host could not start the guest.";
        let crashed = "The hypervisor ended unexpectedly.";
        let lost = "The host lost the instance.";
        for (facts, has_started, exit, event) in [
            // The agent died before there was a warden.
            (facts(false, None), false, None, None),
            // The warden was killed, or the host.
            (facts(false, None), true, None, Some(died(lost))),
            (facts(true, None), true, None, Some(died(lost))),
            // The warden could not begin.
            (
                facts(false, None),
                false,
                exit(None, None, None),
                failed(started),
            ),
            // QEMU refused.
            (
                facts(false, None),
                true,
                exit(Some(1), None, None),
                failed(started),
            ),
            (
                facts(false, None),
                true,
                exit(None, None, Some("No disk.")),
                failed("No disk."),
            ),
            // QEMU ended under a guest.
            (
                facts(true, None),
                true,
                exit(Some(1), None, None),
                Some(died(crashed)),
            ),
            (
                facts(true, None),
                true,
                exit(None, Some(9), None),
                Some(died(crashed)),
            ),
            (
                facts(true, None),
                true,
                exit(Some(0), None, Some("Told to.")),
                Some(died("Told to.")),
            ),
            // The lease was over.
            (facts(false, None), false, fenced.clone(), stopped.clone()),
            (facts(false, None), true, fenced.clone(), stopped.clone()),
            (facts(true, None), true, fenced.clone(), stopped),
            // It was seen to end, and then ended.
            (facts(true, shut.clone()), true, fenced, shut.clone()),
            (
                facts(true, shut.clone()),
                true,
                exit(Some(0), None, None),
                shut.clone(),
            ),
            (facts(true, shut.clone()), true, None, shut),
        ] {
            let told = end(&facts, has_started, exit.clone());
            assert_eq!(told, event, "{facts:?} {has_started} {exit:?}");
        }
    }
}
