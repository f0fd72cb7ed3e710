//! Placement: dry runs.

use db_model::StartFailure;
use dropshot::{HttpError, HttpResponseOk};

use super::extract::{Path, Query};
use super::handler::{Admitted, of_user};
use super::types::{InstancePath, OptionalProjectSelector, PlacementCheck};
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

impl From<Option<StartFailure>> for PlacementCheck {
    fn from(failure: Option<StartFailure>) -> Self {
        Self { would_start: failure.is_none(), failure }
    }
}
