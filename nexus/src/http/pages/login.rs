//! Logging in by a password, on a page.

use db_model::{Name, UserName};
use dropshot::HttpError;
use http::header::SET_COOKIE;
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::html::{alert, escaped, page, redirect, refusal};
use super::{Page, encoded, local};
use crate::app::{App, Password};
use crate::error::Error;
use crate::http::extract::{Form, Path, Query};
use crate::http::handler::{Admitted, Request, admitted, timed};
use crate::http::origin::from_own_page;
use crate::http::session::set_cookie;
use crate::http::types::{LoginPath, PasswordText};

const TITLE: &str = "Log in";

/// To which silo, and where to go then.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Which {
    silo: Option<String>,
    redirect_uri: Option<String>,
}

/// Where to go then.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Then {
    redirect_uri: Option<String>,
}

/// Who logs in.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Credentials {
    username: String,
    password: PasswordText,
    redirect_uri: Option<String>,
}

/// Asks to which silo, unless it is clear.
pub(super) async fn which(rqctx: Request, query: Query<Which>) -> Page {
    admitted(rqctx, |rqctx| async move {
        let app = &rqctx.context().app;
        let Which { silo, redirect_uri } = query.into_inner();
        let then = local(redirect_uri.as_deref());
        let named = silo.as_deref().map(str::parse::<Name>);
        let message = match named {
            Some(Ok(silo)) => {
                return redirect(StatusCode::FOUND, &at(&silo, then));
            }
            Some(Err(_)) => Some("No silo can have this name."),
            None => None,
        };
        let to = to(app, then).await?;
        if message.is_none() && !to.starts_with("/login?") {
            return redirect(StatusCode::FOUND, &to);
        }
        let body = format!(
            "{alert}<form action=\"/login\">\n\
             <input type=\"hidden\" name=\"redirect_uri\" value=\"{then}\">\n\
             <label for=\"silo\">Silo</label>\n\
             <input id=\"silo\" name=\"silo\" required autocapitalize=\"none\" \
             autocomplete=\"organization\" autofocus>\n\
             <button>Go on</button>\n</form>\n",
            alert = alert(message),
            then = escaped(then),
        );
        page(StatusCode::OK, TITLE, &body)
    })
    .await
}

/// The page on which one logs in to a silo.
pub(super) async fn show(
    rqctx: Request,
    path: Path<LoginPath>,
    query: Query<Then>,
) -> Page {
    let silo = path.into_inner().silo_name;
    let then = query.into_inner().redirect_uri;
    let body = form(&silo, local(then.as_deref()), "", None);
    timed(&rqctx, async { page(StatusCode::OK, TITLE, &body) }).await
}

/// Logs in, and goes on to where one wanted to go.
pub(super) async fn submit(
    rqctx: Request,
    path: Path<LoginPath>,
    body: Form<Credentials>,
) -> Page {
    let silo = path.into_inner().silo_name;
    let credentials = body.into_inner();
    let said = credentials.as_ref().ok();
    let name = said.map(|it| it.username.clone()).unwrap_or_default();
    let then = said.and_then(|it| it.redirect_uri.as_deref());
    let then = local(then).to_owned();
    let (at, to) = (silo.clone(), then.clone());
    let login =
        |rqctx| async move { login(rqctx, at, credentials?, &to).await };
    match admitted(rqctx, login).await {
        Err(error) if error.status_code.is_client_error() => {
            refusal(error, TITLE, |message| {
                form(&silo, &then, &name, Some(message))
            })
        }
        answer => answer,
    }
}

async fn login(
    rqctx: Admitted,
    silo: Name,
    credentials: Credentials,
    then: &str,
) -> Page {
    from_own_page(&rqctx.request)?;
    let Ok(user) = credentials.username.parse::<UserName>() else {
        return Err(Error::WrongPassword.into());
    };
    let password = Password::shown(credentials.password.0);
    let app = &rqctx.context().app;
    rqctx.begin(None).await?;
    let aside = || rqctx.step_aside();
    let token = app.login(silo, user, password, aside).await?;
    rqctx.done_by(app.authenticate_session(token.expose()).await);
    let max_age = app.session_config().absolute_secs;
    let cookie = set_cookie(&rqctx, token.expose(), max_age);
    let cookie = HeaderValue::from_str(&cookie).map_err(Error::internal)?;
    // So that the page is asked for, and nothing posted to it.
    let mut answer = redirect(StatusCode::SEE_OTHER, then)?;
    answer.headers_mut().insert(SET_COOKIE, cookie);
    Ok(answer)
}

fn form(
    silo: &Name,
    then: &str,
    username: &str,
    message: Option<&str>,
) -> String {
    format!(
        "{alert}<p>To the silo <strong>{silo}</strong></p>\n\
         <form method=\"post\" action=\"/login/{silo}/local\">\n\
         <input type=\"hidden\" name=\"redirect_uri\" value=\"{then}\">\n\
         <label for=\"username\">Username</label>\n\
         <input id=\"username\" name=\"username\" value=\"{username}\" \
         autocomplete=\"username\" autocapitalize=\"none\" required \
         autofocus>\n\
         <label for=\"password\">Password</label>\n\
         <input id=\"password\" name=\"password\" type=\"password\" \
         autocomplete=\"current-password\" required>\n\
         <button>Sign in</button>\n</form>\n",
        alert = alert(message),
        silo = escaped(silo.as_str()),
        then = escaped(then),
        username = escaped(username),
    )
}

/// Where somebody logs in who wants to see `then`: at the only silo, or where
/// one says at which.
pub(super) async fn to(app: &App, then: &str) -> Result<String, HttpError> {
    Ok(match app.login_silo().await? {
        Some(silo) => at(&silo, then),
        None => format!("/login?redirect_uri={}", encoded(then)),
    })
}

fn at(silo: &Name, then: &str) -> String {
    format!("/login/{silo}/local?redirect_uri={}", encoded(then))
}
