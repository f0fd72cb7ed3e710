//! Users of silos, their tokens and sessions: handlers and views.

use db_model::{ApiToken, NameOrId, SiloUser};
use dropshot::{
    HttpError, HttpResponseCreated, HttpResponseDeleted, HttpResponseOk,
    HttpResponseUpdatedNoContent, ResultsPage,
};

use crate::authz::{Action, Resource};

use super::extract::{Path, Query, TypedBody};
use super::handler::{Admitted, of_user};
use super::pagination::{Everything, Listing, PagesById};
use super::types::{
    ConsoleSession, CurrentUser, DeviceAccessToken, OptionalSiloSelector,
    SiloSelector, TokenPath, User, UserCreate, UserPassword, UserPath, UsersOf,
};
use crate::error::Error;

pub(super) async fn view(
    rqctx: Admitted,
) -> Result<HttpResponseOk<CurrentUser>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let (user, silo) = app.current_user(&opctx).await?;
    Ok(HttpResponseOk(CurrentUser {
        id: user.id,
        display_name: user.external_id,
        silo_id: silo.id,
        silo_name: silo.name,
        fleet_viewer: opctx.may(Action::View, Resource::Fleet),
        silo_admin: opctx.may(Action::ChangePolicy, Resource::Silo(silo.id)),
        time_created: user.time_created,
        time_modified: user.time_modified,
    }))
}

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesById<UsersOf>,
) -> Result<HttpResponseOk<ResultsPage<User>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    if let Some(group) = list.within.group {
        return Err(Error::not_found("group", &NameOrId::Id(group)).into());
    }
    let users = app.user_list(&opctx, list.page()).await?;
    list.answer(users, User::from, |at, user| at.after(user.id))
}

pub(super) async fn view_other(
    rqctx: Admitted,
    path: Path<UserPath>,
) -> Result<HttpResponseOk<User>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let user = app.user_view(&opctx, path.into_inner().user_id).await?;
    Ok(HttpResponseOk(user.into()))
}

pub(super) async fn list_of_silo(
    rqctx: Admitted,
    query: PagesById<OptionalSiloSelector>,
) -> Result<HttpResponseOk<ResultsPage<User>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let silo = list.within.silo.as_ref();
    let users = app.silo_user_list(&opctx, silo, list.page()).await?;
    list.answer(users, User::from, |at, user| at.after(user.id))
}

pub(super) async fn view_of_silo(
    rqctx: Admitted,
    path: Path<UserPath>,
    query: Query<SiloSelector>,
) -> Result<HttpResponseOk<User>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let silo = query.into_inner().silo;
    let id = path.into_inner().user_id;
    let user = app.silo_user_view(&opctx, &silo, id).await?;
    Ok(HttpResponseOk(user.into()))
}

pub(super) async fn create_local(
    rqctx: Admitted,
    query: Query<SiloSelector>,
    body: TypedBody<UserCreate>,
) -> Result<HttpResponseCreated<User>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let silo = query.into_inner().silo;
    let UserCreate { external_id, password } = body.into_inner();
    let password = password.try_into()?;
    let user =
        app.local_user_create(&opctx, &silo, external_id, password).await?;
    Ok(HttpResponseCreated(user.into()))
}

pub(super) async fn delete_local(
    rqctx: Admitted,
    path: Path<UserPath>,
    query: Query<SiloSelector>,
) -> Result<HttpResponseDeleted, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let silo = query.into_inner().silo;
    app.local_user_delete(&opctx, &silo, path.into_inner().user_id).await?;
    Ok(HttpResponseDeleted())
}

pub(super) async fn set_local_password(
    rqctx: Admitted,
    path: Path<UserPath>,
    query: Query<SiloSelector>,
    body: TypedBody<UserPassword>,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let silo = query.into_inner().silo;
    let id = path.into_inner().user_id;
    let password = body.into_inner().try_into()?;
    app.local_user_set_password(&opctx, &silo, id, password).await?;
    Ok(HttpResponseUpdatedNoContent())
}

pub(super) async fn own_tokens(
    rqctx: Admitted,
    query: PagesById<Everything>,
) -> Result<HttpResponseOk<ResultsPage<DeviceAccessToken>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let user = opctx.user_id;
    let tokens = app.token_list(&opctx, user, list.page()).await?;
    list.answer(tokens, DeviceAccessToken::from, |at, t| at.after(t.id))
}

pub(super) async fn delete_own_token(
    rqctx: Admitted,
    path: Path<TokenPath>,
) -> Result<HttpResponseDeleted, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    app.token_delete(&opctx, path.into_inner().token_id).await?;
    Ok(HttpResponseDeleted())
}

pub(super) async fn tokens(
    rqctx: Admitted,
    path: Path<UserPath>,
    query: PagesById<Everything>,
) -> Result<HttpResponseOk<ResultsPage<DeviceAccessToken>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let user = path.into_inner().user_id;
    let tokens = app.token_list(&opctx, user, list.page()).await?;
    list.answer(tokens, DeviceAccessToken::from, |at, t| at.after(t.id))
}

pub(super) async fn sessions(
    rqctx: Admitted,
    path: Path<UserPath>,
    query: PagesById<Everything>,
) -> Result<HttpResponseOk<ResultsPage<ConsoleSession>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let user = path.into_inner().user_id;
    let sessions = app.session_list(&opctx, user, list.page()).await?;
    list.answer(sessions, ConsoleSession::from, |at, s| at.after(s.id))
}

pub(super) async fn logout(
    rqctx: Admitted,
    path: Path<UserPath>,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    app.user_logout(&opctx, path.into_inner().user_id).await?;
    Ok(HttpResponseUpdatedNoContent())
}

impl From<SiloUser> for User {
    fn from(row: SiloUser) -> Self {
        Self {
            id: row.id,
            display_name: row.external_id,
            silo_id: row.silo_id,
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}

impl From<ApiToken> for DeviceAccessToken {
    fn from(row: ApiToken) -> Self {
        Self {
            id: row.id,
            time_created: row.time_created,
            time_expires: row.time_expires,
        }
    }
}

impl From<db_model::ConsoleSession> for ConsoleSession {
    fn from(row: db_model::ConsoleSession) -> Self {
        Self {
            id: row.id,
            time_created: row.time_created,
            time_last_used: row.time_last_used,
        }
    }
}
