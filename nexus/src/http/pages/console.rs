//! The web console: its one page, which shows whatever its path says, and its
//! files.

use dropshot::Body;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY,
};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::html::{headers, page as html_page, redirect};
use super::{Page, login};
use crate::error::Error;
use crate::http::extract::Path;
use crate::http::handler::{Admitted, Request, admitted, of_user, timed};
use crate::web_console::{Encoding, WebFile};

/// The parts of the console: the first segments of its pages' paths. dropshot's
/// router takes no path that could be any, beside those that are given.
pub(super) const PARTS: [&str; 8] = [
    "access",
    "images",
    "lookup",
    "projects",
    "projects-new",
    "settings",
    "system",
    "utilization",
];

/// What the console may do: nothing but to use what is here. Its script makes
/// styles, so those it may have anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; \
    worker-src 'self' blob:; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// An asset is what it is: let nothing run in it that it would bring along.
const ASSET_POLICY: &str = "default-src 'none'; \
    style-src 'unsafe-inline'; frame-ancestors 'none'";

/// What follows.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Rest {
    path: Vec<String>,
}

/// The console, or what there is instead.
pub(super) async fn root(rqctx: Request) -> Page {
    if rqctx.context().web_console.is_some() {
        return admitted(rqctx, show).await;
    }
    let body = "<p>This server has no web console. What it has is its API, \
                under <code>/v1</code>, for programs.</p>\n\
                <p>To let a program in that shows you a code, go to \
                <a href=\"/device/verify\">/device/verify</a>.</p>\n";
    timed(&rqctx, async { html_page(StatusCode::OK, "Nexus", body) }).await
}

/// A page of the console.
pub(super) async fn page(rqctx: Request, _: Path<Rest>) -> Page {
    admitted(rqctx, show).await
}

/// A file of the console. Its name changes when what is in it does.
pub(super) async fn asset(rqctx: Request, path: Path<Rest>) -> Page {
    timed(&rqctx, async {
        let console = rqctx.context().web_console.as_deref();
        let name = path.into_inner().path.join("/");
        let file = console.and_then(|console| console.asset(&name));
        let file = file.ok_or_else(|| Error::NotThere {
            message: format!("the console has no file \"/assets/{name}\""),
        })?;
        let forever = "public, max-age=31536000, immutable";
        send(file, rqctx.request.headers(), ASSET_POLICY, forever)
    })
    .await
}

async fn show(rqctx: Admitted) -> Page {
    let Some(console) = rqctx.context().web_console.as_deref() else {
        let message = "this server has no web console".to_owned();
        return Err(Error::NotThere { message }.into());
    };
    match of_user(&rqctx).await {
        Err(error)
            if error.status_code.as_status() == StatusCode::UNAUTHORIZED =>
        {
            let uri = rqctx.request.uri();
            let here = uri.path_and_query().map_or("/", |it| it.as_str());
            let to = login::to(&rqctx.context().app, here).await?;
            return redirect(StatusCode::FOUND, &to);
        }
        user => {
            let (app, opctx) = user?;
            app.current_user(&opctx).await?;
        }
    }
    // What it is made of changes when the console is renewed, and it is small.
    send(console.index(), rqctx.request.headers(), POLICY, "no-store")
}

fn send(
    file: &WebFile,
    asked: &HeaderMap,
    policy: &str,
    cache_control: &str,
) -> Page {
    let accepted = |encoding: Encoding| accepts(asked, encoding.name());
    let (bytes, encoding) = file.best(accepted);
    let mut answer = headers(StatusCode::OK, policy)
        .header(CONTENT_TYPE, file.content_type)
        .header(CACHE_CONTROL, cache_control)
        .header(VARY, "accept-encoding");
    if let Some(encoding) = encoding {
        answer = answer.header(CONTENT_ENCODING, encoding.name());
    }
    Ok(answer.body(Body::from(bytes)).map_err(Error::internal)?)
}

/// Does the client say that it takes this encoding?
fn accepts(asked: &HeaderMap, encoding: &str) -> bool {
    asked
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| {
            let mut parts = one.split(';').map(str::trim);
            let named = parts.next().unwrap_or_default();
            let never = |weight: &str| {
                let weight = weight.strip_prefix("q=");
                weight.is_some_and(|it| it.parse::<f32>() == Ok(0.0))
            };
            named.eq_ignore_ascii_case(encoding) && !parts.any(never)
        })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_encoding_is_used_if_the_client_says_that_it_takes_it() {
        for (said, taken) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("xgzip", false),
            ("*", false),
            ("", false),
        ] {
            let value = HeaderValue::from_static(said);
            let asked = HeaderMap::from_iter([(ACCEPT_ENCODING, value)]);
            assert_eq!(accepts(&asked, "gzip"), taken, "{said}");
        }
        assert!(!accepts(&HeaderMap::new(), "gzip"));
    }
}
