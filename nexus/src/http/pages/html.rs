//! What all pages have in common.

use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dropshot::{Body, HttpError};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::response::Builder;
use http::{Response, StatusCode};
use sha2::{Digest, Sha256};

use super::Page;
use crate::error::Error;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;\
padding:0 1rem}\
label{display:block;margin-top:1rem}\
input{font:inherit;width:100%;box-sizing:border-box;padding:.4rem}\
button{font:inherit;margin:1.5rem .5rem 0 0;padding:.4rem 1.2rem}\
dt{font-weight:bold}dd{margin:0 0 .5rem}\
[role=alert]{border:2px solid;padding:.5rem 1rem}";

/// Nothing but our one style, no frame around it, and forms for us alone.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'"
    )
});

/// A text within HTML, as an attribute too.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// The headers of all that a browser shows.
///
/// A referrer is sent to ourselves only. It must be sent there: without, older
/// browsers do not say where a form comes from.
pub(super) fn headers(status: StatusCode, policy: &str) -> Builder {
    Response::builder()
        .status(status)
        .header(CONTENT_SECURITY_POLICY, policy)
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(X_FRAME_OPTIONS, "DENY")
        .header(REFERRER_POLICY, "same-origin")
}

/// A page. `body` is HTML.
pub(super) fn page(status: StatusCode, title: &str, body: &str) -> Page {
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n{body}</main>\n</body>\n</html>\n",
        title = escaped(title),
    );
    Ok(headers(status, &POLICY)
        .header(CONTENT_TYPE, "text/html; charset=utf-8")
        .header(CACHE_CONTROL, "no-store")
        .body(Body::from(html))
        .map_err(Error::internal)?)
}

/// What a page says that was refused something; nothing if there is nothing.
pub(super) fn alert(message: Option<&str>) -> String {
    message.map_or_else(String::new, |message| {
        format!("<p role=\"alert\">{}</p>\n", escaped(message))
    })
}

/// A page that shows a refusal, with the refusal's status and headers.
pub(super) fn refusal(
    refusal: HttpError,
    title: &str,
    body: impl FnOnce(&str) -> String,
) -> Page {
    let status = refusal.status_code.as_status();
    let mut answer = page(status, title, &body(&refusal.external_message))?;
    if let Some(headers) = refusal.headers {
        answer.headers_mut().extend(*headers);
    }
    Ok(answer)
}

/// Sends a browser elsewhere, to look there.
pub(super) fn redirect(status: StatusCode, to: &str) -> Page {
    Ok(headers(status, &POLICY)
        .header(LOCATION, to)
        .header(CACHE_CONTROL, "no-store")
        .body(Body::empty())
        .map_err(Error::internal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        assert_eq!(
            escaped("<a href=\"x\" b='y'>&"),
            "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;"
        );
    }
}
