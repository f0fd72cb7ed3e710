//! What was decided when a saga was asked for, kept with it.

use db_model::{ProjectId, SiloId, SiloUserId};
use serde::{Deserialize, Serialize};

use super::Action;
use crate::context::OpContext;

/// Who asked for what a saga does, and in which bounds that was allowed. A
/// saga's writes go no farther, whoever carries it on, and whenever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Granted {
    pub user: SiloUserId,
    pub silo: SiloId,
    /// `None`: the silo itself, for what is all its projects'.
    pub project: Option<ProjectId>,
    pub action: Action,
}

impl Granted {
    /// Was it allowed to do `action` in `project`?
    pub fn covers(&self, action: Action, project: Option<ProjectId>) -> bool {
        (self.action, self.project) == (action, project)
    }
}

impl OpContext {
    /// What is recorded of a decision that was just made, with
    /// [`OpContext::authorize`].
    pub fn granted(
        &self,
        action: Action,
        project: Option<ProjectId>,
    ) -> Granted {
        let (user, silo) = (self.user_id, self.silo_id);
        Granted { user, silo, project, action }
    }
}
