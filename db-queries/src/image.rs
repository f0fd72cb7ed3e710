//! Images: a project's, or its silo's.

use crate::blocks::let_go_of_store;
use crate::pagination::begun_at;
use crate::project::keep;
use crate::silo_quota::charge_storage;
use crate::sql::{Keep, clock_timestamp};
use crate::{ByNameOrId, DataStore, Error, Page, snapshot};
use chrono::{DateTime, Utc};
use db_model::schema::image;
use db_model::{
    BlocksOf, Fence, Image, ImageId, NameOrId, NewImage, ProjectId, SiloId,
};
use diesel::dsl::{exists, select};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, PgConnection, QueryDsl,
    RunQueryDsl, SelectableHelper,
};

impl DataStore {
    /// A silo's live image. By name: this project's, or, with none said, the
    /// silo's own. By id: any, but for other projects' if one is said.
    ///
    /// # Errors
    ///
    /// `NotFound`, for another silo's too, and for one that is not made yet.
    pub async fn image_view(
        &self,
        silo: SiloId,
        within: Option<ProjectId>,
        which: NameOrId,
    ) -> Result<Image, Error> {
        self.run(move |conn| {
            let query = image::table
                .filter(image::silo_id.eq(silo))
                .filter(image::time_deleted.is_null())
                .filter(image::made)
                .select(Image::as_select())
                .into_boxed();
            use diesel::NullableExpressionMethods;
            let query =
                match (&which, within) {
                    (NameOrId::Id(id), None) => query.filter(image::id.eq(*id)),
                    (NameOrId::Id(id), Some(project)) => query
                        .filter(image::id.eq(*id))
                        .filter(image::project_id.is_null().or(
                            image::project_id.eq(project).assume_not_null(),
                        )),
                    (NameOrId::Name(name), Some(project)) => query
                        .filter(image::project_id.eq(project))
                        .filter(image::name.eq(name)),
                    (NameOrId::Name(name), None) => query
                        .filter(image::project_id.is_null())
                        .filter(image::name.eq(name)),
                };
            Ok(query.first(conn)?)
        })
        .await
    }

    /// A project's images; with none said, the silo's own.
    pub async fn image_list(
        &self,
        silo: SiloId,
        project: Option<ProjectId>,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Image>, Error> {
        self.run(move |conn| {
            let query = image::table
                .filter(image::time_deleted.is_null())
                .filter(image::made)
                .limit(page.limit)
                .select(Image::as_select())
                .into_boxed();
            let query = match project {
                Some(project) => query.filter(image::project_id.eq(project)),
                None => query
                    .filter(image::silo_id.eq(silo))
                    .filter(image::project_id.is_null()),
            };
            let query = begun_at!(query, page.by, image);
            Ok(query.load(conn)?)
        })
        .await
    }

    /// An image that is to be made of a snapshot: a project's, whose deletion is
    /// locked out, or the silo's own. Idempotent by id.
    ///
    /// # Errors
    ///
    /// `NotFound`: the project is gone, or the snapshot; `AlreadyExists`;
    /// `StorageExceeded`.
    pub async fn image_insert(
        &self,
        fence: Fence,
        silo: SiloId,
        project: Option<ProjectId>,
        id: ImageId,
        new: NewImage,
    ) -> Result<(), Error> {
        self.fenced(fence, move |conn| {
            let there: bool =
                select(exists(image::table.find(id))).get_result(conn)?;
            if there {
                return Ok(());
            }
            if let Some(project) = project {
                keep(conn, Some(silo), project)?;
            }
            let now: DateTime<Utc> =
                select(clock_timestamp()).get_result(conn)?;
            let of = snapshot::source(conn, silo, new.snapshot_id)?;
            diesel::insert_into(image::table)
                .values(&Image {
                    id,
                    silo_id: silo,
                    project_id: project,
                    name: new.name.clone(),
                    description: new.description.clone(),
                    os: new.os.clone(),
                    version: new.version.clone(),
                    size_bytes: of.size_bytes,
                    block_size: of.block_size,
                    made: false,
                    time_created: now,
                    time_modified: now,
                    time_deleted: None,
                })
                .kept()
                .execute(conn)?;
            charge_storage(conn, silo, of.size_bytes)
        })
        .await
    }

    /// Makes an image a project's, whose deletion is locked out, or with none
    /// the silo's own. One that is so already stays so.
    ///
    /// # Errors
    ///
    /// `NotFound`: it is gone, or the project; `AlreadyExists`; `InUse`: it is
    /// another project's.
    pub async fn image_move(
        &self,
        id: ImageId,
        to: Option<ProjectId>,
    ) -> Result<Image, Error> {
        self.transaction(move |conn| {
            let silo = match to {
                Some(project) => Some(keep(conn, None, project)?.0),
                None => None,
            };
            let there = lock(conn, id)?;
            if silo.is_some_and(|silo| silo != there.silo_id) {
                return Err(Error::NotFound);
            }
            if there.project_id == to {
                return Ok(there);
            }
            if there.project_id.is_some() && to.is_some() {
                return Err(Error::InUse);
            }
            Ok(diesel::update(image::table.find(id))
                .set((
                    image::project_id.eq(to),
                    image::time_modified.eq(clock_timestamp()),
                ))
                .returning(Image::as_returning())
                .kept()
                .get_result(conn)?)
        })
        .await
    }

    /// Deletes an image. Disks that were made from it stay.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn image_delete(&self, id: ImageId) -> Result<(), Error> {
        self.transaction(move |conn| {
            let there = lock(conn, id)?;
            delete(conn, &there)
        })
        .await
    }
}

/// Locks a live image.
fn lock(conn: &mut PgConnection, id: ImageId) -> Result<Image, Error> {
    Ok(image::table
        .find(id)
        .filter(image::time_deleted.is_null())
        .select(Image::as_select())
        .for_update()
        .first(conn)?)
}

/// An image that is not made yet is still to be.
pub(crate) fn is_wanted(
    conn: &mut PgConnection,
    id: ImageId,
) -> Result<(), Error> {
    lock(conn, id).map(|_| ())
}

/// An image's blocks are there.
pub(crate) fn made(conn: &mut PgConnection, id: ImageId) -> Result<(), Error> {
    lock(conn, id)?;
    diesel::update(image::table.find(id))
        .set(image::made.eq(true))
        .kept()
        .execute(conn)?;
    Ok(())
}

/// Deletes an image that was not to be, if it is there.
pub(crate) fn unmake(
    conn: &mut PgConnection,
    id: ImageId,
) -> Result<(), Error> {
    match lock(conn, id) {
        Ok(there) => delete(conn, &there),
        Err(Error::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}

fn delete(conn: &mut PgConnection, was: &Image) -> Result<(), Error> {
    diesel::update(image::table.find(was.id))
        .set(image::time_deleted.eq(diesel::dsl::now))
        .kept()
        .execute(conn)?;
    let_go_of_store(conn, BlocksOf::Image(was.id), was.silo_id, was.size_bytes)
}

/// What a new disk of an image is like: of one of this silo's own, or of this
/// project's.
pub(crate) fn source(
    conn: &mut PgConnection,
    silo: SiloId,
    project: ProjectId,
    id: ImageId,
) -> Result<Image, Error> {
    use diesel::NullableExpressionMethods;
    Ok(image::table
        .find(id)
        .filter(image::silo_id.eq(silo))
        .filter(
            image::project_id
                .is_null()
                .or(image::project_id.eq(project).assume_not_null()),
        )
        .filter(image::time_deleted.is_null())
        .filter(image::made)
        .select(Image::as_select())
        .first(conn)?)
}
