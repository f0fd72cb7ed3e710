//! Placement, as users may know of it: would an instance start, and why not.

use super::{App, InstanceSelector};
use crate::context::OpContext;
use crate::error::Error;
use crate::placement::explained;
use db_model::{
    InstanceView, NameOrId, NewInstance, StartAttempt, StartFailure,
};
use db_queries::Imagined;

impl App {
    /// Why an instance would not start, if it were started now; `None` if it
    /// would. What it holds itself counts as free. Reserves nothing.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn instance_placement(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
    ) -> Result<Option<StartFailure>, Error> {
        let id = self.live(opctx, which).await?.instance.id;
        let case = self.datastore.placement_case(id).await?;
        Ok(explained(case).await.map(|failure| self.told(failure)))
    }

    /// Why an instance like this would not start, if it were made and started
    /// now; `None` if it would. Makes nothing.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project, or group, or disk; `InvalidValue`, as for
    /// [`App::instance_create`].
    pub async fn placement_check(
        &self,
        opctx: &OpContext,
        project: &NameOrId,
        new: NewInstance,
    ) -> Result<Option<StartFailure>, Error> {
        let project = self.project_view(opctx, project).await?.id;
        let joins = self.joins(opctx, project, &new).await?;
        let imagined = Imagined {
            project,
            ncpus: new.ncpus,
            memory: new.memory,
            cpu_platform: new.cpu_platform,
            groups: joins.groups,
            new_disks: joins.made,
            disks: joins.attached,
        };
        let case = self.datastore.placement_case_of(imagined).await?;
        Ok(explained(case).await.map(|failure| self.told(failure)))
    }

    /// What users are told of a failure.
    pub(super) fn told(&self, failure: StartFailure) -> StartFailure {
        match self.placement_detail {
            true => failure,
            false => failure.without_counts(),
        }
    }

    /// What users are shown of an attempt.
    pub(super) fn shown_attempt(&self, attempt: StartAttempt) -> StartAttempt {
        match self.placement_detail {
            true => attempt,
            false => attempt.without_counts(),
        }
    }

    /// What users are shown of an instance.
    pub(super) fn shown(&self, mut view: InstanceView) -> InstanceView {
        let latest = view.latest_attempt.take();
        view.latest_attempt = latest.map(|a| self.shown_attempt(a));
        view
    }
}
