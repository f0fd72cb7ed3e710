//! Images: handlers and views.

use dropshot::{
    HttpError, HttpResponseAccepted, HttpResponseCreated, HttpResponseDeleted,
    HttpResponseOk, ResultsPage,
};

use super::extract::{Path, Query, TypedBody};
use super::handler::{Admitted, of_user};
use super::pagination::{Listing, PagesByNameOrId};
use super::types::{
    Image, ImageCreate, ImagePath, OptionalProjectSelector, ProjectSelector,
};
use crate::app::ImageSelector;

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesByNameOrId<OptionalProjectSelector>,
) -> Result<HttpResponseOk<ResultsPage<Image>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let project = list.within.project.as_ref();
    let found = app.image_list(&opctx, project, list.page()).await?;
    list.answer(found, Image::from, |at, i| at.after(&i.name, i.id))
}

pub(super) async fn create(
    rqctx: Admitted,
    query: Query<OptionalProjectSelector>,
    body: TypedBody<ImageCreate>,
) -> Result<HttpResponseCreated<Image>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let project = query.into_inner().project;
    let new = body.into_inner().try_into()?;
    let aside = || rqctx.step_aside();
    let made = app.image_create(&opctx, project.as_ref(), new, aside).await?;
    Ok(HttpResponseCreated(made.into()))
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<ImagePath>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseOk<Image>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let found = app.image_view(&opctx, &select(path, query)).await?;
    Ok(HttpResponseOk(found.into()))
}

pub(super) async fn delete(
    rqctx: Admitted,
    path: Path<ImagePath>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseDeleted, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    app.image_delete(&opctx, &select(path, query)).await?;
    Ok(HttpResponseDeleted())
}

pub(super) async fn promote(
    rqctx: Admitted,
    path: Path<ImagePath>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseAccepted<Image>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let image = app.image_promote(&opctx, &select(path, query)).await?;
    Ok(HttpResponseAccepted(image.into()))
}

pub(super) async fn demote(
    rqctx: Admitted,
    path: Path<ImagePath>,
    query: Query<ProjectSelector>,
) -> Result<HttpResponseAccepted<Image>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let image = path.into_inner().image;
    let project = query.into_inner().project;
    let image = app.image_demote(&opctx, &image, &project).await?;
    Ok(HttpResponseAccepted(image.into()))
}

fn select(
    path: Path<ImagePath>,
    query: Query<OptionalProjectSelector>,
) -> ImageSelector {
    ImageSelector {
        project: query.into_inner().project,
        image: path.into_inner().image,
    }
}

impl From<db_model::Image> for Image {
    fn from(row: db_model::Image) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            project_id: row.project_id,
            os: row.os,
            version: row.version,
            digest: None,
            block_size: row.block_size,
            size: row.size_bytes,
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}
