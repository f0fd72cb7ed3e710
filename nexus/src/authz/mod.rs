//! Who may do what, decided in one place: [`OpContext::authorize`] asks the
//! policies (`nexus.cedar`), and nothing else in Nexus looks at a role.

mod granted;
mod policies;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use db_model::{FLEET_ID, RoleName, RoleResource, SiloId, SiloUserId};
use uuid::Uuid;

use crate::context::OpContext;
use crate::error::Error;

pub use granted::Granted;
pub use policies::check;

/// What is done to a [`Resource`].
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Look at it, and at what is in it. Of a silo: at its users and images,
    /// not at its projects.
    View,
    /// Make something in it. Of a silo: a user.
    Create,
    /// Change it.
    Change,
    /// Delete it.
    Delete,
    /// Look at who has which role on it.
    ViewPolicy,
    /// Change who has which role on it.
    ChangePolicy,
    /// Of a project: change or delete what is in it.
    ChangeContents,
    /// Of a silo: look at all its projects.
    ViewProjects,
    /// Of a silo: make a project in it.
    CreateProject,
    /// Of a silo: make and delete the images that are its own.
    ChangeImages,
}

impl Action {
    /// As the policies call it.
    fn as_str(self) -> &'static str {
        match self {
            Action::View => "View",
            Action::Create => "Create",
            Action::Change => "Change",
            Action::Delete => "Delete",
            Action::ViewPolicy => "ViewPolicy",
            Action::ChangePolicy => "ChangePolicy",
            Action::ChangeContents => "ChangeContents",
            Action::ViewProjects => "ViewProjects",
            Action::CreateProject => "CreateProject",
            Action::ChangeImages => "ChangeImages",
        }
    }
}

/// On what a decision is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// What is nobody's but the operator's: sleds, silos, quotas.
    Fleet,
    /// A silo: its users, its settings, its images.
    Silo(SiloId),
    /// A project, and what is in it.
    Project {
        /// Which.
        id: Uuid,
        /// Whose it is.
        silo: SiloId,
    },
    /// A user, its tokens, sessions and keys.
    User {
        /// Which.
        id: SiloUserId,
        /// Whose it is.
        silo: SiloId,
    },
}

/// What a caller may, as long as its roles are as they were found to be.
#[derive(Debug)]
pub struct Held {
    roles: Vec<(RoleResource, Uuid, RoleName)>,
    /// What was decided by them: the policies do not change.
    decisions: Mutex<HashMap<(Action, Resource), bool>>,
}

impl Held {
    /// By somebody with these roles.
    pub fn new(roles: Vec<(RoleResource, Uuid, RoleName)>) -> Held {
        Held { roles, decisions: Mutex::default() }
    }

    /// What was decided about this, or else what is now.
    fn or_decide(
        &self,
        action: Action,
        on: Resource,
        decide: impl FnOnce() -> bool,
    ) -> bool {
        let decisions =
            || self.decisions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(decided) = decisions().get(&(action, on)) {
            return *decided;
        }
        let decided = decide();
        decisions().insert((action, on), decided);
        decided
    }
}

/// What a caller may, and whether anything was decided by it in a request.
#[derive(Debug)]
pub struct Rights {
    held: Arc<Held>,
    decided: AtomicBool,
}

impl Rights {
    /// Of somebody who has this, in a new request.
    pub fn new(held: Arc<Held>) -> Rights {
        Rights { held, decided: AtomicBool::new(false) }
    }
}

impl OpContext {
    /// May the caller do this? What a caller may not know of is looked up by
    /// [`OpContext::authorize_seen`].
    ///
    /// # Errors
    ///
    /// `Forbidden`, saying that one may not `what`, and which role one needs.
    pub fn authorize(
        &self,
        action: Action,
        on: Resource,
        what: &'static str,
    ) -> Result<(), Error> {
        self.rights.decided.store(true, Ordering::Relaxed);
        if self.may(action, on) {
            return Ok(());
        }
        Err(Error::Forbidden { action: what, needs: needed(action, on) })
    }

    /// The same of what may be hidden from the caller.
    ///
    /// # Errors
    ///
    /// `hidden`, if the caller may not even look at it; `Forbidden`.
    pub fn authorize_seen(
        &self,
        action: Action,
        on: Resource,
        what: &'static str,
        hidden: impl FnOnce() -> Error,
    ) -> Result<(), Error> {
        match self.authorize(action, on, what) {
            Err(_) if !self.may(Action::View, on) => Err(hidden()),
            decided => decided,
        }
    }

    /// Would [`OpContext::authorize`] allow it? To be shown, or to choose what
    /// is looked for: it does not count as a decision.
    pub fn may(&self, action: Action, on: Resource) -> bool {
        self.rights.held.or_decide(action, on, || self.permitted(action, on))
    }

    fn permitted(&self, action: Action, on: Resource) -> bool {
        let roles = &self.rights.held.roles;
        let held = |resource, id| policies::on(roles, resource, id);
        let of_silo = |silo: SiloId| held(RoleResource::Silo, silo.0);
        let (on_silo, on_project) = match on {
            Resource::Fleet => (Vec::new(), Vec::new()),
            Resource::Silo(silo) | Resource::User { silo, .. } => {
                (of_silo(silo), Vec::new())
            }
            Resource::Project { id, silo } => {
                (of_silo(silo), held(RoleResource::Project, id))
            }
        };
        let who = policies::Asker {
            user: self.user_id,
            silo: self.silo_id,
            on_fleet: &held(RoleResource::Fleet, FLEET_ID),
            on_silo: &on_silo,
            on_project: &on_project,
        };
        policies::permit(&who, action, &on)
    }

    /// Was it asked whether the caller may what it did?
    pub fn decided(&self) -> bool {
        self.rights.decided.load(Ordering::Relaxed)
    }

    /// The caller's own silo.
    pub fn own_silo(&self) -> Resource {
        Resource::Silo(self.silo_id)
    }

    /// The caller itself.
    pub fn oneself(&self) -> Resource {
        Resource::User { id: self.user_id, silo: self.silo_id }
    }
}

/// The least role that would do, on the thing itself if any there does.
fn needed(action: Action, on: Resource) -> &'static str {
    use RoleName::{Admin, Collaborator, LimitedCollaborator, Viewer};
    let silo = match on {
        // Nor one who may since it is its own.
        Resource::Fleet | Resource::Silo(_) => SiloId(Uuid::nil()),
        Resource::Project { silo, .. } | Resource::User { silo, .. } => silo,
    };
    let mut who = policies::Asker {
        // Not the user about whom is asked.
        user: SiloUserId(Uuid::nil()),
        silo,
        on_fleet: &[],
        on_silo: &[],
        on_project: &[],
    };
    let roles: [(&[RoleName], [&'static str; 3]); 4] = [
        (
            &[Viewer],
            [
                "viewer of the project",
                "viewer of the silo",
                "viewer of the fleet",
            ],
        ),
        (
            &[LimitedCollaborator],
            [
                "limited collaborator of the project",
                "limited collaborator of the silo",
                "",
            ],
        ),
        (
            &[Collaborator],
            [
                "collaborator of the project",
                "collaborator of the silo",
                "collaborator of the fleet",
            ],
        ),
        (
            &[Admin],
            ["admin of the project", "admin of the silo", "admin of the fleet"],
        ),
    ];
    for (role, [project, ..]) in roles {
        who.on_project = role;
        if policies::permit(&who, action, &on) {
            return project;
        }
    }
    who.on_project = &[];
    for (role, [_, silo, _]) in roles {
        who.on_silo = role;
        if policies::permit(&who, action, &on) {
            return silo;
        }
    }
    who.on_silo = &[];
    for (role, [.., fleet]) in roles {
        who.on_fleet = role;
        if policies::permit(&who, action, &on) {
            return fleet;
        }
    }
    "another user"
}
