//! One guest, as the agent drives it: the task that alone speaks to its
//! monitor, gives its orders one after the other, and tells what befalls it.

use super::context::Context;
use super::dir::{Facts, GuestDir};
use super::fate::{self, Fate, FateError};
use super::link::{Link, News};
use super::qmp::QmpError;
use super::{processes, refused, warden};
use crate::hypervisor::HypervisorError;
use crate::logger::chain;
use crate::machine::GuestEvent;
use camino::Utf8PathBuf;
use sled_agent_client::VmmRegister;
use slog::{Logger, info, o, warn};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// How often a guest is looked at that says nothing.
const LOOK: Duration = Duration::from_secs(1);

/// The same, while something is about to happen.
const LOOK_SOON: Duration = Duration::from_millis(10);

/// How often the power button is pressed: a guest that is still booting does
/// not notice, and one that is on its way down does not mind.
const PRESS: Duration = Duration::from_secs(5);

/// How long QEMU has to answer before it is ended without being asked.
const CONNECTING: Duration = Duration::from_secs(1);

/// How long QEMU has to close a guest's disks when it is told to end.
const CLOSING: Duration = Duration::from_secs(3);

/// How long the kernel may take to end what was killed.
const DYING: Duration = Duration::from_secs(10);

/// An order, and who waits until it is given.
pub(super) type Order = (What, oneshot::Sender<Result<(), HypervisorError>>);

/// What a guest may be told.
pub(super) enum What {
    Boot(Box<VmmRegister>),
    Reset { turn: u64 },
    ShutDown,
    Kill,
    Release,
}

/// See the module.
pub(super) struct Guest {
    vmm_id: Uuid,
    dir: GuestDir,
    facts: Facts,
    link: Link,
    /// The last that the power button was pressed, if it was.
    pressed: Option<Instant>,
    context: Arc<Context>,
    log: Logger,
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Fate(#[from] FateError),
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error("the guest cannot be prepared")]
    Prepare(#[source] io::Error),
    #[error("the guest's processes do not end")]
    Undying,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Fate(error.into())
    }
}

impl From<crate::files::FileError> for Trouble {
    fn from(error: crate::files::FileError) -> Self {
        Self::Fate(error.into())
    }
}

impl Guest {
    /// The guest of this id, as its directory says.
    pub(super) async fn open(
        vmm_id: Uuid,
        context: Arc<Context>,
    ) -> Result<Self, FateError> {
        let dir = GuestDir::new(&context.guests, vmm_id);
        let facts = dir.facts().await?;
        let log = context.log.new(o!("vmm_id" => vmm_id.to_string()));
        let link = Link::off(dir.clone());
        Ok(Self { vmm_id, dir, facts, link, pressed: None, context, log })
    }

    /// The last that befell it; from now on, what befalls it is told.
    pub(super) async fn recover(
        &mut self,
    ) -> Result<Option<GuestEvent>, FateError> {
        match fate::of(&self.dir).await? {
            Fate::NotThere => Ok(None),
            Fate::Ended { event, stderr } => {
                self.log_end(&event, stderr.as_deref());
                Ok(Some(event))
            }
            // It waits for the order to boot, which comes again.
            Fate::Alive if !self.facts.booted => Ok(None),
            Fate::Alive => {
                self.link.watch();
                Ok(Some(GuestEvent::Booted))
            }
        }
    }

    /// Does as it is told, and tells what happens, until it is released.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let look = self.link.is_watched().then(|| self.next_look());
            tokio::select! {
                order = orders.recv() => {
                    let Some((what, answer)) = order else { return };
                    let releases = matches!(what, What::Release);
                    let done = self.obey(what).await;
                    let is_released = releases && done.is_ok();
                    // Who asked may be gone.
                    let _ = answer.send(done);
                    if is_released {
                        return;
                    }
                }
                news = self.link.news() => self.hear(news).await,
                () = sleep(look) => self.look().await,
            }
        }
    }

    fn next_look(&self) -> Duration {
        let is_soon = self.facts.end.is_some() || self.link.is_broken();
        if is_soon { LOOK_SOON } else { LOOK }
    }

    async fn obey(&mut self, what: What) -> Result<(), HypervisorError> {
        let (done, what) = match what {
            What::Boot(spec) => (self.boot(&spec).await, "boot"),
            What::Reset { turn } => (self.reset(turn).await, "reset"),
            What::ShutDown => (self.shut_down().await, "shut down"),
            What::Kill => (self.kill().await, "kill"),
            What::Release => (self.release().await, "release"),
        };
        done.map_err(|trouble| HypervisorError {
            what: format!("cannot {what} the guest"),
            source: io::Error::other(trouble),
        })
    }

    async fn boot(&mut self, spec: &VmmRegister) -> Result<(), Trouble> {
        match fate::of(&self.dir).await? {
            Fate::Ended { event, stderr } => {
                self.log_end(&event, stderr.as_deref());
                self.tell(event);
                Ok(())
            }
            Fate::Alive => {
                self.link.watch();
                if self.look_at_status().await? {
                    self.tell(GuestEvent::Booted);
                }
                Ok(())
            }
            Fate::NotThere => self.start(spec).await,
        }
    }

    /// Starts the warden, who starts QEMU.
    async fn start(&mut self, spec: &VmmRegister) -> Result<(), Trouble> {
        self.dir.make()?;
        let Some(lock) = self.dir.lock()? else {
            return Err(Trouble::Undying);
        };
        let seed = self.dir.file(super::dir::SEED);
        write_seed(seed.clone(), spec.clone()).await?;
        let plan = self.context.plan(self.vmm_id, spec, seed, &self.log);
        crate::files::write(self.dir.file(super::dir::PLAN), &plan).await?;
        lock.lock_shared()?;
        let warden = warden::start(self.dir.path(), lock);
        let mut warden = warden.map_err(Trouble::Prepare)?;
        info!(self.log, "a guest is being started"; "warden" => warden.id());
        // Its status says nothing that its files do not; but it is to be
        // asked for it.
        tokio::spawn(async move { warden.wait().await });
        self.link.watch();
        Ok(())
    }

    async fn reset(&mut self, turn: u64) -> Result<(), Trouble> {
        if !self.dir.is_alive()? || self.facts.end.is_some() {
            return self.tell_fate().await;
        }
        if self.facts.turn < turn {
            self.qmp("system_reset").await?;
            // After it: a reset more does less harm than one that is lost.
            let facts = Facts { turn, ..self.facts.clone() };
            self.put(facts).await?;
        }
        self.tell(GuestEvent::Rebooted);
        Ok(())
    }

    async fn shut_down(&mut self) -> Result<(), Trouble> {
        if !self.dir.is_alive()? {
            self.tell(GuestEvent::Halted);
            return Ok(());
        }
        if !self.facts.booted {
            // There is nobody yet who could listen.
            self.kill().await?;
            self.tell(GuestEvent::Halted);
            return Ok(());
        }
        self.link.watch();
        if self.facts.end.is_none() && self.link.is_connected() {
            self.press().await?;
        }
        // Else as soon as it is.
        self.pressed.get_or_insert_with(Instant::now);
        Ok(())
    }

    async fn press(&mut self) -> Result<(), Trouble> {
        self.qmp("system_powerdown").await?;
        self.pressed = Some(Instant::now());
        Ok(())
    }

    async fn kill(&mut self) -> Result<(), Trouble> {
        // Nothing is written before: a full disk keeps no guest alive.
        if self.dir.is_alive()? {
            self.end_processes().await?;
        }
        self.link.turn_off();
        Ok(())
    }

    async fn release(&mut self) -> Result<(), Trouble> {
        self.link.turn_off();
        if self.dir.is_alive()? {
            return Err(Trouble::Undying);
        }
        if let Some(cgroups) = &self.context.cgroups {
            let removed = cgroups.remove(self.vmm_id);
            removed.map_err(Trouble::Prepare)?;
        }
        Ok(self.dir.remove()?)
    }

    /// Ends QEMU in order, so that it writes what it has not written of its
    /// disks' files; by force if it does not.
    async fn end_processes(&mut self) -> Result<(), Trouble> {
        self.link.connect_within(CONNECTING).await;
        if self.qmp("quit").await.is_ok()
            && processes::gone_within(&self.dir, CLOSING).await?
        {
            return Ok(());
        }
        let given_up = Instant::now() + DYING;
        while Instant::now() < given_up {
            processes::kill(&self.dir).await?;
            if processes::gone_within(&self.dir, CLOSING).await? {
                return Ok(());
            }
        }
        Err(Trouble::Undying)
    }

    /// Takes in what the monitor says.
    async fn hear(&mut self, news: News) {
        let heard = match news {
            News::Connected => self.meet().await,
            News::StatusMayHaveChanged => {
                self.look_at_status().await.map(|_| ())
            }
            // Connected again, if need be, at the next look.
            News::Lost => self.look_for_end().await,
        };
        self.log_trouble(heard);
    }

    /// Takes up a guest whose monitor was just connected.
    async fn meet(&mut self) -> Result<(), Trouble> {
        if self.look_at_status().await? {
            self.tell(GuestEvent::Booted);
            if self.pressed.is_some() {
                self.press().await?;
            }
        }
        Ok(())
    }

    /// Looks whether something happened that nobody said, or that could not be
    /// written down when it was said.
    async fn look(&mut self) {
        let looked = self.look_for_end().await;
        self.log_trouble(looked);
        self.link.mend();
        let looked = self.look_at_status().await;
        self.log_trouble(looked.map(|_| ()));
        let is_due = self.pressed.is_some_and(|at| at.elapsed() >= PRESS);
        if is_due && self.facts.end.is_none() && self.link.is_connected() {
            let pressed = self.press().await;
            self.log_trouble(pressed);
        }
    }

    async fn look_for_end(&mut self) -> Result<(), Trouble> {
        match fate::of(&self.dir).await? {
            Fate::Alive if self.facts.end.is_some() => {
                self.end_processes().await?;
                self.tell_fate().await
            }
            Fate::Alive => Ok(()),
            Fate::NotThere | Fate::Ended { .. } => self.tell_fate().await,
        }
    }

    /// Does what the guest's status calls for; whether it is running already.
    async fn look_at_status(&mut self) -> Result<bool, Trouble> {
        if !self.link.is_connected() || self.facts.end.is_some() {
            return Ok(false);
        }
        let status = self.link.status().await?;
        match status.as_str() {
            // It waits before its first instruction: to its end, if it has come
            // so far too late.
            "prelaunch" if !self.context.lease.holds() => {}
            "prelaunch" => {
                let facts = Facts { booted: true, ..self.facts.clone() };
                self.put(facts).await?;
                self.qmp("cont").await?;
                self.tell(GuestEvent::Booted);
            }
            "running" => return Ok(true),
            "shutdown" => self.finish(GuestEvent::ShutDown).await?,
            "guest-panicked" => self.finish(GuestEvent::Panicked).await?,
            "internal-error" => {
                let message = "The hypervisor could not go on.".to_string();
                self.finish(GuestEvent::Died { message }).await?;
            }
            _ => {}
        }
        Ok(false)
    }

    /// Ends what is left of a guest that came to its end, which is written
    /// down before.
    async fn finish(&mut self, end: GuestEvent) -> Result<(), Trouble> {
        let facts = Facts { end: Some(end), ..self.facts.clone() };
        self.put(facts).await?;
        if self.facts.end == Some(GuestEvent::ShutDown) {
            self.tell(GuestEvent::ShutDown);
        }
        self.look_for_end().await
    }

    /// Tells what has become of the guest, whose processes are gone.
    async fn tell_fate(&mut self) -> Result<(), Trouble> {
        match fate::of(&self.dir).await? {
            Fate::Alive => {}
            // The warden did not live to begin.
            Fate::NotThere => {
                self.link.turn_off();
                self.tell(GuestEvent::BootFailed {
                    message: refused::sentence(""),
                });
            }
            Fate::Ended { event, stderr } => {
                self.link.turn_off();
                self.log_end(&event, stderr.as_deref());
                let shut_down = event == GuestEvent::ShutDown;
                self.tell(event);
                if shut_down {
                    self.tell(GuestEvent::Halted);
                }
            }
        }
        Ok(())
    }

    async fn qmp(&mut self, command: &'static str) -> Result<(), Trouble> {
        Ok(self.link.execute(command).await?)
    }

    /// Writes down what is known, and then knows it.
    async fn put(&mut self, facts: Facts) -> Result<(), Trouble> {
        if facts != self.facts {
            self.dir.put_facts(&facts).await?;
            self.facts = facts;
        }
        Ok(())
    }

    fn tell(&self, event: GuestEvent) {
        // The agent listens for as long as the process lives.
        let _ = self.context.events.send((self.vmm_id, event));
    }

    fn log_trouble(&self, done: Result<(), Trouble>) {
        if let Err(trouble) = done {
            warn!(self.log, "a guest does not get on";
                "error" => chain(&trouble));
        }
    }

    fn log_end(&self, event: &GuestEvent, stderr: Option<&str>) {
        info!(self.log, "a guest has ended";
            "event" => ?event, "stderr" => stderr);
    }
}

async fn write_seed(
    file: Utf8PathBuf,
    spec: VmmRegister,
) -> Result<(), Trouble> {
    let written =
        tokio::task::spawn_blocking(move || crate::seed::write(&file, &spec));
    let written = written.await.map_err(io::Error::other);
    written.flatten().map_err(Trouble::Prepare)
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
