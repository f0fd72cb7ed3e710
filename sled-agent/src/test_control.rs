//! A second server, for tests alone: sets things, breaks things, steps guests.
//!
//! It asks for no secret, and is there only if `--test-control` is given.

use crate::agent::{Agent, AgentError};
use crate::counters::{Counters, Counts};
use crate::faults::{Fault, Faults};
use crate::hypervisor::{Hypervisor, HypervisorError};
use crate::qemu::Qemu;
use crate::simulated::{GuestStep, Hold, Settings, Simulated, StepError};
use dropshot::{
    ApiDescription, ApiDescriptionRegisterError, ClientErrorStatusCode,
    HttpError, HttpResponseOk, HttpResponseUpdatedNoContent, Path,
    RequestContext, TypedBody, UntypedBody, endpoint,
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
    /// None if the guests are real, and do what they want.
    pub(crate) simulated: Option<Simulated>,
    /// None if they are simulated.
    pub(crate) qemu: Option<Qemu>,
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
    api.register(guest_type)?;
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
    if let Some(simulated) = &strings.simulated {
        simulated.set(&settings);
    }
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
    if let Some(simulated) = &strings.simulated {
        simulated.hold(&hold).await?;
    } else if hold.boot.is_some() || hold.stop.is_some() {
        return Err(guests_are_real());
    }
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
            let simulated = strings.simulated.as_ref();
            let simulated = simulated.ok_or_else(guests_are_real)?;
            simulated.step(vmm_id, &step).await?;
        }
    }
    Ok(HttpResponseUpdatedNoContent())
}

/// Type at the serial console of a real guest: the body, as it is
#[endpoint { method = POST, path = "/vmms/{vmm_id}/typed" }]
async fn guest_type(
    rqctx: Rqctx,
    path: Path<VmmPath>,
    body: UntypedBody,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    let qemu = rqctx.context().qemu.as_ref();
    let qemu = qemu.ok_or_else(|| misfit("the guests are simulated"))?;
    let vmm_id = path.into_inner().vmm_id;
    qemu.console_input(vmm_id, body.as_bytes()).await?;
    Ok(HttpResponseUpdatedNoContent())
}

/// Tell how often what was called
#[endpoint { method = GET, path = "/counters" }]
async fn counters_view(
    rqctx: Rqctx,
) -> Result<HttpResponseOk<Counts>, HttpError> {
    Ok(HttpResponseOk(rqctx.context().counters.all()))
}

fn guests_are_real() -> HttpError {
    misfit("the guests are real, and do as they like")
}

fn misfit(message: &str) -> HttpError {
    HttpError::for_client_error(
        None,
        ClientErrorStatusCode::CONFLICT,
        message.to_string(),
    )
}

impl From<HypervisorError> for HttpError {
    fn from(error: HypervisorError) -> Self {
        AgentError::Hypervisor(error).into()
    }
}

impl From<StepError> for HttpError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Misfit(_) => misfit(&error.to_string()),
            StepError::Hypervisor(error) => error.into(),
        }
    }
}
