//! Affinity and anti-affinity groups on the wire: the same but for their paths.

use chrono::{DateTime, Utc};
use db_model::{
    AffinityGroupChange, AffinityGroupId, AffinityGroupKind, AffinityPolicy,
    InstanceId, Name, NameOrId, NewAffinityGroup, ProjectId, RunState,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::description::check_description;
use crate::error::Error;

/// Which affinity group, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AffinityGroupPath {
    /// Name or id of the affinity group.
    pub affinity_group: NameOrId,
}

/// Which anti-affinity group, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AntiAffinityGroupPath {
    /// Name or id of the anti-affinity group.
    pub anti_affinity_group: NameOrId,
}

/// Which member of an affinity group, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AffinityGroupMemberPath {
    /// Name or id of the affinity group.
    pub affinity_group: NameOrId,
    /// Name or id of the instance.
    pub instance: NameOrId,
}

/// Which member of an anti-affinity group, in a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AntiAffinityGroupMemberPath {
    /// Name or id of the anti-affinity group.
    pub anti_affinity_group: NameOrId,
    /// Name or id of the instance.
    pub instance: NameOrId,
}

/// Which group, of which kind: what the path of either says.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WhichGroup {
    pub kind: AffinityGroupKind,
    pub group: NameOrId,
}

/// Which member of which group: what the path of either kind's says.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct WhichGroupMember {
    pub of: WhichGroup,
    pub instance: NameOrId,
}

impl From<AffinityGroupPath> for WhichGroup {
    fn from(path: AffinityGroupPath) -> Self {
        let kind = AffinityGroupKind::Affinity;
        Self { kind, group: path.affinity_group }
    }
}

impl From<AntiAffinityGroupPath> for WhichGroup {
    fn from(path: AntiAffinityGroupPath) -> Self {
        let kind = AffinityGroupKind::AntiAffinity;
        Self { kind, group: path.anti_affinity_group }
    }
}

impl From<AffinityGroupMemberPath> for WhichGroupMember {
    fn from(path: AffinityGroupMemberPath) -> Self {
        let AffinityGroupMemberPath { affinity_group, instance } = path;
        Self { of: AffinityGroupPath { affinity_group }.into(), instance }
    }
}

impl From<AntiAffinityGroupMemberPath> for WhichGroupMember {
    fn from(path: AntiAffinityGroupMemberPath) -> Self {
        let AntiAffinityGroupMemberPath { anti_affinity_group, instance } =
            path;
        let of = AntiAffinityGroupPath { anti_affinity_group }.into();
        Self { of, instance }
    }
}

/// What the members of a group share, or do not.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureDomain {
    /// A sled.
    Sled,
}

/// Instances that are to run on one sled (an affinity group) or on different
/// ones (an anti-affinity group).
#[derive(Debug, JsonSchema, Serialize)]
pub struct AffinityGroup {
    /// Never changes.
    pub id: AffinityGroupId,
    /// Unique among its kind in the project.
    pub name: Name,
    /// Free text.
    pub description: String,
    /// The project that it is in, and its members.
    pub project_id: ProjectId,
    /// What becomes of a start that cannot have what the group wants. Never
    /// changes.
    pub policy: AffinityPolicy,
    /// What its members share, or do not.
    pub failure_domain: FailureDomain,
    /// When it was made.
    pub time_created: DateTime<Utc>,
    /// When its name or description was last changed.
    pub time_modified: DateTime<Utc>,
}

/// A group to be made.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AffinityGroupCreate {
    /// Unique among its kind in the project.
    pub name: Name,
    /// Free text, at most 512 characters.
    pub description: String,
    /// What becomes of a start that cannot have what the group wants.
    pub policy: AffinityPolicy,
    /// What its members are to share, or not.
    pub failure_domain: FailureDomain,
}

impl TryFrom<AffinityGroupCreate> for NewAffinityGroup {
    type Error = Error;

    fn try_from(body: AffinityGroupCreate) -> Result<Self, Error> {
        check_description(&body.description)?;
        let AffinityGroupCreate { name, description, policy, failure_domain } =
            body;
        // There is no other, so there is nothing to keep.
        match failure_domain {
            FailureDomain::Sled => Ok(Self { name, description, policy }),
        }
    }
}

/// What shall change of a group.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AffinityGroupUpdate {
    /// A new name; null or absent keeps the old one.
    pub name: Option<Name>,
    /// A new description, at most 512 characters; null or absent keeps the
    /// old one.
    pub description: Option<String>,
}

impl TryFrom<AffinityGroupUpdate> for AffinityGroupChange {
    type Error = Error;

    fn try_from(body: AffinityGroupUpdate) -> Result<Self, Error> {
        body.description.as_deref().map_or(Ok(()), check_description)?;
        Ok(Self { name: body.name, description: body.description })
    }
}

/// A member of a group. It may be in up to 16 groups of each kind, and a group
/// has up to 32 members.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum AffinityGroupMember {
    /// An instance.
    Instance {
        /// The instance's id.
        id: InstanceId,
        /// The instance's name.
        name: Name,
        /// What it does, as far as is known.
        run_state: RunState,
    },
}
