//! What every request to the external API meets first, before it is known which
//! operation it asks for: it must speak a version that we know, and lead
//! somewhere.
//!
//! dropshot refuses both by itself, but without a code. It asks its version
//! policy before it looks for the operation; so that is where we look, too.

use std::fmt;
use std::net::SocketAddr;

use dropshot::{
    Body, ClientErrorStatusCode, ClientSpecifiesVersionInHeader,
    DynamicVersionPolicy, HttpError, VersionPolicy,
};
use http::{
    HeaderMap, HeaderName, Method, Request, StatusCode, Uri, Version as Http,
};
use semver::Version;
use slog::{KV, Key, Level, Logger, Serializer, b, record};

use super::credentials::{bearer_token, session_cookie};
use super::unserved::external_api;
use crate::config::{Limits, count};
use crate::door::Peers;
use crate::error::BoxError;

/// In which a client says which version of Oxide's API it was made for.
const VERSION_HEADER: HeaderName = HeaderName::from_static("api-version");

/// The newest that clients in use were made for, and what is meant by those that
/// say none.
pub(super) const NEWEST: Version = Version::new(2_026_091_500, 0, 0);

/// The oldest that clients in use were made for. What we serve is the same in
/// all versions from it to the newest.
pub(super) const OLDEST: Version = Version::new(2_026_060_800, 0, 0);

/// Where a method and a path lead, which is nowhere if it fails.
type Lookup = dyn Fn(&Method, &str) -> Result<(), HttpError> + Send + Sync;

struct Front {
    uri_max_bytes: usize,
    headers_max_bytes: usize,
    versions: ClientSpecifiesVersionInHeader,
    lookup: Box<Lookup>,
    peers: Peers,
}

/// The front of the external API, to which these peers come.
///
/// # Errors
///
/// The API contradicts itself, which tests rule out.
pub fn front(limits: &Limits, peers: Peers) -> Result<VersionPolicy, BoxError> {
    let versions = ClientSpecifiesVersionInHeader::new(VERSION_HEADER, NEWEST)
        .min_version(OLDEST)
        .on_missing(NEWEST);
    let router = external_api()?.into_router();
    let lookup = Box::new(move |method: &Method, path: &str| {
        router.lookup_route(method, path.into(), None).map(drop)
    });
    Ok(VersionPolicy::Dynamic(Box::new(Front {
        uri_max_bytes: count(limits.uri_max_bytes),
        headers_max_bytes: count(limits.headers_max_bytes),
        versions,
        lookup,
        peers,
    })))
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front")
            .field("versions", &self.versions)
            .finish_non_exhaustive()
    }
}

impl Front {
    /// hyper has read the head whole, within its own bounds, which are wider.
    fn check_size(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), HttpError> {
        let query = uri.query().map_or(0, |query| query.len() + 1);
        let refuse = |status, code: &str, message| {
            HttpError::for_client_error(Some(code.to_owned()), status, message)
        };
        let max = self.uri_max_bytes;
        if uri.path().len() + query > max {
            return Err(refuse(
                ClientErrorStatusCode::URI_TOO_LONG,
                "UriTooLong",
                format!("the URI is too long: at most {max} bytes"),
            ));
        }
        let size = |(name, value): (&HeaderName, &http::HeaderValue)| {
            name.as_str().len() + value.len()
        };
        let max = self.headers_max_bytes;
        if headers.iter().map(size).sum::<usize>() > max {
            return Err(refuse(
                ClientErrorStatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "RequestHeaderFieldsTooLarge",
                format!(
                    "the headers are too large: at most {max} bytes \
                 in all"
                ),
            ));
        }
        Ok(())
    }

    fn let_pass(
        &self,
        request: &Request<Body>,
        log: &Logger,
    ) -> Result<Version, HttpError> {
        check_http(request.version())?;
        self.check_size(request.uri(), request.headers())?;
        let version = self
            .versions
            .request_extract_version(request, log)
            .map_err(|refusal| coded(refusal, "InvalidRequest"))?;
        let path = request.uri().path();
        (self.lookup)(request.method(), path).map_err(|refusal| {
            // Who shows no credentials is told that first, as everywhere. They
            // are not looked up: what leads where is no secret.
            let headers = request.headers();
            match bearer_token(headers) {
                Err(error) if session_cookie(headers).is_none() => error.into(),
                _ => leads_nowhere(request.method(), refusal),
            }
        })?;
        Ok(version)
    }
}

impl DynamicVersionPolicy for Front {
    fn request_extract_version(
        &self,
        request: &Request<Body>,
        log: &Logger,
    ) -> Result<Version, HttpError> {
        self.let_pass(request, log).inspect_err(|_| {
            // No handler will say that its connection has a request.
            if let Some(peer) = remote_addr(log) {
                self.peers.who_asks(peer);
            }
        })
    }
}

/// From where a request comes, as the server within sees it. dropshot says it
/// to handlers; before there is one, the log alone has it.
fn remote_addr(log: &Logger) -> Option<SocketAddr> {
    struct Found(Option<SocketAddr>);
    impl Serializer for Found {
        fn emit_arguments(
            &mut self,
            key: Key,
            value: &fmt::Arguments<'_>,
        ) -> slog::Result {
            if key == "remote_addr" {
                self.0 = value.to_string().parse().ok();
            }
            Ok(())
        }
    }
    let mut found = Found(None);
    let nothing = format_args!("");
    let of = record!(Level::Trace, "", &nothing, b!());
    log.list().serialize(&of, &mut found).ok()?;
    found.0
}

/// HTTP/2 is never offered, but hyper knows it by its first bytes. Many requests
/// share one of its connections, so what bounds a connection bounds none of them.
fn check_http(version: Http) -> Result<(), HttpError> {
    if version != Http::HTTP_2 {
        return Ok(());
    }
    let message = "this server does not speak HTTP/2: ask by HTTP/1.1";
    let code = Some("InvalidRequest".to_owned());
    Err(HttpError::for_bad_request(code, message.to_owned()))
}

/// What dropshot's router has refused, in our words.
fn leads_nowhere(method: &Method, mut refusal: HttpError) -> HttpError {
    let (code, message) = match refusal.status_code.as_status() {
        StatusCode::NOT_FOUND => {
            ("ObjectNotFound", "not found: no operation has this path".into())
        }
        StatusCode::METHOD_NOT_ALLOWED => (
            "MethodNotAllowed",
            format!("{method} is not for this path: see \"Allow\""),
        ),
        _ => ("InvalidRequest", refusal.external_message),
    };
    refusal.external_message = message;
    coded(refusal, code)
}

fn coded(mut refusal: HttpError, code: &str) -> HttpError {
    refusal.error_code = Some(code.to_owned());
    refusal
}
