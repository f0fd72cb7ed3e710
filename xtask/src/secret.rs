//! Secrets: made from the kernel's randomness, kept in files that only their
//! owner reads.

use crate::failure::{Context, Result};
use camino::Utf8Path;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

/// 32 bytes, far beyond guessing, as 64 hexadecimal digits: letters and digits
/// only, so that it stands in a URL as it is.
pub(crate) fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; 32];
    File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut bytes))
        .context(|| "cannot read /dev/urandom")?;
    Ok(bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// Replaces the file in one step: a reader sees the old text or the new one,
/// never half of it, and never a file that others may read.
pub(crate) fn write_private(path: &Utf8Path, text: &str) -> Result<()> {
    let next = path.with_extension("next");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        // The mode above counts only for a file that was not there yet.
        file.set_permissions(PermissionsExt::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&next, path)
    };
    write().context(|| format!("cannot write {path}"))
}

/// The secret kept in this file; made on the first call.
pub(crate) fn kept_in(path: &Utf8Path) -> Result<String> {
    if let Ok(text) = std::fs::read_to_string(path) {
        return Ok(text.trim().to_owned());
    }
    let secret = random_hex()?;
    write_private(path, &secret)?;
    Ok(secret)
}
