//! The internal API, whole: what sleds tell Nexus, on a port of its own.
//!
//! The wire types are those of the sleds' client, in `sled_agent_client`.

use dropshot::{
    Body, HttpError, HttpResponseOk, HttpResponseUpdatedNoContent,
    RequestContext,
};
use http::Response;
use sled_agent_client::nexus_types::{
    SledPath, SledRegistration, SledStatus, SledVmmPath,
};
use sled_agent_client::{CertificateIssued, CertificateRequest, VmmReport};

use super::extract::{Path, TypedBody};

/// What sleds, and operators on the fleet's own network, may tell Nexus.
///
/// Over mutual TLS with certificates of the fleet's CA alone. Each operation is
/// idempotent, and needs a bearer token besides (else 401): a sled's own secret
/// for what it says of itself, the fleet's secret for what an operator asks.
#[dropshot::api_description]
pub trait InternalApi {
    /// What the implementation keeps.
    type Context;

    /// Register a sled
    ///
    /// At each start of its agent. What it says it has replaces what it said
    /// before.
    #[endpoint { method = PUT, path = "/sleds/{sled_id}" }]
    async fn sled_register(
        rqctx: RequestContext<Self::Context>,
        path: Path<SledPath>,
        body: TypedBody<SledRegistration>,
    ) -> Result<HttpResponseOk<SledStatus>, HttpError>;

    /// Say that a sled is there
    ///
    /// 404 `SLED_UNKNOWN` if it has to register first.
    #[endpoint { method = POST, path = "/sleds/{sled_id}/heartbeat" }]
    async fn sled_heartbeat(
        rqctx: RequestContext<Self::Context>,
        path: Path<SledPath>,
        body: TypedBody<SledRegistration>,
    ) -> Result<HttpResponseOk<SledStatus>, HttpError>;

    /// Report what a VMM does
    ///
    /// An older report than is known is taken, and changes nothing. 404
    /// `NO_SUCH_VMM` if there is no such VMM, which is final.
    #[endpoint { method = PUT, path = "/sleds/{sled_id}/vmms/{vmm_id}" }]
    async fn vmm_report(
        rqctx: RequestContext<Self::Context>,
        path: Path<SledVmmPath>,
        body: TypedBody<VmmReport>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError>;

    /// Get a sled another certificate
    ///
    /// Those that it has stay good until they expire. 409 if the sled is
    /// expunged.
    #[endpoint { method = POST, path = "/sleds/{sled_id}/certificate" }]
    async fn sled_certificate(
        rqctx: RequestContext<Self::Context>,
        path: Path<SledPath>,
        body: TypedBody<CertificateRequest>,
    ) -> Result<HttpResponseOk<CertificateIssued>, HttpError>;

    /// Expunge a sled
    ///
    /// Asserts that the host is off and will not come back under this id:
    /// whatever ran there has ended. There is no way back.
    #[endpoint { method = POST, path = "/sleds/{sled_id}/expunge" }]
    async fn sled_expunge(
        rqctx: RequestContext<Self::Context>,
        path: Path<SledPath>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError>;

    /// Read the metrics of this process
    ///
    /// As Prometheus reads them (OpenMetrics text). While the database is away
    /// the answer is without what only the database knows.
    #[endpoint { method = GET, path = "/metrics" }]
    async fn metrics(
        rqctx: RequestContext<Self::Context>,
    ) -> Result<Response<Body>, HttpError>;
}
