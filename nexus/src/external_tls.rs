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
