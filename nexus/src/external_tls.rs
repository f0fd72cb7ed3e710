//! The certificate that users see: of no concern to the fleet, made by whom
//! they trust, and read again when its files change.

use crate::config::ExternalTlsConfig;
use camino::{Utf8Path, Utf8PathBuf};
use fleet_pki::{PkiError, PublicCertificate};
use std::sync::{Mutex, PoisonError};

/// The certificate, and the files that it comes from.
#[derive(Debug)]
pub struct ExternalTls {
    files: ExternalTlsConfig,
    shown: PublicCertificate,
    /// What it was made of.
    read: Mutex<Pems>,
}

/// Without `Debug`: one of them is a key.
#[derive(PartialEq, Eq)]
struct Pems {
    certificate: String,
    key: String,
}

impl std::fmt::Debug for Pems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pems(..)")
    }
}

/// Why there is no such certificate.
#[derive(Debug, thiserror::Error)]
pub enum ExternalTlsError {
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Read(Utf8PathBuf, #[source] std::io::Error),
    /// The files hold something else.
    #[error("{0} and {1} hold no certificate and its key")]
    Unusable(Utf8PathBuf, Utf8PathBuf, #[source] PkiError),
}

impl ExternalTls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// See [`ExternalTlsError`].
    pub fn open(
        files: &ExternalTlsConfig,
    ) -> Result<ExternalTls, ExternalTlsError> {
        let pems = read(files)?;
        let shown = parsed(files, &pems)?;
        Ok(ExternalTls { files: files.clone(), shown, read: Mutex::new(pems) })
    }

    /// What a server shows. It changes when it is reloaded.
    pub fn shown(&self) -> &PublicCertificate {
        &self.shown
    }

    /// Reads the files again; whether they have changed, and are shown from
    /// here on.
    ///
    /// # Errors
    ///
    /// They cannot be used, as when only one of them is replaced yet. What was
    /// shown is shown still.
    pub fn reload(&self) -> Result<bool, ExternalTlsError> {
        let pems = read(&self.files)?;
        let mut before =
            self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if *before == pems {
            return Ok(false);
        }
        self.shown.replace(&parsed(&self.files, &pems)?);
        *before = pems;
        Ok(true)
    }
}

fn read(files: &ExternalTlsConfig) -> Result<Pems, ExternalTlsError> {
    let text = |path: &Utf8Path| {
        std::fs::read_to_string(path)
            .map_err(|e| ExternalTlsError::Read(path.to_owned(), e))
    };
    let certificate = text(&files.certificate_file)?;
    Ok(Pems { certificate, key: text(&files.key_file)? })
}

fn parsed(
    files: &ExternalTlsConfig,
    pems: &Pems,
) -> Result<PublicCertificate, ExternalTlsError> {
    PublicCertificate::new(&pems.certificate, &pems.key).map_err(|error| {
        let ExternalTlsConfig { certificate_file, key_file } = files.clone();
        ExternalTlsError::Unusable(certificate_file, key_file, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_pki::{Authority, Key};

    fn made() -> (String, String) {
        let key = Key::generate().expect("a key");
        let certificate = Authority::certificate(&key).expect("its own");
        (certificate, key.to_pem())
    }

    #[test]
    fn what_is_shown_follows_the_files_once_they_fit_together() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = Utf8Path::from_path(dir.path()).expect("UTF-8");
        let files = ExternalTlsConfig {
            certificate_file: dir.join("certificate"),
            key_file: dir.join("key"),
        };
        let missing = ExternalTls::open(&files);
        assert!(matches!(missing, Err(ExternalTlsError::Read(..))));
        let put = |path: &Utf8Path, text: &str| {
            std::fs::write(path, text).expect("written");
        };
        let (certificate, key) = made();
        put(&files.certificate_file, &certificate);
        put(&files.key_file, &key);
        let tls = ExternalTls::open(&files).expect("a certificate");
        assert!(!tls.reload().expect("the same"));

        let (certificate, key) = made();
        put(&files.certificate_file, &certificate);
        let half = tls.reload();
        assert!(matches!(half, Err(ExternalTlsError::Unusable(..))));
        put(&files.key_file, &key);
        assert!(tls.reload().expect("another"));
        assert!(!tls.reload().expect("the same"));
    }
}
