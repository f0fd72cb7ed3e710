//! Has blocks made and finished in the store. Any sled does it, since all of
//! them see it; the work goes on where it is asked for again.

use super::asking::{pause_between, reach};
use super::{NodeError, SagaContext, SagaFailure};
use crate::error::chain;
use crate::sleds::{Reach, sentence};
use db_model::{BlocksOf, BlocksSource, ByteCount};
use sled_agent_client::{
    BlocksEnsure, BlocksPlace, BlocksReport, BlocksState, Client,
    Error as SledError, RefusalCode,
};
use std::time::Duration;

/// How many sleds are asked in a round: if so many that were heard of lately do
/// not answer, it is not them.
const SLEDS_A_ROUND: i64 = 3;

/// Between two questions how far blocks are: soon, as blank ones are there at
/// once, and then ever more seldom, as large copies take minutes.
const LOOK_FIRST: Duration = Duration::from_millis(50);
const LOOK_LAST: Duration = Duration::from_secs(2);

/// Has blocks made, and waits until they are there.
///
/// # Errors
///
/// `NotFound`: they are not wanted any more, or what they are to be a copy of is
/// gone; `BlocksFailed`; `NoAnswer`.
pub(super) async fn ensure(
    cx: &SagaContext,
    of: BlocksOf,
    size: ByteCount,
    read_only: bool,
    source: BlocksSource,
) -> Result<(), NodeError> {
    let body = BlocksEnsure {
        place: BlocksPlace::Store,
        size_bytes: size.to_u64(),
        read_only,
        source: on_the_wire(source),
    };
    until_there(cx, of, &Order::Ensure(body)).await
}

/// Has the import of a disk's blocks finished, and waits until they are there.
///
/// # Errors
///
/// `NotFound`: they are gone; `BlocksFailed`; `NoAnswer`.
pub(super) async fn finish(
    cx: &SagaContext,
    of: BlocksOf,
) -> Result<(), NodeError> {
    until_there(cx, of, &Order::Finish).await
}

/// What a sled is to do with blocks.
enum Order {
    Ensure(BlocksEnsure),
    Finish,
}

impl Order {
    async fn give(
        &self,
        sled: &Client,
        of: BlocksOf,
    ) -> Result<BlocksReport, SledError> {
        match self {
            Order::Ensure(body) => sled.blocks_ensure(of.id().0, body).await,
            Order::Finish => sled.blocks_finish(of.id().0).await,
        }
    }
}

fn on_the_wire(source: BlocksSource) -> sled_agent_client::BlocksSource {
    use sled_agent_client::BlocksSource as Wire;
    match source {
        BlocksSource::Blank => Wire::Blank,
        BlocksSource::Import => Wire::Import,
        BlocksSource::Copy(of) => Wire::Copy { blocks_id: of.id().0 },
    }
}

/// Asks one sled until they are there, and if it is silent another.
async fn until_there(
    cx: &SagaContext,
    of: BlocksOf,
    order: &Order,
) -> Result<(), NodeError> {
    let mut silence = "no sled was heard of lately".to_string();
    for round in 0..cx.tuning.sled_tries {
        pause_between(cx, round).await;
        for id in cx.datastore.sleds_to_ask(SLEDS_A_ROUND).await? {
            let Reach::Client(sled) = reach(cx, id).await? else { continue };
            match until_there_at(cx, of, order, &sled).await? {
                None => return Ok(()),
                Some(why) => silence = format!("sled {id}: {why}"),
            }
        }
    }
    Err(NodeError::Failed(SagaFailure::NoAnswer { chain: silence }))
}

/// Asks one sled until they are there, or it is silent: why.
async fn until_there_at(
    cx: &SagaContext,
    of: BlocksOf,
    order: &Order,
    sled: &Client,
) -> Result<Option<String>, NodeError> {
    let mut look = LOOK_FIRST;
    loop {
        cx.lease.live().await;
        cx.datastore.blocks_wanted(cx.fence, of).await?;
        match order.give(sled, of).await {
            Ok(report) => match report.state {
                BlocksState::Ready | BlocksState::Importing => {
                    return Ok(None);
                }
                BlocksState::Making => (),
                BlocksState::Failed { message } => {
                    return Err(failed(&message));
                }
            },
            Err(error @ SledError::Unreachable(_)) => {
                return Ok(Some(chain(&error)));
            }
            Err(SledError::Refused {
                code: RefusalCode::BlocksMisfit,
                message,
            }) => return Err(failed(&message)),
            Err(
                SledError::NoSuchBlocks
                | SledError::Refused {
                    code: RefusalCode::BlocksTombstoned, ..
                },
            ) => return Err(NodeError::Failed(SagaFailure::NotFound)),
            Err(
                error @ (SledError::Refused { .. }
                | SledError::NoSuchVmm
                | SledError::NoSuchConsole
                | SledError::Bug { .. }),
            ) => {
                let chain = chain(&error);
                return Err(NodeError::Failed(SagaFailure::Internal { chain }));
            }
        }
        tokio::time::sleep(look).await;
        look = (look * 2).min(LOOK_LAST);
    }
}

fn failed(message: &str) -> NodeError {
    let message = sentence(message);
    NodeError::Failed(SagaFailure::BlocksFailed { message })
}
