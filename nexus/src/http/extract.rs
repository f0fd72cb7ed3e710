//! What a request says, taken out of it: dropshot's extractors, but that what
//! they refuse has an error code, as all that we refuse has, and is written down
//! as what handlers refuse is.

use async_trait::async_trait;
use dropshot::{
    ApiEndpointBodyContentType, Body, ExclusiveExtractor, ExtractorMetadata,
    HttpError, RequestContext, ServerContext, SharedExtractor,
    WebsocketUpgrade,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::admission::Room;
use super::body::read_whole;
use super::handler::refused;
use super::idempotency::canonical;
use super::withheld::withheld;

/// With which a client makes a request safe to repeat.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The variables of a path.
#[derive(Debug)]
pub struct Path<T>(T);

/// The parameters of a query.
#[derive(Debug)]
pub struct Query<T>(T);

/// A body of JSON.
#[derive(Debug)]
pub struct TypedBody<T> {
    body: T,
    canonical: Option<String>,
    _room: Option<Room>,
}

/// The headers that an operation knows.
#[derive(Debug)]
pub struct Header<T>(T);

/// A wish to go on as a websocket, if the request has one. That it has none is
/// said only to who may ask at all.
#[derive(Debug)]
pub struct Websocket(Result<WebsocketUpgrade, HttpError>);

/// A body that is a form. That it is none is said by the handler, in the words
/// of whom it serves.
#[derive(Debug)]
pub struct Form<T> {
    form: Result<T, HttpError>,
    _room: Option<Room>,
}

impl<T> Form<T> {
    /// What it says.
    ///
    /// # Errors
    ///
    /// It is no such form.
    pub fn into_inner(self) -> Result<T, HttpError> {
        self.form
    }
}

impl Websocket {
    /// What it says.
    pub fn into_inner(self) -> Result<WebsocketUpgrade, HttpError> {
        self.0
    }
}

impl<T> Path<T> {
    /// What it says.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Query<T> {
    /// What it says.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> TypedBody<T> {
    /// What it says.
    pub fn into_inner(self) -> T {
        self.body
    }

    /// What it says, as a text by which to know a repeat of a request; only of
    /// one that may be repeated.
    pub fn canonical(&self) -> Option<&str> {
        self.canonical.as_deref()
    }
}

impl<T> Header<T> {
    /// What they say.
    pub fn into_inner(self) -> T {
        self.0
    }
}

#[async_trait]
impl<T> SharedExtractor for Header<T>
where
    T: DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    async fn from_request<C: ServerContext>(
        rqctx: &RequestContext<C>,
    ) -> Result<Self, HttpError> {
        let headers: Result<dropshot::Header<T>, _> =
            SharedExtractor::from_request(rqctx).await;
        Ok(Self(or_refused(rqctx, headers).await?.into_inner()))
    }

    fn metadata(body: ApiEndpointBodyContentType) -> ExtractorMetadata {
        <dropshot::Header<T> as SharedExtractor>::metadata(body)
    }
}

#[async_trait]
impl<T> SharedExtractor for Path<T>
where
    T: DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    async fn from_request<C: ServerContext>(
        rqctx: &RequestContext<C>,
    ) -> Result<Self, HttpError> {
        let path: Result<dropshot::Path<T>, _> =
            SharedExtractor::from_request(rqctx).await;
        Ok(Self(or_refused(rqctx, path).await?.into_inner()))
    }

    fn metadata(body: ApiEndpointBodyContentType) -> ExtractorMetadata {
        <dropshot::Path<T> as SharedExtractor>::metadata(body)
    }
}

#[async_trait]
impl<T> SharedExtractor for Query<T>
where
    T: DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    async fn from_request<C: ServerContext>(
        rqctx: &RequestContext<C>,
    ) -> Result<Self, HttpError> {
        let query: Result<dropshot::Query<T>, _> =
            SharedExtractor::from_request(rqctx).await;
        Ok(Self(or_refused(rqctx, query).await?.into_inner()))
    }

    fn metadata(body: ApiEndpointBodyContentType) -> ExtractorMetadata {
        <dropshot::Query<T> as SharedExtractor>::metadata(body)
    }
}

#[async_trait]
impl<T> ExclusiveExtractor for TypedBody<T>
where
    T: DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    async fn from_request<C: ServerContext>(
        rqctx: &RequestContext<C>,
        request: http::Request<Body>,
    ) -> Result<Self, HttpError> {
        let read = read_whole(rqctx, request).await;
        let (parts, body) = or_refused(rqctx, read).await?;
        let canonical = parts
            .headers
            .contains_key(IDEMPOTENCY_KEY)
            .then(|| canonical(&body.bytes))
            .flatten();
        let room = body.room;
        let request = http::Request::from_parts(parts, Body::from(body.bytes));
        let body: Result<dropshot::TypedBody<T>, _> =
            ExclusiveExtractor::from_request(rqctx, request).await;
        let body = body
            .map_err(|refusal| withheld(&rqctx.endpoint.operation_id, refusal));
        let body = or_refused(rqctx, body).await?.into_inner();
        Ok(Self { body, canonical, _room: room })
    }

    fn metadata(body: ApiEndpointBodyContentType) -> ExtractorMetadata {
        <dropshot::TypedBody<T> as ExclusiveExtractor>::metadata(body)
    }
}

#[async_trait]
impl<T> ExclusiveExtractor for Form<T>
where
    T: DeserializeOwned + JsonSchema + Send + Sync + 'static,
{
    async fn from_request<C: ServerContext>(
        rqctx: &RequestContext<C>,
        request: http::Request<Body>,
    ) -> Result<Self, HttpError> {
        let (parts, body) = match read_whole(rqctx, request).await {
            Ok(read) => read,
            Err(refusal) => {
                return Ok(Self { form: Err(refusal), _room: None });
            }
        };
        let request = http::Request::from_parts(parts, Body::from(body.bytes));
        let form: Result<dropshot::TypedBody<T>, _> =
            ExclusiveExtractor::from_request(rqctx, request).await;
        let operation = &rqctx.endpoint.operation_id;
        let form = form
            .map(dropshot::TypedBody::into_inner)
            .map_err(|refusal| coded(withheld(operation, refusal)));
        Ok(Self { form, _room: body.room })
    }

    fn metadata(body: ApiEndpointBodyContentType) -> ExtractorMetadata {
        <dropshot::TypedBody<T> as ExclusiveExtractor>::metadata(body)
    }
}

#[async_trait]
impl ExclusiveExtractor for Websocket {
    async fn from_request<C: ServerContext>(
        rqctx: &RequestContext<C>,
        request: http::Request<Body>,
    ) -> Result<Self, HttpError> {
        let upgrade = ExclusiveExtractor::from_request(rqctx, request).await;
        Ok(Self(upgrade.map_err(coded)))
    }

    fn metadata(body: ApiEndpointBodyContentType) -> ExtractorMetadata {
        <WebsocketUpgrade as ExclusiveExtractor>::metadata(body)
    }
}

/// What is extracted; or its refusal, which no handler sees.
async fn or_refused<C: ServerContext, T>(
    rqctx: &RequestContext<C>,
    extracted: Result<T, HttpError>,
) -> Result<T, HttpError> {
    match extracted {
        Ok(extracted) => Ok(extracted),
        Err(refusal) => Err(refused(rqctx, coded(refusal)).await),
    }
}

/// The refusal of a request that makes no sense, with the code that says so.
fn coded(mut refusal: HttpError) -> HttpError {
    refusal.error_code.get_or_insert_with(|| "InvalidRequest".to_owned());
    refusal
}
