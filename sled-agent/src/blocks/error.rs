//! Why blocks are not what was asked for.

use super::durable;
use super::qemu_img::ToolError;
use super::room::NoRoom;
use crate::files::FileError;
use sled_agent_client::RefusalCode;

/// Why the agent does not do with blocks what it is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlocksError {
    /// A definite answer.
    #[error("this sled finds no such blocks")]
    NoSuchBlocks,
    /// A definite answer, by code.
    #[error("{message}")]
    Refused { code: RefusalCode, message: String },
    /// It may have been done, or not.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why blocks were not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error("they were deleted")]
    Gone,
    #[error("what they are to be a copy of is not here")]
    NoSource,
    #[error("{0}")]
    Misfit(&'static str),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// What came of making blocks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Ready,
    Gone,
    NoSource,
    Misfit(String),
    Failed(String),
}

impl BlocksError {
    pub(super) fn misfit(message: &str) -> Self {
        let code = RefusalCode::BlocksMisfit;
        Self::Refused { code, message: message.to_string() }
    }

    pub(super) fn tombstoned() -> Self {
        let code = RefusalCode::BlocksTombstoned;
        Self::Refused { code, message: "they were deleted".to_string() }
    }

    pub(super) fn rejected(why: &impl ToString) -> Self {
        let code = RefusalCode::HostRejected;
        Self::Refused { code, message: why.to_string() }
    }
}

impl MakeError {
    /// What becomes known of it.
    pub(super) fn outcome(&self) -> Outcome {
        let failed = |message: &str| Outcome::Failed(message.to_string());
        match self {
            Self::Gone => Outcome::Gone,
            Self::NoSource => Outcome::NoSource,
            Self::Misfit(why) => Outcome::Misfit((*why).to_string()),
            Self::Tool(ToolError::Locked) => {
                Outcome::Misfit("what is to be copied is in use".to_string())
            }
            Self::NoRoom(_) => failed("The host's local storage is full."),
            Self::Tool(error) if error.is_full() => failed(FULL),
            Self::File(error) if durable::is_full(error.kind()) => failed(FULL),
            Self::Tool(ToolError::TimedOut) => failed("It took too long."),
            Self::Tool(_) | Self::File(_) => failed("An internal error."),
        }
    }
}

const FULL: &str = "The disk store is full.";

impl From<MakeError> for BlocksError {
    /// For what is made while somebody waits.
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Gone | MakeError::NoSource => Self::NoSuchBlocks,
            MakeError::Misfit(why) => Self::misfit(why),
            MakeError::NoRoom(no_room) => Self::rejected(&no_room),
            MakeError::File(error) => Self::File(error),
            MakeError::Tool(error) => Self::rejected(&match error {
                ToolError::Full => "the host's local storage is full",
                ToolError::Locked
                | ToolError::TimedOut
                | ToolError::Failed
                | ToolError::NotRun(_) => "a disk could not be made",
            }),
        }
    }
}
