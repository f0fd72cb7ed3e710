//! The secrets that Nexus shares with each of its sleds.
//!
//! The certificates of the two say already who they are, when they connect. But
//! what answers requests is not told whose connection they come by. So each
//! request also carries a secret, which is another one for each sled: Nexus
//! makes it of the fleet's secret and the sled's id, and keeps nothing.

use aws_lc_rs::hmac;
use dropshot::{ClientErrorStatusCode, HttpError};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// The shortest secret that is taken, so that an empty file is not one.
const MIN_BYTES: usize = 8;

/// What one member and Nexus know and nobody else does; or, of the fleet,
/// what Nexus alone knows.
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

    /// The secret of a sled, in a fleet that has this one: HMAC-SHA-256 of its
    /// id, in hex. Who knows it knows no other sled's, and not the fleet's.
    pub fn of_sled(&self, sled_id: Uuid) -> Secret {
        self.derived(&format!("sled:{sled_id}"))
    }

    /// The secret of who may read the metrics of any Nexus, and nothing else.
    pub fn of_metrics(&self) -> Secret {
        self.derived("metrics")
    }

    fn derived(&self, whose: &str) -> Secret {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        let tag = hmac::sign(&key, whose.as_bytes());
        let hex = tag.as_ref().iter().fold(
            String::with_capacity(64),
            |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            },
        );
        Secret(hex.into())
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

    /// The secret itself, for who sends it, or hands it to its owner.
    pub fn expose(&self) -> &str {
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
    fn each_sled_has_one_of_its_own() {
        let fleet = Secret::new("correct-horse").unwrap();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let of_one = fleet.of_sled(one);
        assert!(of_one.matches(fleet.of_sled(one).expose()));
        let another = Secret::new("correct-horsf").unwrap();
        for wrong in [
            fleet.of_sled(other),
            fleet.of_metrics(),
            another.of_sled(one),
            fleet.clone(),
        ] {
            assert!(!of_one.matches(wrong.expose()));
        }
        assert!(Secret::new(of_one.expose()).is_ok());
    }

    #[test]
    fn it_is_never_printed() {
        let secret = Secret::new("correct-horse").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
