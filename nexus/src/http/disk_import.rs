//! The sending of a disk's blocks: handlers.

use dropshot::{HttpError, HttpResponseUpdatedNoContent};

use super::disk::select;
use super::extract::{Path, Query, TypedBody};
use super::handler::{Admitted, of_user};
use super::types::{
    DiskPath, FinalizeDisk, ImportBlocksBulkWrite, OptionalProjectSelector,
};

type Done = Result<HttpResponseUpdatedNoContent, HttpError>;

pub(super) async fn start(
    rqctx: Admitted,
    path: Path<DiskPath>,
    query: Query<OptionalProjectSelector>,
) -> Done {
    let (app, opctx) = of_user(&rqctx).await?;
    app.disk_import_start(&opctx, &select(path, query)).await?;
    Ok(HttpResponseUpdatedNoContent())
}

pub(super) async fn write(
    rqctx: Admitted,
    path: Path<DiskPath>,
    query: Query<OptionalProjectSelector>,
    body: TypedBody<ImportBlocksBulkWrite>,
) -> Done {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = select(path, query);
    let chunk = body.into_inner();
    let bytes = chunk.bytes()?;
    app.disk_import_write(&opctx, &which, chunk.offset, bytes).await?;
    Ok(HttpResponseUpdatedNoContent())
}

pub(super) async fn stop(
    rqctx: Admitted,
    path: Path<DiskPath>,
    query: Query<OptionalProjectSelector>,
) -> Done {
    let (app, opctx) = of_user(&rqctx).await?;
    app.disk_import_stop(&opctx, &select(path, query)).await?;
    Ok(HttpResponseUpdatedNoContent())
}

pub(super) async fn finalize(
    rqctx: Admitted,
    path: Path<DiskPath>,
    query: Query<OptionalProjectSelector>,
    body: TypedBody<FinalizeDisk>,
) -> Done {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = select(path, query);
    let name = body.into_inner().snapshot_name;
    let aside = || rqctx.step_aside();
    app.disk_finalize(&opctx, &which, name, aside).await?;
    Ok(HttpResponseUpdatedNoContent())
}
