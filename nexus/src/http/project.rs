//! Projects: handlers and views.

use dropshot::{
    HttpError, HttpResponseCreated, HttpResponseDeleted, HttpResponseOk,
    ResultsPage,
};

use super::extract::{Path, TypedBody};
use super::handler::{Admitted, of_user};
use super::pagination::{Everything, Listing, PagesByNameOrId};
use super::types::{Project, ProjectCreate, ProjectPath, ProjectUpdate};

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesByNameOrId<Everything>,
) -> Result<HttpResponseOk<ResultsPage<Project>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let projects = app.project_list(&opctx, list.page()).await?;
    list.answer(projects, Project::from, |at, p| at.after(&p.name, p.id))
}

pub(super) async fn create(
    rqctx: Admitted,
    body: TypedBody<ProjectCreate>,
) -> Result<HttpResponseCreated<Project>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let new = body.into_inner().try_into()?;
    let project = app.project_create(&opctx, new).await?;
    Ok(HttpResponseCreated(project.into()))
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<ProjectPath>,
) -> Result<HttpResponseOk<Project>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let project = app.project_view(&opctx, &path.into_inner().project).await?;
    Ok(HttpResponseOk(project.into()))
}

pub(super) async fn update(
    rqctx: Admitted,
    path: Path<ProjectPath>,
    body: TypedBody<ProjectUpdate>,
) -> Result<HttpResponseOk<Project>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = path.into_inner().project;
    let change = body.into_inner().try_into()?;
    let project = app.project_update(&opctx, &which, change).await?;
    Ok(HttpResponseOk(project.into()))
}

pub(super) async fn delete(
    rqctx: Admitted,
    path: Path<ProjectPath>,
) -> Result<HttpResponseDeleted, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    app.project_delete(&opctx, &path.into_inner().project).await?;
    Ok(HttpResponseDeleted())
}

impl From<db_model::Project> for Project {
    fn from(row: db_model::Project) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}
