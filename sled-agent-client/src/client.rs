//! Nexus's side: asking a sled.

use crate::blocks::{BlocksEnsure, BlocksPlace, BlocksReport};
use crate::console::{ConsolePart, ConsoleQuery, ConsoleStreamQuery};
use crate::console_stream::{ConsoleStream, asking_for_websocket, upgraded};
use crate::error::{Error, Unreachable};
use crate::exchange::{Failure, exchange, from_json, member_client, upgrade};
use crate::types::{
    RequestedState, VmmList, VmmRegister, VmmReport, VmmStateRequested,
    VmmUnregistered,
};
use crate::{
    NO_SUCH_BLOCKS, NO_SUCH_CONSOLE, NO_SUCH_INSTANCE, RefusalCode,
    SLED_ID_HEADER, Secret,
};
use fleet_pki::{Credentials, Peer};
use http::StatusCode;
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use std::time::Duration;
use uuid::Uuid;

/// How long to wait for the other side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the whole answer is there, the connecting included.
    pub request: Duration,
}

impl Default for Timeouts {
    /// A sled is one hop away and answers in milliseconds: 2 s and 5 s are
    /// already a sled in trouble.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            request: Duration::from_secs(5),
        }
    }
}

/// Asks one sled. Cheap to clone: clones share their connections.
///
/// Each call is one request, never repeated here: whoever calls knows whether
/// to ask again. Dropping the future of a call does not undo the request.
#[derive(Clone, Debug)]
pub struct Client {
    sled_id: Uuid,
    base: String,
    secret: Secret,
    http: reqwest::Client,
}

impl Client {
    /// A client for the sled `sled_id`, whose agent listens at `address` and
    /// has this secret, of one who shows these credentials. Opens no connection
    /// yet; whoever else is found there, by their certificate, is not spoken
    /// with.
    pub fn new(
        sled_id: Uuid,
        address: SocketAddr,
        secret: Secret,
        credentials: &Credentials,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            sled_id,
            base: format!("https://{address}"),
            secret,
            http: member_client(credentials, Peer::Sled(sled_id), timeouts),
        }
    }

    /// The sled that this asks.
    pub fn sled_id(&self) -> Uuid {
        self.sled_id
    }

    /// Has the sled take a VMM in, without running it.
    ///
    /// *Idempotency*: by VMM id; one that is there already is reported in
    /// whatever state it is.
    ///
    /// *Errors*: [`Error::NoSuchBlocks`]: one of its disks; refused as
    /// [`RefusalCode::VmmIdInUse`], [`RefusalCode::VmmTombstoned`] or
    /// [`RefusalCode::HostRejected`].
    pub async fn vmm_register(
        &self,
        vmm_id: Uuid,
        vmm: &VmmRegister,
    ) -> Result<VmmReport, Error> {
        let request = self.vmm(Method::PUT, vmm_id, "").json(vmm);
        self.ask_about(vmm_id, request).await
    }

    /// Has the sled kill and forget a VMM, and keep its id out for good.
    ///
    /// *Idempotency*: the same answer each time. An answer, whether or not it
    /// has a report, means that this VMM does not run there and never will.
    ///
    /// *Errors*: never [`Error::NoSuchVmm`].
    pub async fn vmm_unregister(
        &self,
        vmm_id: Uuid,
    ) -> Result<VmmUnregistered, Error> {
        self.ask(self.vmm(Method::DELETE, vmm_id, "")).await
    }

    /// Gives a VMM an order. The answer is its state once the order is
    /// durable, not once it is carried out.
    ///
    /// *Idempotency*: `running` and `stopped` may be repeated at will, a
    /// `reboot` is one more reboot if the last one has ended.
    ///
    /// *Errors*: [`Error::NoSuchVmm`]; refused as [`RefusalCode::VmmStopping`]
    /// or [`RefusalCode::NotRunning`].
    pub async fn vmm_put_state(
        &self,
        vmm_id: Uuid,
        state: RequestedState,
    ) -> Result<VmmReport, Error> {
        let request = self
            .vmm(Method::PUT, vmm_id, "/state")
            .json(&VmmStateRequested { state });
        self.ask_about(vmm_id, request).await
    }

    /// Asks for one VMM.
    ///
    /// *Errors*: [`Error::NoSuchVmm`].
    pub async fn vmm_view(&self, vmm_id: Uuid) -> Result<VmmReport, Error> {
        self.ask_about(vmm_id, self.vmm(Method::GET, vmm_id, "")).await
    }

    /// Asks for all VMMs at once. One that is not in the list is gone only if
    /// [`Client::vmm_view`] says so too.
    pub async fn vmm_list(&self) -> Result<VmmList, Error> {
        let list: VmmList =
            self.ask(self.request(Method::GET, "/vmms".to_string())).await?;
        if list.sled_id != self.sled_id {
            let other = Unreachable::wrong_sled(list.sled_id);
            return Err(Error::Unreachable(other));
        }
        Ok(list)
    }

    /// A part of what a VMM's guest has printed, whether or not the VMM has
    /// ended or is unregistered.
    ///
    /// *Errors*: [`Error::NoSuchConsole`].
    pub async fn vmm_console(
        &self,
        vmm_id: Uuid,
        query: &ConsoleQuery,
    ) -> Result<ConsolePart, Error> {
        self.ask(self.vmm(Method::GET, vmm_id, "/console").query(query)).await
    }

    /// The stream of what a VMM's guest prints, from `query` on, and to its
    /// input. Only the opening is bounded in time.
    ///
    /// *Errors*: [`Error::NoSuchConsole`].
    pub async fn vmm_console_stream(
        &self,
        vmm_id: Uuid,
        query: &ConsoleStreamQuery,
    ) -> Result<ConsoleStream, Error> {
        let request =
            self.vmm(Method::GET, vmm_id, "/console/stream").query(query);
        let (request, key) = asking_for_websocket(request);
        let response = upgrade(request, &self.secret).await?;
        upgraded(response, &key).await
    }

    /// Has the sled make blocks. They are there once it says that they are
    /// ready; until then, call again.
    ///
    /// *Idempotency*: by their id; the answer is how far they are.
    ///
    /// *Errors*: [`Error::NoSuchBlocks`]: those to copy; refused as
    /// [`RefusalCode::BlocksTombstoned`] or [`RefusalCode::BlocksMisfit`].
    pub async fn blocks_ensure(
        &self,
        blocks_id: Uuid,
        blocks: &BlocksEnsure,
    ) -> Result<BlocksReport, Error> {
        self.ask(self.blocks(Method::PUT, blocks_id, "").json(blocks)).await
    }

    /// Has the sled be rid of blocks, and keep their id out for good.
    ///
    /// *Idempotency*: the same answer each time.
    ///
    /// *Errors*: refused as [`RefusalCode::BlocksMisfit`] while a guest has
    /// them.
    pub async fn blocks_delete(
        &self,
        blocks_id: Uuid,
        place: BlocksPlace,
    ) -> Result<(), Error> {
        let request = self
            .blocks(Method::DELETE, blocks_id, "")
            .query(&[("place", place)]);
        self.tell(request).await
    }

    /// Writes a part of blocks that are being imported: at most
    /// [`MAX_CHUNK_BYTES`](crate::MAX_CHUNK_BYTES), durable once answered.
    ///
    /// *Idempotency*: yes.
    ///
    /// *Errors*: [`Error::NoSuchBlocks`]; refused as
    /// [`RefusalCode::BlocksMisfit`].
    pub async fn blocks_write(
        &self,
        blocks_id: Uuid,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<(), Error> {
        let request = self
            .blocks(Method::PUT, blocks_id, "/chunk")
            .query(&[("offset", offset)])
            .body(bytes);
        self.tell(request).await
    }

    /// Has the sled finish an import; done once it says that they are ready.
    ///
    /// *Idempotency*: the answer is how far they are.
    ///
    /// *Errors*: [`Error::NoSuchBlocks`].
    pub async fn blocks_finish(
        &self,
        blocks_id: Uuid,
    ) -> Result<BlocksReport, Error> {
        self.ask(self.blocks(Method::PUT, blocks_id, "/finished")).await
    }

    fn blocks(
        &self,
        method: Method,
        blocks_id: Uuid,
        tail: &str,
    ) -> RequestBuilder {
        self.request(method, format!("/blocks/{blocks_id}{tail}"))
    }

    fn vmm(&self, method: Method, vmm_id: Uuid, tail: &str) -> RequestBuilder {
        self.request(method, format!("/vmms/{vmm_id}{tail}"))
    }

    fn request(&self, method: Method, path: String) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .header(SLED_ID_HEADER, self.sled_id.to_string())
    }

    /// Asks, and makes sure that the answer is about that VMM.
    async fn ask_about(
        &self,
        vmm_id: Uuid,
        request: RequestBuilder,
    ) -> Result<VmmReport, Error> {
        let report: VmmReport = self.ask(request).await?;
        if report.vmm_id != vmm_id {
            return Err(Error::Bug {
                status: StatusCode::OK.as_u16(),
                message: format!("a report about {}", report.vmm_id),
            });
        }
        Ok(report)
    }

    async fn tell(&self, request: RequestBuilder) -> Result<(), Error> {
        exchange(request, &self.secret).await?;
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, Error> {
        let answer = exchange(request, &self.secret).await?;
        from_json(&answer).map_err(Error::Unreachable)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let (status, code, message) = match failure {
            Failure::Unreachable(why) => return Self::Unreachable(why),
            Failure::Refused { status, code, message } => {
                (status, code.unwrap_or_default(), message)
            }
        };
        if status == StatusCode::NOT_FOUND && code == NO_SUCH_INSTANCE {
            return Self::NoSuchVmm;
        }
        if status == StatusCode::NOT_FOUND && code == NO_SUCH_BLOCKS {
            return Self::NoSuchBlocks;
        }
        if status == StatusCode::NOT_FOUND && code == NO_SUCH_CONSOLE {
            return Self::NoSuchConsole;
        }
        match RefusalCode::from_wire(&code) {
            Some(code) if status == StatusCode::CONFLICT => {
                Self::Refused { code, message }
            }
            Some(_) | None => Self::Bug { status: status.as_u16(), message },
        }
    }
}
