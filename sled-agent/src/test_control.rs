//! A second server, for tests alone: sets things, breaks things, steps guests.
//!
//! It asks for no secret, and is there only if `--test-control` is given.

use crate::agent::{Agent, AgentError};
use crate::counters::{Counters, Counts};
use crate::faults::{Fault, Faults};
use crate::simulated::{GuestStep, Hold, Settings, Simulated, StepError};
use dropshot::{
    ApiDescription, ApiDescriptionRegisterError, ClientErrorStatusCode,
    HttpError, HttpResponseOk, HttpResponseUpdatedNoContent, Path,
    RequestContext, TypedBody, endpoint,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sled_agent_client::VmmPath;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What tests can get at.
pub(crate) struct Strings {
    pub(crate) agent: Arc<Agent>,
    pub(crate) hypervisor: Simulated,
    pub(crate) counters: Arc<Counters>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) hold_recovery: watch::Sender<bool>,
}

/// What a guest shall do.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct GuestStepRequested {
    /// What it shall do.
    pub event: GuestStep,
}

type Rqctx = RequestContext<Arc<Strings>>;

pub(crate) fn api()
-> Result<ApiDescription<Arc<Strings>>, ApiDescriptionRegisterError> {
    let mut api = ApiDescription::new();
    api.register(settings_put)?;
    api.register(hold_put)?;
    api.register(fault_add)?;
    api.register(faults_clear)?;
    api.register(guest_step)?;
    api.register(counters_view)?;
    Ok(api)
}

/// Change how guests behave that begin something from now on
#[endpoint { method = PUT, path = "/settings" }]
async fn settings_put(
    rqctx: Rqctx,
    body: TypedBody<Settings>,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    let (strings, settings) = (rqctx.context(), body.into_inner());
    strings.hypervisor.set(&settings);
    if let Some(ms) = settings.grace_ms {
        strings.agent.set_grace(Duration::from_millis(ms));
    }
    Ok(HttpResponseUpdatedNoContent())
}

/// Hold boots, shutdowns or recovery, or let go of them
#[endpoint { method = PUT, path = "/hold" }]
async fn hold_put(
    rqctx: Rqctx,
    body: TypedBody<Hold>,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    let (strings, hold) = (rqctx.context(), body.into_inner());
    strings.hypervisor.hold(&hold).await?;
    if let Some(recovery) = hold.recovery {
        strings.hold_recovery.send_replace(recovery);
    }
    Ok(HttpResponseUpdatedNoContent())
}

/// Have requests to come go wrong
#[endpoint { method = POST, path = "/faults" }]
async fn fault_add(
    rqctx: Rqctx,
    body: TypedBody<Fault>,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    rqctx.context().faults.add(body.into_inner());
    Ok(HttpResponseUpdatedNoContent())
}

/// Have no more requests go wrong, and let those go on that hang
#[endpoint { method = DELETE, path = "/faults" }]
async fn faults_clear(
    rqctx: Rqctx,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    rqctx.context().faults.clear();
    Ok(HttpResponseUpdatedNoContent())
}

/// Have a guest do something, as soon as it is in a state to
#[endpoint { method = POST, path = "/vmms/{vmm_id}/guest" }]
async fn guest_step(
    rqctx: Rqctx,
    path: Path<VmmPath>,
    body: TypedBody<GuestStepRequested>,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    let strings = rqctx.context();
    let vmm_id = path.into_inner().vmm_id;
    match body.into_inner().event {
        GuestStep::Forget => strings.agent.forget(vmm_id).await?,
        step @ (GuestStep::Booted
        | GuestStep::BootFailed { .. }
        | GuestStep::Halted
        | GuestStep::Shutdown
        | GuestStep::Panic
        | GuestStep::HypervisorDied) => {
            strings.hypervisor.step(vmm_id, &step).await?;
        }
    }
    Ok(HttpResponseUpdatedNoContent())
}

/// Tell how often what was called
#[endpoint { method = GET, path = "/counters" }]
async fn counters_view(
    rqctx: Rqctx,
) -> Result<HttpResponseOk<Counts>, HttpError> {
    Ok(HttpResponseOk(rqctx.context().counters.all()))
}

impl From<StepError> for HttpError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Misfit(_) => HttpError::for_client_error(
                None,
                ClientErrorStatusCode::CONFLICT,
                error.to_string(),
            ),
            StepError::Hypervisor(error) => {
                AgentError::Hypervisor(error).into()
            }
        }
    }
}
