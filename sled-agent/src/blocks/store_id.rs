//! Which disk store this is.

use super::places::{Places, making_dir};
use super::{Settings, durable};
use crate::files::{self, FileError};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use sled_agent_client::BlocksPlace;
use uuid::Uuid;

/// Why the blocks cannot be got at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{0} is not a directory, or not there")]
    NoStore(Utf8PathBuf),
    #[error(
        "{dir} is not the disk store that this sled had: that was {was}; is it \
         mounted? If it is another one on purpose, remove {noted}"
    )]
    OtherStore { dir: Utf8PathBuf, was: Uuid, noted: Utf8PathBuf },
    #[error(transparent)]
    File(#[from] FileError),
}

/// What stands in `store.json` of a store, and in `disk-store.json` of each sled
/// that has it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct StoreId {
    id: Uuid,
}

/// Opens both places, and finds out which store it is: as it says, else a new
/// one. Sleds that open a new one at once agree.
///
/// The sled remembers it, lest it take the directory that a store is to be
/// mounted on for that store.
pub(super) async fn open(
    settings: &Settings<'_>,
) -> Result<(Places, Uuid), OpenError> {
    let local = settings.data_dir.join("local");
    files::make_dir(local.clone()).await?;
    let store = match settings.store {
        Some(store) if store.is_dir() => store.to_path_buf(),
        Some(store) => return Err(OpenError::NoStore(store.to_path_buf())),
        None => {
            let store = settings.data_dir.join("store");
            files::make_dir(store.clone()).await?;
            store
        }
    };
    let places =
        Places { store: whole(store).await?, local: whole(local).await? };
    let noted = settings.data_dir.join("disk-store.json");
    let was: Option<StoreId> = files::read(noted.clone()).await?;
    let dir = &places.store;
    let is: Option<StoreId> = files::read(dir.join("store.json")).await?;
    let store_id = match (was, is) {
        (Some(was), Some(is)) if was == is => is,
        (Some(StoreId { id: was }), _) => {
            let dir = dir.clone();
            return Err(OpenError::OtherStore { dir, was, noted });
        }
        (None, is) => {
            let id = match is {
                Some(is) => is,
                None => found(&places, settings.sled_id).await?,
            };
            files::write(noted, &id).await?;
            id
        }
    };
    for dir in [&places.store, &places.local] {
        let making = making_dir(dir);
        files::blocking("make", making, durable::make_private_dir).await?;
    }
    Ok((places, store_id.id))
}

/// Gives a store its id; the one that it gets, from whomever.
async fn found(places: &Places, sled_id: Uuid) -> Result<StoreId, FileError> {
    let dir = places.store.clone();
    let making = making_dir(&dir);
    files::blocking("make", making, durable::make_private_dir).await?;
    let id = Uuid::new_v4();
    let temporary = places.names(BlocksPlace::Store, id).making(sled_id);
    files::write(temporary.clone(), &StoreId { id }).await?;
    files::blocking("found", dir, move |dir| {
        let file = dir.join("store.json");
        durable::link(&temporary, &file)?;
        durable::remove(&temporary)?;
        Ok(serde_json::from_slice(&std::fs::read(file)?)?)
    })
    .await
}

async fn whole(dir: Utf8PathBuf) -> Result<Utf8PathBuf, FileError> {
    files::blocking("find", dir, Utf8Path::canonicalize_utf8).await
}
