//! Where a browser's request comes from: from a page of ours, or from another
//! site's, which has the browser ask with our cookie.
//!
//! Browsers say it themselves: newer ones in `Sec-Fetch-Site`, all of them in
//! `Origin` when they ask for more than to look. What says neither is no
//! browser, and has its cookie of its own accord.

use dropshot::RequestInfo;
use http::header::{HOST, HeaderName, ORIGIN, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, Method, Uri};

use crate::error::Error;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Is it a change, or a websocket, by which one may do anything?
pub(super) fn does_more_than_look(request: &RequestInfo) -> bool {
    let method = request.method();
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
        || request.headers().contains_key(UPGRADE)
}

/// Refuses what a browser asks from another site's page.
///
/// # Errors
///
/// `CrossSite`.
pub(super) fn from_own_page(request: &RequestInfo) -> Result<(), Error> {
    match is_own(request.headers(), request.uri()) {
        true => Ok(()),
        false => Err(Error::CrossSite),
    }
}

fn is_own(headers: &HeaderMap, uri: &Uri) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        // None: the user's own doing, as by reloading a page.
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|it| it.parse::<Uri>().ok());
    let Some(origin) = origin else { return false };
    let Some(from) = origin.authority() else { return false };
    // Which of the two schemes it is we cannot tell behind a proxy; another
    // scheme at the same address is still the same server. "null" has none.
    let default = match origin.scheme_str() {
        Some("https") => 443,
        Some("http") => 80,
        _ => return false,
    };
    asked(headers, uri).is_some_and(|here| {
        let port = |of: &Authority| of.port_u16().unwrap_or(default);
        here.host().eq_ignore_ascii_case(from.host())
            && port(&here) == port(from)
    })
}

/// Under which address the server was asked.
pub(super) fn asked(headers: &HeaderMap, uri: &Uri) -> Option<Authority> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match host {
        Some(host) => host.parse().ok(),
        None => uri.authority().cloned(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn own(said: &[(HeaderName, &'static str)]) -> bool {
        let said = said.iter().cloned();
        let headers =
            said.map(|(n, v)| (n, HeaderValue::from_static(v))).collect();
        is_own(&headers, &Uri::from_static("/v1/projects"))
    }

    #[test]
    fn what_a_browser_says_of_the_site_counts() {
        for (site, is) in [
            ("same-origin", true),
            ("none", true),
            ("same-site", false),
            ("cross-site", false),
            ("", false),
            ("anything", false),
        ] {
            // Whatever the older header says.
            let origin = (ORIGIN, "http://nexus.example");
            let host = (HOST, "nexus.example");
            assert_eq!(own(&[(SEC_FETCH_SITE, site), origin, host]), is);
            assert_eq!(own(&[(SEC_FETCH_SITE, site)]), is);
        }
    }

    #[test]
    fn else_its_origin_must_be_where_it_asks() {
        for (origin, host, is) in [
            ("http://nexus.example", "nexus.example", true),
            ("https://nexus.example", "nexus.example", true),
            ("https://Nexus.example", "nexus.example:443", true),
            ("http://nexus.example:80", "nexus.example", true),
            ("http://10.0.0.1:8080", "10.0.0.1:8080", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("http://nexus.example:81", "nexus.example", false),
            ("http://nexus.example", "nexus.example:8080", false),
            ("https://nexus.example", "nexus.example:80", false),
            ("http://evil.example", "nexus.example", false),
            ("http://nexus.example.evil.example", "nexus.example", false),
            ("null", "nexus.example", false),
            ("null", "null", false),
            ("", "nexus.example", false),
            ("file://", "nexus.example", false),
        ] {
            let said = [(ORIGIN, origin), (HOST, host)];
            assert_eq!(own(&said), is, "{origin} at {host}");
        }
        assert!(!own(&[(ORIGIN, "http://nexus.example")]), "no host");
        assert!(own(&[(HOST, "nexus.example")]), "no browser");
    }
}
