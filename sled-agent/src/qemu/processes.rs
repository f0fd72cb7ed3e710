//! Ending a guest's processes.

use super::dir::{GuestDir, INPUT_SOCKET};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::time::{Duration, Instant};

/// How often to look whether they are gone.
const LOOK: Duration = Duration::from_millis(10);

/// Returns whether they were gone within this time.
pub(super) async fn gone_within(
    dir: &GuestDir,
    patience: Duration,
) -> io::Result<bool> {
    let given_up = Instant::now() + patience;
    while dir.is_alive()? {
        if Instant::now() >= given_up {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(true)
}

/// Kills the warden, and by that QEMU. Does not wait for them to be gone.
///
/// The process is known by its socket: it is the one that listens there, and
/// cannot be mistaken for another that has its pid by now.
pub(super) async fn kill(dir: &GuestDir) -> io::Result<()> {
    let Ok(socket) = dir.connect(INPUT_SOCKET).await else {
        // Gone, or on its way; or not listening yet, and to be asked again.
        return Ok(());
    };
    let warden = socket_peercred(&socket)?.pid;
    let warden = match pidfd_open(warden, PidfdFlags::empty()) {
        Ok(warden) => warden,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // It listened after its pid was open, so the pid was its own.
    if dir.connect(INPUT_SOCKET).await.is_err() {
        return Ok(());
    }
    match pidfd_send_signal(warden, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
