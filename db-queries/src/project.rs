//! Projects.

use crate::pagination::begun_at;
use crate::sql::{Keep, clock_timestamp, sql};
use crate::{ByNameOrId, DataStore, Error, Page, role};
use chrono::{DateTime, Utc};
use db_model::schema::{
    affinity_group, disk, image, instance, project, role_assignment, snapshot,
};
use db_model::{
    AffinityGroupKind, Name, NameOrId, Project, ProjectChange, ProjectId,
    RoleResource, SiloId, SiloUserId,
};
use diesel::dsl::{exists, now, select};
use diesel::{
    ExpressionMethods, PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
};

impl DataStore {
    /// A silo's live project.
    ///
    /// # Errors
    ///
    /// `NotFound`, for another silo's too.
    pub async fn project_view(
        &self,
        silo: SiloId,
        which: NameOrId,
    ) -> Result<Project, Error> {
        self.run(move |conn| {
            let query = project::table
                .filter(project::silo_id.eq(silo))
                .filter(project::time_deleted.is_null())
                .select(Project::as_select())
                .into_boxed();
            let query = match &which {
                NameOrId::Id(id) => query.filter(project::id.eq(*id)),
                NameOrId::Name(name) => query.filter(project::name.eq(name)),
            };
            Ok(query.first(conn)?)
        })
        .await
    }

    /// A silo's projects; with `only_of`, those on which this user has a role.
    pub async fn project_list(
        &self,
        silo: SiloId,
        only_of: Option<SiloUserId>,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Project>, Error> {
        self.run(move |conn| {
            let query = project::table
                .filter(project::silo_id.eq(silo))
                .filter(project::time_deleted.is_null())
                .limit(page.limit)
                .select(Project::as_select())
                .into_boxed();
            let query = match only_of {
                Some(user) => query.filter(exists(
                    role_assignment::table
                        .filter(
                            role_assignment::resource.eq(RoleResource::Project),
                        )
                        .filter(role_assignment::resource_id.eq(sql::<
                            diesel::sql_types::Uuid,
                        >(
                            "project.id"
                        )))
                        .filter(role_assignment::silo_user_id.eq(user)),
                )),
                None => query,
            };
            let query = begun_at!(query, page.by, project);
            Ok(query.load(conn)?)
        })
        .await
    }

    /// A new project.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`.
    pub async fn project_create(
        &self,
        silo: SiloId,
        name: Name,
        description: String,
    ) -> Result<Project, Error> {
        self.transaction(move |conn| {
            let at: DateTime<Utc> =
                select(clock_timestamp()).get_result(conn)?;
            Ok(diesel::insert_into(project::table)
                .values(&Project {
                    id: ProjectId::new_v4(),
                    silo_id: silo,
                    name: name.clone(),
                    description: description.clone(),
                    time_created: at,
                    time_modified: at,
                    time_deleted: None,
                })
                .returning(Project::as_returning())
                .kept()
                .get_result(conn)?)
        })
        .await
    }

    /// Changes what `change` names.
    ///
    /// # Errors
    ///
    /// `NotFound`; `AlreadyExists`: the new name is taken.
    pub async fn project_change(
        &self,
        id: ProjectId,
        change: ProjectChange,
    ) -> Result<Project, Error> {
        self.transaction(move |conn| {
            let old: Project = project::table
                .find(id)
                .filter(project::time_deleted.is_null())
                .select(Project::as_select())
                .for_update()
                .first(conn)?;
            Ok(diesel::update(project::table.find(id))
                .set((
                    project::name.eq(change.name.clone().unwrap_or(old.name)),
                    project::description.eq(change
                        .description
                        .clone()
                        .unwrap_or(old.description)),
                    project::time_modified.eq(now),
                ))
                .returning(Project::as_returning())
                .kept()
                .get_result(conn)?)
        })
        .await
    }

    /// Deletes an empty project, and all roles on it. Its row is locked first, so that nothing comes
    /// in between (whatever does locks it FOR SHARE).
    ///
    /// # Errors
    ///
    /// `NotFound`; `NotEmpty`: of what there is something in it.
    pub async fn project_delete(&self, id: ProjectId) -> Result<(), Error> {
        self.transaction(move |conn| {
            let _: ProjectId = project::table
                .find(id)
                .filter(project::time_deleted.is_null())
                .select(project::id)
                .for_update()
                .first(conn)?;
            let kept = what_is_in(conn, id)?;
            if !kept.is_empty() {
                return Err(Error::NotEmpty(kept));
            }
            diesel::update(project::table.find(id))
                .set(project::time_deleted.eq(now))
                .kept()
                .execute(conn)?;
            role::delete_all(conn, RoleResource::Project, id.0)
        })
        .await
    }
}

/// A live project's silo, and the time. Its deletion is locked out.
///
/// # Errors
///
/// `NotFound`, also if it is not of the silo that is said.
pub(crate) fn keep(
    conn: &mut PgConnection,
    silo: Option<SiloId>,
    id: ProjectId,
) -> Result<(SiloId, DateTime<Utc>), Error> {
    let (owner, at) = project::table
        .find(id)
        .filter(project::time_deleted.is_null())
        .select((project::silo_id, clock_timestamp()))
        .for_share()
        .first(conn)?;
    if silo.is_some_and(|silo| silo != owner) {
        return Err(Error::NotFound);
    }
    Ok((owner, at))
}

/// Of what there is something in a project.
fn what_is_in(
    conn: &mut PgConnection,
    id: ProjectId,
) -> Result<Vec<&'static str>, Error> {
    let mut kept = Vec::new();
    let has_instances: bool = select(exists(
        instance::table
            .filter(instance::project_id.eq(id))
            .filter(instance::time_deleted.is_null()),
    ))
    .get_result(conn)?;
    if has_instances {
        kept.push("instances");
    }
    let has_disks: bool = select(exists(
        disk::table
            .filter(disk::project_id.eq(id))
            .filter(disk::time_deleted.is_null()),
    ))
    .get_result(conn)?;
    if has_disks {
        kept.push("disks");
    }
    let has_snapshots: bool = select(exists(
        snapshot::table
            .filter(snapshot::project_id.eq(id))
            .filter(snapshot::time_deleted.is_null()),
    ))
    .get_result(conn)?;
    if has_snapshots {
        kept.push("snapshots");
    }
    let has_images: bool = select(exists(
        image::table
            .filter(image::project_id.eq(id))
            .filter(image::time_deleted.is_null()),
    ))
    .get_result(conn)?;
    if has_images {
        kept.push("images");
    }
    for (kind, groups) in [
        (AffinityGroupKind::Affinity, "affinity groups"),
        (AffinityGroupKind::AntiAffinity, "anti-affinity groups"),
    ] {
        let has_groups: bool = select(exists(
            affinity_group::table
                .filter(affinity_group::project_id.eq(id))
                .filter(affinity_group::kind.eq(kind))
                .filter(affinity_group::time_deleted.is_null()),
        ))
        .get_result(conn)?;
        if has_groups {
            kept.push(groups);
        }
    }
    Ok(kept)
}
