//! Start attempts.

use super::{App, InstanceSelector};
use crate::context::OpContext;
use crate::error::Error;
use db_model::{
    InstanceView, NameOrId, StartAttempt, StartAttemptId, StartOutcome,
};
use db_queries::{ById, ByTime, Page};
use std::time::Duration;
use tokio::time::Instant;

impl App {
    /// An instance's attempts, newest first. By id, a deleted instance's too.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn instance_start_attempt_list(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        page: Page<ByTime>,
    ) -> Result<Vec<StartAttempt>, Error> {
        let id = self.instance_ever(opctx, which).await?;
        let attempts = self.datastore.start_attempt_list(id, page).await?;
        Ok(attempts.into_iter().map(|a| self.shown_attempt(a)).collect())
    }

    /// An attempt. By the instance's id, a deleted instance's too.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn instance_start_attempt_view(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        attempt: StartAttemptId,
    ) -> Result<StartAttempt, Error> {
        let id = self.instance_ever(opctx, which).await?;
        let missing = super::about("start attempt", &NameOrId::Id(attempt.0));
        let found = self.datastore.start_attempt_view(id, attempt).await;
        Ok(self.shown_attempt(found.map_err(missing)?))
    }

    /// An attempt, once its outcome is another than `seen`, or as it is when
    /// `timeout` is over or this process shuts down. One that is over changes
    /// no more, and is answered at once.
    ///
    /// # Errors
    ///
    /// As [`App::instance_start_attempt_view`].
    pub async fn instance_start_attempt_wait_for_change(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        attempt: StartAttemptId,
        seen: StartOutcome,
        timeout: Duration,
    ) -> Result<StartAttempt, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            // Read before the attempt: its end raises this one.
            let look = self.look_up(opctx, which);
            let instance = self.look(which, look).await?.instance;
            let view = self.instance_start_attempt_view(opctx, which, attempt);
            let found = self.look_besides(view).await?;
            if found.outcome != seen || found.outcome != StartOutcome::Pending {
                return Ok(found);
            }
            let seen = instance.view_gen;
            if !self.changed(instance.id, seen, deadline).await {
                let view =
                    self.instance_start_attempt_view(opctx, which, attempt);
                return self.look_besides(view).await;
            }
        }
    }

    /// Those of a project's instances that should run and do not, now.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project.
    pub async fn start_failure_list(
        &self,
        opctx: &OpContext,
        project: &NameOrId,
        page: Page<ById>,
    ) -> Result<Vec<InstanceView>, Error> {
        let project = self.project_view(opctx, project).await?;
        let views = self.datastore.start_failure_list(project.id, page).await?;
        Ok(views.into_iter().map(|view| self.shown(view)).collect())
    }
}
