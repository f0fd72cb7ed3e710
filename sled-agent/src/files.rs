//! Small JSON files, each written whole or not at all.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

/// What a half-written file is called; of no meaning to anybody.
const HALF_WRITTEN: &str = "tmp";

/// As the umask has it.
const FOR_ALL: u32 = 0o666;
const FOR_OWNER: u32 = 0o600;

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {path}")]
pub(crate) struct FileError {
    verb: &'static str,
    path: Utf8PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    pub(crate) fn new(
        verb: &'static str,
        path: Utf8PathBuf,
        source: io::Error,
    ) -> Self {
        Self { verb, path, source }
    }

    /// What kind of error it was.
    pub(crate) fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Makes a file say `value`, durably: after a crash at any moment it says
/// either this or what it said before. One writer to a path at a time.
pub(crate) async fn write<T: Serialize>(
    path: Utf8PathBuf,
    value: &T,
) -> Result<(), FileError> {
    write_with_mode(path, value, FOR_ALL).await
}

/// As [`write`], and nobody but the owner can ever read it.
pub(crate) async fn write_private<T: Serialize>(
    path: Utf8PathBuf,
    value: &T,
) -> Result<(), FileError> {
    write_with_mode(path, value, FOR_OWNER).await
}

async fn write_with_mode<T: Serialize>(
    path: Utf8PathBuf,
    value: &T,
    mode: u32,
) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::from);
    blocking("write", path, move |path| write_whole(path, &text?, mode)).await
}

fn write_whole(path: &Utf8Path, text: &[u8], mode: u32) -> io::Result<()> {
    let half = path.with_extension(HALF_WRITTEN);
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&half)?;
    if mode == FOR_OWNER {
        // The mode above counts only for a file that was not there yet.
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&half, path)?;
    sync_parent(path)
}

/// As [`write`], for what means nothing once the host has crashed: then the
/// file may say anything, or nothing. Whoever reads it while the host is up
/// reads it whole.
pub(crate) async fn write_for_now<T: Serialize>(
    path: Utf8PathBuf,
    value: &T,
) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::from);
    blocking("write", path, move |path| replace(path, &text?)).await
}

/// Makes a file be this, for whoever reads it while the host is up.
fn replace(path: &Utf8Path, text: &[u8]) -> io::Result<()> {
    let half = path.with_extension(HALF_WRITTEN);
    std::fs::write(&half, text)?;
    std::fs::rename(&half, path)
}

/// Reads a file; none if there is none.
pub(crate) async fn read<T>(path: Utf8PathBuf) -> Result<Option<T>, FileError>
where
    T: DeserializeOwned + Send + 'static,
{
    blocking("read", path, |path| match std::fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    })
    .await
}

/// Removes a file, durably. One that is not there is removed already.
pub(crate) async fn remove(path: Utf8PathBuf) -> Result<(), FileError> {
    blocking("remove", path, |path| match std::fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    })
    .await
}

/// Removes these files of a directory, durably, and by one sync.
pub(crate) async fn remove_all(
    dir: Utf8PathBuf,
    files: Vec<Utf8PathBuf>,
) -> Result<(), FileError> {
    blocking("empty", dir, |dir| {
        files.into_iter().try_for_each(std::fs::remove_file)?;
        File::open(dir)?.sync_all()
    })
    .await
}

/// The files of a directory; none if there is none.
pub(crate) async fn all(
    dir: Utf8PathBuf,
) -> Result<Vec<Utf8PathBuf>, FileError> {
    blocking("list", dir, |dir| {
        let mut all = Vec::new();
        let entries = match dir.read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(all);
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.into_path();
            if path.extension() == Some("json") {
                all.push(path);
            }
        }
        Ok(all)
    })
    .await
}

/// Makes a directory, unless it is there.
pub(crate) async fn make_dir(dir: Utf8PathBuf) -> Result<(), FileError> {
    blocking("make", dir, |dir| std::fs::create_dir_all(dir)).await
}

/// A rename or a removal is durable once the directory is.
fn sync_parent(path: &Utf8Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => std::fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Does something with a path on a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    verb: &'static str,
    path: Utf8PathBuf,
    work: impl FnOnce(&Utf8Path) -> io::Result<T> + Send + 'static,
) -> Result<T, FileError> {
    let at = path.clone();
    let done = tokio::task::spawn_blocking(move || work(&at)).await;
    done.unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(|source| FileError::new(verb, path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_and_what_is_half_written_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let path = dir.join("a.json");
        assert_eq!(read::<u32>(path.clone()).await.unwrap(), None);
        write(path.clone(), &7).await.unwrap();
        write(path.clone(), &8).await.unwrap();
        std::fs::write(dir.join("b.tmp"), "4").unwrap();
        assert_eq!(read::<u32>(path.clone()).await.unwrap(), Some(8));
        assert_eq!(all(dir.into()).await.unwrap().len(), 1);
        remove(path.clone()).await.unwrap();
        remove(path.clone()).await.unwrap();
        assert_eq!(read::<u32>(path).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_file_that_makes_no_sense_is_an_error_and_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        std::fs::write(dir.join("a.json"), "{").unwrap();
        assert!(read::<u32>(dir.join("a.json")).await.is_err());
    }
}
