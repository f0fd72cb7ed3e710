//! Users' SSH keys, and those that instances are given.

use super::{App, InstanceSelector, about};
use crate::authz::Action;
use crate::context::OpContext;
use crate::error::Error;
use db_model::{
    MAX_INSTANCE_SSH_KEYS, MAX_USER_SSH_KEYS, NameOrId, NewSshKey, SshKey,
    SshKeyId,
};
use db_queries::{ByNameOrId, Page};

/// The field of a new instance that names keys.
const FIELD: &str = "ssh_public_keys";

const CHANGE: &str = "change one's keys";

impl App {
    /// The caller's keys.
    pub async fn ssh_key_list(
        &self,
        opctx: &OpContext,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<SshKey>, Error> {
        opctx.authorize(Action::View, opctx.oneself(), "see one's keys")?;
        Ok(self.datastore.ssh_key_list(opctx.user_id, page).await?)
    }

    /// A new key of the caller's.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`; `InvalidRequest`: the caller has as many as one may
    /// have.
    pub async fn ssh_key_create(
        &self,
        opctx: &OpContext,
        new: NewSshKey,
    ) -> Result<SshKey, Error> {
        opctx.authorize(Action::Change, opctx.oneself(), CHANGE)?;
        let name = new.name.to_string();
        let created = self.datastore.ssh_key_create(opctx.user_id, new).await;
        created.map_err(|error| {
            if let db_queries::Error::AlreadyExists = error {
                return Error::AlreadyExists { kind: "SSH key", name };
            }
            if let db_queries::Error::TooMany(limit) = error {
                let message =
                    format!("{limit}: delete one that you do not need");
                return Error::InvalidRequest { message };
            }
            error.into()
        })
    }

    /// A key of the caller's.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn ssh_key_view(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
    ) -> Result<SshKey, Error> {
        opctx.authorize(Action::View, opctx.oneself(), "see one's keys")?;
        self.datastore
            .ssh_key_view(opctx.user_id, which.clone())
            .await
            .map_err(about("SSH key", which))
    }

    /// Deletes a key of the caller's. Instances that were given it have it no
    /// more; guests that have booted with it are not changed.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn ssh_key_delete(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
    ) -> Result<(), Error> {
        opctx.authorize(Action::Change, opctx.oneself(), CHANGE)?;
        let key = self.ssh_key_view(opctx, which).await?;
        let deleted = self.datastore.ssh_key_delete(key.id).await;
        deleted.map_err(about("SSH key", which))
    }

    /// The keys that an instance was given when it was made, but for those that
    /// were deleted since.
    ///
    /// # Errors
    ///
    /// `NotFound`; `InvalidRequest`: a name without a project.
    pub async fn instance_ssh_key_list(
        &self,
        opctx: &OpContext,
        which: &InstanceSelector,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<SshKey>, Error> {
        let id = self.live(opctx, which).await?.instance.id;
        Ok(self.datastore.ssh_key_list_of_instance(id, page).await?)
    }

    /// The keys of the caller's that a new instance is given: those that are
    /// chosen, or all.
    ///
    /// # Errors
    ///
    /// `InvalidValue`: the caller has no such key, or they are too many.
    pub(super) async fn keys_of_new(
        &self,
        opctx: &OpContext,
        chosen: Option<&[NameOrId]>,
    ) -> Result<Vec<SshKeyId>, Error> {
        if chosen.is_some_and(<[_]>::is_empty) {
            return Ok(Vec::new());
        }
        let all = Page {
            by: ByNameOrId::Id { after: None },
            limit: MAX_USER_SSH_KEYS,
        };
        let own = self.datastore.ssh_key_list(opctx.user_id, all).await?;
        let mut keys: Vec<SshKeyId> = match chosen {
            None => own.iter().map(|key| key.id).collect(),
            Some(chosen) => chosen
                .iter()
                .map(|which| find(&own, which))
                .collect::<Result<_, _>>()?,
        };
        // One that is named twice, by name and by id say, is given once.
        keys.sort_unstable();
        keys.dedup();
        if keys.len() > MAX_INSTANCE_SSH_KEYS {
            return Err(too_many(keys.len(), chosen.is_none()));
        }
        Ok(keys)
    }
}

fn find(own: &[SshKey], which: &NameOrId) -> Result<SshKeyId, Error> {
    let it = own.iter().find(|key| match which {
        NameOrId::Id(id) => key.id.0 == *id,
        NameOrId::Name(name) => key.name == *name,
    });
    it.map(|key| key.id).ok_or_else(|| {
        Error::invalid_value(
            FIELD,
            format!(
                "you have no SSH key \"{which}\": name keys of your own, or \
                 add this one first",
            ),
        )
    })
}

fn too_many(count: usize, all: bool) -> Error {
    let advice = if all {
        "which are all that you have, since none were named: name those that \
         it is to be given"
    } else {
        "name fewer"
    };
    Error::invalid_value(
        FIELD,
        format!(
            "an instance is given at most {MAX_INSTANCE_SSH_KEYS}, and these \
             are {count}: {advice}",
        ),
    )
}
