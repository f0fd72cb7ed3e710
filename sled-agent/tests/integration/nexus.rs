//! A Nexus that does as the test says and remembers what it was told.

use crate::eventually::PATIENCE;
use crate::fleet;
use dropshot::{
    ApiDescription, ClientErrorStatusCode, ConfigDropshot, ConfigTls,
    HttpError, HttpResponseOk, HttpResponseUpdatedNoContent, HttpServer, Path,
    RequestContext, ServerBuilder, TypedBody, endpoint,
};
use fleet_pki::{Peer, server_config};
use sled_agent_client::nexus_types::{
    SledPath, SledRegistration, SledStatus, SledVmmPath,
};
use sled_agent_client::{NO_SUCH_VMM, SLED_UNKNOWN, VmmReport};
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

/// What it was told, and how it answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) registrations: Vec<SledRegistration>,
    pub(crate) heartbeats: usize,
    /// The reports that it took.
    pub(crate) taken: Vec<VmmReport>,
    /// The reports that it did not take.
    pub(crate) refused: Vec<VmmReport>,
    /// Reports are answered with a 500.
    pub(crate) is_broken: bool,
    /// Reports are answered with a definite 404.
    pub(crate) knows_no_vmm: bool,
    /// Heartbeats are answered with a 404.
    pub(crate) knows_no_sled: bool,
    pub(crate) expunged: bool,
    /// Heartbeats are answered with a 503, and recorded nowhere.
    pub(crate) hears_no_sled: bool,
}

impl State {
    /// The generations that it took of this VMM, in their order.
    pub(crate) fn generations(&self, vmm_id: Uuid) -> Vec<u64> {
        let of_it = self.taken.iter().filter(|report| report.vmm_id == vmm_id);
        of_it.map(|report| report.generation).collect()
    }

    /// The newest report that it took of this VMM: an older one changes
    /// nothing.
    pub(crate) fn last(&self, vmm_id: Uuid) -> Option<&VmmReport> {
        let of_it = self.taken.iter().filter(|report| report.vmm_id == vmm_id);
        of_it.max_by_key(|report| report.generation)
    }
}

type Context = Arc<watch::Sender<State>>;

pub(crate) struct Nexus {
    state: Context,
    server: HttpServer<Context>,
}

impl Nexus {
    pub(crate) fn start() -> Self {
        let mut api = ApiDescription::new();
        api.register(sled_put).unwrap();
        api.register(heartbeat).unwrap();
        api.register(vmm_put).unwrap();
        let state = Arc::new(watch::Sender::new(State::default()));
        let own = fleet::credentials(Peer::Nexus);
        let tls = server_config(&own, |peer| matches!(peer, Peer::Sled(_)));
        let tls = tls.unwrap();
        let log = slog::Logger::root(slog::Discard, slog::o!());
        let server = ServerBuilder::new(api, Arc::clone(&state), log)
            .config(ConfigDropshot::default())
            .tls(Some(ConfigTls::Dynamic(tls)))
            .start()
            .unwrap();
        Self { state, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.server.local_addr())
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    /// Returns once it was told what `is_so` looks for.
    pub(crate) async fn until(
        &self,
        what: &str,
        is_so: impl FnMut(&State) -> bool,
    ) -> State {
        let mut state = self.state.subscribe();
        let told = tokio::time::timeout(PATIENCE, state.wait_for(is_so));
        match told.await {
            Ok(state) => state.unwrap().clone(),
            Err(_) => panic!("never told: {what}"),
        }
    }
}

type Rqctx = RequestContext<Context>;

fn let_in(rqctx: &Rqctx) -> Result<(), HttpError> {
    fleet::secret().check(rqctx.request.headers())
}

fn hear(rqctx: &Rqctx) -> Result<(), HttpError> {
    match rqctx.context().borrow().hears_no_sled {
        true => Err(HttpError::for_unavail(None, "deaf".to_string())),
        false => Ok(()),
    }
}

fn not_found(code: &str) -> HttpError {
    HttpError::for_client_error(
        Some(code.to_string()),
        ClientErrorStatusCode::NOT_FOUND,
        "not found".to_string(),
    )
}

fn status(state: &State) -> HttpResponseOk<SledStatus> {
    HttpResponseOk(SledStatus {
        expunged: state.expunged,
        heartbeat_period_ms: 20,
    })
}

#[endpoint { method = PUT, path = "/sleds/{sled_id}" }]
async fn sled_put(
    rqctx: Rqctx,
    _path: Path<SledPath>,
    body: TypedBody<SledRegistration>,
) -> Result<HttpResponseOk<SledStatus>, HttpError> {
    let_in(&rqctx)?;
    hear(&rqctx)?;
    rqctx.context().send_modify(|state| {
        state.knows_no_sled = false;
        state.registrations.push(body.into_inner());
    });
    Ok(status(&rqctx.context().borrow()))
}

#[endpoint { method = POST, path = "/sleds/{sled_id}/heartbeat" }]
async fn heartbeat(
    rqctx: Rqctx,
    _path: Path<SledPath>,
    _body: TypedBody<SledRegistration>,
) -> Result<HttpResponseOk<SledStatus>, HttpError> {
    let_in(&rqctx)?;
    hear(&rqctx)?;
    if rqctx.context().borrow().knows_no_sled {
        return Err(not_found(SLED_UNKNOWN));
    }
    rqctx.context().send_modify(|state| state.heartbeats += 1);
    Ok(status(&rqctx.context().borrow()))
}

#[endpoint { method = PUT, path = "/sleds/{sled_id}/vmms/{vmm_id}" }]
async fn vmm_put(
    rqctx: Rqctx,
    path: Path<SledVmmPath>,
    body: TypedBody<VmmReport>,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    let_in(&rqctx)?;
    let report = body.into_inner();
    assert_eq!(path.into_inner().vmm_id, report.vmm_id);
    let mut answer = Ok(HttpResponseUpdatedNoContent());
    rqctx.context().send_modify(|state| {
        if state.knows_no_vmm {
            answer = Err(not_found(NO_SUCH_VMM));
            state.refused.push(report);
        } else if state.is_broken {
            let why = "broken on purpose".to_string();
            answer = Err(HttpError::for_internal_error(why));
            state.refused.push(report);
        } else {
            state.taken.push(report);
        }
    });
    answer
}
