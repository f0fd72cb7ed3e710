//! Quotas of silos, and what is used of them: handlers and views.

use db_model::{Name, SiloQuota};
use dropshot::{HttpError, HttpResponseOk, ResultsPage};

use super::extract::{Path, TypedBody};
use super::handler::{Admitted, of_user};
use super::pagination::{Everything, Listing, PagesById, PagesByNameOrId};
use super::types::{
    SiloPath, SiloQuotas, SiloQuotasUpdate, SiloUtilization, Utilization,
    VirtualResourceCounts,
};

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesById<Everything>,
) -> Result<HttpResponseOk<ResultsPage<SiloQuotas>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let quotas = app.silo_quota_list(&opctx, list.page()).await?;
    list.answer(quotas, SiloQuotas::from, |at, q| at.after(q.silo_id))
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<SiloPath>,
) -> Result<HttpResponseOk<SiloQuotas>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = path.into_inner().silo;
    let (_, quota) = app.silo_quota_view(&opctx, &which).await?;
    Ok(HttpResponseOk(quota.into()))
}

pub(super) async fn update(
    rqctx: Admitted,
    path: Path<SiloPath>,
    body: TypedBody<SiloQuotasUpdate>,
) -> Result<HttpResponseOk<SiloQuotas>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = path.into_inner().silo;
    let change = body.into_inner().try_into()?;
    let quota = app.silo_quota_update(&opctx, &which, change).await?;
    Ok(HttpResponseOk(quota.into()))
}

pub(super) async fn utilization(
    rqctx: Admitted,
) -> Result<HttpResponseOk<Utilization>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let quota = app.utilization(&opctx).await?;
    let (capacity, provisioned) = (limits(&quota), use_of(&quota));
    Ok(HttpResponseOk(Utilization { capacity, provisioned }))
}

pub(super) async fn utilization_list(
    rqctx: Admitted,
    query: PagesByNameOrId<Everything>,
) -> Result<HttpResponseOk<ResultsPage<SiloUtilization>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let rows = app.silo_utilization_list(&opctx, list.page()).await?;
    list.answer(rows, SiloUtilization::from, |at, silo| {
        at.after(&silo.silo_name, silo.silo_id)
    })
}

pub(super) async fn utilization_view(
    rqctx: Admitted,
    path: Path<SiloPath>,
) -> Result<HttpResponseOk<SiloUtilization>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = path.into_inner().silo;
    let row = app.silo_quota_view(&opctx, &which).await?;
    Ok(HttpResponseOk(row.into()))
}

impl From<SiloQuota> for SiloQuotas {
    fn from(row: SiloQuota) -> Self {
        Self {
            silo_id: row.silo_id,
            cpus: row.vcpus,
            memory: row.memory_bytes,
            storage: row.storage_bytes,
        }
    }
}

impl From<(Name, SiloQuota)> for SiloUtilization {
    fn from((silo_name, row): (Name, SiloQuota)) -> Self {
        Self {
            silo_id: row.silo_id,
            silo_name,
            allocated: limits(&row),
            provisioned: use_of(&row),
        }
    }
}

fn limits(row: &SiloQuota) -> VirtualResourceCounts {
    VirtualResourceCounts {
        cpus: row.vcpus,
        memory: row.memory_bytes,
        storage: row.storage_bytes,
    }
}

fn use_of(row: &SiloQuota) -> VirtualResourceCounts {
    VirtualResourceCounts {
        cpus: row.used_vcpus,
        memory: row.used_memory_bytes,
        storage: row.used_storage_bytes,
    }
}
