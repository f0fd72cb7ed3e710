//! Silos: handlers and views.

use dropshot::{
    HttpError, HttpResponseCreated, HttpResponseDeleted, HttpResponseOk,
    ResultsPage,
};

use super::extract::{Path, TypedBody};
use super::handler::{Admitted, of_user};
use super::pagination::{Everything, Listing, PagesByNameOrId};
use super::types::{
    Silo, SiloAuthSettings, SiloAuthSettingsUpdate, SiloCreate,
    SiloIdentityMode, SiloPath,
};

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesByNameOrId<Everything>,
) -> Result<HttpResponseOk<ResultsPage<Silo>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let silos = app.silo_list(&opctx, list.page()).await?;
    list.answer(silos, Silo::from, |at, silo| at.after(&silo.name, silo.id))
}

pub(super) async fn create(
    rqctx: Admitted,
    body: TypedBody<SiloCreate>,
) -> Result<HttpResponseCreated<Silo>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let new = body.into_inner().try_into()?;
    let silo = app.silo_create(&opctx, new).await?;
    Ok(HttpResponseCreated(silo.into()))
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<SiloPath>,
) -> Result<HttpResponseOk<Silo>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let silo = app.silo_view(&opctx, &path.into_inner().silo).await?;
    Ok(HttpResponseOk(silo.into()))
}

pub(super) async fn delete(
    rqctx: Admitted,
    path: Path<SiloPath>,
) -> Result<HttpResponseDeleted, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    app.silo_delete(&opctx, &path.into_inner().silo).await?;
    Ok(HttpResponseDeleted())
}

pub(super) async fn auth_settings_view(
    rqctx: Admitted,
) -> Result<HttpResponseOk<SiloAuthSettings>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let silo = app.auth_settings_view(&opctx).await?;
    Ok(HttpResponseOk(silo.into()))
}

pub(super) async fn auth_settings_update(
    rqctx: Admitted,
    body: TypedBody<SiloAuthSettingsUpdate>,
) -> Result<HttpResponseOk<SiloAuthSettings>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let secs = body.into_inner().device_token_max_ttl_seconds.0;
    let secs = secs.map(|secs| i64::from(secs.get()));
    let silo = app.auth_settings_update(&opctx, secs).await?;
    Ok(HttpResponseOk(silo.into()))
}

impl From<db_model::Silo> for Silo {
    fn from(row: db_model::Silo) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            discoverable: row.discoverable,
            identity_mode: SiloIdentityMode::LocalOnly,
            // Written by nobody but us.
            mapped_fleet_roles: serde_json::from_value(row.mapped_fleet_roles)
                .unwrap_or_default(),
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}

impl From<db_model::Silo> for SiloAuthSettings {
    fn from(row: db_model::Silo) -> Self {
        let secs = row.device_token_max_ttl_secs;
        Self {
            silo_id: row.id,
            device_token_max_ttl_seconds: secs
                .map(|secs| u32::try_from(secs).unwrap_or(u32::MAX)),
        }
    }
}
