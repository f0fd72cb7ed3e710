//! Where blocks are kept.

use camino::Utf8PathBuf;
use sled_agent_client::BlocksPlace;
use uuid::Uuid;

/// The directories with the blocks.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The disk store, which every sled mounts.
    pub(crate) store: Utf8PathBuf,
    /// On this sled alone.
    pub(crate) local: Utf8PathBuf,
}

impl Places {
    /// The file of these blocks, there or not.
    pub(crate) fn file(
        &self,
        place: BlocksPlace,
        blocks_id: Uuid,
    ) -> Utf8PathBuf {
        let dir = match place {
            BlocksPlace::Store => &self.store,
            BlocksPlace::Local => &self.local,
        };
        dir.join(format!("{blocks_id}.qcow2"))
    }
}
