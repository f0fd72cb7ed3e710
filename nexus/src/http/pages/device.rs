//! Letting a device in, or keeping it out, on a page.

use db_model::{DeviceRequest, Silo, SiloUser, UserCode};
use dropshot::HttpError;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::html::{alert, escaped, page, redirect, refusal};
use super::{Page, encoded, login};
use crate::http::device::{VERIFY, user_code};
use crate::http::extract::{Form, Query};
use crate::http::handler::{Admitted, Request, admitted, of_user, timed};

/// What is shown when a device was let in.
pub(super) const SUCCESS: &str = "/device/success";

const TITLE: &str = "Let a device in";

/// Which device.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Which {
    user_code: Option<String>,
}

/// What was decided.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Decided {
    user_code: String,
    decision: Decision,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Decision {
    Allow,
    Deny,
}

/// Asks which device, and then whether to let it in.
pub(super) async fn show(rqctx: Request, query: Query<Which>) -> Page {
    let typed = query.into_inner().user_code.unwrap_or_default();
    let code = typed.clone();
    let ask = |rqctx| async move { ask(rqctx, &code).await };
    shown(admitted(rqctx, ask).await, &typed)
}

/// Lets it in, or keeps it out.
pub(super) async fn submit(rqctx: Request, body: Form<Decided>) -> Page {
    let app = rqctx.context().app.clone();
    let decided = body.into_inner();
    let typed = decided.as_ref().ok().map(|it| it.user_code.clone());
    let typed = typed.unwrap_or_default();
    let answer = admitted(rqctx, |rqctx| decide(rqctx, decided)).await;
    match answer {
        Err(error) if is_unknown(&error) => {
            let to = login::to(&app, &back(&typed)).await?;
            redirect(StatusCode::SEE_OTHER, &to)
        }
        answer => shown(answer, &typed),
    }
}

/// Says that it was let in.
pub(super) async fn success(rqctx: Request) -> Page {
    let body = "<p>The device is let in, and goes on by itself within some \
                seconds. You may close this page.</p>\n";
    let page = async { page(StatusCode::OK, "The device is let in", body) };
    timed(&rqctx, page).await
}

async fn ask(rqctx: Admitted, typed: &str) -> Page {
    let (app, opctx) = match of_user(&rqctx).await {
        Err(error) if is_unknown(&error) => {
            let to = login::to(&rqctx.context().app, &back(typed)).await?;
            return redirect(StatusCode::FOUND, &to);
        }
        user => user?,
    };
    let who = app.current_user(&opctx).await?;
    if typed.is_empty() {
        return page(StatusCode::OK, TITLE, &code_form("", None));
    }
    let code = user_code(typed)?;
    let (device, most) = app.device_view(&opctx, &code).await?;
    page(StatusCode::OK, TITLE, &question(&code, &device, &who, most))
}

async fn decide(rqctx: Admitted, decided: Result<Decided, HttpError>) -> Page {
    let (app, opctx) = of_user(&rqctx).await?;
    let decided = decided?;
    let code = user_code(&decided.user_code)?;
    match decided.decision {
        Decision::Allow => {
            app.device_confirm(&opctx, &code).await?;
            redirect(StatusCode::SEE_OTHER, SUCCESS)
        }
        Decision::Deny => {
            app.device_deny(&opctx, &code).await?;
            let body = "<p>The device is told so, and is given nothing.</p>\n";
            page(StatusCode::OK, "The device is kept out", body)
        }
    }
}

/// The answer, or the form again with what was refused.
fn shown(answer: Page, typed: &str) -> Page {
    match answer {
        Err(error) if error.status_code.is_client_error() => {
            refusal(error, TITLE, |why| code_form(typed, Some(why)))
        }
        answer => answer,
    }
}

fn is_unknown(error: &HttpError) -> bool {
    error.status_code.as_status() == StatusCode::UNAUTHORIZED
}

/// This page, once one is logged in.
fn back(typed: &str) -> String {
    match typed {
        "" => VERIFY.to_owned(),
        _ => format!("{VERIFY}?user_code={}", encoded(typed)),
    }
}

fn code_form(typed: &str, message: Option<&str>) -> String {
    format!(
        "{alert}<p>Type the code that the device shows, and no other: whoever \
         gave you another code would be let in as you.</p>\n\
         <form action=\"{VERIFY}\">\n\
         <label for=\"user_code\">Code</label>\n\
         <input id=\"user_code\" name=\"user_code\" value=\"{typed}\" \
         placeholder=\"XXXX-XXXX\" autocomplete=\"off\" spellcheck=\"false\" \
         autocapitalize=\"characters\" required autofocus>\n\
         <button>Go on</button>\n</form>\n",
        alert = alert(message),
        typed = escaped(typed),
    )
}

fn question(
    code: &UserCode,
    device: &DeviceRequest,
    (user, silo): &(SiloUser, Silo),
    most: Option<i64>,
) -> String {
    let life = match device.ttl_secs.into_iter().chain(most).min() {
        Some(secs) => format!("for {}", spoken(secs)),
        None => "until you delete it".to_owned(),
    };
    format!(
        "<p>A device asks to do whatever you may do. Let it in only if you have \
         just begun to log in on it, and it shows this code.</p>\n\
         <dl>\n\
         <dt>Code</dt><dd>{code}</dd>\n\
         <dt>Device</dt><dd>client {client}, which asked at {asked}</dd>\n\
         <dt>As</dt><dd>user {user} of the silo {silo}</dd>\n\
         <dt>It may do so</dt><dd>{life}</dd>\n\
         <dt>To be answered by</dt><dd>{by}</dd>\n\
         </dl>\n\
         <form method=\"post\" action=\"{VERIFY}\">\n\
         <input type=\"hidden\" name=\"user_code\" value=\"{code}\">\n\
         <button name=\"decision\" value=\"allow\">Let it in</button>\n\
         <button name=\"decision\" value=\"deny\">Keep it out</button>\n\
         </form>\n",
        code = escaped(code.as_str()),
        client = device.client_id,
        asked = device.time_created.format("%H:%M:%S UTC"),
        user = escaped(&user.external_id),
        silo = escaped(silo.name.as_str()),
        by = device.time_expires.format("%H:%M:%S UTC"),
    )
}

/// So many seconds, in the largest unit of which they are whole.
fn spoken(secs: i64) -> String {
    for (unit, name) in [(86_400, "days"), (3600, "hours"), (60, "minutes")] {
        if secs % unit == 0 && secs > unit {
            return format!("{} {name}", secs / unit);
        }
    }
    format!("{secs} seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_its_largest_whole_unit() {
        for (secs, said) in [
            (1, "1 seconds"),
            (3600, "60 minutes"),
            (7200, "2 hours"),
            (7201, "7201 seconds"),
            (604_800, "7 days"),
        ] {
            assert_eq!(spoken(secs), said);
        }
    }
}
