//! Affinity and anti-affinity groups: instances that are to run on one sled, or
//! on different ones. The two kinds differ in that alone.

use crate::schema::affinity_group;
use crate::{AffinityGroupId, InstanceId, Name, ProjectId, RunState};
use chrono::{DateTime, Utc};
use diesel::{Insertable, Queryable, QueryableByName, Selectable};

sql_enum! {
    /// What a group wants of its members' sleds.
    pub enum AffinityGroupKind: AffinityGroupKindSql {
        /// One for all.
        Affinity = "affinity",
        /// Each its own.
        AntiAffinity = "anti_affinity",
    }
}

impl AffinityGroupKind {
    /// What a person calls such a group.
    pub fn noun(self) -> &'static str {
        match self {
            AffinityGroupKind::Affinity => "affinity group",
            AffinityGroupKind::AntiAffinity => "anti-affinity group",
        }
    }

    /// What a person calls who is in such a group.
    pub fn member_noun(self) -> &'static str {
        match self {
            AffinityGroupKind::Affinity => "affinity group member",
            AffinityGroupKind::AntiAffinity => "anti-affinity group member",
        }
    }
}

sql_enum! {
    /// What becomes of a start that cannot have what its group wants.
    pub enum AffinityPolicy: AffinityPolicySql {
        /// It goes on without.
        Allow = "allow",
        /// It fails.
        Fail = "fail",
    }
}

/// Members that a group may have.
pub const MAX_GROUP_MEMBERS: i64 = 32;

/// Groups, of each kind, that an instance may be in.
pub const MAX_INSTANCE_GROUPS: i64 = 16;

/// A group.
#[derive(Clone, Debug, Queryable, QueryableByName, Selectable, Insertable)]
#[diesel(table_name = affinity_group)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct AffinityGroup {
    pub id: AffinityGroupId,
    pub project_id: ProjectId,
    pub kind: AffinityGroupKind,
    pub name: Name,
    pub description: String,
    pub policy: AffinityPolicy,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
    pub time_deleted: Option<DateTime<Utc>>,
}

/// What a user says of a new group.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewAffinityGroup {
    pub name: Name,
    pub description: String,
    pub policy: AffinityPolicy,
}

/// What a user changes of a group; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AffinityGroupChange {
    pub name: Option<Name>,
    pub description: Option<String>,
}

/// A member of a group, as its list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AffinityGroupMember {
    pub id: InstanceId,
    pub name: Name,
    pub run_state: RunState,
}
