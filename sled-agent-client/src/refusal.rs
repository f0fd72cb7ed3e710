//! The error codes of both APIs: what is said by code and not by status alone.

use dropshot::{ClientErrorStatusCode, HttpError};

/// 404: this sled has no such VMM. A definite answer.
pub const NO_SUCH_INSTANCE: &str = "NO_SUCH_INSTANCE";
/// 503: the agent restarted and has not yet found its VMMs again.
pub const RECOVERING: &str = "RECOVERING";
/// 421: the request was meant for another sled.
pub const WRONG_SLED: &str = "WRONG_SLED";
/// 404, from Nexus: no VMM has this id. A definite answer.
pub const NO_SUCH_VMM: &str = "NO_SUCH_VMM";
/// 404, from Nexus: this sled has to register first.
pub const SLED_UNKNOWN: &str = "SLED_UNKNOWN";

/// 404: this sled finds no such blocks. A definite answer.
pub const NO_SUCH_BLOCKS: &str = "NO_SUCH_BLOCKS";
/// 404: nothing is kept of what this VMM printed. A definite answer.
pub const NO_SUCH_CONSOLE: &str = "NO_SUCH_CONSOLE";

/// Why a sled refuses what it was asked: a 409 each, and definite.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RefusalCode {
    /// The id belongs to a VMM of another instance.
    VmmIdInUse,
    /// A VMM of this id was unregistered here, or is never to be.
    VmmTombstoned,
    /// The host cannot take this VMM; the message says why.
    HostRejected,
    /// It was told to stop, or has ended: no order makes it run again.
    VmmStopping,
    /// It cannot be rebooted, since it is not running.
    NotRunning,
    /// Blocks of this id were deleted, or are never to be.
    BlocksTombstoned,
    /// Those blocks are not what they would have to be for this; the message says
    /// what they are.
    BlocksMisfit,
}

impl RefusalCode {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::VmmIdInUse,
        Self::VmmTombstoned,
        Self::HostRejected,
        Self::VmmStopping,
        Self::NotRunning,
        Self::BlocksTombstoned,
        Self::BlocksMisfit,
    ];

    /// The `error_code` on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VmmIdInUse => "VMM_ID_IN_USE",
            Self::VmmTombstoned => "VMM_TOMBSTONED",
            Self::HostRejected => "HOST_REJECTED",
            Self::VmmStopping => "VMM_STOPPING",
            Self::NotRunning => "NOT_RUNNING",
            Self::BlocksTombstoned => "BLOCKS_TOMBSTONED",
            Self::BlocksMisfit => "BLOCKS_MISFIT",
        }
    }

    /// The one that is written so on the wire.
    pub fn from_wire(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.as_str() == code)
    }

    /// The answer that a server gives for this refusal.
    pub fn into_http(self, message: String) -> HttpError {
        HttpError::for_client_error(
            Some(self.as_str().to_string()),
            ClientErrorStatusCode::CONFLICT,
            message,
        )
    }
}

impl std::fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
