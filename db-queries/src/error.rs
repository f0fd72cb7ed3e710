//! How the database can refuse: the choices that a caller has.

use crate::FenceError;
use db_model::lifecycle::Refusal;
use db_model::{
    DiskState, MAX_GROUP_MEMBERS, MAX_INSTANCE_DISKS, MAX_INSTANCE_GROUPS,
    MAX_USER_SSH_KEYS, StorageExceeded,
};
use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing, or not any more.
    #[error("not found")]
    NotFound,
    /// There is a live thing of that name already.
    #[error("the name is taken")]
    AlreadyExists,
    /// These are in it still.
    #[error("it is not empty: it has {0:?}")]
    NotEmpty(Vec<&'static str>),
    /// It is somebody else's at the moment: a disk another instance's.
    #[error("it is in use")]
    InUse,
    /// The disk's blocks are not as far as they must be for that, or farther.
    #[error("its state is {0}")]
    DiskState(DiskState),
    /// It is being copied, or is a copy that is being made.
    #[error("it is being copied")]
    BeingCopied,
    /// It is the disk that its instance boots from.
    #[error("it is the boot disk")]
    BootDisk,
    /// The silo's quota has too little storage left.
    #[error(transparent)]
    StorageExceeded(StorageExceeded),
    /// There are as many as there may be.
    #[error("too many: {0}")]
    TooMany(Limit),
    /// The rules of the lifecycle forbid it.
    #[error("refused")]
    Refused(#[source] Refusal),
    /// The sled that was chosen has no room any more.
    #[error("the sled has no room")]
    NoRoom,
    /// Another saga is at work on the instance.
    #[error("another saga is at work on the instance")]
    SagaUnfinished,
    /// The saga is not this process's any more.
    #[error("fenced")]
    Fenced(#[source] FenceError),
    /// The database does not answer. Nothing is known to have been written.
    #[error("the database is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database and this code do not agree.
    #[error("the database refused a statement")]
    Internal(#[source] DieselError),
}

/// How many there may be of something.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Members of a group.
    #[error("a group has at most {MAX_GROUP_MEMBERS} members")]
    GroupMembers,
    /// Groups of an instance.
    #[error(
        "an instance is in at most {MAX_INSTANCE_GROUPS} groups of each kind"
    )]
    InstanceGroups,
    /// Disks of an instance.
    #[error("an instance has at most {MAX_INSTANCE_DISKS} disks")]
    InstanceDisks,
    /// SSH keys of a user.
    #[error("a user has at most {MAX_USER_SSH_KEYS} SSH keys")]
    UserSshKeys,
}

impl Error {
    /// May the same transaction succeed if it is run again at once?
    pub(crate) fn retryable(&self) -> bool {
        match self {
            Error::Internal(DieselError::DatabaseError(kind, info)) => {
                matches!(kind, DatabaseErrorKind::SerializationFailure)
                    // PostgreSQL's 40P01, which diesel does not name.
                    || info.message().contains("deadlock detected")
            }
            Error::Internal(_)
            | Error::NotFound
            | Error::AlreadyExists
            | Error::NotEmpty(_)
            | Error::InUse
            | Error::DiskState(_)
            | Error::BeingCopied
            | Error::BootDisk
            | Error::StorageExceeded(_)
            | Error::TooMany(_)
            | Error::Refused(_)
            | Error::NoRoom
            | Error::SagaUnfinished
            | Error::Fenced(_)
            | Error::Unavailable(_) => false,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(refusal)
    }
}

impl From<DieselError> for Error {
    fn from(error: DieselError) -> Error {
        use DatabaseErrorKind as Kind;
        if let DieselError::NotFound = error {
            return Error::NotFound;
        }
        if matches!(
            error,
            DieselError::BrokenTransactionManager
                | DieselError::RollbackErrorOnCommit { .. }
        ) {
            return Error::Unavailable(Box::new(error));
        }
        if let DieselError::SerializationError(why) = &error
            && why.to_string().starts_with(TYPE_NOT_FOUND)
        {
            return Error::Unavailable(Box::new(error));
        }
        let DieselError::DatabaseError(kind, info) = &error else {
            return Error::Internal(error);
        };
        if matches!(
            kind,
            Kind::ClosedConnection
                | Kind::UnableToSendCommand
                | Kind::ReadOnlyTransaction
        ) || is_outage(info.message())
        {
            return Error::Unavailable(Box::new(error));
        }
        match (matches!(kind, Kind::UniqueViolation), info.constraint_name()) {
            (
                true,
                Some(
                    "silo_live_name"
                    | "silo_user_live_external_id"
                    | "project_live_name"
                    | "instance_live_name"
                    | "affinity_group_live_name"
                    | "disk_live_name"
                    | "ssh_key_live_name"
                    | "snapshot_live_name"
                    | "image_live_name_in_project"
                    | "image_live_name_in_silo",
                ),
            ) => Error::AlreadyExists,
            (true, Some("saga_one_unfinished")) => Error::SagaUnfinished,
            (true | false, _) => Error::Internal(error),
        }
    }
}

/// What diesel makes of any error, a lost connection too, that it meets as it
/// asks for the number of one of our types, which it does once a connection.
/// The types are there: they were when the schema's version was compared.
const TYPE_NOT_FOUND: &str = "Failed to find a type oid";

/// libpq and a server that goes down say it in words, with no SQLSTATE that
/// diesel would pass on.
fn is_outage(message: &str) -> bool {
    const SIGNS: [&str; 15] = [
        "server closed the connection",
        "terminating connection",
        "no connection to the server",
        "could not connect",
        "connection to server",
        "SSL connection has been closed",
        "the database system is",
        "canceling statement due to statement timeout",
        "could not receive data from server",
        "canceling statement due to user request",
        "No space left on device",
        "out of memory",
        "out of shared memory",
        "too many clients",
        "remaining connection slots",
    ];
    SIGNS.iter().any(|sign| message.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_lost_while_diesel_looks_up_a_type_is_an_outage() {
        let lost = "Failed to find a type oid for `intended_state`";
        let error = DieselError::SerializationError(lost.into());
        assert!(matches!(error.into(), Error::Unavailable(_)));
        let ours = DieselError::SerializationError("no such number".into());
        assert!(matches!(ours.into(), Error::Internal(_)));
    }
}
