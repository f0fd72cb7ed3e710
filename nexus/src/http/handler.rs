//! What every handler begins with: its turn, and who asks.
//!
//! Nothing of `app` can be asked by a user without the `OpContext` that comes
//! from here, and that comes only to who was [`admitted`], so no handler can
//! forget either. Each request that reaches a handler is [`timed`].

use std::any::Any;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use db_model::{SiloId, SiloUserId, SledId};
use dropshot::{
    ClientErrorStatusCode, HttpError, HttpResponse, HttpResponseDeleted,
    RequestContext, ServerContext,
};
use http::{HeaderMap, StatusCode};
use slog::{Logger, warn};

use super::admission::{Admission, Place};
use super::audit::{Answered, Audit, Record, end};
use super::credentials::{Shown, bearer_token, shown};
use super::error::log_why;
use super::origin::{does_more_than_look, from_own_page};
use super::pagination::Asked;
use super::rate::{Credential, Rates};
use super::source::Sources;
use super::until::Until;
use crate::app::App;
use crate::config::Limits;
use crate::context::OpContext;
use crate::error::Error;
use crate::metrics::{Exporter, RequestTimes};
use crate::web_console::WebConsole;

/// What both APIs keep.
#[derive(Clone)]
pub struct ApiContext {
    /// What they translate to.
    pub app: Arc<App>,
    /// Where users' requests wait for their turn.
    pub admission: Admission,
    /// How long requests took.
    pub times: RequestTimes,
    /// Where changes are written down.
    pub audit: Audit,
    /// The web console, if there is one.
    pub web_console: Option<Arc<WebConsole>>,
    /// From where requests come.
    pub sources: Sources,
    /// How often each client may ask.
    pub rates: Rates,
    /// What else clients may take.
    pub limits: Limits,
    /// Is this what users ask, and not sleds?
    pub of_users: bool,
    /// What operators are told of how things are.
    pub exporter: Arc<Exporter>,
}

/// A request to either API.
pub(super) type Request = RequestContext<ApiContext>;

/// A user's request whose turn it is. Derefs to the request.
pub(super) struct Admitted {
    rqctx: Request,
    place: Mutex<Place>,
    until: Until,
    caller: Arc<OnceLock<OpContext>>,
    record: Arc<Record>,
}

impl Deref for Admitted {
    type Target = Request;
    fn deref(&self) -> &Request {
        &self.rqctx
    }
}

impl Asked for Admitted {
    type Context = ApiContext;

    fn request(&self) -> &Request {
        &self.rqctx
    }

    fn caller(&self) -> Option<(SiloId, SiloUserId)> {
        self.caller.get().map(|caller| (caller.silo_id, caller.user_id))
    }
}

impl Admitted {
    /// The rest of the request is waiting: its turn is given to another.
    ///
    /// # Errors
    ///
    /// `Unavailable`: too many wait already.
    pub(super) fn step_aside(&self) -> Result<(), Error> {
        let aside = self.context().admission.place_aside()?;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = aside;
        Ok(())
    }

    /// The same, for as long as the request itself asks to wait, which counts
    /// for no part of the time that it may take.
    ///
    /// # Errors
    ///
    /// `Unavailable`: too many wait already.
    pub(super) fn wait_aside(&self, wait: Duration) -> Result<(), Error> {
        self.step_aside()?;
        self.until.put_off(wait);
        Ok(())
    }

    /// Writes down, before it is done, what is asked by whoever shows this; or
    /// by nobody known, if nothing is shown yet.
    ///
    /// # Errors
    ///
    /// `Unavailable`: it cannot be written, so it must not be done.
    pub(super) async fn begin(
        &self,
        caller: Option<&OpContext>,
    ) -> Result<(), Error> {
        let context = self.context();
        match caller {
            Some(opctx) => self.record.begin(&context.app, opctx).await,
            None => {
                let audit = &context.audit;
                self.record.begin_as_nobody(&context.app, audit).await
            }
        }
    }

    /// Has the audit log say who has done this with its new or old credential,
    /// which is also what it was done to. If that cannot be found out, it was
    /// done all the same.
    pub(super) fn done_by(&self, caller: Result<OpContext, Error>) {
        match caller {
            Ok(opctx) => self.record.done_by(&opctx, Some(opctx.credential.id)),
            Err(error) => {
                warn!(self.log, "the audit log will not say who it was";
                    "error" => crate::error::chain(&error));
            }
        }
    }
}

/// Runs a user's request when it is its turn, which it holds until it is
/// answered, times it, and writes it down in the audit log if it is a change.
///
/// *Cancellation*: what takes longer than a request may is carried through
/// though its client is told that it is slow, and written down when it is done:
/// no bound on time ends what it does half-way.
///
/// # Errors
///
/// `Unavailable`, with nothing done: its turn does not come in time; or not
/// known to be done: it is too slow. `TooManyRequests`, with nothing done.
pub(super) async fn admitted<T, A>(
    rqctx: Request,
    handler: impl FnOnce(Admitted) -> A + Send + 'static,
) -> Result<T, HttpError>
where
    T: Answered,
    A: Future<Output = Result<T, HttpError>> + Send + 'static,
{
    let timer = Timer::begin(&rqctx);
    let log = rqctx.log.clone();
    let within = rqctx.context().limits.request();
    let until = Until::new(within);
    let work = in_turn(rqctx, until.clone(), handler);
    timer.end(until.answer(within, log, work).await)
}

async fn in_turn<T, A>(
    rqctx: Request,
    until: Until,
    handler: impl FnOnce(Admitted) -> A,
) -> Result<T, HttpError>
where
    T: Answered,
    A: Future<Output = Result<T, HttpError>>,
{
    let (context, log) = (rqctx.context().clone(), rqctx.log.clone());
    let source = context.sources.of(&rqctx);
    let record = Arc::new(Record::of(&rqctx, source));
    let counted = count(&rqctx, source, Rates::count);
    let place = match counted {
        Ok(()) => context.admission.place().await,
        Err(refusal) => Err(refusal),
    };
    let answer = match place {
        Ok(place) => {
            let place = Mutex::new(place);
            let caller = Arc::new(OnceLock::new());
            let admitted = Admitted {
                rqctx,
                place,
                until,
                caller: Arc::clone(&caller),
                record: Arc::clone(&record),
            };
            let answer = handler(admitted).await;
            answer.and_then(|answer| decided(answer, &caller))
        }
        Err(error) => Err(error.into()),
    };
    let end = end(&answer);
    record.end(&context.app, &context.audit, &log, end).await;
    answer
}

/// Counts a request for whoever sent it, or looks whether it may be counted.
fn count(
    rqctx: &Request,
    source: IpAddr,
    how: impl FnOnce(
        &Rates,
        &str,
        Option<&Credential>,
        IpAddr,
        Instant,
    ) -> Result<(), Error>,
) -> Result<(), Error> {
    let credential = shown(rqctx.request.headers()).ok();
    let credential = credential.as_ref().map(Shown::digest);
    let operation = rqctx.endpoint.operation_id.as_str();
    let rates = &rqctx.context().rates;
    how(rates, operation, credential.as_ref(), source, Instant::now())
}

/// A request that its extractors refuse, so that no handler sees it: it is
/// counted, timed, and written down in the audit log if it is a change. As whose
/// it is written down only if that can be asked at once.
pub(super) async fn refused<C: ServerContext>(
    rqctx: &RequestContext<C>,
    refusal: HttpError,
) -> HttpError {
    let Some(rqctx) = of_users(rqctx) else { return refusal };
    let (context, timer) = (rqctx.context(), Timer::begin(rqctx));
    let source = context.sources.of(rqctx);
    let record = Record::of(rqctx, source);
    let refusal = match count(rqctx, source, Rates::count) {
        Ok(()) => refusal,
        Err(too_many) => too_many.into(),
    };
    let counted =
        refusal.status_code != ClientErrorStatusCode::TOO_MANY_REQUESTS;
    if counted
        && record.is_kept()
        && let Some(_place) = context.admission.place_at_once()
        && let Ok(opctx) = authenticated(rqctx).await
    {
        // Nothing is begun, since nothing will be done: and when extractors are
        // done with one refusal, another one is dropped wherever it is.
        record.done_by(&opctx, None);
    }
    let answer: Result<HttpResponseDeleted, _> = Err(refusal);
    let end = end(&answer);
    record.end(&context.app, &context.audit, &rqctx.log, end).await;
    match timer.end(answer) {
        Err(refusal) => refusal,
        Ok(HttpResponseDeleted()) => Error::internal("no refusal").into(),
    }
}

/// A request's body is about to be read: it must be there within so long, and,
/// if it is a user's, must find room.
///
/// # Errors
///
/// `TooManyRequests`: it would be refused for it when it is read.
pub(super) fn begins<C: ServerContext>(
    rqctx: &RequestContext<C>,
) -> Result<(Duration, Option<&Admission>), Error> {
    let Some(rqctx) = of_users(rqctx) else {
        return Ok((Limits::default().body(), None));
    };
    let context = rqctx.context();
    // Its connection has a request.
    let source = context.sources.of(rqctx);
    count(rqctx, source, Rates::look)?;
    Ok((context.limits.body(), Some(&context.admission)))
}

/// The request, if it is a user's. Extractors are made for any server.
fn of_users<C: ServerContext>(rqctx: &RequestContext<C>) -> Option<&Request> {
    let any: &dyn Any = rqctx;
    let rqctx = any.downcast_ref::<Request>()?;
    rqctx.context().of_users.then_some(rqctx)
}

/// The answer, if it was asked whether its caller may have it: nobody who has
/// shown who it is gets anything that was not decided.
fn decided<T>(answer: T, caller: &OnceLock<OpContext>) -> Result<T, HttpError> {
    if caller.get().is_none_or(OpContext::decided) {
        return Ok(answer);
    }
    let bug = "the request was served without a decision whether it may be";
    Err(Error::internal(bug).into())
}

/// Runs a request that needs no turn, and times it.
pub(super) async fn timed<T: HttpResponse>(
    rqctx: &Request,
    handler: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    // Its connection has a request.
    rqctx.context().sources.of(rqctx);
    let timer = Timer::begin(rqctx);
    timer.end(handler.await)
}

/// Times a request, and logs what its client is not told.
struct Timer {
    log: Logger,
    times: RequestTimes,
    operation: String,
    began: Instant,
}

impl Timer {
    fn begin(rqctx: &Request) -> Timer {
        Timer {
            log: rqctx.log.clone(),
            times: rqctx.context().times.clone(),
            operation: rqctx.endpoint.operation_id.clone(),
            began: Instant::now(),
        }
    }

    fn end<T: HttpResponse>(
        self,
        answer: Result<T, HttpError>,
    ) -> Result<T, HttpError> {
        let status: StatusCode = match &answer {
            Ok(answer) => answer.status_code(),
            Err(error) => {
                log_why(error, &self.log);
                error.status_code.as_status()
            }
        };
        self.times.observe(self.operation, status, self.began.elapsed());
        answer
    }
}

/// The app, and the user who asks it: who shows an API token or, if it shows
/// none, the cookie of a console session.
///
/// A browser sends the cookie whoever has it ask: so what it is shown for, if
/// that is more than to look, must be asked from a page of ours.
pub(super) async fn of_user(
    rqctx: &Admitted,
) -> Result<(&App, OpContext), HttpError> {
    let app = &rqctx.context().app;
    let opctx = authenticated(rqctx).await?;
    rqctx.record.begin(app, &opctx).await?;
    Ok((app, rqctx.caller.get_or_init(|| opctx).clone()))
}

/// Who asks; whether its credential is good is remembered by the rates.
async fn authenticated(rqctx: &Request) -> Result<OpContext, Error> {
    let context = rqctx.context();
    let shown = shown(rqctx.request.headers())?;
    if matches!(shown, Shown::Session(_)) && does_more_than_look(&rqctx.request)
    {
        from_own_page(&rqctx.request)?;
    }
    let opctx = whom(&context.app, shown).await;
    let valid = match &opctx {
        Ok(_) => true,
        Err(Error::Unauthenticated) => false,
        // It was not found out.
        Err(_) => return opctx,
    };
    context.rates.proved(shown.digest(), valid, Instant::now());
    opctx
}

/// Whom this speaks for.
async fn whom(app: &App, shown: Shown<'_>) -> Result<OpContext, Error> {
    match shown {
        Shown::Session(cookie) => app.authenticate_session(cookie).await,
        Shown::Token(token) => app.authenticate(token).await,
    }
}

/// What was shown by a request that goes on after its answer.
pub(super) struct StillShown {
    pub(super) app: Arc<App>,
    headers: HeaderMap,
}

impl StillShown {
    /// By this one.
    pub(super) fn by(rqctx: &Admitted) -> StillShown {
        let app = Arc::clone(&rqctx.context().app);
        StillShown { app, headers: rqctx.request.headers().clone() }
    }

    /// Whom it speaks for now.
    ///
    /// # Errors
    ///
    /// `Unauthenticated`: nobody, any more; `Unavailable`.
    pub(super) async fn authenticated(&self) -> Result<OpContext, Error> {
        whom(&self.app, shown(&self.headers)?).await
    }
}

/// The app, for this sled, which shows its own secret: no other may speak for
/// it.
pub(super) fn of_sled(
    rqctx: &Request,
    sled: SledId,
) -> Result<&App, HttpError> {
    who_shows(rqctx, |app, secret| app.is_sled(sled, secret))
}

/// The app, for an operator, who shows the fleet's secret.
pub(super) fn of_operator(rqctx: &Request) -> Result<&App, HttpError> {
    who_shows(rqctx, App::is_operator)
}

/// The app, for who may read the metrics.
pub(super) fn of_metrics(rqctx: &Request) -> Result<&App, HttpError> {
    who_shows(rqctx, App::may_read_metrics)
}

fn who_shows(
    rqctx: &Request,
    is_right: impl FnOnce(&App, &str) -> bool,
) -> Result<&App, HttpError> {
    let app = &rqctx.context().app;
    let secret = bearer_token(rqctx.request.headers())?;
    match is_right(app, secret) {
        true => Ok(app),
        false => Err(Error::Unauthenticated.into()),
    }
}
