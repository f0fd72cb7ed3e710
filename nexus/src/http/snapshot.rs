//! Snapshots: handlers and views.

use dropshot::{
    HttpError, HttpResponseCreated, HttpResponseDeleted, HttpResponseOk,
    ResultsPage,
};

use super::extract::{Path, Query, TypedBody};
use super::handler::{Admitted, of_user};
use super::pagination::{Listing, PagesByNameOrId};
use super::types::{
    OptionalProjectSelector, ProjectSelector, Snapshot, SnapshotCreate,
    SnapshotPath, SnapshotState,
};
use crate::app::SnapshotSelector;

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesByNameOrId<ProjectSelector>,
) -> Result<HttpResponseOk<ResultsPage<Snapshot>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let project = &list.within.project;
    let found = app.snapshot_list(&opctx, project, list.page()).await?;
    list.answer(found, Snapshot::from, |at, s| at.after(&s.name, s.id))
}

pub(super) async fn create(
    rqctx: Admitted,
    query: Query<ProjectSelector>,
    body: TypedBody<SnapshotCreate>,
) -> Result<HttpResponseCreated<Snapshot>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let project = query.into_inner().project;
    let wish = body.into_inner().try_into()?;
    let aside = || rqctx.step_aside();
    let made = app.snapshot_create(&opctx, &project, wish, aside).await?;
    Ok(HttpResponseCreated(made.into()))
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<SnapshotPath>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseOk<Snapshot>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let found = app.snapshot_view(&opctx, &select(path, query)).await?;
    Ok(HttpResponseOk(found.into()))
}

pub(super) async fn delete(
    rqctx: Admitted,
    path: Path<SnapshotPath>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseDeleted, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    app.snapshot_delete(&opctx, &select(path, query)).await?;
    Ok(HttpResponseDeleted())
}

fn select(
    path: Path<SnapshotPath>,
    query: Query<OptionalProjectSelector>,
) -> SnapshotSelector {
    SnapshotSelector {
        project: query.into_inner().project,
        snapshot: path.into_inner().snapshot,
    }
}

impl From<db_model::Snapshot> for Snapshot {
    fn from(row: db_model::Snapshot) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            project_id: row.project_id,
            disk_id: row.disk_id,
            size: row.size_bytes,
            state: if row.made {
                SnapshotState::Ready
            } else {
                SnapshotState::Creating
            },
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}
