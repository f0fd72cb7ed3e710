//! The disk store, as it stands on the file system that all sleds share.

use std::collections::BTreeSet;
use std::path::Path;

/// The blocks of which anything but a tombstone is in the store of a test whose
/// files are in `dir`, by id; and what is being made, which is nothing when
/// nothing is under way.
///
/// # Panics
///
/// There is no store.
pub fn blocks_in_store(dir: &Path) -> BTreeSet<String> {
    let store = dir.join("disk-store");
    let names = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        let names = entries.map(|e| e.unwrap().file_name());
        names.map(|name| name.to_str().unwrap().to_string()).collect()
    };
    assert!(store.is_dir());
    let making = names(&store.join("making"));
    let there = names(&store).into_iter().filter_map(|name| {
        let (id, rest) = name.split_once('.')?;
        let id: uuid::Uuid = id.parse().ok()?;
        (rest != "gone").then(|| id.to_string())
    });
    there.chain(making).collect()
}
