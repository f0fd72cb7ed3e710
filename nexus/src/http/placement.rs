//! Placement: dry runs.

use db_model::StartFailure;
use dropshot::{HttpError, HttpResponseOk};

use super::extract::{Path, Query, TypedBody};
use super::handler::{Admitted, of_user};
use super::types::{
    InstanceCreate, InstancePath, OptionalProjectSelector, PlacementCheck,
    ProjectSelector,
};
use crate::app::InstanceSelector;

pub(super) async fn of_instance(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<OptionalProjectSelector>,
) -> Result<HttpResponseOk<PlacementCheck>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let which = InstanceSelector {
        project: query.into_inner().project,
        instance: path.into_inner().instance,
    };
    let failure = app.instance_placement(&opctx, &which).await?;
    Ok(HttpResponseOk(failure.into()))
}

pub(super) async fn check(
    rqctx: Admitted,
    query: Query<ProjectSelector>,
    body: TypedBody<InstanceCreate>,
) -> Result<HttpResponseOk<PlacementCheck>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let project = query.into_inner().project;
    let new = body.into_inner().try_into()?;
    let failure = app.placement_check(&opctx, &project, new).await?;
    Ok(HttpResponseOk(failure.into()))
}

impl From<Option<StartFailure>> for PlacementCheck {
    fn from(failure: Option<StartFailure>) -> Self {
        Self { would_start: failure.is_none(), failure }
    }
}
