//! Policies: handlers.

use dropshot::{HttpError, HttpResponseOk};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::extract::TypedBody;
use super::handler::{Admitted, of_user};
use super::types::{Policy, Role};
use crate::app::PolicyOf;

pub(super) async fn view<R>(
    rqctx: Admitted,
    of: PolicyOf,
) -> Result<HttpResponseOk<Policy<R>>, HttpError>
where
    R: Role + JsonSchema + Serialize + Send + Sync + 'static,
{
    let (app, opctx) = of_user(&rqctx).await?;
    let policy = app.policy_view(&opctx, &of).await?;
    Ok(HttpResponseOk(policy.into()))
}

pub(super) async fn update<R>(
    rqctx: Admitted,
    of: PolicyOf,
    body: TypedBody<Policy<R>>,
) -> Result<HttpResponseOk<Policy<R>>, HttpError>
where
    R: Role + JsonSchema + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let (app, opctx) = of_user(&rqctx).await?;
    let wanted = body.into_inner().try_into()?;
    let policy = app.policy_update(&opctx, &of, wanted).await?;
    Ok(HttpResponseOk(policy.into()))
}
