//! Fencing: a saga writes only while it is its process's.

use crate::Error;
use db_model::schema::saga;
use db_model::{Fence, SagaState, SecId};
use diesel::{OptionalExtension, PgConnection, QueryDsl, RunQueryDsl};

/// Why a saga's write was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    /// Another process has adopted the saga: this one is a zombie.
    #[error("another process has adopted the saga")]
    Adopted,
    /// An operator has given the saga up: it is parked.
    #[error("an operator has given the saga up")]
    Parked,
}

/// Checks that the saga is still this process's, and keeps it so until the
/// transaction ends. The first statement of every transaction of a saga.
pub(crate) fn check(
    conn: &mut PgConnection,
    fence: &Fence,
) -> Result<(), Error> {
    let held: Option<(SecId, i64, SagaState)> = saga::table
        .find(fence.saga_id)
        .select((saga::current_sec, saga::adopt_generation, saga::state))
        .for_share()
        .first(conn)
        .optional()?;
    match held {
        Some((_, _, SagaState::Abandoned)) => {
            Err(Error::Fenced(FenceError::Parked))
        }
        Some((sec, generation, _))
            if sec == fence.sec_id && generation == fence.adopt_generation =>
        {
            Ok(())
        }
        _ => Err(Error::Fenced(FenceError::Adopted)),
    }
}
