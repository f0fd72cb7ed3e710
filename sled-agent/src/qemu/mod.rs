//! Real guests: one QEMU for each.
//!
//! ```text
//! agent --starts--> warden --starts--> QEMU
//!   |                  |  <--serial---- |
//!   |                  '--> console ring, exit.json
//!   '--------------- monitor ---------> |
//! ```
//!
//! An agent that is killed leaves wardens and QEMUs as they are; the next one
//! finds them by their directories ([`dir`]) and connects to their monitors.
//! A warden ends its guest when the [`lease`](crate::lease) is over.
//! What befell a guest meanwhile it reads from QEMU's status, which stays where
//! it is when a guest shuts down or panics, or from what the warden wrote when
//! QEMU ended.

mod account;
mod arguments;
mod cgroup;
mod context;
mod dir;
mod fate;
mod guest;
mod host;
mod launch;
mod link;
mod orders;
mod plan;
mod probe;
mod processes;
mod qmp;
mod refused;
mod stage;
mod warden;

pub(crate) use host::check as check_host;
pub use stage::Stage;

use crate::blocks::Places;
use crate::counters::Counters;
use crate::files;
use crate::hypervisor::{GuestEvents, HypervisorError};
use crate::lease::Lease;
use account::Account;
use camino::{Utf8Path, Utf8PathBuf};
use cgroup::Cgroups;
use context::Context;
use dir::{GuestDir, INPUT_SOCKET};
use guest::{Guest, Order, What};
use plan::Accelerator;
use slog::{Logger, warn};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

/// How many orders to one guest wait for each other: its keeper gives one at a
/// time.
const ORDERS: usize = 8;

/// How long a guest may take to take in what is typed.
const TYPING: Duration = Duration::from_secs(5);

/// In the data directory.
const GUESTS: &str = "guests";

/// See the module.
#[derive(Clone)]
pub(crate) struct Qemu(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    counters: Arc<Counters>,
    guests: Mutex<HashMap<Uuid, mpsc::Sender<Order>>>,
}

/// What guests are run with.
pub(crate) struct Options {
    /// The agent's directory.
    pub(crate) data_dir: Utf8PathBuf,
    pub(crate) places: Places,
    /// The program.
    pub(crate) qemu: String,
    /// The account for it, if the agent is root.
    pub(crate) guest_user: String,
}

impl Qemu {
    /// Finds out how guests can be run here. Guests of an earlier agent are
    /// left alone.
    ///
    /// *Errors*: they cannot be run.
    pub(crate) async fn open(
        options: Options,
        counters: Arc<Counters>,
        lease: Arc<Lease>,
        events: GuestEvents,
        log: Logger,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        // The warden has another working directory.
        let data_dir = absolute(&options.data_dir)?;
        let places = Places {
            store: absolute(&options.places.store)?,
            local: absolute(&options.places.local)?,
        };
        let guests = data_dir.join(GUESTS);
        let consoles = data_dir.join("consoles");
        files::make_dir(guests.clone()).await?;
        files::make_dir(consoles.clone()).await?;
        let qemu = match options.qemu.contains('/') {
            true => absolute(Utf8Path::new(&options.qemu))?.into_string(),
            false => options.qemu,
        };
        let account = Account::for_guests(&options.guest_user)?;
        let scratch = data_dir.join("kvm-probe");
        let accelerator =
            probe::accelerator(&qemu, account.as_ref(), &scratch, &log).await?;
        let cgroups = Cgroups::open().inspect_err(|error| {
            warn!(log, "guests are not held to their size: there are no \
                cgroups to write to"; "error" => %error);
        });
        let context = Context {
            data_dir,
            guests,
            consoles,
            places,
            qemu,
            accelerator,
            account,
            cgroups: cgroups.ok(),
            lease,
            events,
            log,
        };
        Ok(Self(Arc::new(Inner {
            context: Arc::new(context),
            counters,
            guests: Mutex::default(),
        })))
    }

    /// Whether guests run on the host's own CPU.
    pub(crate) fn has_kvm(&self) -> bool {
        self.0.context.accelerator == Accelerator::Kvm
    }

    /// Types at the guest's serial console.
    ///
    /// *Errors*: there is no such guest, or it does not take it in for long.
    /// It may have got a part.
    async fn type_in(
        &self,
        vmm_id: Uuid,
        bytes: &[u8],
    ) -> Result<(), HypervisorError> {
        let dir = GuestDir::new(&self.0.context.guests, vmm_id);
        let typing = async {
            let mut input = dir.connect(INPUT_SOCKET).await?;
            input.write_all(bytes).await?;
            input.shutdown().await
        };
        let typed = tokio::time::timeout(TYPING, typing).await;
        typed.unwrap_or_else(|late| Err(late.into())).map_err(|source| {
            let what = "cannot type at the guest's console".to_string();
            HypervisorError { what, source }
        })
    }

    /// Has the guest do this, if there is one.
    async fn order(
        &self,
        vmm_id: Uuid,
        what: What,
    ) -> Result<bool, HypervisorError> {
        let guest = self.guests().get(&vmm_id).cloned();
        let Some(guest) = guest else { return Ok(false) };
        let (answer, answered) = oneshot::channel();
        if guest.send((what, answer)).await.is_err() {
            return Ok(false);
        }
        match answered.await {
            Ok(done) => done.map(|()| true),
            // It was released meanwhile.
            Err(_) => Ok(false),
        }
    }

    /// Has a guest driven from now on.
    fn drive(&self, vmm_id: Uuid, guest: Guest) {
        let (orders, to_obey) = mpsc::channel(ORDERS);
        self.guests().insert(vmm_id, orders);
        tokio::spawn(guest.run(to_obey));
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<Uuid, mpsc::Sender<Order>>> {
        self.0.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there are guests of QEMU's in this data directory, or something of them.
pub(crate) fn has_guests(dir: &Utf8Path) -> io::Result<bool> {
    let Ok(guests) = dir.join(GUESTS).read_dir_utf8() else { return Ok(false) };
    for guest in guests {
        if guest?.path().is_dir() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn absolute(path: &Utf8Path) -> io::Result<Utf8PathBuf> {
    camino::absolute_utf8(path)
}
