//! How asking a sled can end badly: the choices that the asker has.

use crate::RefusalCode;
use uuid::Uuid;

/// Why a sled did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or none that says anything: the request may have taken
    /// effect, may do so later, or never. Ask again; conclude nothing.
    #[error("no answer from the sled")]
    Unreachable(#[source] Unreachable),

    /// The sled says that it has no such VMM: a definite answer.
    #[error("the sled has no such VMM")]
    NoSuchVmm,

    /// The sled says that it finds no such blocks: a definite answer.
    #[error("the sled has no such blocks")]
    NoSuchBlocks,

    /// The sled keeps nothing of what this VMM printed: a definite answer.
    #[error("the sled keeps no console of the VMM")]
    NoSuchConsole,

    /// The sled understood and will not: a definite answer, and the request
    /// had no effect.
    #[error("the sled refused ({code}): {message}")]
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, in a sentence.
        message: String,
    },

    /// One of the two is wrong, in its code or in its configuration (401: its
    /// secret). Repeating the request is harmless and will hardly help;
    /// nothing may be concluded about the VMM.
    #[error("the sled did not understand (HTTP {status}): {message}")]
    Bug {
        /// The HTTP status, a 4xx.
        status: u16,
        /// What the sled said.
        message: String,
    },
}

/// Why nothing is known of what became of a request. For logs alone: whoever
/// branches on it mistakes what can be known.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    /// It could not be sent, or the answer did not come (whole, in time).
    #[error("the exchange failed")]
    Exchange(#[source] reqwest::Error),
    /// The answer is longer than any that makes sense.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The other side says that it cannot, for now.
    #[error("answered with HTTP {status}: {message}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// What was said with it.
        message: String,
    },
    /// An answer came that makes no sense.
    #[error("answered with what cannot be read")]
    Undecodable(#[source] serde_json::Error),
    /// Somebody else is found at the sled's address.
    #[error("another sled answered: {0}")]
    WrongSled(String),
}

impl Unreachable {
    pub(crate) fn wrong_sled(answered: Uuid) -> Self {
        Self::WrongSled(answered.to_string())
    }
}
