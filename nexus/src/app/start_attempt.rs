//! Start attempts.

use super::{App, InstanceSelector};
use crate::context::OpContext;
use crate::error::Error;
use db_model::{InstanceView, NameOrId, StartAttempt, StartAttemptId};
use db_queries::{ById, ByTime, Page};

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
