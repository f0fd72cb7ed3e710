//! Logging in to the console and out of it.

use dropshot::{HttpError, HttpResponseHeaders, HttpResponseUpdatedNoContent};

use super::credentials::session_cookie;
use super::extract::{Path, TypedBody};
use super::handler::Admitted;
use super::origin::from_own_page;
use super::types::{LoginPath, SetCookie, UsernamePasswordCredentials};
use crate::app::Password;
use crate::error::Error;

/// No answer, but for the cookie.
pub(super) type WithCookie =
    HttpResponseHeaders<HttpResponseUpdatedNoContent, SetCookie>;

pub(super) async fn login(
    rqctx: Admitted,
    path: Path<LoginPath>,
    body: TypedBody<UsernamePasswordCredentials>,
) -> Result<WithCookie, HttpError> {
    // Whoever is logged in by another's page, as another, gives it what it does.
    from_own_page(&rqctx.request)?;
    let app = &rqctx.context().app;
    let UsernamePasswordCredentials { username, password } = body.into_inner();
    let silo = path.into_inner().silo_name;
    let password = Password::shown(password.0);
    rqctx.begin(None).await?;
    let aside = || rqctx.step_aside();
    let token = app.login(silo, username, password, aside).await?;
    rqctx.done_by(app.authenticate_session(token.expose()).await);
    let max_age = app.session_config().absolute_secs;
    Ok(cookie(&rqctx, token.expose(), max_age))
}

pub(super) async fn logout(rqctx: Admitted) -> Result<WithCookie, HttpError> {
    from_own_page(&rqctx.request)?;
    if let Some(cookie) = session_cookie(rqctx.request.headers()) {
        let app = &rqctx.context().app;
        let caller = match app.authenticate_session(cookie).await {
            Err(Error::Unauthenticated) => None,
            caller => Some(caller?),
        };
        rqctx.begin(caller.as_ref()).await?;
        app.logout(cookie).await?;
        if let Some(opctx) = caller {
            rqctx.done_by(Ok(opctx));
        }
    }
    Ok(cookie(&rqctx, "", 0))
}

fn cookie(rqctx: &Admitted, value: &str, max_age: u32) -> WithCookie {
    let set_cookie = set_cookie(rqctx, value, max_age);
    let answer = HttpResponseUpdatedNoContent();
    HttpResponseHeaders::new(answer, SetCookie { set_cookie })
}

/// What tells a browser to show `value` from now on, for so many seconds. No
/// script reads it, and no other site has it sent.
pub(super) fn set_cookie(
    rqctx: &Admitted,
    value: &str,
    max_age: u32,
) -> String {
    let secure = match rqctx.context().app.session_config().secure_cookie {
        true => "; Secure",
        false => "",
    };
    format!(
        "session={value}; Path=/; HttpOnly; SameSite=Lax; \
         Max-Age={max_age}{secure}"
    )
}
