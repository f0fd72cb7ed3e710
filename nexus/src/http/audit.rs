//! The audit log, written: every operation that changes something has an entry
//! before it changes anything, and the entry has the answer before the client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use db_model::{AuditLogBegin, AuditLogEnd};
use dropshot::{
    Body, HttpError, HttpResponse, HttpResponseAccepted, HttpResponseCreated,
    HttpResponseDeleted, HttpResponseOk, HttpResponseUpdatedNoContent,
    WebsocketEndpointResult,
};
use http::header::USER_AGENT;
use http::{HeaderMap, Method, Response, Uri};
use prometheus_client::metrics::counter::Counter;
use schemars::JsonSchema;
use serde::Serialize;
use slog::{Logger, warn};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::handler::Request;
use super::session::WithCookie;
use crate::app::App;
use crate::context::OpContext;
use crate::error::Error;

/// What is asked with another method than GET and changes nothing.
const QUERIES: [&str; 3] =
    ["placement_check", "system_timeseries_query", "timeseries_query"];

/// What a device is told that waits for its user: nothing is done then, and
/// nothing refused.
const WAITING: [&str; 2] = ["authorization_pending", "slow_down"];

/// So much is kept of what a client says.
const URI_MAX_CHARS: usize = 512;
const USER_AGENT_MAX_CHARS: usize = 255;
const CODE_MAX_CHARS: usize = 63;
const MESSAGE_MAX_CHARS: usize = 1024;

/// How many refusals of nobody known are logged at once, and then each second,
/// in this process: some 100 MiB a day at the very worst.
const NOBODY_BURST: f64 = 100.0;
const NOBODY_PER_SECOND: f64 = 5.0;

/// What the writers of the log share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    trusted_proxies: Arc<[IpAddr]>,
    nobody: Arc<Mutex<(f64, Instant)>>,
    dropped: Counter,
}

impl Audit {
    /// A log in which these peers are believed whom they speak for.
    pub fn new(trusted_proxies: &[IpAddr]) -> Audit {
        Audit {
            trusted_proxies: trusted_proxies.into(),
            nobody: Arc::new(Mutex::new((NOBODY_BURST, Instant::now()))),
            dropped: Counter::default(),
        }
    }

    /// Refusals of nobody known that were not logged, since there were too
    /// many.
    pub fn dropped(&self) -> &Counter {
        &self.dropped
    }

    fn may_log_nobody(&self, now: Instant) -> bool {
        let mut bucket =
            self.nobody.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.1);
        let filled = bucket.0 + passed.as_secs_f64() * NOBODY_PER_SECOND;
        *bucket = (filled.min(NOBODY_BURST), now);
        if bucket.0 < 1.0 {
            return false;
        }
        bucket.0 -= 1.0;
        true
    }

    fn source(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut at = peer.ip().to_canonical();
        let said = headers.get_all("x-forwarded-for").iter();
        let said: Vec<&str> = said
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        // Each proxy adds whom it heard at the end: the last one that is no
        // proxy of ours is who asks. What stands before, anybody may write.
        for hop in said.into_iter().rev() {
            if !self.trusted_proxies.contains(&at) {
                break;
            }
            let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
            at = hop.to_canonical();
        }
        at
    }
}

/// The entry of one request, if it has one.
#[derive(Debug)]
pub(super) struct Record {
    about: Option<AuditLogBegin>,
    begun: OnceCell<()>,
}

impl Record {
    pub(super) fn of(rqctx: &Request) -> Record {
        let operation = &rqctx.endpoint.operation_id;
        let request = &rqctx.request;
        let headers = request.headers();
        let audit = &rqctx.context().audit;
        let about = is_change(request.method(), operation).then(|| {
            let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok());
            AuditLogBegin {
                id: Uuid::new_v4(),
                request_id: rqctx.request_id.clone(),
                operation_id: operation.clone(),
                request_uri: uri(request.uri()),
                source_ip: audit
                    .source(request.remote_addr(), headers)
                    .to_string(),
                user_agent: agent.map(|it| bounded(it, USER_AGENT_MAX_CHARS)),
                silo_id: None,
                silo_user_id: None,
                auth_method: None,
                credential_id: None,
            }
        });
        Record { about, begun: OnceCell::new() }
    }

    /// Writes down who asks for what, once.
    ///
    /// # Errors
    ///
    /// `Unavailable`: it cannot be written, so it must not be done.
    pub(super) async fn begin(
        &self,
        app: &App,
        opctx: &OpContext,
    ) -> Result<(), Error> {
        let Some(about) = &self.about else { return Ok(()) };
        let begin = || {
            app.audit_begin(AuditLogBegin {
                silo_id: Some(opctx.silo_id.0),
                silo_user_id: Some(opctx.user_id.0),
                auth_method: Some(opctx.credential.method),
                credential_id: Some(opctx.credential.id),
                ..about.clone()
            })
        };
        self.begun.get_or_try_init(begin).await.copied()
    }

    /// Writes down what is about to be answered. That it cannot be written
    /// changes no answer: the entry is completed later, without a result.
    pub(super) async fn end<T: Answered>(
        &self,
        app: &App,
        audit: &Audit,
        log: &Logger,
        answer: &Result<T, HttpError>,
    ) {
        let Some(about) = &self.about else { return };
        let end = end(answer);
        if end.error_code.as_deref().is_some_and(|it| WAITING.contains(&it)) {
            return;
        }
        let written = if self.begun.initialized() {
            app.audit_complete(about.id, end).await
        } else if end.http_status.is_some_and(|status| status >= 500) {
            // It was not its turn, or nobody could be asked who it is: nothing
            // was done, and what is overloaded is not asked for more.
            return;
        } else if answer.is_ok() || audit.may_log_nobody(Instant::now()) {
            app.audit_insert(about.clone(), end).await
        } else {
            audit.dropped.inc();
            warn!(log, "a refusal is not in the audit log: there are too many";
                "source_ip" => &about.source_ip);
            return;
        };
        if let Err(error) = written {
            warn!(log, "the audit log lacks an answer";
                "error" => crate::error::chain(&error));
        }
    }
}

fn end<T: Answered>(answer: &Result<T, HttpError>) -> AuditLogEnd {
    match answer {
        Ok(answer) => AuditLogEnd {
            resource_id: answer.about(),
            http_status: Some(answer.status_code().as_u16().into()),
            error_code: None,
            error_message: None,
        },
        Err(error) => AuditLogEnd {
            resource_id: None,
            http_status: Some(error.status_code.as_u16().into()),
            error_code: error
                .error_code
                .as_deref()
                .map(|code| bounded(code, CODE_MAX_CHARS)),
            error_message: Some(bounded(
                &error.external_message,
                MESSAGE_MAX_CHARS,
            )),
        },
    }
}

/// Everything is a change that is not known to be none.
fn is_change(method: &Method, operation: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
        && !QUERIES.contains(&operation)
}

fn bounded(text: &str, chars: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(chars).collect()
}

/// The URI without what may be a secret: no parameter of ours is one, but who
/// mistakes the query for the place of a token is not to find it in a log.
fn uri(uri: &Uri) -> String {
    let Some(query) = uri.query() else {
        return bounded(uri.path(), URI_MAX_CHARS);
    };
    let shown: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}=-"),
            _ => pair.to_owned(),
        })
        .collect();
    let text = format!("{}?{}", uri.path(), shown.join("&"));
    bounded(&text, URI_MAX_CHARS)
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name != "page_token"
        && ["token", "secret", "password", "code", "session"]
            .iter()
            .any(|word| name.contains(word))
}

/// An answer, and which thing it is about.
pub(super) trait Answered: HttpResponse {
    /// The id of what was made or changed, if the answer has it.
    fn about(&self) -> Option<Uuid> {
        None
    }
}

fn id_of(view: &impl Serialize) -> Option<Uuid> {
    let view = serde_json::to_value(view).ok()?;
    view.get("id")?.as_str()?.parse().ok()
}

impl<T> Answered for HttpResponseOk<T>
where
    T: Serialize + JsonSchema + Send + Sync + 'static,
{
    fn about(&self) -> Option<Uuid> {
        id_of(&self.0)
    }
}

impl<T> Answered for HttpResponseCreated<T>
where
    T: Serialize + JsonSchema + Send + Sync + 'static,
{
    fn about(&self) -> Option<Uuid> {
        id_of(&self.0)
    }
}

impl<T> Answered for HttpResponseAccepted<T>
where
    T: Serialize + JsonSchema + Send + Sync + 'static,
{
    fn about(&self) -> Option<Uuid> {
        id_of(&self.0)
    }
}

impl Answered for WithCookie {}
impl Answered for <WebsocketEndpointResult as Outcome>::Success {}

/// For a type that dropshot gives no name.
trait Outcome {
    type Success;
}

impl<T> Outcome for Result<T, HttpError> {
    type Success = T;
}

impl Answered for HttpResponseDeleted {}
impl Answered for HttpResponseUpdatedNoContent {}
impl Answered for Response<Body> {}

#[cfg(test)]
mod tests {
    use super::super::unserved::external_api;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_no_change_is_an_operation_that_is_no_get() {
        let router = external_api().expect("a sound API").into_router();
        let mut queries = Vec::new();
        for (_, method, endpoint) in router.endpoints(None) {
            let method: Method = method.parse().expect("a method");
            let get = matches!(method, Method::GET | Method::HEAD);
            let id = endpoint.operation_id.as_str();
            if !get && !is_change(&method, id) {
                queries.push(id.to_owned());
            }
        }
        queries.sort();
        assert_eq!(queries, QUERIES, "all there, and none a GET");
    }

    #[test]
    fn only_a_trusted_proxy_says_for_whom_it_asks() {
        let proxy: IpAddr = "10.0.0.1".parse().expect("an address");
        let audit = Audit::new(&[proxy]);
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-forwarded-for",
            "1.1.1.1, 2.2.2.2".parse().expect("a value"),
        );
        for (peer, source) in [
            ("10.0.0.1:9", "2.2.2.2"),
            ("[::ffff:10.0.0.1]:9", "2.2.2.2"),
            ("10.0.0.2:9", "10.0.0.2"),
        ] {
            let peer = peer.parse().expect("a peer");
            assert_eq!(audit.source(peer, &headers).to_string(), source);
        }
    }

    #[test]
    fn refusals_of_nobody_are_logged_up_to_a_rate() {
        let audit = Audit::new(&[]);
        let now = Instant::now();
        let logged = (0..1000).filter(|_| audit.may_log_nobody(now)).count();
        assert_eq!(logged, 100);
        assert!(audit.may_log_nobody(now + Duration::from_secs(1)));
    }

    #[test]
    fn a_secret_in_the_query_is_not_kept() {
        let of = |text: &str| uri(&text.parse().expect("a URI"));
        assert_eq!(of("/v1/x?project=a&token=s"), "/v1/x?project=a&token=-");
        assert_eq!(of("/v1/x?page_token=s"), "/v1/x?page_token=s");
        assert_eq!(of("/v1/x?user_CODE=s"), "/v1/x?user_CODE=-");
    }
}
