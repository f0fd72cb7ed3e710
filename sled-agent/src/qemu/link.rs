//! A guest's monitor, connected for as long as somebody watches the guest.

use super::dir::{GuestDir, QMP_SOCKET};
use super::qmp::{Qmp, QmpError};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

type Connecting = Pin<Box<dyn Future<Output = Result<Qmp, QmpError>> + Send>>;

/// See the module.
pub(super) struct Link {
    dir: GuestDir,
    state: State,
}

enum State {
    /// Nobody watches.
    Off,
    /// It is to be connected, once somebody says so.
    Broken,
    Connecting(Connecting),
    On(Box<Qmp>),
}

/// What is heard of a guest.
pub(super) enum News {
    Connected,
    /// Something happened to it; its status says what.
    StatusMayHaveChanged,
    /// The monitor is connected no more, or could not be.
    Lost,
}

impl Link {
    pub(super) fn off(dir: GuestDir) -> Self {
        Self { dir, state: State::Off }
    }

    pub(super) fn turn_off(&mut self) {
        self.state = State::Off;
    }

    /// Connects, unless that is done or under way.
    pub(super) fn watch(&mut self) {
        if matches!(self.state, State::Off) {
            self.connect();
        }
    }

    /// Connects again what was connected once.
    pub(super) fn mend(&mut self) {
        if matches!(self.state, State::Broken) {
            self.connect();
        }
    }

    /// Connects, unless that takes too long.
    pub(super) async fn connect_within(&mut self, patience: Duration) {
        if !self.is_connected() {
            self.connect();
            let _ = tokio::time::timeout(patience, self.news()).await;
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        !matches!(self.state, State::Off)
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, State::On(_))
    }

    pub(super) fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken)
    }

    /// What is heard next; nothing, while nobody watches.
    ///
    /// *Cancellation*: nothing is lost.
    pub(super) async fn news(&mut self) -> News {
        match &mut self.state {
            State::Off | State::Broken => std::future::pending().await,
            State::Connecting(connecting) => match connecting.await {
                Ok(qmp) => {
                    self.state = State::On(Box::new(qmp));
                    News::Connected
                }
                Err(_) => self.lost(),
            },
            State::On(qmp) => match qmp.event().await {
                Ok(_) => News::StatusMayHaveChanged,
                Err(_) => self.lost(),
            },
        }
    }

    /// Has the monitor carry out a command that answers nothing.
    pub(super) async fn execute(
        &mut self,
        command: &'static str,
    ) -> Result<(), QmpError> {
        let State::On(qmp) = &mut self.state else {
            return Err(QmpError::NotConnected);
        };
        let done = qmp.execute(command).await.map(|_| ());
        self.keep_if_sound(done)
    }

    /// The status of the guest.
    pub(super) async fn status(&mut self) -> Result<String, QmpError> {
        let State::On(qmp) = &mut self.state else {
            return Err(QmpError::NotConnected);
        };
        let status = qmp.status().await;
        self.keep_if_sound(status)
    }

    fn connect(&mut self) {
        let dir = self.dir.clone();
        self.state = State::Connecting(Box::pin(async move {
            let (_open, way) = dir.way_to(QMP_SOCKET)?;
            Qmp::connect(&way).await
        }));
    }

    fn lost(&mut self) -> News {
        self.state = State::Broken;
        News::Lost
    }

    fn keep_if_sound<T>(
        &mut self,
        done: Result<T, QmpError>,
    ) -> Result<T, QmpError> {
        if let Err(QmpError::Silent(_)) = &done {
            self.state = State::Broken;
        }
        done
    }
}
