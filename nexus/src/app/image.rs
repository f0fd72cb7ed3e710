//! Images: a project's, or its silo's.

use super::blocks::Named;
use super::{App, RETRY_AFTER_SECS, about};
use crate::authz::Action;
use crate::context::OpContext;
use crate::error::Error;
use crate::saga::blocks_make::{Made, Params};
use db_model::{Image, ImageId, NameOrId, NewImage, ProjectId};
use db_queries::{ByNameOrId, Page};

/// Which image: by id, or by name within a project, or with no project among
/// the silo's own.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ImageSelector {
    pub project: Option<NameOrId>,
    pub image: NameOrId,
}

impl App {
    /// A project's images; with none said, the silo's own.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project.
    pub async fn image_list(
        &self,
        opctx: &OpContext,
        project: Option<&NameOrId>,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<Image>, Error> {
        let (action, what) = (Action::View, "see the silo's images");
        let within = self.image_parent(opctx, project, action, what).await?;
        Ok(self.datastore.image_list(opctx.silo_id, within, page).await?)
    }

    /// Makes an image of a snapshot of the caller's silo: a project's; with none
    /// said, the silo's own.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such project, or snapshot; `InvalidRequest`: the snapshot
    /// is not ready, or the quota is exceeded; `AlreadyExists`; `Conflict`:
    /// something came in between; `Unavailable`: among others, it takes long.
    pub async fn image_create(
        &self,
        opctx: &OpContext,
        project: Option<&NameOrId>,
        new: NewImage,
        aside: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Image, Error> {
        let action = match project {
            Some(_) => Action::Create,
            None => Action::ChangeImages,
        };
        let what = "create images here";
        let within = self.image_parent(opctx, project, action, what).await?;
        let of = NameOrId::Id(new.snapshot_id.0);
        let snapshot = self
            .datastore
            .snapshot_view(opctx.silo_id, None, of.clone())
            .await
            .map_err(about("snapshot", &of))?;
        let (see, asked) = ("see snapshots", ("snapshot", &of));
        self.may_in(opctx, snapshot.project_id, Action::View, see, asked)?;
        if !snapshot.made {
            return Err(Error::InvalidRequest {
                message: format!(
                    "snapshot \"{}\" is still being created: wait until its \
                     state is \"ready\"",
                    snapshot.name,
                ),
            });
        }
        let id = ImageId::new_v4();
        let name = new.name.to_string();
        let what =
            Made::Image { id, silo: opctx.silo_id, project: within, new };
        let granted = Some(opctx.granted(action, within));
        let params = Params { what, size: snapshot.size_bytes, granted };
        let named = Named { kind: "image", name: &name, verb: "created" };
        aside()?;
        if !self.make_blocks(&params, named).await? {
            return Err(Error::Unavailable {
                message: format!(
                    "Image \"{name}\" is still being created. Look for it by \
                     its name before creating it again.",
                ),
                retry_after_secs: RETRY_AFTER_SECS,
                source: None,
            });
        }
        let which = NameOrId::Id(id.0);
        self.datastore
            .image_view(opctx.silo_id, None, which.clone())
            .await
            .map_err(about("image", &which))
    }

    /// An image.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn image_view(
        &self,
        opctx: &OpContext,
        which: &ImageSelector,
    ) -> Result<Image, Error> {
        let (action, what) = (Action::View, "see the silo's images");
        let project = which.project.as_ref();
        let within = self.image_parent(opctx, project, action, what).await?;
        let image = self
            .datastore
            .image_view(opctx.silo_id, within, which.image.clone())
            .await
            .map_err(about("image", &which.image))?;
        self.may_with_image(opctx, &image, &which.image, action, what)?;
        Ok(image)
    }

    /// May the caller do this with an image where it is: to see it, or to
    /// change it?
    fn may_with_image(
        &self,
        opctx: &OpContext,
        image: &Image,
        which: &NameOrId,
        action: Action,
        what: &'static str,
    ) -> Result<(), Error> {
        match (image.project_id, action) {
            (Some(project), action) => {
                self.may_in(opctx, project, action, what, ("image", which))
            }
            (None, Action::View) => {
                opctx.authorize(action, opctx.own_silo(), what)
            }
            (None, _) => {
                let action = Action::ChangeImages;
                opctx.authorize(action, opctx.own_silo(), what)
            }
        }
    }

    /// Deletes an image. Disks that were made from it stay.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn image_delete(
        &self,
        opctx: &OpContext,
        which: &ImageSelector,
    ) -> Result<(), Error> {
        let image = self.image_view(opctx, which).await?;
        let (action, what) = (Action::ChangeContents, "delete the image");
        self.may_with_image(opctx, &image, &which.image, action, what)?;
        self.datastore
            .image_delete(image.id)
            .await
            .map_err(about("image", &which.image))?;
        self.activators.blocks_gone();
        self.activators.reconcile();
        Ok(())
    }

    /// Makes a project's image its silo's own. One that is already stays so.
    ///
    /// # Errors
    ///
    /// `NotFound`; `AlreadyExists`: the silo has one of that name.
    pub async fn image_promote(
        &self,
        opctx: &OpContext,
        which: &ImageSelector,
    ) -> Result<Image, Error> {
        let image = self.image_view(opctx, which).await?;
        let (action, what) = (Action::ChangeContents, "promote the image");
        self.may_with_image(opctx, &image, &which.image, action, what)?;
        opctx.authorize(Action::ChangeImages, opctx.own_silo(), what)?;
        self.move_image(&image, None).await
    }

    /// Makes a silo's image a project's own. One that is already stays so.
    ///
    /// # Errors
    ///
    /// `NotFound`; `AlreadyExists`: the project has one of that name;
    /// `InvalidRequest`: it is another project's.
    pub async fn image_demote(
        &self,
        opctx: &OpContext,
        image: &NameOrId,
        project: &NameOrId,
    ) -> Result<Image, Error> {
        let what = "demote the image";
        let action = Action::Create;
        let to = self.project_to(opctx, project, action, what).await?.id;
        let which = ImageSelector { project: None, image: image.clone() };
        let image = self.image_view(opctx, &which).await?;
        let action = Action::ChangeContents;
        self.may_with_image(opctx, &image, &which.image, action, what)?;
        self.move_image(&image, Some(to)).await
    }

    async fn move_image(
        &self,
        image: &Image,
        to: Option<ProjectId>,
    ) -> Result<Image, Error> {
        let name = &image.name;
        match self.datastore.image_move(image.id, to).await {
            Ok(image) => Ok(image),
            Err(db_queries::Error::AlreadyExists) => {
                Err(Error::AlreadyExists {
                    kind: "image",
                    name: name.to_string(),
                })
            }
            Err(db_queries::Error::InUse) => Err(Error::InvalidRequest {
                message: format!(
                    "image \"{name}\" is another project's: promote it first",
                ),
            }),
            Err(error) => Err(about("image", &NameOrId::Id(image.id.0))(error)),
        }
    }

    /// The project that is named, or with none the silo, for `action` there.
    async fn image_parent(
        &self,
        opctx: &OpContext,
        project: Option<&NameOrId>,
        action: Action,
        what: &'static str,
    ) -> Result<Option<ProjectId>, Error> {
        let Some(project) = project else {
            opctx.authorize(action, opctx.own_silo(), what)?;
            return Ok(None);
        };
        let found = self.project_to(opctx, project, action, what).await?;
        Ok(Some(found.id))
    }
}
