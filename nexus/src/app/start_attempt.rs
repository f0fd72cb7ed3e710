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
        Ok(self.datastore.start_attempt_list(id, page).await?)
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
        self.datastore
            .start_attempt_view(id, attempt)
            .await
            .map_err(super::about("start attempt", &NameOrId::Id(attempt.0)))
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
        Ok(self.datastore.start_failure_list(project.id, page).await?)
    }
}
