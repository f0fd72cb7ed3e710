//! Projects.

use super::{App, about};
use crate::context::OpContext;
use crate::error::Error;
use db_model::{Name, NameOrId, NewProject, Project, ProjectChange};
use db_queries::{ByNameOrId, Page};

impl App {
    /// The caller's silo's projects.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn project_list(
        &self,
        opctx: &OpContext,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Project>, Error> {
        Ok(self.datastore.project_list(opctx.silo_id, page).await?)
    }

    /// Makes a project.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`.
    pub async fn project_create(
        &self,
        opctx: &OpContext,
        new: NewProject,
    ) -> Result<Project, Error> {
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
        self.datastore
            .project_view(opctx.silo_id, which.clone())
            .await
            .map_err(about("project", which))
    }

    /// Changes a project's name or description.
    ///
    /// # Errors
    ///
    /// `NotFound`; `AlreadyExists`.
    pub async fn project_update(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
        change: ProjectChange,
    ) -> Result<Project, Error> {
        let project = self.project_view(opctx, which).await?;
        let name = change.name.clone().unwrap_or(project.name);
        let changed = self.datastore.project_change(project.id, change).await;
        changed.map_err(|e| taken(e, &name, which))
    }

    /// Deletes a project that has nothing in it.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InvalidRequest` while there is something in it.
    pub async fn project_delete(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
    ) -> Result<(), Error> {
        let project = self.project_view(opctx, which).await?;
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

/// The error of who wanted `name` for a project asked for by `which`.
fn taken(error: db_queries::Error, name: &Name, which: &NameOrId) -> Error {
    if let db_queries::Error::AlreadyExists = error {
        Error::AlreadyExists { kind: "project", name: name.to_string() }
    } else {
        about("project", which)(error)
    }
}
