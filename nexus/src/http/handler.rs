//! What every handler begins with: who asks.
//!
//! Nothing of `app` can be asked without the `OpContext` that comes from here,
//! so no handler can forget it.

use std::sync::Arc;

use dropshot::{HttpError, RequestContext};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::app::App;
use crate::context::OpContext;
use crate::error::Error;

/// What both APIs keep.
#[derive(Clone)]
pub struct ApiContext {
    /// What they translate to.
    pub app: Arc<App>,
}

/// A request to either API.
pub(super) type Request = RequestContext<ApiContext>;

/// The app, and the user who asks it: who shows an API token.
pub(super) async fn of_user(
    rqctx: &Request,
) -> Result<(&App, OpContext), HttpError> {
    let app = &rqctx.context().app;
    let token = bearer_token(rqctx.request.headers())?;
    Ok((app, app.authenticate(token).await?))
}

/// The app, for a sled: which shows the fleet's secret.
pub(super) fn of_sled(rqctx: &Request) -> Result<&App, HttpError> {
    let app = &rqctx.context().app;
    let secret = bearer_token(rqctx.request.headers())?;
    if !app.sled_secret_matches(secret) {
        return Err(Error::Unauthenticated.into());
    }
    Ok(app)
}

/// What `Authorization: Bearer …` bears.
fn bearer_token(headers: &HeaderMap) -> Result<&str, Error> {
    let (scheme, token) = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .ok_or(Error::Unauthenticated)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Error::Unauthenticated);
    }
    Ok(token.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn token(authorization: &'static str) -> Option<String> {
        let value = HeaderValue::from_static(authorization);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        bearer_token(&headers).ok().map(str::to_owned)
    }

    #[test]
    fn only_a_bearer_token_is_taken() {
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("Basic abc"), None);
        assert_eq!(token("Bearer"), None);
        assert_eq!(token(""), None);
        assert!(bearer_token(&HeaderMap::new()).is_err());
    }
}
