//! The audit log, written: every operation that changes something has an entry
//! before it changes anything, and the entry has the answer before the client.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use db_model::{AuditLogActor, AuditLogBegin, AuditLogEnd};
use dropshot::{
    Body, HttpError, HttpResponse, HttpResponseAccepted, HttpResponseCreated,
    HttpResponseDeleted, HttpResponseOk, HttpResponseUpdatedNoContent,
    WebsocketEndpointResult,
};
use http::header::USER_AGENT;
use http::{Method, Response, Uri};
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
    nobody: Arc<Mutex<(f64, Instant)>>,
    dropped: Counter,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit {
            nobody: Arc::new(Mutex::new((NOBODY_BURST, Instant::now()))),
            dropped: Counter::default(),
        }
    }
}

impl Audit {
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
}

/// The entry of one request, if it has one.
#[derive(Debug)]
pub(super) struct Record {
    about: Option<AuditLogBegin>,
    begun: OnceCell<()>,
    /// Who has done it after all, and to what; or was refused.
    done: OnceLock<(AuditLogActor, Option<Uuid>)>,
}

fn actor(opctx: &OpContext) -> AuditLogActor {
    AuditLogActor {
        silo_id: opctx.silo_id.0,
        silo_user_id: opctx.user_id.0,
        auth_method: opctx.credential.method,
        credential_id: opctx.credential.id,
    }
}

/// The entry, with its actor.
fn of(about: &AuditLogBegin, actor: &AuditLogActor) -> AuditLogBegin {
    AuditLogBegin {
        silo_id: Some(actor.silo_id),
        silo_user_id: Some(actor.silo_user_id),
        auth_method: Some(actor.auth_method),
        credential_id: Some(actor.credential_id),
        ..about.clone()
    }
}

impl Record {
    /// Has the request an entry?
    pub(super) fn is_kept(&self) -> bool {
        self.about.is_some()
    }

    /// The entry of a request that comes from `source`.
    pub(super) fn of(rqctx: &Request, source: IpAddr) -> Record {
        let operation = &rqctx.endpoint.operation_id;
        let request = &rqctx.request;
        let headers = request.headers();
        let about = is_change(request.method(), operation).then(|| {
            let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok());
            AuditLogBegin {
                // A request that two extractors refuse has one entry.
                id: rqctx.request_id.parse().unwrap_or_else(|_| Uuid::new_v4()),
                request_id: rqctx.request_id.clone(),
                operation_id: operation.clone(),
                request_uri: uri(request.uri()),
                source_ip: source.to_string(),
                user_agent: agent.map(|it| bounded(it, USER_AGENT_MAX_CHARS)),
                silo_id: None,
                silo_user_id: None,
                auth_method: None,
                credential_id: None,
            }
        });
        Record { about, begun: OnceCell::new(), done: OnceLock::new() }
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
        let begin = || app.audit_begin(of(about, &actor(opctx)));
        self.begun.get_or_try_init(begin).await.copied()
    }

    /// Writes down that somebody asks who is not known yet, unless nobodies ask
    /// too often: that must keep nobody from logging in.
    ///
    /// # Errors
    ///
    /// `Unavailable`: it cannot be written, so it must not be done.
    pub(super) async fn begin_as_nobody(
        &self,
        app: &App,
        audit: &Audit,
    ) -> Result<(), Error> {
        let Some(about) = &self.about else { return Ok(()) };
        if !audit.may_log_nobody(Instant::now()) {
            return Ok(());
        }
        let begin = || app.audit_begin(about.clone());
        self.begun.get_or_try_init(begin).await.copied()
    }

    /// It turns out who has done it, and to what, or was refused; to be written
    /// down at the end.
    pub(super) fn done_by(&self, opctx: &OpContext, resource: Option<Uuid>) {
        self.done.get_or_init(|| (actor(opctx), resource));
    }

    /// Writes down what is about to be answered. That it cannot be written
    /// changes no answer: the entry is completed later, without a result.
    pub(super) async fn end(
        &self,
        app: &App,
        audit: &Audit,
        log: &Logger,
        mut end: AuditLogEnd,
    ) {
        let Some(about) = &self.about else { return };
        let done = self.done.get();
        end.resource_id = end.resource_id.or(done.and_then(|(_, id)| *id));
        let actor = done.map(|(actor, _)| *actor);
        if end.error_code.as_deref().is_some_and(|it| WAITING.contains(&it)) {
            return;
        }
        let written = if self.begun.initialized() {
            app.audit_complete(about.id, end, actor).await
        } else if end.http_status.is_some_and(|status| status >= 500) {
            // It was not its turn, or nobody could be asked who it is: nothing
            // was done, and what is overloaded is not asked for more.
            return;
        } else if end.http_status.is_some_and(|status| status < 400)
            || actor.is_some()
            || audit.may_log_nobody(Instant::now())
        {
            let about =
                actor.map_or_else(|| about.clone(), |it| of(about, &it));
            app.audit_insert(about, end).await
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

/// What is written down of an answer.
pub(super) fn end<T: Answered>(answer: &Result<T, HttpError>) -> AuditLogEnd {
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
pub(super) trait Answered: HttpResponse + Send + 'static {
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
    fn refusals_of_nobody_are_logged_up_to_a_rate() {
        let audit = Audit::default();
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
