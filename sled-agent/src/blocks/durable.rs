//! Changes of directories that are there after a crash, made so that of two
//! who make the same one at once, on two sleds, one is first.

use camino::Utf8Path;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;

/// Gives a file one more name; whether that was free. If not, it is left to
/// whom it belongs. The new name, whoever gave it, is durable.
pub(super) fn link(from: &Utf8Path, to: &Utf8Path) -> io::Result<bool> {
    let was_free = match std::fs::hard_link(from, to) {
        Ok(()) => true,
        // An NFS server that got the question twice says so, too.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    sync_parent(to)?;
    Ok(was_free)
}

/// Makes an empty file, unless there is one.
pub(super) fn touch(path: &Utf8Path) -> io::Result<()> {
    File::options().create(true).append(true).open(path)?.sync_all()?;
    sync_parent(path)
}

/// Removes a file, if it is there; durable only once the directory is.
pub(super) fn remove(path: &Utf8Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a directory that is nobody else's business, unless it is there.
pub(super) fn make_private_dir(path: &Utf8Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn sync_dir(dir: &Utf8Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn sync_parent(path: &Utf8Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => sync_dir(dir),
        None => Ok(()),
    }
}

/// Whether an error says that there is no room left.
pub(super) fn is_full(error: io::ErrorKind) -> bool {
    matches!(error, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
