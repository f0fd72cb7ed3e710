//! Being rid of blocks, for good.

use super::error::BlocksError;
use super::places::{Names, making_dir, whose};
use super::{Blocks, durable, on_disk};
use sled_agent_client::BlocksPlace;
use slog::info;
use std::io;
use uuid::Uuid;

impl Blocks {
    /// Deletes blocks, known or not, and keeps their id out from now on.
    ///
    /// *Idempotency*: yes. After a crash the rest is removed when it is asked
    /// for again, or in time.
    pub(crate) async fn delete(
        &self,
        id: Uuid,
        place: BlocksPlace,
    ) -> Result<(), BlocksError> {
        let Some(_pass) = self.claims.delete(id) else {
            return Err(BlocksError::misfit("a guest of this sled has them"));
        };
        let names = self.places.names(place, id);
        on_disk("bury", &names, |names| durable::touch(&names.gone())).await?;
        // One that begins after this finds the tombstone when it has made them.
        self.jobs.cancel(id).await;
        on_disk("remove", &names, |names| {
            names.remove_unfinished()?;
            names.remove_all()
        })
        .await?;
        if place == BlocksPlace::Local {
            self.room.release(id);
        }
        info!(self.log, "blocks were deleted"; "blocks_id" => %id);
        Ok(())
    }
}

impl Names {
    /// Removes everything that counts but the tombstone.
    pub(super) fn remove_all(&self) -> io::Result<()> {
        // What is based on the base before that.
        durable::remove(&self.ready())?;
        durable::remove(&self.base())?;
        durable::remove(&self.import())?;
        durable::remove(&self.imported())?;
        durable::remove(&self.allocated())?;
        durable::remove(&self.half_allocated())?;
        durable::sync_dir(&self.dir)
    }

    /// Removes what anybody is making of these.
    fn remove_unfinished(&self) -> io::Result<()> {
        for entry in making_dir(&self.dir).read_dir_utf8()? {
            let entry = entry?;
            let owner = whose(entry.file_name()).map(|(id, _)| id);
            if owner == Some(self.id) {
                durable::remove(entry.path())?;
            }
        }
        Ok(())
    }
}
