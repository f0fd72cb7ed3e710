//! Clearing up what the dead have left.
//!
//! What counts is not touched: only what blocks still have that were deleted, or
//! made of an import, since who did so died half-way; and what nobody can still
//! be making.

use super::places::{making_dir, whose};
use super::{Blocks, durable};
use crate::files::{self, FileError};
use crate::logger::chain;
use camino::Utf8Path;
use sled_agent_client::BlocksPlace;
use slog::{info, warn};
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// How often to look, and how long ago something must have been written last
/// for nobody to be making it: far longer than any making may take.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Blocks {
    /// Clears both places up now, and once a day from then on. Never returns.
    pub(crate) async fn keep_clear(self: Arc<Self>) {
        loop {
            for place in [BlocksPlace::Store, BlocksPlace::Local] {
                if let Err(error) = self.clear(place).await {
                    warn!(self.log, "cannot clear up"; "error" => chain(&error));
                }
            }
            tokio::time::sleep(DAY).await;
        }
    }

    async fn clear(&self, place: BlocksPlace) -> Result<(), FileError> {
        let dir = self.places.dir(place).to_path_buf();
        let places = self.places.clone();
        let rests = files::blocking("clear", dir, move |dir| {
            let forsaken = drop_forsaken(&making_dir(dir))?;
            let rests = rests(dir)?;
            for id in &rests.of_buried {
                places.names(place, *id).remove_all()?;
            }
            for id in &rests.of_imported {
                places.names(place, *id).drop_imported()?;
            }
            Ok(forsaken + rests.of_buried.len() + rests.of_imported.len())
        })
        .await?;
        if rests > 0 {
            info!(self.log, "cleared up"; "rests" => rests);
        }
        Ok(())
    }
}

fn drop_forsaken(making: &Utf8Path) -> io::Result<usize> {
    let mut dropped = 0;
    for entry in making.read_dir_utf8()? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else { continue };
        let age = SystemTime::now().duration_since(metadata.modified()?);
        if age.is_ok_and(|age| age > DAY) {
            durable::remove(entry.path())?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

/// Those that have more files than one of those that counts.
struct Rests {
    of_buried: Vec<Uuid>,
    of_imported: Vec<Uuid>,
}

fn rests(dir: &Utf8Path) -> io::Result<Rests> {
    let (mut buried, mut there) = (HashSet::new(), HashSet::new());
    let (mut ready, mut imports) = (HashSet::new(), HashSet::new());
    for entry in dir.read_dir_utf8()? {
        let entry = entry?;
        let Some((id, rest)) = whose(entry.file_name()) else { continue };
        match rest {
            "gone" => buried.insert(id),
            "qcow2" => ready.insert(id),
            "import" | "imported" => imports.insert(id),
            _ => there.insert(id),
        };
    }
    let of_imported = ready.intersection(&imports).copied().collect();
    there.extend(ready.into_iter().chain(imports));
    let of_buried = buried.intersection(&there).copied().collect();
    Ok(Rests { of_buried, of_imported })
}
