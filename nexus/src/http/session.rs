//! Logging in to the console and out of it.

use dropshot::{HttpError, HttpResponseHeaders, HttpResponseUpdatedNoContent};

use super::extract::{Path, TypedBody};
use super::handler::{Admitted, session_cookie};
use super::types::{LoginPath, SetCookie, UsernamePasswordCredentials};
use crate::app::Password;

/// No answer, but for the cookie.
pub(super) type WithCookie =
    HttpResponseHeaders<HttpResponseUpdatedNoContent, SetCookie>;

pub(super) async fn login(
    rqctx: Admitted,
    path: Path<LoginPath>,
    body: TypedBody<UsernamePasswordCredentials>,
) -> Result<WithCookie, HttpError> {
    let app = &rqctx.context().app;
    let UsernamePasswordCredentials { username, password } = body.into_inner();
    let silo = path.into_inner().silo_name;
    let password = Password::shown(password.0);
    let token = app.login(silo, username, password).await?;
    let max_age = app.session_config().absolute_secs;
    Ok(cookie(&rqctx, token.expose(), max_age))
}

pub(super) async fn logout(rqctx: Admitted) -> Result<WithCookie, HttpError> {
    if let Some(cookie) = session_cookie(rqctx.request.headers()) {
        rqctx.context().app.logout(cookie).await?;
    }
    Ok(cookie(&rqctx, "", 0))
}

/// What tells a browser to show `value` from now on, for so many seconds. No
/// script reads it, and no other site has it sent.
fn cookie(rqctx: &Admitted, value: &str, max_age: u32) -> WithCookie {
    let secure = match rqctx.context().app.session_config().secure_cookie {
        true => "; Secure",
        false => "",
    };
    let set_cookie = format!(
        "session={value}; Path=/; HttpOnly; SameSite=Lax; \
         Max-Age={max_age}{secure}"
    );
    let answer = HttpResponseUpdatedNoContent();
    HttpResponseHeaders::new(answer, SetCookie { set_cookie })
}
