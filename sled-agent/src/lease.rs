//! For how long the guests of this sled may run on though Nexus does not hear
//! of them: the lease, in `DIR/lease.json`.
//!
//! ```text
//!            renewed                    what ran has been stopped
//!           +-------+                 +---------------------------+
//!           v       |      runs out   |                           v
//!         holds ----+--------------> over                      stopped
//!           ^                                                     |
//!           +-----------------------------------------------------+
//!                             renewed: a new lease
//! ```
//!
//! The agent renews it with each heartbeat that Nexus has answered, counted
//! from the moment at which that was *sent*. It is told by a clock of the host
//! that nobody sets and that counts what the host slept through. Who keeps a
//! guest stops it when the lease runs out, whether or not there is an agent;
//! and from then on nothing makes that lease hold again: the agent first sees
//! to it that all that ran has ended, for good, and then begins a new one.
//!
//! No file: nobody was ever promised anything, and guests run on for ever.

use crate::files::{self, FileError};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use tokio::sync::{Mutex, watch};

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Between two looks at the clock, which may jump ahead when the host wakes,
/// and at the file, in which the lease may become shorter.
const LOOK: Duration = Duration::from_millis(500);

/// What stands in `lease.json`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Kept {
    /// The boot of the host to whose clock this belongs.
    boot_id: String,
    /// When it runs out, in milliseconds of `CLOCK_BOOTTIME`; none: never.
    deadline_ms: Option<u64>,
}

/// What is left of a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Left {
    /// It does not run out: guests run on, whoever hears of them.
    Unbounded,
    /// So much, and more if it is renewed.
    Lasts(Duration),
    /// Nothing: what ran under it is to be stopped, and nothing may be started.
    Over,
}

/// What is left of the lease of the sled whose data is in `dir`, for those who
/// keep its guests. A lease that makes no sense, or is of another boot of the
/// host, is over.
///
/// *Errors*: it cannot be found out, and is to be taken for over.
pub fn left(dir: &Utf8Path) -> io::Result<Left> {
    let text = match std::fs::read(path_in(dir)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Left::Unbounded);
        }
        Err(error) => return Err(error),
    };
    let Ok(kept) = serde_json::from_slice::<Kept>(&text) else {
        return Ok(Left::Over);
    };
    // An unbounded one outlives the boot in which it was written.
    let Some(deadline) = kept.deadline_ms else { return Ok(Left::Unbounded) };
    if kept.boot_id != boot_id()? {
        return Ok(Left::Over);
    }
    let left = Duration::from_millis(deadline).saturating_sub(now());
    Ok(if left.is_zero() { Left::Over } else { Left::Lasts(left) })
}

/// Answers when the lease of the sled whose data is in `dir` is over, or cannot
/// be found out.
pub(crate) async fn runs_out(dir: &Utf8Path) {
    while let Ok(left) = left(dir) {
        let wait = match left {
            Left::Over => return,
            Left::Lasts(left) => left.min(LOOK),
            Left::Unbounded => LOOK,
        };
        tokio::time::sleep(wait).await;
    }
}

fn path_in(dir: &Utf8Path) -> Utf8PathBuf {
    dir.join("lease.json")
}

fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string(BOOT_ID)?.trim().to_string())
}

/// How long the host has been up, asleep or not.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}

/// The lease, as the agent keeps it.
pub(crate) struct Lease {
    path: Utf8PathBuf,
    boot_id: String,
    /// How long the guests run on after a heartbeat; none: for ever.
    promise: Option<Duration>,
    state: watch::Sender<State>,
    /// Held by who writes the file.
    writing: Mutex<()>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct State {
    stage: Stage,
    /// When it runs out or ran out; none: never.
    deadline: Option<Duration>,
    /// Whether a crash of the host leaves it on disk that there is a lease.
    durable: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// It holds until its deadline.
    Holds,
    /// It has run out, and what ran under it may be there yet.
    Over,
    /// It has run out, and nothing that ran under it is left.
    Stopped,
}

/// When a heartbeat was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent(Duration);

/// Why a lease was not renewed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    #[error("the lease has run out")]
    Over,
    #[error("the lease cannot be written")]
    File(#[from] FileError),
}

impl Lease {
    /// The lease as an earlier agent left it.
    ///
    /// *Errors*: it cannot be read, or the host does not tell its boots apart.
    pub(crate) fn open(
        dir: &Utf8Path,
        promise: Option<Duration>,
    ) -> io::Result<Self> {
        let boot_id = boot_id()?;
        let state = |stage, deadline| State { stage, deadline, durable: false };
        let kept = match std::fs::read(path_in(dir)) {
            Ok(text) => Some(serde_json::from_slice::<Kept>(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let state = match kept {
            None | Some(Ok(Kept { deadline_ms: None, .. })) => {
                state(Stage::Holds, None)
            }
            Some(Ok(Kept { boot_id: of, deadline_ms: Some(ms) }))
                if of == boot_id =>
            {
                let deadline = Duration::from_millis(ms);
                let holds = now() < deadline;
                let stage = if holds { Stage::Holds } else { Stage::Over };
                state(stage, Some(deadline))
            }
            // It ran out before this boot began.
            Some(Ok(_) | Err(_)) => state(Stage::Over, Some(Duration::ZERO)),
        };
        Ok(Self {
            path: path_in(dir),
            boot_id,
            promise,
            state: watch::Sender::new(state),
            writing: Mutex::new(()),
        })
    }

    /// May guests run, and be started?
    pub(crate) fn holds(&self) -> bool {
        let state = self.state();
        state.stage == Stage::Holds
            && state.deadline.is_none_or(|deadline| now() < deadline)
    }

    /// For how long it has been over; zero if it holds.
    pub(crate) fn over_for(&self) -> Duration {
        self.state()
            .deadline
            .map_or(Duration::ZERO, |deadline| now().saturating_sub(deadline))
    }

    /// What is promised to Nexus with each heartbeat.
    pub(crate) fn promise(&self) -> Option<Duration> {
        self.promise
    }

    /// A heartbeat is sent once this has returned: from then on Nexus may count
    /// on its promise, so the lease is not longer than that.
    ///
    /// *Errors*: the lease cannot be written; nothing may be sent.
    pub(crate) async fn send(&self) -> Result<Sent, FileError> {
        let _writing = self.writing.lock().await;
        let sent = now();
        let state = self.state();
        let promised = self.promise.map(|promise| sent + promise);
        if state.stage == Stage::Holds
            && let Some(promised) = promised
            && state.deadline.is_none_or(|deadline| promised < deadline)
        {
            self.write(Some(promised), true).await?;
            self.state.send_modify(|state| {
                state.deadline = Some(promised);
                state.durable = true;
            });
        }
        Ok(Sent(sent))
    }

    /// Nexus has recorded a heartbeat: its promise holds from when it was sent.
    ///
    /// *Errors*: the lease had run out before, whatever Nexus said: what ran
    /// under it is to be stopped first.
    pub(crate) async fn renew(&self, sent: Sent) -> Result<(), RenewError> {
        let _writing = self.writing.lock().await;
        let before = self.state();
        let over = before.stage == Stage::Holds && !self.holds();
        if before.stage == Stage::Over || over {
            return Err(RenewError::Over);
        }
        let deadline = self.promise.map(|promise| sent.0 + promise);
        let unbounded = before.stage == Stage::Holds
            && deadline.is_none()
            && before.deadline.is_none();
        if unbounded {
            return Ok(());
        }
        let like_before = before.stage == Stage::Holds
            && before.durable
            && deadline.is_some() == before.deadline.is_some();
        self.write(deadline, !like_before).await?;
        if before.stage == Stage::Holds && !self.holds() {
            // It ran out while it was written: that it was written comes too
            // late for those who looked in between.
            self.write(before.deadline, false).await?;
            return Err(RenewError::Over);
        }
        let new = State { stage: Stage::Holds, deadline, durable: true };
        self.state.send_replace(new);
        Ok(())
    }

    /// Answers when the lease has run out and what ran under it is to be
    /// stopped.
    pub(crate) async fn is_over(&self) {
        loop {
            let mut wait = LOOK;
            let mut over = false;
            self.state.send_if_modified(|state| {
                if let Some(deadline) = state.deadline {
                    wait = wait.min(deadline.saturating_sub(now()));
                }
                let runs_out = state.stage == Stage::Holds && wait.is_zero();
                if runs_out {
                    state.stage = Stage::Over;
                }
                over = state.stage == Stage::Over;
                runs_out
            });
            if over {
                return;
            }
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    /// Nothing that ran under the lease that is over is left.
    pub(crate) fn all_is_stopped(&self) {
        self.state.send_if_modified(|state| {
            let over = state.stage == Stage::Over;
            if over {
                state.stage = Stage::Stopped;
            }
            over
        });
    }

    /// Waits until nothing is left that ran under a lease that is over.
    pub(crate) async fn may_be_renewed(&self) {
        let mut state = self.state.subscribe();
        // Its sender is in `self`, and lives.
        let _ = state.wait_for(|state| state.stage != Stage::Over).await;
    }

    async fn write(
        &self,
        deadline: Option<Duration>,
        durably: bool,
    ) -> Result<(), FileError> {
        let ms = |time: Duration| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        };
        let boot_id = self.boot_id.clone();
        let kept = Kept { boot_id, deadline_ms: deadline.map(ms) };
        if durably {
            files::write(self.path.clone(), &kept).await
        } else {
            files::write_for_now(self.path.clone(), &kept).await
        }
    }

    fn state(&self) -> State {
        *self.state.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn scratch() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().into()).unwrap();
        (dir, path)
    }

    fn lasts_about(left: Left, time: Duration) -> bool {
        matches!(left, Left::Lasts(left)
            if left <= time && left > time - Duration::from_secs(10))
    }

    /// Short, and longer than a busy machine takes for a file.
    const SHORT: Duration = Duration::from_millis(500);

    async fn renewed(dir: &Utf8Path, promise: Option<Duration>) -> Lease {
        let lease = Lease::open(dir, promise).unwrap();
        let sent = lease.send().await.unwrap();
        lease.renew(sent).await.unwrap();
        lease
    }

    #[tokio::test]
    async fn a_lease_lasts_from_when_what_renewed_it_was_sent() {
        let (_keep, dir) = scratch();
        assert_eq!(left(&dir).unwrap(), Left::Unbounded);
        let lease = Lease::open(&dir, Some(MINUTE)).unwrap();
        let sent = lease.send().await.unwrap();
        // From here on Nexus may count on it.
        assert!(lasts_about(left(&dir).unwrap(), MINUTE));
        let before = left(&dir).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        lease.renew(sent).await.unwrap();
        let Left::Lasts(before) = before else { panic!("{before:?}") };
        let Left::Lasts(after) = left(&dir).unwrap() else { panic!() };
        assert!(after < before, "it counts from the sending");
        assert!(lease.holds());
    }

    #[tokio::test]
    async fn a_shorter_one_is_used_at_once_and_a_longer_one_when_it_is_taken() {
        let (_keep, dir) = scratch();
        renewed(&dir, None).await;
        let shorter = Lease::open(&dir, Some(2 * MINUTE)).unwrap();
        assert_eq!(left(&dir).unwrap(), Left::Unbounded);
        let sent = shorter.send().await.unwrap();
        assert!(lasts_about(left(&dir).unwrap(), 2 * MINUTE));
        shorter.renew(sent).await.unwrap();

        let shorter = Lease::open(&dir, Some(MINUTE)).unwrap();
        shorter.send().await.unwrap();
        assert!(lasts_about(left(&dir).unwrap(), MINUTE));

        for longer in [Some(3 * MINUTE), None] {
            let longer = Lease::open(&dir, longer).unwrap();
            let sent = longer.send().await.unwrap();
            let before = left(&dir).unwrap();
            assert!(matches!(before, Left::Lasts(left) if left <= 3 * MINUTE));
            longer.renew(sent).await.unwrap();
            assert_ne!(left(&dir).unwrap(), before);
        }
        assert_eq!(left(&dir).unwrap(), Left::Unbounded);
    }

    #[tokio::test]
    async fn what_ran_is_stopped_before_there_is_a_new_lease() {
        let (_keep, dir) = scratch();
        let lease = renewed(&dir, Some(SHORT)).await;
        lease.is_over().await;
        assert_eq!(left(&dir).unwrap(), Left::Over);
        let late = lease.send().await.unwrap();
        assert!(matches!(lease.renew(late).await, Err(RenewError::Over)));
        assert!(!lease.holds());
        // Nor has the next agent one, until all is stopped.
        let next = Lease::open(&dir, Some(MINUTE)).unwrap();
        assert!(!next.holds());
        let sent = next.send().await.unwrap();
        assert!(matches!(next.renew(sent).await, Err(RenewError::Over)));
        assert_eq!(left(&dir).unwrap(), Left::Over);
        next.all_is_stopped();
        assert!(!next.holds());
        next.may_be_renewed().await;
        next.renew(sent).await.unwrap();
        assert!(next.holds());
        assert!(lasts_about(left(&dir).unwrap(), MINUTE));
    }

    #[tokio::test]
    async fn an_answer_that_comes_when_the_lease_is_over_does_not_renew_it() {
        let (_keep, dir) = scratch();
        let lease = renewed(&dir, Some(SHORT)).await;
        let sent = lease.send().await.unwrap();
        lease.is_over().await;
        assert!(!lease.holds());
        assert!(matches!(lease.renew(sent).await, Err(RenewError::Over)));
        let over_for = lease.over_for();
        lease.renew(sent).await.unwrap_err();
        assert!(lease.over_for() > over_for, "it counts on");
    }

    #[test]
    fn a_lease_of_another_boot_or_that_makes_no_sense_is_over() {
        let (_keep, dir) = scratch();
        for (text, expected) in [
            ("", Left::Over),
            ("{", Left::Over),
            (r#"{"boot_id":"x","deadline_ms":9000000000000}"#, Left::Over),
            (r#"{"boot_id":"x","deadline_ms":null}"#, Left::Unbounded),
        ] {
            std::fs::write(path_in(&dir), text).unwrap();
            assert_eq!(left(&dir).unwrap(), expected, "{text}");
            let lease = Lease::open(&dir, None).unwrap();
            assert_eq!(lease.holds(), expected != Left::Over, "{text}");
        }
        std::fs::remove_file(path_in(&dir)).unwrap();
        std::fs::create_dir(path_in(&dir)).unwrap();
        assert!(left(&dir).is_err());
    }
}
