//! The directory in which a Nexus has its fleet's authority:
//!
//! | file | holds | for |
//! |---|---|---|
//! | `ca.pem` | the authority's certificate, or two of them | everybody |
//! | `ca-key.pem` | the key to it | Nexuses alone (mode 0600) |

use crate::{Authority, Key, PkiError};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca-key.pem";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum DirError {
    /// A file cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// With which file.
        path: PathBuf,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// It has not been made yet.
    #[error(
        "there is no {}: \"nexus init\" makes the fleet's CA, once; a further \
         Nexus of the same fleet is given a copy of the first one's pki_dir",
        .0.display()
    )]
    Missing(PathBuf),
    /// A certificate without its key.
    #[error(
        "{} is there, but its key, {}, is not: put it back from the backup, \
         or move the certificate away if no sled has joined by it yet",
        .0.display(), .1.display()
    )]
    NoKey(PathBuf, PathBuf),
    /// Others can read the key.
    #[error(
        "{} can be read by others than its owner: chmod 600, and think of who \
         may have read it", .0.display()
    )]
    Exposed(PathBuf),
    /// The files make no authority.
    #[error("{} holds no CA", dir.display())]
    Unusable {
        /// Where they are.
        dir: PathBuf,
        /// What is wrong with them.
        #[source]
        source: PkiError,
    },
}

/// The authority of this directory.
///
/// # Errors
///
/// See [`DirError`].
pub fn load(dir: &Path) -> Result<Authority, DirError> {
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    let read = |path: &Path| match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file("read", path)(error)),
    };
    let Some(key_text) = read(&key)? else {
        return Err(match certificate.exists() {
            true => DirError::NoKey(certificate, key),
            false => DirError::Missing(key),
        });
    };
    let mode = std::fs::metadata(&key).map_err(file("read", &key))?;
    if mode.permissions().mode() & 0o077 != 0 {
        return Err(DirError::Exposed(key));
    }
    let Some(text) = read(&certificate)? else {
        return Err(DirError::Missing(certificate));
    };
    let key = Key::from_pem(&key_text).map_err(unusable(dir))?;
    Authority::new(&text, key).map_err(unusable(dir))
}

/// The authority of this directory, made if there is none yet.
///
/// *Idempotency*: what is there is never written over. The key is there before
/// the certificate, so what was cut short in between is completed by the next
/// run; of two runs at once, both end with the same key.
///
/// # Errors
///
/// See [`DirError`].
pub fn make_or_load(dir: &Path) -> Result<Authority, DirError> {
    let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(file("make", dir))?;
    if !key.exists() {
        if certificate.exists() {
            return Err(DirError::NoKey(certificate, key));
        }
        let new = Key::generate().map_err(unusable(dir))?;
        put(&key, &new.to_pem(), 0o600).map_err(file("write", &key))?;
    }
    if !certificate.exists() {
        let text = std::fs::read_to_string(&key).map_err(file("read", &key))?;
        let of_key = Key::from_pem(&text)
            .and_then(|key| Authority::certificate(&key))
            .map_err(unusable(dir))?;
        put(&certificate, &of_key, 0o644)
            .map_err(file("write", &certificate))?;
    }
    load(dir)
}

/// Writes a file, whole and durably, unless there is one.
fn put(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    // Another run at the same time has another one.
    let part = path.with_extension(format!("{}.part", std::process::id()));
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => (),
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&part)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // Unlike a rename it replaces nothing.
    let linked = std::fs::hard_link(&part, path);
    std::fs::remove_file(&part)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        },
    }
}

fn file<'a>(
    verb: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> DirError + use<'a> {
    move |source| DirError::File { verb, path: path.to_owned(), source }
}

fn unusable<'a>(dir: &'a Path) -> impl FnOnce(PkiError) -> DirError + use<'a> {
    move |source| DirError::Unusable { dir: dir.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_never_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path().join("pki");
        assert!(matches!(load(&dir), Err(DirError::Missing(_))));
        make_or_load(&dir).expect("made");
        let read = || {
            let read = |name| std::fs::read(dir.join(name)).expect("a file");
            (read(CERTIFICATE), read(KEY))
        };
        let first = read();
        make_or_load(&dir).expect("there");
        load(&dir).expect("there");
        assert!(first == read(), "it was written over");
        assert_eq!(std::fs::read_dir(&dir).expect("a directory").count(), 2);
    }

    #[test]
    fn a_run_that_was_cut_short_is_completed_by_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        make_or_load(dir.path()).expect("made");
        let key = std::fs::read(dir.path().join(KEY)).expect("a key");
        std::fs::remove_file(dir.path().join(CERTIFICATE)).expect("removed");
        make_or_load(dir.path()).expect("completed");
        assert_eq!(std::fs::read(dir.path().join(KEY)).expect("a key"), key);

        std::fs::remove_file(dir.path().join(KEY)).expect("removed");
        let refused = make_or_load(dir.path());
        assert!(matches!(refused, Err(DirError::NoKey(..))));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        make_or_load(dir.path()).expect("made");
        let key = dir.path().join(KEY);
        let mode = std::fs::metadata(&key).expect("a key").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        std::fs::set_permissions(&key, Permissions::from_mode(0o640))
            .expect("changed");
        assert!(matches!(load(dir.path()), Err(DirError::Exposed(_))));
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        make_or_load(dir.path()).expect("made");
        let other = Key::generate().expect("a key").to_pem();
        std::fs::write(dir.path().join(KEY), other).expect("written");
        assert!(matches!(load(dir.path()), Err(DirError::Unusable { .. })));
    }
}
