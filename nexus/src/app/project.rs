//! Projects.

use super::{App, about};
use crate::authz::{Action, Resource};
use crate::context::OpContext;
use crate::error::Error;
use db_model::{Name, NameOrId, NewProject, Project, ProjectChange, ProjectId};
use db_queries::{ByNameOrId, Page};

impl App {
    /// Those of the caller's silo's projects that the caller may see.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn project_list(
        &self,
        opctx: &OpContext,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Project>, Error> {
        let silo = opctx.own_silo();
        opctx.authorize(Action::View, silo, "see the silo")?;
        let only_of = match opctx.may(Action::ViewProjects, silo) {
            true => None,
            false => Some(opctx.user_id),
        };
        Ok(self.datastore.project_list(opctx.silo_id, only_of, page).await?)
    }

    /// Makes a project.
    ///
    /// # Errors
    ///
    /// `Forbidden`; `AlreadyExists`.
    pub async fn project_create(
        &self,
        opctx: &OpContext,
        new: NewProject,
    ) -> Result<Project, Error> {
        let silo = opctx.own_silo();
        opctx.authorize(Action::CreateProject, silo, "create projects")?;
        let name = new.name.clone();
        let created = self
            .datastore
            .project_create(opctx.silo_id, new.name, new.description)
            .await;
        created.map_err(|e| taken(e, &name, &NameOrId::Name(name.clone())))
    }

    /// A project.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn project_view(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
    ) -> Result<Project, Error> {
        self.project_to(opctx, which, Action::View, "see the project").await
    }

    /// A project in which, or with which, the caller may do `action`.
    ///
    /// # Errors
    ///
    /// `NotFound`, also of one that the caller may not see; `Forbidden`: not to
    /// do `what`.
    pub(super) async fn project_to(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
        action: Action,
        what: &'static str,
    ) -> Result<Project, Error> {
        let found = self.datastore.project_view(opctx.silo_id, which.clone());
        let project = found.await.map_err(about("project", which))?;
        let hidden = || Error::not_found("project", which);
        opctx.authorize_seen(action, of(&project), what, hidden)?;
        Ok(project)
    }

    /// May the caller do `action` in its silo's project of this id, in which
    /// something is that was asked for?
    ///
    /// # Errors
    ///
    /// `NotFound`: a `kind` called `which`, if the caller may not see it;
    /// `Forbidden`: not to do `what`.
    pub(super) fn may_in(
        &self,
        opctx: &OpContext,
        id: ProjectId,
        action: Action,
        what: &'static str,
        (kind, which): (&'static str, &NameOrId),
    ) -> Result<(), Error> {
        let project = Resource::Project { id: id.0, silo: opctx.silo_id };
        let hidden = || Error::not_found(kind, which);
        opctx.authorize_seen(action, project, what, hidden)
    }

    /// Changes a project's name or description.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `AlreadyExists`.
    pub async fn project_update(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
        change: ProjectChange,
    ) -> Result<Project, Error> {
        let what = "change the project";
        let project =
            self.project_to(opctx, which, Action::Change, what).await?;
        let name = change.name.clone().unwrap_or(project.name);
        let changed = self.datastore.project_change(project.id, change).await;
        changed.map_err(|e| taken(e, &name, which))
    }

    /// Deletes a project that has nothing in it, and who may what in it.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `InvalidRequest` while there is something in it.
    pub async fn project_delete(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
    ) -> Result<(), Error> {
        let what = "delete the project";
        let project =
            self.project_to(opctx, which, Action::Delete, what).await?;
        let deleted = self.datastore.project_delete(project.id).await;
        deleted.map_err(|error| {
            let db_queries::Error::NotEmpty(kept) = error else {
                return about("project", which)(error);
            };
            Error::InvalidRequest {
                message: format!(
                    "project \"{}\" still has {}: delete them first",
                    project.name,
                    kept.join(" and "),
                ),
            }
        })
    }
}

/// As what is decided about it.
pub(super) fn of(project: &Project) -> Resource {
    Resource::Project { id: project.id.0, silo: project.silo_id }
}

/// The error of who wanted `name` for a project asked for by `which`.
fn taken(error: db_queries::Error, name: &Name, which: &NameOrId) -> Error {
    if let db_queries::Error::AlreadyExists = error {
        Error::AlreadyExists { kind: "project", name: name.to_string() }
    } else {
        about("project", which)(error)
    }
}
