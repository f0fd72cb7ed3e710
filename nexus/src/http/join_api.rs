//! The join API, whole: what is asked by sleds that are not of the fleet yet,
//! on a port of its own. They have no certificate, so nothing else is there.

use super::credentials::bearer_token;
use super::extract::TypedBody;
use super::handler::{ApiContext, Request, timed};
use dropshot::{HttpError, HttpResponseOk, RequestContext};
use sled_agent_client::{JoinRequest, Joined};

/// How a sled becomes a member of the fleet.
///
/// Over TLS with a certificate of the fleet's CA, which the sled has been given
/// by an operator.
#[dropshot::api_description]
pub trait JoinApi {
    /// What the implementation keeps.
    type Context;

    /// Join the fleet
    ///
    /// With a one-time token as the bearer token (401: there is no such token,
    /// or it has expired). With the same key it may be repeated; with another
    /// one, or for a sled that is expunged, it is refused (409).
    #[endpoint { method = POST, path = "/join" }]
    async fn sled_join(
        rqctx: RequestContext<Self::Context>,
        body: TypedBody<JoinRequest>,
    ) -> Result<HttpResponseOk<Joined>, HttpError>;
}

/// The join API over an [`App`](crate::app::App).
#[derive(Debug)]
pub enum JoinApiImpl {}

impl JoinApi for JoinApiImpl {
    type Context = ApiContext;

    async fn sled_join(
        rqctx: Request,
        body: TypedBody<JoinRequest>,
    ) -> Result<HttpResponseOk<Joined>, HttpError> {
        timed(&rqctx, async {
            let app = &rqctx.context().app;
            let token = bearer_token(rqctx.request.headers())?;
            let joined = app.sled_join(token, body.into_inner()).await?;
            Ok(HttpResponseOk(joined))
        })
        .await
    }
}
