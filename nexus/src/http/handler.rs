//! What every handler begins with: its turn, and who asks.
//!
//! Nothing of `app` can be asked by a user without the `OpContext` that comes
//! from here, and that comes only to who was [`admitted`], so no handler can
//! forget either. Each request that reaches a handler is [`timed`].

use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use db_model::{SiloId, SiloUserId, SledId};
use dropshot::{HttpError, HttpResponse, RequestContext};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, StatusCode};

use super::admission::{Admission, Place};
use super::audit::{Answered, Audit, Record};
use super::pagination::Asked;
use crate::app::App;
use crate::context::OpContext;
use crate::error::Error;
use crate::metrics::{Exporter, RequestTimes};

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
    /// What operators are told of how things are.
    pub exporter: Arc<Exporter>,
}

/// A request to either API.
pub(super) type Request = RequestContext<ApiContext>;

/// A user's request whose turn it is. Derefs to the request.
pub(super) struct Admitted {
    rqctx: Request,
    place: Mutex<Place>,
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
}

/// Runs a user's request when it is its turn, which it holds until it is
/// answered, times it, and writes it down in the audit log if it is a change.
///
/// # Errors
///
/// `Unavailable`, with nothing done: its turn does not come in time.
pub(super) async fn admitted<T, A>(
    rqctx: Request,
    handler: impl FnOnce(Admitted) -> A,
) -> Result<T, HttpError>
where
    T: Answered,
    A: Future<Output = Result<T, HttpError>>,
{
    let timer = Timer::begin(&rqctx);
    let record = Arc::new(Record::of(&rqctx));
    let (context, log) = (rqctx.context().clone(), rqctx.log.clone());
    let answer = match rqctx.context().admission.place().await {
        Ok(place) => {
            let place = Mutex::new(place);
            let caller = Arc::new(OnceLock::new());
            let admitted = Admitted {
                rqctx,
                place,
                caller: Arc::clone(&caller),
                record: Arc::clone(&record),
            };
            let answer = handler(admitted).await;
            answer.and_then(|answer| decided(answer, &caller))
        }
        Err(error) => Err(error.into()),
    };
    record.end(&context.app, &context.audit, &log, &answer).await;
    timer.end(answer)
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
    let timer = Timer::begin(rqctx);
    timer.end(handler.await)
}

/// Times a request.
struct Timer {
    times: RequestTimes,
    operation: String,
    began: Instant,
}

impl Timer {
    fn begin(rqctx: &Request) -> Timer {
        Timer {
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
            Err(error) => error.status_code.as_status(),
        };
        self.times.observe(self.operation, status, self.began.elapsed());
        answer
    }
}

/// The app, and the user who asks it: who shows an API token or, if it shows
/// none, the cookie of a console session.
pub(super) async fn of_user(
    rqctx: &Admitted,
) -> Result<(&App, OpContext), HttpError> {
    let app = &rqctx.context().app;
    let headers = rqctx.request.headers();
    let opctx = match session_cookie(headers) {
        Some(cookie) if !headers.contains_key(AUTHORIZATION) => {
            app.authenticate_session(cookie).await?
        }
        _ => app.authenticate(bearer_token(headers)?).await?,
    };
    rqctx.record.begin(app, &opctx).await?;
    Ok((app, rqctx.caller.get_or_init(|| opctx).clone()))
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

/// The secret of a console session: the first cookie of that name.
pub(super) fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == "session")
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
}

/// What `Authorization: Bearer …` bears.
pub(super) fn bearer_token(headers: &HeaderMap) -> Result<&str, Error> {
    let (scheme, token) = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .ok_or(Error::Unauthenticated)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Error::Unauthenticated);
    }
    Ok(token.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let session = |cookies: &[&'static str]| {
            let values = cookies.iter().map(|c| HeaderValue::from_static(c));
            let headers: HeaderMap = values.map(|v| (COOKIE, v)).collect();
            session_cookie(&headers).map(str::to_owned)
        };
        for (cookies, found) in [
            (&["session=abc"][..], Some("abc")),
            (&["a=b; session=abc; c=d"], Some("abc")),
            (&["a=b", "c=d;session=abc"], Some("abc")),
            (&["session=one; session=two"], Some("one")),
            (&["session=a=b"], Some("a=b")),
            (&["session="], None),
            (&["xsession=abc; Session=abc"], None),
            (&["session"], None),
            (&[";;=;"], None),
            (&[], None),
        ] {
            assert_eq!(session(cookies).as_deref(), found, "{cookies:?}");
        }
    }

    fn token(authorization: &'static str) -> Option<String> {
        let value = HeaderValue::from_static(authorization);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        bearer_token(&headers).ok().map(str::to_owned)
    }

    #[test]
    fn only_a_bearer_token_is_taken() {
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("bearer abc").as_deref(), Some("abc"));
        assert_eq!(token("Basic abc"), None);
        assert_eq!(token("Bearer"), None);
        assert_eq!(token(""), None);
        assert!(bearer_token(&HeaderMap::new()).is_err());
    }
}
