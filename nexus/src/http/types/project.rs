//! Projects on the wire.

use chrono::{DateTime, Utc};
use db_model::{Name, NameOrId, NewProject, ProjectChange, ProjectId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::description::check_description;
use crate::error::Error;

/// Which project, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ProjectPath {
    /// Name or id of the project.
    pub project: NameOrId,
}

/// The project in which something is.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct ProjectSelector {
    /// Name or id of the project.
    pub project: NameOrId,
}

/// The project in which to look for something that is called by name.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub struct OptionalProjectSelector {
    /// Name or id of the project; needed when the thing is called by name.
    pub project: Option<NameOrId>,
}

/// What instances are kept in.
#[derive(Debug, JsonSchema, Serialize)]
pub struct Project {
    /// Never changes.
    pub id: ProjectId,
    /// Unique in the silo.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When its name or description was last changed.
    pub time_modified: DateTime<Utc>,
}

/// A project to be made.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ProjectCreate {
    /// Unique in the silo.
    pub name: Name,
    /// Free text, at most 512 characters.
    pub description: String,
}

impl TryFrom<ProjectCreate> for NewProject {
    type Error = Error;

    fn try_from(body: ProjectCreate) -> Result<Self, Error> {
        check_description(&body.description)?;
        Ok(Self { name: body.name, description: body.description })
    }
}

/// What shall change of a project.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ProjectUpdate {
    /// A new name; null or absent keeps the old one.
    pub name: Option<Name>,
    /// A new description, at most 512 characters; null or absent keeps the
    /// old one.
    pub description: Option<String>,
}

impl TryFrom<ProjectUpdate> for ProjectChange {
    type Error = Error;

    fn try_from(body: ProjectUpdate) -> Result<Self, Error> {
        body.description.as_deref().map_or(Ok(()), check_description)?;
        Ok(Self { name: body.name, description: body.description })
    }
}
