//! SSH keys, and those of an instance: handlers and views.

use dropshot::{
    HttpError, HttpResponseCreated, HttpResponseDeleted, HttpResponseOk,
    ResultsPage,
};

use super::extract::{Path, TypedBody};
use super::handler::{Admitted, of_user};
use super::pagination::{Everything, Listing, PagesByNameOrId};
use super::types::{
    InstancePath, OptionalProjectSelector, SshKey, SshKeyCreate, SshKeyPath,
};
use crate::app::InstanceSelector;

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesByNameOrId<Everything>,
) -> Result<HttpResponseOk<ResultsPage<SshKey>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let keys = app.ssh_key_list(&opctx, list.page()).await?;
    list.answer(keys, SshKey::from, |at, key| at.after(&key.name, key.id))
}

pub(super) async fn create(
    rqctx: Admitted,
    body: TypedBody<SshKeyCreate>,
) -> Result<HttpResponseCreated<SshKey>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let new = body.into_inner().try_into()?;
    let key = app.ssh_key_create(&opctx, new).await?;
    Ok(HttpResponseCreated(key.into()))
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<SshKeyPath>,
) -> Result<HttpResponseOk<SshKey>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let key = app.ssh_key_view(&opctx, &path.into_inner().ssh_key).await?;
    Ok(HttpResponseOk(key.into()))
}

pub(super) async fn delete(
    rqctx: Admitted,
    path: Path<SshKeyPath>,
) -> Result<HttpResponseDeleted, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    app.ssh_key_delete(&opctx, &path.into_inner().ssh_key).await?;
    Ok(HttpResponseDeleted())
}

pub(super) async fn of_instance(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: PagesByNameOrId<OptionalProjectSelector>,
) -> Result<HttpResponseOk<ResultsPage<SshKey>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let which = InstanceSelector {
        project: list.within.project.clone(),
        instance: path.into_inner().instance,
    };
    let keys = app.instance_ssh_key_list(&opctx, &which, list.page()).await?;
    list.answer(keys, SshKey::from, |at, key| at.after(&key.name, key.id))
}

impl From<db_model::SshKey> for SshKey {
    fn from(row: db_model::SshKey) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            silo_user_id: row.silo_user_id,
            public_key: row.public_key,
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}
