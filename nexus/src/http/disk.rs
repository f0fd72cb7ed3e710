//! Disks, and those of an instance: handlers and views.

use db_model::{DiskBackend, InstanceId, NameOrId};
use dropshot::{
    HttpError, HttpResponseAccepted, HttpResponseCreated, HttpResponseDeleted,
    HttpResponseOk, ResultsPage,
};

use super::extract::{Path, Query, TypedBody};
use super::handler::{Admitted, of_user};
use super::pagination::{Listing, PagesByNameOrId};
use super::types::{
    Disk, DiskCreate, DiskPath, DiskState, DiskType, InstancePath,
    OptionalProjectSelector, ProjectSelector,
};
use crate::app::{DiskSelector, InstanceSelector};

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesByNameOrId<ProjectSelector>,
) -> Result<HttpResponseOk<ResultsPage<Disk>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let project = &list.within.project;
    let disks = app.disk_list(&opctx, project, list.page()).await?;
    list.answer(disks, Disk::from, |at, d| at.after(&d.name, d.id))
}

pub(super) async fn create(
    rqctx: Admitted,
    query: Query<ProjectSelector>,
    body: TypedBody<DiskCreate>,
) -> Result<HttpResponseCreated<Disk>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let project = query.into_inner().project;
    let new = body.into_inner().try_into()?;
    let aside = || rqctx.step_aside();
    let disk = app.disk_create(&opctx, &project, new, aside).await?;
    Ok(HttpResponseCreated(disk.into()))
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<DiskPath>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseOk<Disk>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let disk = app.disk_view(&opctx, &select(path, query)).await?;
    Ok(HttpResponseOk(disk.into()))
}

pub(super) async fn delete(
    rqctx: Admitted,
    path: Path<DiskPath>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseDeleted, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    app.disk_delete(&opctx, &select(path, query)).await?;
    Ok(HttpResponseDeleted())
}

pub(super) async fn list_of_instance(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: PagesByNameOrId<OptionalProjectSelector>,
) -> Result<HttpResponseOk<ResultsPage<Disk>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let which = of_instance(path, list.within.project.clone());
    let disks = app.instance_disk_list(&opctx, &which, list.page()).await?;
    list.answer(disks, Disk::from, |at, d| at.after(&d.name, d.id))
}

pub(super) async fn attach(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<OptionalProjectSelector>,
    body: TypedBody<DiskPath>,
) -> Result<HttpResponseAccepted<Disk>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = of_instance(path, query.into_inner().project);
    let disk = body.into_inner().disk;
    let disk = app.instance_disk_attach(&opctx, &which, &disk).await?;
    Ok(HttpResponseAccepted(disk.into()))
}

pub(super) async fn detach(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<OptionalProjectSelector>,
    body: TypedBody<DiskPath>,
) -> Result<HttpResponseAccepted<Disk>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = of_instance(path, query.into_inner().project);
    let disk = body.into_inner().disk;
    let disk = app.instance_disk_detach(&opctx, &which, &disk).await?;
    Ok(HttpResponseAccepted(disk.into()))
}

pub(super) fn select(
    path: Path<DiskPath>,
    query: Query<OptionalProjectSelector>,
) -> DiskSelector {
    DiskSelector {
        project: query.into_inner().project,
        disk: path.into_inner().disk,
    }
}

fn of_instance(
    path: Path<InstancePath>,
    project: Option<NameOrId>,
) -> InstanceSelector {
    InstanceSelector { project, instance: path.into_inner().instance }
}

impl From<db_model::Disk> for Disk {
    fn from(row: db_model::Disk) -> Self {
        Self {
            id: row.id,
            device_path: format!("/mnt/{}", row.name),
            name: row.name,
            description: row.description,
            project_id: row.project_id,
            size: row.size_bytes,
            block_size: row.block_size,
            disk_type: match row.backend {
                DiskBackend::Local => DiskType::Local,
                DiskBackend::Distributed => DiskType::Distributed,
            },
            state: state(row.state, row.instance_id),
            read_only: row.read_only,
            image_id: row.image_id,
            snapshot_id: row.snapshot_id,
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}

/// What is done with a disk: whether its contents are there comes first.
fn state(
    blocks: db_model::DiskState,
    instance: Option<InstanceId>,
) -> DiskState {
    use db_model::DiskState as Blocks;
    match (blocks, instance) {
        (Blocks::Creating, _) => DiskState::Creating,
        (Blocks::ImportReady, _) => DiskState::ImportReady,
        (Blocks::ImportingFromBulkWrites, _) => {
            DiskState::ImportingFromBulkWrites
        }
        (Blocks::Finalizing, _) => DiskState::Finalizing,
        (Blocks::Faulted, _) => DiskState::Faulted,
        (Blocks::Ready, None) => DiskState::Detached,
        (Blocks::Ready, Some(instance)) => DiskState::Attached { instance },
    }
}
