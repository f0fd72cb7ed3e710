//! The sled's API, as Nexus sees it.

use crate::blocks::{
    BlocksEnsure, BlocksPath, BlocksQuery, BlocksReport, ChunkQuery,
};
use crate::console::{ConsolePart, ConsoleQuery, ConsoleStreamQuery};
use crate::types::{
    VmmList, VmmRegister, VmmReport, VmmStateRequested, VmmUnregistered,
};
use dropshot::{
    HttpError, HttpResponseOk, HttpResponseUpdatedNoContent, Path, Query,
    RequestContext, TypedBody, UntypedBody, WebsocketEndpointResult,
    WebsocketUpgrade,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Names the sled that a request is meant for. A sled that is not the one
/// refuses it (421 `WRONG_SLED`): what another says of a VMM is no answer.
pub const SLED_ID_HEADER: &str = "sled-id";

/// Where a VMM is found.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
pub struct VmmPath {
    /// The VMM.
    pub vmm_id: Uuid,
}

/// What Nexus may ask of a sled.
///
/// Each operation is idempotent, needs the fleet's secret as a bearer token
/// (else 401), and is answered with 503 `RECOVERING` from the start of the
/// agent until it has found its VMMs again.
#[dropshot::api_description]
pub trait SledAgentApi {
    /// What the implementation keeps.
    type Context;

    /// Take a VMM in
    ///
    /// Makes no process. A VMM that is here already, for the same instance,
    /// is reported as it is. Refused (409) as `VMM_ID_IN_USE` if the id
    /// belongs to a VMM of another instance, `VMM_TOMBSTONED` if it was ever
    /// unregistered here, and `HOST_REJECTED` if the host cannot take it or
    /// another VMM has one of its disks; 404 `NO_SUCH_BLOCKS` if one of them is
    /// not here.
    #[endpoint { method = PUT, path = "/vmms/{vmm_id}" }]
    async fn vmm_register(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
        body: TypedBody<VmmRegister>,
    ) -> Result<HttpResponseOk<VmmReport>, HttpError>;

    /// Be rid of a VMM
    ///
    /// Kills it if it is alive, and answers with its last state. The id, known
    /// or not, is never registered here again.
    #[endpoint { method = DELETE, path = "/vmms/{vmm_id}" }]
    async fn vmm_unregister(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
    ) -> Result<HttpResponseOk<VmmUnregistered>, HttpError>;

    /// Tell a VMM to run, to stop or to reboot
    ///
    /// Answers once the order is durable, not once it is carried out. 404
    /// `NO_SUCH_INSTANCE` if it is not here. Refused (409) as `VMM_STOPPING`
    /// if it shall run and was told to stop or has ended, and as `NOT_RUNNING`
    /// if it shall reboot and does not run.
    #[endpoint { method = PUT, path = "/vmms/{vmm_id}/state" }]
    async fn vmm_put_state(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
        body: TypedBody<VmmStateRequested>,
    ) -> Result<HttpResponseOk<VmmReport>, HttpError>;

    /// Report one VMM
    ///
    /// 404 `NO_SUCH_INSTANCE` if it is not here.
    #[endpoint { method = GET, path = "/vmms/{vmm_id}" }]
    async fn vmm_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
    ) -> Result<HttpResponseOk<VmmReport>, HttpError>;

    /// Report all VMMs
    #[endpoint { method = GET, path = "/vmms" }]
    async fn vmm_list(
        rqctx: RequestContext<Self::Context>,
    ) -> Result<HttpResponseOk<VmmList>, HttpError>;

    /// Fetch a part of what a VMM's guest has printed
    ///
    /// Of a VMM that has ended or is unregistered, too, for as long as it is
    /// kept. 404 `NO_SUCH_CONSOLE` if nothing is.
    #[endpoint { method = GET, path = "/vmms/{vmm_id}/console" }]
    async fn vmm_console(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
        query: Query<ConsoleQuery>,
    ) -> Result<HttpResponseOk<ConsolePart>, HttpError>;

    /// Stream what a VMM's guest prints, and type
    ///
    /// A websocket, both ways in binary messages. Ends with a normal close
    /// frame when the VMM has ended and all is sent. A reader that is slow
    /// misses what is overwritten meanwhile. 404 `NO_SUCH_CONSOLE` if nothing
    /// is kept of this VMM.
    #[endpoint { method = GET, path = "/vmms/{vmm_id}/console/stream" }]
    async fn vmm_console_stream(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
        query: Query<ConsoleStreamQuery>,
        websocket: WebsocketUpgrade,
    ) -> WebsocketEndpointResult;

    /// Make blocks
    ///
    /// Answers at once with how far they are; sent again, it goes on. Blocks
    /// that are there already are reported as they are. Refused (409) as
    /// `BLOCKS_TOMBSTONED` if they were deleted, and `BLOCKS_MISFIT` if what
    /// they are to be a copy of is not at rest or larger; 404 `NO_SUCH_BLOCKS`
    /// if that is not here. A refusal may come after answers that they are being
    /// made; asked again, it is looked at again.
    #[endpoint { method = PUT, path = "/blocks/{blocks_id}" }]
    async fn blocks_ensure(
        rqctx: RequestContext<Self::Context>,
        path: Path<BlocksPath>,
        body: TypedBody<BlocksEnsure>,
    ) -> Result<HttpResponseOk<BlocksReport>, HttpError>;

    /// Be rid of blocks
    ///
    /// The id, known or not, is never made here again. Refused (409) as
    /// `BLOCKS_MISFIT` while a guest of this sled has them.
    #[endpoint { method = DELETE, path = "/blocks/{blocks_id}" }]
    async fn blocks_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<BlocksPath>,
        query: Query<BlocksQuery>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError>;

    /// Write a part of blocks that are being imported
    ///
    /// The body is the bytes. In any order, any number of times; durable once
    /// answered. Refused (409) as `BLOCKS_MISFIT` if they are not being imported,
    /// are shorter, or find no room; 404 `NO_SUCH_BLOCKS`.
    #[endpoint {
        method = PUT,
        path = "/blocks/{blocks_id}/chunk",
        request_body_max_bytes = 1 << 20,
    }]
    async fn blocks_write(
        rqctx: RequestContext<Self::Context>,
        path: Path<BlocksPath>,
        query: Query<ChunkQuery>,
        body: UntypedBody,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError>;

    /// Finish an import
    ///
    /// Answers at once with how far they are; sent again, it goes on. Blocks
    /// that were finished stay so. 404 `NO_SUCH_BLOCKS`.
    #[endpoint { method = PUT, path = "/blocks/{blocks_id}/finished" }]
    async fn blocks_finish(
        rqctx: RequestContext<Self::Context>,
        path: Path<BlocksPath>,
    ) -> Result<HttpResponseOk<BlocksReport>, HttpError>;
}

/// The OpenAPI document of the sled's API.
///
/// *Errors*: the trait contradicts itself, which a test of this crate rules
/// out.
pub fn openapi() -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let description = sled_agent_api_mod::stub_api_description()?;
    let mut definition =
        description.openapi("Nexus sled agent", semver::Version::new(1, 0, 0));
    definition.description("What Nexus may ask of a sled");
    Ok(definition.json()?)
}
