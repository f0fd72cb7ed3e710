//! The secret that Nexus and its sleds share.

use dropshot::{ClientErrorStatusCode, HttpError};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::path::Path;
use std::sync::Arc;

/// The shortest secret that is taken, so that an empty file is not one.
const MIN_BYTES: usize = 8;

/// What the members of a fleet know and nobody else does.
///
/// Never printed: its `Debug` says only that it is one.
#[derive(Clone)]
pub struct Secret(Arc<str>);

/// Why some text is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file")]
    Read(#[source] std::io::Error),
    /// Too short to be one.
    #[error("the secret is shorter than {MIN_BYTES} characters")]
    TooShort,
    /// It would not survive the way through an HTTP header.
    #[error("the secret has characters other than visible ASCII")]
    NotVisibleAscii,
}

impl Secret {
    /// Takes `text`, without the white space around it, as the secret.
    ///
    /// *Errors*: what is left is too short, or not visible ASCII.
    pub fn new(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        if text.len() < MIN_BYTES {
            return Err(SecretError::TooShort);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SecretError::NotVisibleAscii);
        }
        Ok(Self(text.into()))
    }

    /// Reads the secret from a file.
    ///
    /// *Errors*: as [`Secret::new`], or the file cannot be read.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let text = std::fs::read_to_string(path).map_err(SecretError::Read)?;
        Self::new(&text)
    }

    /// Whether a request with these headers comes from a member of the fleet.
    ///
    /// *Errors*: the 401 to answer with, which does not say what was wrong.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), HttpError> {
        let given = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "));
        if given.is_some_and(|given| self.matches(given)) {
            return Ok(());
        }
        Err(HttpError::for_client_error(
            Some("Unauthorized".to_string()),
            ClientErrorStatusCode::UNAUTHORIZED,
            "credentials missing or invalid".to_string(),
        ))
    }

    /// The secret itself, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Is `given` the secret? Compares in a time that does not tell how much of
    /// it was right.
    pub fn matches(&self, given: &str) -> bool {
        let difference = self
            .0
            .bytes()
            .zip(given.bytes())
            .fold(0, |seen, (ours, theirs)| seen | (ours ^ theirs));
        self.0.len() == given.len() && std::hint::black_box(difference) == 0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    #[test]
    fn only_the_whole_secret_opens() {
        let secret = Secret::new(" correct horse\n".trim_end());
        assert!(matches!(secret, Err(SecretError::NotVisibleAscii)));
        let secret = Secret::new("correct-horse\n").unwrap();
        assert!(secret.check(&headers("Bearer correct-horse")).is_ok());
        for wrong in [
            "Bearer correct-hors",
            "Bearer correct-horse1",
            "Bearer correct-horsf",
            "Bearer ",
            "Basic correct-horse",
            "correct-horse",
        ] {
            assert!(secret.check(&headers(wrong)).is_err(), "{wrong}");
        }
        assert!(secret.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn an_empty_file_is_no_secret() {
        assert!(matches!(Secret::new(" \n"), Err(SecretError::TooShort)));
    }

    #[test]
    fn it_is_never_printed() {
        let secret = Secret::new("correct-horse").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
