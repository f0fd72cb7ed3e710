//! Projects: what a silo keeps its instances in.

use crate::schema::project;
use crate::{Name, ProjectId, SiloId};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, Selectable};

/// A project.
#[derive(Clone, Debug, Queryable, Selectable, Insertable)]
#[diesel(table_name = project)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct Project {
    pub id: ProjectId,
    pub silo_id: SiloId,
    pub name: Name,
    pub description: String,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
    pub time_deleted: Option<DateTime<Utc>>,
}

/// What a user says of a new project.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewProject {
    pub name: Name,
    pub description: String,
}

/// What a user changes of a project; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ProjectChange {
    pub name: Option<Name>,
    pub description: Option<String>,
}
