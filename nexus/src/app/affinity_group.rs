//! Affinity and anti-affinity groups. What is asked of the two kinds is the
//! same, so each method serves both.

use super::instance::refused;
use super::{App, InstanceSelector, about};
use crate::authz::Action;
use crate::context::OpContext;
use crate::error::Error;
use db_model::{
    AffinityGroup, AffinityGroupChange, AffinityGroupId, AffinityGroupKind,
    AffinityGroupMember, InstanceId, Name, NameOrId, NewAffinityGroup,
    ProjectId,
};
use db_queries::{ByNameOrId, Page};

/// Which group: by id, or by name within a project.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AffinityGroupSelector {
    pub kind: AffinityGroupKind,
    pub project: Option<NameOrId>,
    pub group: NameOrId,
}

impl App {
    /// A project's groups of this kind.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project.
    pub async fn affinity_group_list(
        &self,
        opctx: &OpContext,
        kind: AffinityGroupKind,
        project: &NameOrId,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<AffinityGroup>, Error> {
        let project = self.project_view(opctx, project).await?;
        Ok(self.datastore.affinity_group_list(project.id, kind, page).await?)
    }

    /// Makes a group, with nobody in it.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project; `AlreadyExists`.
    pub async fn affinity_group_create(
        &self,
        opctx: &OpContext,
        kind: AffinityGroupKind,
        project: &NameOrId,
        new: NewAffinityGroup,
    ) -> Result<AffinityGroup, Error> {
        let (action, what) = (Action::Create, "create groups in the project");
        let id = self.project_to(opctx, project, action, what).await?.id;
        let name = new.name.clone();
        let created = self.datastore.affinity_group_create(id, kind, new).await;
        created.map_err(|error| taken(kind, &name, error, "project", project))
    }

    /// A group.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InvalidRequest`: a name without a project.
    pub async fn affinity_group_view(
        &self,
        opctx: &OpContext,
        which: &AffinityGroupSelector,
    ) -> Result<AffinityGroup, Error> {
        let noun = which.kind.noun();
        let project = match (&which.group, &which.project) {
            (_, Some(project)) => {
                Some(self.project_view(opctx, project).await?.id)
            }
            (NameOrId::Id(_), None) => None,
            (NameOrId::Name(name), None) => {
                return Err(Error::InvalidRequest {
                    message: format!(
                        "{noun} \"{name}\" is given by name: name its project \
                         with ?project=, or give its id",
                    ),
                });
            }
        };
        let (silo, group) = (opctx.silo_id, which.group.clone());
        let found = self
            .datastore
            .affinity_group_view(silo, which.kind, project, group)
            .await;
        let group = found.map_err(about(noun, &which.group))?;
        let (action, asked) = (Action::View, (noun, &which.group));
        self.may_in(opctx, group.project_id, action, "see groups", asked)?;
        Ok(group)
    }

    /// The same, which the caller may change.
    async fn group_to_change(
        &self,
        opctx: &OpContext,
        which: &AffinityGroupSelector,
    ) -> Result<AffinityGroup, Error> {
        let group = self.affinity_group_view(opctx, which).await?;
        self.may_in(
            opctx,
            group.project_id,
            Action::ChangeContents,
            "change the project's groups",
            (which.kind.noun(), &which.group),
        )?;
        Ok(group)
    }

    /// Changes a group's name or description.
    ///
    /// # Errors
    ///
    /// `NotFound`; `AlreadyExists`.
    pub async fn affinity_group_update(
        &self,
        opctx: &OpContext,
        which: &AffinityGroupSelector,
        change: AffinityGroupChange,
    ) -> Result<AffinityGroup, Error> {
        let group = self.group_to_change(opctx, which).await?;
        let name = change.name.clone().unwrap_or(group.name);
        let changed =
            self.datastore.affinity_group_change(group.id, change).await;
        let (kind, noun) = (which.kind, which.kind.noun());
        changed.map_err(|e| taken(kind, &name, e, noun, &which.group))
    }

    /// Deletes a group. Its members stay as they are, and are in it no more.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn affinity_group_delete(
        &self,
        opctx: &OpContext,
        which: &AffinityGroupSelector,
    ) -> Result<(), Error> {
        let group = self.group_to_change(opctx, which).await?;
        let deleted = self.datastore.affinity_group_delete(group.id).await;
        deleted.map_err(about(which.kind.noun(), &which.group))?;
        self.activators.changed();
        Ok(())
    }

    /// A group's members.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such group.
    pub async fn affinity_group_member_list(
        &self,
        opctx: &OpContext,
        which: &AffinityGroupSelector,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<AffinityGroupMember>, Error> {
        let group = self.affinity_group_view(opctx, which).await?;
        Ok(self.datastore.affinity_group_member_list(group.id, page).await?)
    }

    /// A member of a group.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such group, no such instance, or it is not in it.
    pub async fn affinity_group_member_view(
        &self,
        opctx: &OpContext,
        which: &AffinityGroupSelector,
        instance: &NameOrId,
    ) -> Result<AffinityGroupMember, Error> {
        let group = self.affinity_group_view(opctx, which).await?;
        let id = self.of_project(opctx, group.project_id, instance).await?;
        self.member(&group, id, instance).await
    }

    /// Adds an instance to a group of its project. Idempotent.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such group, or no such instance in its project;
    /// `InvalidRequest`: the instance must be stopped first, the group is full,
    /// or the instance is in as many as it may be.
    pub async fn affinity_group_member_add(
        &self,
        opctx: &OpContext,
        which: &AffinityGroupSelector,
        instance: &NameOrId,
    ) -> Result<AffinityGroupMember, Error> {
        let group = self.group_to_change(opctx, which).await?;
        let id = self.of_project(opctx, group.project_id, instance).await?;
        let added = self.datastore.affinity_group_member_add(&group, id).await;
        added.map_err(|error| not_added(&group, instance, error))?;
        self.activators.changed();
        self.member(&group, id, instance).await
    }

    /// Takes an instance out of a group, whatever it does.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such group, no such instance, or it is not in it.
    pub async fn affinity_group_member_remove(
        &self,
        opctx: &OpContext,
        which: &AffinityGroupSelector,
        instance: &NameOrId,
    ) -> Result<(), Error> {
        let group = self.group_to_change(opctx, which).await?;
        let id = self.of_project(opctx, group.project_id, instance).await?;
        self.datastore
            .affinity_group_member_remove(group.id, id)
            .await
            .map_err(about(group.kind.member_noun(), instance))?;
        self.activators.changed();
        Ok(())
    }

    /// The groups of this kind that an instance is in.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such instance.
    pub async fn instance_affinity_group_list(
        &self,
        opctx: &OpContext,
        kind: AffinityGroupKind,
        which: &InstanceSelector,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<AffinityGroup>, Error> {
        let id = self.live(opctx, which).await?.instance.id;
        let list = self.datastore.instance_affinity_group_list(id, kind, page);
        Ok(list.await?)
    }

    /// The anti-affinity groups that an instance of this project is to join.
    ///
    /// # Errors
    ///
    /// `NotFound`, of the first that is not there.
    pub(super) async fn groups_to_join(
        &self,
        opctx: &OpContext,
        project: ProjectId,
        groups: &[NameOrId],
    ) -> Result<Vec<AffinityGroupId>, Error> {
        let kind = AffinityGroupKind::AntiAffinity;
        let mut ids = Vec::with_capacity(groups.len());
        for which in groups {
            let (silo, group) = (opctx.silo_id, which.clone());
            let found = self
                .datastore
                .affinity_group_view(silo, kind, Some(project), group)
                .await
                .map_err(about(kind.noun(), which))?;
            ids.push(found.id);
        }
        Ok(ids)
    }

    /// The id of an instance of this project, which is its group's.
    async fn of_project(
        &self,
        opctx: &OpContext,
        project: ProjectId,
        instance: &NameOrId,
    ) -> Result<InstanceId, Error> {
        let which = InstanceSelector {
            project: Some(NameOrId::Id(project.0)),
            instance: instance.clone(),
        };
        Ok(self.live(opctx, &which).await?.instance.id)
    }

    async fn member(
        &self,
        group: &AffinityGroup,
        id: InstanceId,
        instance: &NameOrId,
    ) -> Result<AffinityGroupMember, Error> {
        self.datastore
            .affinity_group_member_view(group.id, id)
            .await
            .map_err(about(group.kind.member_noun(), instance))
    }
}

/// The error of who wanted `name` for a group, and asked for something else by
/// `which`.
fn taken(
    kind: AffinityGroupKind,
    name: &Name,
    error: db_queries::Error,
    noun: &'static str,
    which: &NameOrId,
) -> Error {
    if let db_queries::Error::AlreadyExists = error {
        Error::AlreadyExists { kind: kind.noun(), name: name.to_string() }
    } else {
        about(noun, which)(error)
    }
}

/// Why an instance, given as `instance`, was not added to a group.
fn not_added(
    group: &AffinityGroup,
    instance: &NameOrId,
    error: db_queries::Error,
) -> Error {
    let to = format!("added to {} \"{}\"", group.kind.noun(), group.name);
    if let db_queries::Error::TooMany(limit) = error {
        return Error::InvalidRequest {
            message: format!("instance \"{instance}\" cannot be {to}: {limit}"),
        };
    }
    let which = InstanceSelector { project: None, instance: instance.clone() };
    refused(&which, &to, error)
}
