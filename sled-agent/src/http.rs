//! The sled's API: from HTTP to the agent and back.

use crate::agent::{Agent, AgentError};
use crate::console::{ConsoleError, Consoles, follow};
use crate::counters::{Counters, Operation};
use crate::faults::{Effect, Faults};
use crate::logger::chain;
use dropshot::{
    ClientErrorStatusCode, ErrorStatusCode, HttpError, HttpResponseOk,
    HttpResponseUpdatedNoContent, Path, Query, RequestContext, TypedBody,
    UntypedBody, WebsocketEndpointResult, WebsocketUpgrade,
};
use sled_agent_client::{
    BlocksEnsure, BlocksPath, BlocksQuery, BlocksReport, ChunkQuery,
    ConsolePart, ConsoleQuery, ConsoleStreamQuery, NO_SUCH_BLOCKS,
    NO_SUCH_CONSOLE, NO_SUCH_INSTANCE, RECOVERING, RefusalCode, SLED_ID_HEADER,
    Secret, SledAgentApi, VmmList, VmmPath, VmmRegister, VmmReport,
    VmmStateRequested, VmmUnregistered, WRONG_SLED,
};
use slog::warn;
use std::sync::Arc;
use std::time::Duration;

/// What every request passes on its way to the agent.
pub(crate) struct Door {
    pub(crate) agent: Arc<Agent>,
    pub(crate) consoles: Arc<Consoles>,
    pub(crate) secret: Secret,
    pub(crate) counters: Arc<Counters>,
    pub(crate) faults: Arc<Faults>,
}

/// The implementation of the API; never made.
pub(crate) enum Api {}

impl SledAgentApi for Api {
    type Context = Arc<Door>;

    async fn vmm_register(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
        body: TypedBody<VmmRegister>,
    ) -> Result<HttpResponseOk<VmmReport>, HttpError> {
        let agent = &rqctx.context().agent;
        let vmm_id = path.into_inner().vmm_id;
        let work = async {
            let report = agent.register(vmm_id, body.into_inner()).await?;
            trim_consoles(rqctx.context(), &rqctx.log);
            Ok(report)
        };
        serve(&rqctx, Operation::Register, work).await.map(HttpResponseOk)
    }

    async fn vmm_unregister(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
    ) -> Result<HttpResponseOk<VmmUnregistered>, HttpError> {
        let agent = &rqctx.context().agent;
        let vmm_id = path.into_inner().vmm_id;
        let work = async {
            let report = agent.unregister(vmm_id).await?;
            Ok(VmmUnregistered { report })
        };
        serve(&rqctx, Operation::Unregister, work).await.map(HttpResponseOk)
    }

    async fn vmm_put_state(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
        body: TypedBody<VmmStateRequested>,
    ) -> Result<HttpResponseOk<VmmReport>, HttpError> {
        let agent = &rqctx.context().agent;
        let vmm_id = path.into_inner().vmm_id;
        let work = agent.put_state(vmm_id, body.into_inner().state);
        serve(&rqctx, Operation::State, work).await.map(HttpResponseOk)
    }

    async fn vmm_view(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
    ) -> Result<HttpResponseOk<VmmReport>, HttpError> {
        let agent = &rqctx.context().agent;
        let vmm_id = path.into_inner().vmm_id;
        let work = async { agent.view(vmm_id) };
        serve(&rqctx, Operation::Get, work).await.map(HttpResponseOk)
    }

    async fn vmm_list(
        rqctx: RequestContext<Self::Context>,
    ) -> Result<HttpResponseOk<VmmList>, HttpError> {
        let agent = &rqctx.context().agent;
        let work = async {
            Ok(VmmList { sled_id: agent.sled_id(), vmms: agent.list() })
        };
        serve(&rqctx, Operation::List, work).await.map(HttpResponseOk)
    }

    async fn vmm_console(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
        query: Query<ConsoleQuery>,
    ) -> Result<HttpResponseOk<ConsolePart>, HttpError> {
        let consoles = &rqctx.context().consoles;
        let vmm_id = path.into_inner().vmm_id;
        let work =
            async { Ok(consoles.part(vmm_id, query.into_inner()).await?) };
        serve(&rqctx, Operation::Console, work).await.map(HttpResponseOk)
    }

    async fn vmm_console_stream(
        rqctx: RequestContext<Self::Context>,
        path: Path<VmmPath>,
        query: Query<ConsoleStreamQuery>,
        websocket: WebsocketUpgrade,
    ) -> WebsocketEndpointResult {
        let door = rqctx.context();
        let vmm_id = path.into_inner().vmm_id;
        let query = query.into_inner();
        let work = async { Ok(door.consoles.reading(vmm_id, query).await?) };
        let reading = serve(&rqctx, Operation::ConsoleStream, work).await?;
        let ended = Arc::clone(&door.agent).until_ended(vmm_id);
        let typing = Arc::clone(&door.agent).typing(vmm_id);
        websocket.handle(move |connection| async move {
            follow(connection, reading, ended, typing).await;
            Ok(())
        })
    }

    async fn blocks_ensure(
        rqctx: RequestContext<Self::Context>,
        path: Path<BlocksPath>,
        body: TypedBody<BlocksEnsure>,
    ) -> Result<HttpResponseOk<BlocksReport>, HttpError> {
        let blocks = rqctx.context().agent.blocks();
        let id = path.into_inner().blocks_id;
        let work = async { Ok(blocks.ensure(id, body.into_inner()).await?) };
        let operation = Operation::BlocksEnsure;
        serve(&rqctx, operation, work).await.map(HttpResponseOk)
    }

    async fn blocks_delete(
        rqctx: RequestContext<Self::Context>,
        path: Path<BlocksPath>,
        query: Query<BlocksQuery>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError> {
        let blocks = rqctx.context().agent.blocks();
        let id = path.into_inner().blocks_id;
        let place = query.into_inner().place;
        let work = async { Ok(blocks.delete(id, place).await?) };
        serve(&rqctx, Operation::BlocksDelete, work).await?;
        Ok(HttpResponseUpdatedNoContent())
    }

    async fn blocks_write(
        rqctx: RequestContext<Self::Context>,
        path: Path<BlocksPath>,
        query: Query<ChunkQuery>,
        body: UntypedBody,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError> {
        let blocks = rqctx.context().agent.blocks();
        let id = path.into_inner().blocks_id;
        let offset = query.into_inner().offset;
        let bytes = body.as_bytes().to_vec();
        let work = async { Ok(blocks.write(id, offset, bytes).await?) };
        serve(&rqctx, Operation::BlocksWrite, work).await?;
        Ok(HttpResponseUpdatedNoContent())
    }

    async fn blocks_finish(
        rqctx: RequestContext<Self::Context>,
        path: Path<BlocksPath>,
    ) -> Result<HttpResponseOk<BlocksReport>, HttpError> {
        let blocks = rqctx.context().agent.blocks();
        let id = path.into_inner().blocks_id;
        let work = async { Ok(blocks.finish(id).await?) };
        let operation = Operation::BlocksFinish;
        serve(&rqctx, operation, work).await.map(HttpResponseOk)
    }
}

/// Lets a request in, has it done, and answers.
async fn serve<T>(
    rqctx: &RequestContext<Arc<Door>>,
    operation: Operation,
    work: impl Future<Output = Result<T, AgentError>> + Send,
) -> Result<T, HttpError> {
    let door = rqctx.context();
    let headers = rqctx.request.headers();
    door.secret.check(headers)?;
    meant_for_us(headers, door)?;
    door.counters.api(operation);
    let answer_lost = fault(door, operation).await?;
    if !door.agent.is_recovered() {
        return Err(recovering());
    }
    let done = work.await;
    if answer_lost {
        let why = "the answer was dropped on purpose".to_string();
        return Err(HttpError::for_internal_error(why));
    }
    done.map_err(HttpError::from)
}

/// A request that names another sled came to the wrong address.
fn meant_for_us(
    headers: &http::HeaderMap,
    door: &Door,
) -> Result<(), HttpError> {
    let ours = door.agent.sled_id().to_string();
    match headers.get(SLED_ID_HEADER) {
        Some(named) if named.as_bytes() != ours.as_bytes() => {
            Err(HttpError::for_client_error(
                Some(WRONG_SLED.to_string()),
                ClientErrorStatusCode::MISDIRECTED_REQUEST,
                format!("this is the sled {ours}"),
            ))
        }
        Some(_) | None => Ok(()),
    }
}

fn recovering() -> HttpError {
    let mut error = HttpError::for_unavail(
        Some(RECOVERING.to_string()),
        "the agent has not found its VMMs again yet".to_string(),
    );
    error.external_message.clone_from(&error.internal_message);
    error
}

/// Has the request suffer its fault, if it has one; whether its answer is to
/// be lost.
async fn fault(door: &Door, operation: Operation) -> Result<bool, HttpError> {
    let mut cleared = door.faults.cleared();
    let Some(effect) = door.faults.take(operation) else { return Ok(false) };
    match effect {
        Effect::Error(status) => Err(failure(status)),
        Effect::Reject(message) => {
            Err(RefusalCode::HostRejected.into_http(message))
        }
        Effect::DelayMs(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(false)
        }
        Effect::DropAnswerAfterEffect(lost) => Ok(lost),
        Effect::Hang(true) => {
            // Its sender lives as long as the door.
            let _ = cleared.changed().await;
            Ok(false)
        }
        Effect::Hang(false) => Ok(false),
    }
}

fn failure(status: u16) -> HttpError {
    let message = "an error on purpose".to_string();
    HttpError {
        status_code: ErrorStatusCode::from_u16(status)
            .unwrap_or(ErrorStatusCode::INTERNAL_SERVER_ERROR),
        error_code: None,
        external_message: message.clone(),
        internal_message: message,
        headers: None,
    }
}

impl From<AgentError> for HttpError {
    fn from(error: AgentError) -> Self {
        let why = chain(&error);
        match error {
            AgentError::NoSuchVmm => HttpError::for_client_error(
                Some(NO_SUCH_INSTANCE.to_string()),
                ClientErrorStatusCode::NOT_FOUND,
                why,
            ),
            AgentError::NoSuchBlocks => HttpError::for_client_error(
                Some(NO_SUCH_BLOCKS.to_string()),
                ClientErrorStatusCode::NOT_FOUND,
                why,
            ),
            AgentError::Refused { code, message } => code.into_http(message),
            AgentError::Misfit(_) => HttpError::for_internal_error(why),
            AgentError::Console(ConsoleError::NotKept) => {
                HttpError::for_client_error(
                    Some(NO_SUCH_CONSOLE.to_string()),
                    ClientErrorStatusCode::NOT_FOUND,
                    why,
                )
            }
            AgentError::Console(ConsoleError::Contradiction) => {
                HttpError::for_bad_request(None, why)
            }
            AgentError::Console(
                ConsoleError::TooMany | ConsoleError::Io(_),
            )
            | AgentError::CutOff
            | AgentError::StillAlive
            | AgentError::Store(_)
            | AgentError::Hypervisor(_) => HttpError::for_unavail(None, why),
        }
    }
}

/// A VMM more may have a console more: those go that are too many by it, once
/// they are some. A new VMM waits for nothing of this.
fn trim_consoles(door: &Door, log: &slog::Logger) {
    if !door.consoles.one_more_is_enough() {
        return;
    }
    let consoles = Arc::clone(&door.consoles);
    let (alive, log) = (door.agent.alive(), log.clone());
    tokio::spawn(async move {
        if let Err(error) = consoles.trim(alive).await {
            warn!(log, "there may be too many consoles";
                "error" => chain(&error));
        }
    });
}
