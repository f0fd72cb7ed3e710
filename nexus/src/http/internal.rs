//! The internal API: what sleds tell, handed on.

use dropshot::{
    Body, FreeformBody, HttpError, HttpResponse, HttpResponseOk,
    HttpResponseUpdatedNoContent,
};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use sled_agent_client::nexus_types::{
    SledPath, SledRegistration, SledStatus, SledVmmPath,
};
use sled_agent_client::{
    CertificateIssued, CertificateRequest, NO_SUCH_VMM, SLED_UNKNOWN, VmmReport,
};

use super::extract::{Path, TypedBody};
use super::handler::{
    ApiContext, Request, of_metrics, of_operator, of_sled, timed,
};
use super::internal_api::InternalApi;
use crate::error::Error;
use crate::metrics;

/// The internal API over an [`App`](crate::app::App).
#[derive(Debug)]
pub enum InternalApiImpl {}

impl InternalApi for InternalApiImpl {
    type Context = ApiContext;

    async fn sled_register(
        rqctx: Request,
        path: Path<SledPath>,
        body: TypedBody<SledRegistration>,
    ) -> Result<HttpResponseOk<SledStatus>, HttpError> {
        timed(&rqctx, async {
            let sled_id = path.into_inner().sled_id.into();
            let app = of_sled(&rqctx, sled_id)?;
            let status = app.sled_register(sled_id, body.into_inner()).await?;
            Ok(HttpResponseOk(status))
        })
        .await
    }

    async fn sled_heartbeat(
        rqctx: Request,
        path: Path<SledPath>,
        body: TypedBody<SledRegistration>,
    ) -> Result<HttpResponseOk<SledStatus>, HttpError> {
        timed(&rqctx, async {
            let sled_id = path.into_inner().sled_id.into();
            let app = of_sled(&rqctx, sled_id)?;
            let status = app.sled_heartbeat(sled_id, body.into_inner()).await;
            Ok(HttpResponseOk(status.map_err(|e| missing(SLED_UNKNOWN, e))?))
        })
        .await
    }

    async fn vmm_report(
        rqctx: Request,
        path: Path<SledVmmPath>,
        body: TypedBody<VmmReport>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError> {
        timed(&rqctx, async {
            let SledVmmPath { sled_id, vmm_id } = path.into_inner();
            let app = of_sled(&rqctx, sled_id.into())?;
            let report = body.into_inner();
            if report.vmm_id != vmm_id {
                let message = "the path and the report name different VMMs";
                return Err(Error::invalid_value("vmm_id", message).into());
            }
            let taken = app.vmm_report(sled_id.into(), report).await;
            taken.map_err(|e| missing(NO_SUCH_VMM, e))?;
            Ok(HttpResponseUpdatedNoContent())
        })
        .await
    }

    async fn sled_certificate(
        rqctx: Request,
        path: Path<SledPath>,
        body: TypedBody<CertificateRequest>,
    ) -> Result<HttpResponseOk<CertificateIssued>, HttpError> {
        timed(&rqctx, async {
            let sled_id = path.into_inner().sled_id.into();
            let app = of_sled(&rqctx, sled_id)?;
            let request = body.into_inner();
            let issued = app.sled_certificate(sled_id, &request).await?;
            Ok(HttpResponseOk(issued))
        })
        .await
    }

    async fn sled_expunge(
        rqctx: Request,
        path: Path<SledPath>,
    ) -> Result<HttpResponseUpdatedNoContent, HttpError> {
        timed(&rqctx, async {
            let app = of_operator(&rqctx)?;
            let sled_id = path.into_inner().sled_id.into();
            let done = app.sled_expunge(sled_id).await;
            done.map_err(|e| missing(SLED_UNKNOWN, e))?;
            Ok(HttpResponseUpdatedNoContent())
        })
        .await
    }

    async fn metrics(rqctx: Request) -> Result<Response<Body>, HttpError> {
        let answer = timed(&rqctx, async {
            of_metrics(&rqctx)?;
            let text = rqctx.context().exporter.text().await;
            let text = text.map_err(Error::internal)?;
            Ok(HttpResponseOk(FreeformBody(text.into())))
        });
        let mut answer = answer.await?.to_result()?;
        answer.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static(metrics::CONTENT_TYPE),
        );
        Ok(answer)
    }
}

/// The answer to `error`, where "not found" is something that a sled acts on
/// and so knows by `code`.
fn missing(code: &str, error: Error) -> HttpError {
    let not_found = matches!(error, Error::NotFound { .. });
    let mut answer = HttpError::from(error);
    if not_found {
        answer.error_code = Some(code.to_owned());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_gets_the_code_of_what_is_missing() {
        let lookup = "id \"x\"".to_owned();
        let error = Error::NotFound { kind: "vmm", lookup };
        let answer = missing(NO_SUCH_VMM, error);
        assert_eq!(answer.status_code.as_status().as_u16(), 404);
        assert_eq!(answer.error_code.as_deref(), Some("NO_SUCH_VMM"));

        let answer = missing(NO_SUCH_VMM, Error::internal("boom"));
        assert_eq!(answer.error_code.as_deref(), Some("Internal"));
    }
}
