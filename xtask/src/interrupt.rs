//! Ctrl-C, SIGTERM and a closed terminal, noticed as a flag. Whoever waits,
//! waits through [`Interrupt::sleep`], so that a signal ends every wait.

use crate::failure::{Context, Failure, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How soon a signal is noticed: below what a person feels as a delay.
const TICK: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The terminal sends it to our children of the foreground group too.
    FromTerminal,
    /// Sent to us alone: who depends on us must be told.
    ToUsAlone,
}

const FROM_TERMINAL: usize = 1;
const TO_US_ALONE: usize = 2;

pub(crate) struct Interrupt {
    seen: Arc<AtomicUsize>,
}

impl Interrupt {
    pub(crate) fn watch() -> Result<Interrupt> {
        let seen = Arc::new(AtomicUsize::new(0));
        for (signal, value) in [
            (SIGINT, FROM_TERMINAL),
            (SIGTERM, TO_US_ALONE),
            (SIGHUP, TO_US_ALONE),
        ] {
            signal_hook::flag::register_usize(signal, seen.clone(), value)
                .context(|| "cannot watch for signals")?;
        }
        Ok(Interrupt { seen })
    }

    pub(crate) fn seen(&self) -> Option<Signal> {
        match self.seen.load(Ordering::SeqCst) {
            FROM_TERMINAL => Some(Signal::FromTerminal),
            TO_US_ALONE => Some(Signal::ToUsAlone),
            _ => None,
        }
    }

    /// Waits; fails as soon as there is a signal.
    pub(crate) fn sleep(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            if self.seen().is_some() {
                return Err(Failure::interrupted());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(TICK));
        }
    }
}
