//! Serial consoles: what an instance's guest printed in its last run, and what
//! it prints. Sleds keep it; nothing of it is kept here.

use super::{App, InstanceSelector, RETRY_AFTER_SECS};
use crate::consoles::ConsoleRelay;
use crate::context::OpContext;
use crate::error::{Error, chain};
use crate::sleds::{Reach, ReachError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use db_model::{InstanceId, NameOrId, Vmm};
use sled_agent_client::{
    Client, ConsoleQuery, ConsoleStreamQuery, Error as SledError,
};
use slog::info;
use std::time::Duration;

/// What one must be allowed: what a guest prints may be secret, so to see that
/// there is an instance does not do.
const READ: &str = "read the project's serial consoles";

/// A part of what a guest printed.
#[derive(Debug)]
pub struct ConsoleBytes {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The offset after the last of them, from the beginning of the run.
    pub end: u64,
}

impl App {
    /// A part of what the guest printed in the instance's last run, which may
    /// go on. `aside` is called before the sled is waited for.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `NotThere`: it never ran, or that run is not kept any more;
    /// `Unavailable`: its sled gave no answer.
    pub async fn instance_serial_console(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        query: ConsoleQuery,
        aside: impl FnOnce() -> Result<(), Error>,
    ) -> Result<ConsoleBytes, Error> {
        let vmm = self.last_run(opctx, which).await?;
        aside()?;
        let sled = self.keeper_of(which, &vmm).await?;
        let part = sled.vmm_console(vmm.id.0, &query).await;
        let part = part.map_err(|error| self.no_console(which, &vmm, error))?;
        let bytes = BASE64.decode(part.base64_data).map_err(Error::internal)?;
        Ok(ConsoleBytes { bytes, end: part.end })
    }

    /// What the guest printed in the instance's last run, and what it goes on
    /// to print. `aside` is called before the sled is waited for.
    ///
    /// # Errors
    ///
    /// As [`App::instance_serial_console`], and `Unavailable`: there are as
    /// many streams as there may be.
    pub async fn instance_serial_console_stream(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        query: ConsoleStreamQuery,
        aside: impl FnOnce() -> Result<(), Error>,
    ) -> Result<ConsoleRelay, Error> {
        let vmm = self.last_run(opctx, which).await?;
        let place = self.consoles.place().ok_or_else(no_place)?;
        aside()?;
        let sled = self.keeper_of(which, &vmm).await?;
        let stream = sled.vmm_console_stream(vmm.id.0, &query).await;
        let stream =
            stream.map_err(|error| self.no_console(which, &vmm, error))?;
        Ok(ConsoleRelay::new(stream, place, vmm.instance_id))
    }

    /// Whether who follows an instance's console still may.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `Unavailable`.
    pub async fn may_read_console(
        &self,
        opctx: &OpContext,
        instance: InstanceId,
    ) -> Result<(), Error> {
        let instance = NameOrId::Id(instance.0);
        let which = InstanceSelector { project: None, instance };
        self.live_to(opctx, &which, READ).await.map(drop)
    }

    /// How often who follows one is asked that.
    pub fn console_look(&self) -> Duration {
        self.tuning.console_look()
    }

    /// Ends all streams of consoles.
    pub async fn close_consoles(&self) {
        self.consoles.close().await;
    }

    async fn last_run(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
    ) -> Result<Vmm, Error> {
        let id = self.live_to(opctx, which, READ).await?.instance.id;
        let run = self.datastore.vmm_of_last_run(id).await?;
        run.ok_or_else(|| Error::NotThere {
            message: format!(
                "instance \"{}\" has no serial console yet: it has never run",
                which.instance,
            ),
        })
    }

    /// The sled that keeps what this VMM printed.
    async fn keeper_of(
        &self,
        which: &InstanceSelector,
        vmm: &Vmm,
    ) -> Result<Client, Error> {
        if !self.sleds.may_ask() {
            return Err(Error::Unavailable {
                message: "This server asks no host now. Ask again.".to_string(),
                retry_after_secs: 1,
                source: None,
            });
        }
        match self.sleds.reach(vmm.sled_id).await {
            Ok(Reach::Client(client)) => Ok(client),
            Ok(Reach::Expunged) => Err(not_kept(which)),
            Err(ReachError::Database(error)) => Err(error.into()),
            Err(error @ ReachError::Address(_)) => Err(Error::internal(error)),
        }
    }

    fn no_console(
        &self,
        which: &InstanceSelector,
        vmm: &Vmm,
        error: SledError,
    ) -> Error {
        match error {
            SledError::NoSuchConsole if vmm.ended() => not_kept(which),
            SledError::NoSuchConsole => Error::NotThere {
                message: format!(
                    "instance \"{}\" has printed nothing on its serial \
                     console yet",
                    which.instance,
                ),
            },
            SledError::Unreachable(_) => {
                info!(self.log, "a console cannot be read";
                    "vmm" => %vmm.id, "error" => chain(&error));
                Error::Unavailable {
                    message: "The instance's host does not answer, so its \
                              serial console cannot be read at the moment. \
                              Ask again."
                        .to_string(),
                    retry_after_secs: RETRY_AFTER_SECS,
                    source: Some(Box::new(error)),
                }
            }
            error @ (SledError::NoSuchVmm
            | SledError::NoSuchBlocks
            | SledError::Refused { .. }
            | SledError::Bug { .. }) => Error::internal(error),
        }
    }
}

fn not_kept(which: &InstanceSelector) -> Error {
    Error::NotThere {
        message: format!(
            "what instance \"{}\" printed in its last run is not kept any more",
            which.instance,
        ),
    }
}

fn no_place() -> Error {
    Error::Unavailable {
        message: "This server streams as many serial consoles as it can. \
                  Close one, or ask again later."
            .to_string(),
        retry_after_secs: RETRY_AFTER_SECS,
        source: None,
    }
}
