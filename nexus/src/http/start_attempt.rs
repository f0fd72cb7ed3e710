//! Start attempts: handlers and views.

use dropshot::{HttpError, HttpResponseOk, ResultsPage};

use super::extract::{Path, Query};
use super::handler::{Admitted, of_user};
use super::instance::wait_time;
use super::pagination::{Listing, PagesByTime};
use super::types::{
    InstancePath, OptionalProjectSelector, StartAttempt, StartAttemptPath,
    StartAttemptViewParams,
};
use crate::app::InstanceSelector;

pub(super) async fn list(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: PagesByTime<OptionalProjectSelector>,
) -> Result<HttpResponseOk<ResultsPage<StartAttempt>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let which = InstanceSelector {
        project: list.within.project.clone(),
        instance: path.into_inner().instance,
    };
    let attempts =
        app.instance_start_attempt_list(&opctx, &which, list.page()).await?;
    list.answer(attempts, StartAttempt::from, |at, attempt| {
        at.before(attempt.time_started, attempt.id)
    })
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<StartAttemptPath>,
    query: Query<StartAttemptViewParams>,
) -> Result<HttpResponseOk<StartAttempt>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let StartAttemptPath { instance, attempt } = path.into_inner();
    let query = query.into_inner();
    let timeout = wait_time(query.wait_seconds)?;
    let which = InstanceSelector { project: query.project, instance };
    let attempt = match query.wait_for_change {
        None => {
            app.instance_start_attempt_view(&opctx, &which, attempt).await?
        }
        Some(seen) => {
            rqctx.wait_aside(timeout)?;
            app.instance_start_attempt_wait_for_change(
                &opctx, &which, attempt, seen, timeout,
            )
            .await?
        }
    };
    Ok(HttpResponseOk(attempt.into()))
}

impl From<db_model::StartAttempt> for StartAttempt {
    fn from(row: db_model::StartAttempt) -> Self {
        Self {
            failure: row.failure(),
            id: row.id,
            instance_id: row.instance_id,
            reason: row.reason,
            requested_by: row.requested_by,
            time_started: row.time_started,
            time_ended: row.time_ended,
            outcome: row.outcome,
        }
    }
}
