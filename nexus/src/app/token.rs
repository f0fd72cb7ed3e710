//! API tokens: shown once, kept as a hash.

use db_model::DeviceRequestId;
use sha2::{Digest, Sha256};

use crate::error::Error;

/// What a token begins with, so that one that leaked is recognized.
const PREFIX: &str = "nexus-token-";

/// What the secret of a session's cookie begins with.
const SESSION_PREFIX: &str = "nexus-session-";

/// What a token begins with by which a sled joins.
const SLED_PREFIX: &str = "nexus-sled-";
/// What the code begins with by which a device asks for its token.
const DEVICE_PREFIX: &str = "nexus-device-";

/// A token in clear text. Never logged: it has no `Debug`.
pub struct Token(String);

impl Token {
    /// A new token: 256 bits that nobody can guess.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn generate() -> Result<Token, Error> {
        Token::random(PREFIX)
    }

    /// The secret of a new session's cookie, as hard to guess.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn session() -> Result<Token, Error> {
        Token::random(SESSION_PREFIX)
    }

    /// A token by which a sled joins the fleet, as hard to guess.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn sled_join() -> Result<Token, Error> {
        Token::random(SLED_PREFIX)
    }

    /// The code by which a new device asks for its token, as hard to guess.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn device() -> Result<Token, Error> {
        Token::random(DEVICE_PREFIX)
    }

    /// The token of the device that shows this code.
    ///
    /// It is made of the code, which only the device has, and of what only the
    /// database has, and only while the device waits: so it is kept nowhere, and
    /// is the same whenever and wherever the device asks.
    pub fn of_device(&self, request: DeviceRequestId) -> Token {
        let mut hash = Sha256::new();
        hash.update(b"token of a device");
        hash.update(request.0.as_bytes());
        hash.update(self.0.as_bytes());
        Token(format!("{PREFIX}{}", hex(&hash.finalize())))
    }

    /// A password that nobody can guess, for who chose none.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn password() -> Result<Token, Error> {
        Token::random("")
    }

    fn random(prefix: &str) -> Result<Token, Error> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(Error::internal)?;
        Ok(Token(format!("{prefix}{}", hex(&bytes))))
    }

    /// What a request showed.
    pub fn shown(text: &str) -> Token {
        Token(text.to_string())
    }

    /// What is kept of it. A plain hash serves: what is hashed is random and
    /// long, so there is nothing to guess.
    pub fn hash(&self) -> String {
        hex(&digest(&self.0))
    }

    /// The text, to be shown to its owner, once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// By which a credential is known, within this process, without keeping it.
pub(crate) fn digest(credential: &str) -> [u8; 32] {
    Sha256::digest(credential.as_bytes()).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_and_not_by_another_s() {
        let one = Token::generate().expect("randomness");
        let other = Token::generate().expect("randomness");
        assert_eq!(one.hash(), Token::shown(one.expose()).hash());
        assert_ne!(one.hash(), other.hash());
        assert_eq!(one.hash().len(), 64);
        assert!(!one.hash().contains(one.expose()));
    }

    #[test]
    fn a_device_s_token_is_of_its_code_and_its_request() {
        let one = Token::device().expect("randomness");
        let other = Token::device().expect("randomness");
        let request = DeviceRequestId::new_v4();
        let token = |device: &Token, request| {
            device.of_device(request).expose().to_owned()
        };
        assert_eq!(token(&one, request), token(&one, request));
        assert_ne!(token(&one, request), token(&other, request));
        assert_ne!(
            token(&one, request),
            token(&one, DeviceRequestId::new_v4())
        );
        assert_eq!(
            token(&one, request).len(),
            Token::generate().expect("randomness").expose().len(),
        );
    }
}
