//! Affinity and anti-affinity groups: handlers, each of them for both kinds, and
//! views.

use db_model::{AffinityGroupKind, NameOrId};
use dropshot::{
    HttpError, HttpResponseCreated, HttpResponseDeleted, HttpResponseOk,
    ResultsPage,
};

use super::extract::{Path, Query, TypedBody};
use super::handler::{Admitted, of_user};
use super::pagination::{Listing, PagesByNameOrId};
use super::types::{
    AffinityGroup, AffinityGroupCreate, AffinityGroupMember,
    AffinityGroupUpdate, FailureDomain, InstancePath, OptionalProjectSelector,
    ProjectSelector, WhichGroup, WhichGroupMember,
};
use crate::app::{AffinityGroupSelector, InstanceSelector};

pub(super) async fn list(
    rqctx: Admitted,
    kind: AffinityGroupKind,
    query: PagesByNameOrId<ProjectSelector>,
) -> Result<HttpResponseOk<ResultsPage<AffinityGroup>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let project = &list.within.project;
    let groups =
        app.affinity_group_list(&opctx, kind, project, list.page()).await?;
    list.answer(groups, AffinityGroup::from, |at, g| at.after(&g.name, g.id))
}

pub(super) async fn create(
    rqctx: Admitted,
    kind: AffinityGroupKind,
    query: Query<ProjectSelector>,
    body: TypedBody<AffinityGroupCreate>,
) -> Result<HttpResponseCreated<AffinityGroup>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let project = query.into_inner().project;
    let new = body.into_inner().try_into()?;
    let group = app.affinity_group_create(&opctx, kind, &project, new).await?;
    Ok(HttpResponseCreated(group.into()))
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<impl Into<WhichGroup>>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseOk<AffinityGroup>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = select(path.into_inner(), query.into_inner().project);
    let group = app.affinity_group_view(&opctx, &which).await?;
    Ok(HttpResponseOk(group.into()))
}

pub(super) async fn update(
    rqctx: Admitted,
    path: Path<impl Into<WhichGroup>>,
    query: Query<OptionalProjectSelector>,
    body: TypedBody<AffinityGroupUpdate>,
) -> Result<HttpResponseOk<AffinityGroup>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = select(path.into_inner(), query.into_inner().project);
    let change = body.into_inner().try_into()?;
    let group = app.affinity_group_update(&opctx, &which, change).await?;
    Ok(HttpResponseOk(group.into()))
}

pub(super) async fn delete(
    rqctx: Admitted,
    path: Path<impl Into<WhichGroup>>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseDeleted, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = select(path.into_inner(), query.into_inner().project);
    app.affinity_group_delete(&opctx, &which).await?;
    Ok(HttpResponseDeleted())
}

pub(super) async fn member_list(
    rqctx: Admitted,
    path: Path<impl Into<WhichGroup>>,
    query: PagesByNameOrId<OptionalProjectSelector>,
) -> Result<HttpResponseOk<ResultsPage<AffinityGroupMember>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let which = select(path.into_inner(), list.within.project.clone());
    let members =
        app.affinity_group_member_list(&opctx, &which, list.page()).await?;
    list.answer(members, AffinityGroupMember::from, |at, member| {
        let AffinityGroupMember::Instance { id, name, .. } = member;
        at.after(name, *id)
    })
}

pub(super) async fn member_view(
    rqctx: Admitted,
    path: Path<impl Into<WhichGroupMember>>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseOk<AffinityGroupMember>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let WhichGroupMember { of, instance } = path.into_inner().into();
    let which = select(of, query.into_inner().project);
    let member =
        app.affinity_group_member_view(&opctx, &which, &instance).await?;
    Ok(HttpResponseOk(member.into()))
}

pub(super) async fn member_add(
    rqctx: Admitted,
    path: Path<impl Into<WhichGroupMember>>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseCreated<AffinityGroupMember>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let WhichGroupMember { of, instance } = path.into_inner().into();
    let which = select(of, query.into_inner().project);
    let member =
        app.affinity_group_member_add(&opctx, &which, &instance).await?;
    Ok(HttpResponseCreated(member.into()))
}

pub(super) async fn member_remove(
    rqctx: Admitted,
    path: Path<impl Into<WhichGroupMember>>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseDeleted, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let WhichGroupMember { of, instance } = path.into_inner().into();
    let which = select(of, query.into_inner().project);
    app.affinity_group_member_remove(&opctx, &which, &instance).await?;
    Ok(HttpResponseDeleted())
}

pub(super) async fn of_instance(
    rqctx: Admitted,
    kind: AffinityGroupKind,
    path: Path<InstancePath>,
    query: PagesByNameOrId<OptionalProjectSelector>,
) -> Result<HttpResponseOk<ResultsPage<AffinityGroup>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let which = InstanceSelector {
        project: list.within.project.clone(),
        instance: path.into_inner().instance,
    };
    let groups = app
        .instance_affinity_group_list(&opctx, kind, &which, list.page())
        .await?;
    list.answer(groups, AffinityGroup::from, |at, g| at.after(&g.name, g.id))
}

fn select(
    which: impl Into<WhichGroup>,
    project: Option<NameOrId>,
) -> AffinityGroupSelector {
    let WhichGroup { kind, group } = which.into();
    AffinityGroupSelector { kind, project, group }
}

impl From<db_model::AffinityGroup> for AffinityGroup {
    fn from(row: db_model::AffinityGroup) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            project_id: row.project_id,
            policy: row.policy,
            failure_domain: FailureDomain::Sled,
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}

impl From<db_model::AffinityGroupMember> for AffinityGroupMember {
    fn from(member: db_model::AffinityGroupMember) -> Self {
        let db_model::AffinityGroupMember { id, name, run_state } = member;
        Self::Instance { id, name, run_state }
    }
}
