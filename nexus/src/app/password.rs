//! Passwords: hashed slowly, compared slowly, and guessed slowly.

use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{
    Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::Error;

/// What OWASP recommends for argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// How many are hashed at a time: each takes the memory above, and a processor
/// for tens of milliseconds.
const AT_ONCE: usize = 2;

/// How many more wait for that, in a line of their own: some three seconds of
/// work. Whoever logs in wildly is in nobody's way but that of who logs in.
const IN_LINE: usize = 128;

/// The shortest that is taken. NIST SP 800-63B asks for eight.
const MIN_CHARS: usize = 8;

/// The longest, as in Oxide's API.
const MAX_CHARS: usize = 512;

/// A password in clear text: never logged, since it has no `Debug`.
pub struct Password(String);

impl Password {
    /// A password to be set.
    ///
    /// # Errors
    ///
    /// `InvalidValue`: too short or too long.
    pub fn new(text: String) -> Result<Password, Error> {
        let chars = text.chars().count();
        if (MIN_CHARS..=MAX_CHARS).contains(&chars) {
            return Ok(Password(text));
        }
        Err(Error::invalid_value(
            "password",
            format!(
                "it has {chars} characters: it must have {MIN_CHARS} to \
                 {MAX_CHARS}"
            ),
        ))
    }

    /// A password as somebody shows it, whatever it is.
    pub fn shown(text: String) -> Password {
        Password(text)
    }
}

/// Hashes and compares, a few at a time.
#[derive(Debug)]
pub struct Hasher {
    places: Semaphore,
    line: Semaphore,
}

impl Default for Hasher {
    fn default() -> Hasher {
        Hasher {
            places: Semaphore::new(AT_ONCE),
            line: Semaphore::new(AT_ONCE + IN_LINE),
        }
    }
}

impl Hasher {
    /// What is kept of a password: a PHC string.
    ///
    /// # Errors
    ///
    /// `Internal`: the system has no randomness.
    pub async fn hash(&self, password: Password) -> Result<String, Error> {
        let turn = self.turn()?;
        self.hash_in(turn, password).await
    }

    /// A place in the line, so that it is known before a guess is counted that
    /// it will be made.
    ///
    /// # Errors
    ///
    /// `Unavailable`: too many are in line.
    pub(super) fn turn(&self) -> Result<Turn<'_>, Error> {
        let turn = self.line.try_acquire();
        turn.map(Turn).map_err(|_| Error::Unavailable {
            message: "Too many passwords are being checked. Nothing was done. \
                      Ask again."
                .to_owned(),
            retry_after_secs: 1,
            source: None,
        })
    }

    async fn hash_in(
        &self,
        turn: Turn<'_>,
        password: Password,
    ) -> Result<String, Error> {
        self.run(turn, move || {
            argon2()?
                .hash_password(password.0.as_bytes())
                .map(|hash| hash.to_string())
                .map_err(|error| Error::internal(error.to_string()))
        })
        .await
    }

    /// Is it the password of which `hash` was kept? And if it is, is another
    /// hash to be kept of it, since it is hashed in another way now?
    pub(super) async fn compare(
        &self,
        turn: Turn<'_>,
        password: Password,
        hash: String,
    ) -> Result<Compared, Error> {
        self.run(turn, move || {
            let kept = PasswordHash::new(&hash)
                .map_err(|error| Error::internal(error.to_string()))?;
            let bytes = password.0.as_bytes();
            if argon2()?.verify_password(bytes, &kept).is_err() {
                return Ok(Compared::Wrong);
            }
            let current = params()?;
            let old = Params::try_from(&kept).ok();
            let same = old.is_some_and(|old| {
                (old.m_cost(), old.t_cost(), old.p_cost())
                    == (current.m_cost(), current.t_cost(), current.p_cost())
            });
            if same {
                return Ok(Compared::Right { rehashed: None });
            }
            let rehashed = argon2()?
                .hash_password(bytes)
                .map_err(|error| Error::internal(error.to_string()))?;
            Ok(Compared::Right { rehashed: Some(rehashed.to_string()) })
        })
        .await
    }

    /// Takes as long as a comparison: who guesses names is not told which of
    /// them are somebody's.
    ///
    /// # Errors
    ///
    /// As a comparison.
    pub(super) async fn pretend(
        &self,
        turn: Turn<'_>,
        password: Password,
    ) -> Result<(), Error> {
        self.hash_in(turn, password).await.map(drop)
    }

    async fn run<T: Send + 'static>(
        &self,
        _turn: Turn<'_>,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _place = self.places.acquire().await.map_err(Error::internal)?;
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)?
    }
}

/// A place in the line of those whose passwords are hashed.
pub(super) struct Turn<'a>(
    #[expect(dead_code, reason = "held")] SemaphorePermit<'a>,
);

/// What came of a comparison.
pub(super) enum Compared {
    Wrong,
    Right { rehashed: Option<String> },
}

/// Who guesses has to wait.
pub(super) fn too_many(wait: Duration) -> Error {
    let secs = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
    Error::TooManyRequests {
        message: "There were too many wrong passwords for this name. Nothing \
                  was tried. Wait, and try again."
            .to_owned(),
        retry_after_secs: secs.saturating_add(1),
    }
}

fn params() -> Result<Params, Error> {
    Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| Error::internal(error.to_string()))
}

fn argon2() -> Result<Argon2<'static>, Error> {
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_by_its_hash_and_another_is_not() {
        let hasher = Hasher::default();
        let shown = |text: &str| Password::shown(text.to_owned());
        let hash = hasher.hash(shown("correct horse")).await.expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let turn = || hasher.turn().expect("nobody is in line");
        let right =
            hasher.compare(turn(), shown("correct horse"), hash.clone()).await;
        assert!(matches!(right, Ok(Compared::Right { rehashed: None })));
        let wrong = hasher.compare(turn(), shown("correct hors"), hash).await;
        assert!(matches!(wrong, Ok(Compared::Wrong)));
    }

    #[tokio::test]
    async fn a_hash_of_other_days_is_made_anew() {
        let cheap = Params::new(64, 1, 1, None).expect("sound");
        let old = Argon2::new(Algorithm::Argon2id, Version::V0x13, cheap)
            .hash_password(b"correct horse")
            .expect("a hash")
            .to_string();
        let shown = Password::shown("correct horse".to_owned());
        let hasher = Hasher::default();
        let turn = hasher.turn().expect("nobody is in line");
        let compared = hasher.compare(turn, shown, old).await;
        let Ok(Compared::Right { rehashed: Some(new) }) = compared else {
            panic!("it is right, and old");
        };
        assert!(new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{new}");
    }

    #[test]
    fn a_password_has_a_length() {
        assert!(Password::new("1234567".to_owned()).is_err());
        assert!(Password::new("12345678".to_owned()).is_ok());
        assert!(Password::new("é".repeat(512)).is_ok());
        assert!(Password::new("é".repeat(513)).is_err());
    }
}
