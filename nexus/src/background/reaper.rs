//! Has sleds be rid of blocks that nothing has any more.
//!
//! Each of them is asked for until the answer is definite; only then is its row
//! forgotten. Several processes share the rows: one that is claimed is another's
//! only when it is due again.

use super::{Activators, Task};
use crate::error::chain;
use crate::lease::Lease;
use crate::sleds::{Reach, Sleds};
use db_model::{BlocksGone, BlocksPlace, SledId};
use db_queries::DataStore;
use futures::StreamExt;
use sled_agent_client::{Client, Error as SledError};
use slog::{Logger, info, warn};
use std::time::Duration;

/// Between two rounds, when nobody deletes anything.
const PERIOD: Duration = Duration::from_secs(5);

/// How many are claimed in one round.
const CLAIMED_AT_ONCE: i64 = 32;

/// How many of them are asked for at a time.
const ASKED_AT_ONCE: usize = 8;

/// How many sleds are asked about blocks in the store, before they wait for
/// their next turn.
const SLEDS_ASKED: i64 = 2;

/// See the module.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Reaper {
    pub datastore: DataStore,
    pub sleds: Sleds,
    pub lease: Lease,
    pub activators: Activators,
    pub log: Logger,
}

/// What a round has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Reaped {
    pub gone: usize,
    pub left: usize,
}

/// Who is to be asked about blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Plan {
    /// Each of these, until one answers.
    Ask(Vec<SledId>),
    /// Nobody can be asked now.
    Wait,
}

impl Task for Reaper {
    type Status = Reaped;
    const NAME: &'static str = "reaper";

    async fn activate(&self) -> Reaped {
        self.lease.live().await;
        let claimed = self.datastore.blocks_gone_claim(CLAIMED_AT_ONCE).await;
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                warn!(self.log, "cannot look for blocks to be rid of";
                    "error" => chain(&error));
                return Reaped::default();
            }
        };
        if i64::try_from(claimed.len()).is_ok_and(|n| n >= CLAIMED_AT_ONCE) {
            self.activators.blocks_gone();
        }
        let outcomes: Vec<bool> = futures::stream::iter(claimed)
            .map(|blocks| self.reap(blocks))
            .buffer_unordered(ASKED_AT_ONCE)
            .collect()
            .await;
        let gone = outcomes.iter().filter(|gone| **gone).count();
        if gone > 0 {
            self.activators.reconcile();
        }
        Reaped { gone, left: outcomes.len().saturating_sub(gone) }
    }

    async fn pause(&self) -> Duration {
        PERIOD
    }
}

impl Reaper {
    /// Are they gone, for all to know?
    async fn reap(&self, blocks: BlocksGone) -> bool {
        let done = match self.delete(&blocks).await {
            Ok(()) => self.datastore.blocks_gone_done(blocks.id).await,
            Err(why) => {
                info!(self.log, "blocks may not be gone yet";
                    "blocks" => %blocks.id, "tries" => blocks.tries,
                    "error" => &why);
                let noted =
                    self.datastore.blocks_gone_failed(blocks.id, why).await;
                if let Err(error) = noted {
                    warn!(self.log, "cannot note why blocks are not gone";
                        "blocks" => %blocks.id, "error" => chain(&error));
                }
                return false;
            }
        };
        if let Err(error) = &done {
            warn!(self.log, "cannot forget blocks that are gone yet";
                "blocks" => %blocks.id, "error" => chain(error));
        }
        done.is_ok()
    }

    /// Has them deleted: `Ok` only when they are gone for sure.
    async fn delete(&self, blocks: &BlocksGone) -> Result<(), String> {
        let sleds = match blocks.place {
            BlocksPlace::Local => Vec::new(),
            BlocksPlace::Store => self
                .datastore
                .sleds_to_ask(SLEDS_ASKED)
                .await
                .map_err(|error| chain(&error))?,
        };
        let Plan::Ask(sleds) = plan(blocks, sleds) else {
            return Err("no sled was heard of lately".to_string());
        };
        let mut silence = String::new();
        for id in sleds {
            let sled = match self.sleds.reach(id).await {
                Ok(Reach::Client(sled)) => sled,
                // With its own storage.
                Ok(Reach::Expunged) if blocks.place == BlocksPlace::Local => {
                    return Ok(());
                }
                Ok(Reach::Expunged) => continue,
                Err(error) => return Err(chain(&error)),
            };
            match ask(&sled, blocks).await {
                Ok(()) | Err(SledError::NoSuchBlocks) => return Ok(()),
                Err(error) => {
                    silence = format!("sled {id}: {}", chain(&error));
                }
            }
        }
        Err(silence)
    }
}

/// Local blocks are the business of one sled, those in the store of any.
fn plan(blocks: &BlocksGone, in_service: Vec<SledId>) -> Plan {
    match blocks.sled_id {
        Some(sled) => Plan::Ask(vec![sled]),
        None if in_service.is_empty() => Plan::Wait,
        None => Plan::Ask(in_service),
    }
}

async fn ask(sled: &Client, blocks: &BlocksGone) -> Result<(), SledError> {
    let place = match blocks.place {
        BlocksPlace::Store => sled_agent_client::BlocksPlace::Store,
        BlocksPlace::Local => sled_agent_client::BlocksPlace::Local,
    };
    sled.blocks_delete(blocks.id.0, place).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;
    use db_model::{BlocksId, ByteCount};

    fn blocks(at: Option<SledId>) -> BlocksGone {
        BlocksGone {
            id: BlocksId::new_v4(),
            place: at.map_or(BlocksPlace::Store, |_| BlocksPlace::Local),
            sled_id: at,
            size_bytes: ByteCount::GIB,
            time_created: Utc::now(),
            tries: 1,
            next_try_at: Utc::now(),
            last_error: None,
        }
    }

    #[test]
    fn local_blocks_are_the_business_of_their_sled_alone() {
        let (own, other) = (SledId::new_v4(), SledId::new_v4());
        for in_service in [vec![], vec![other]] {
            let planned = plan(&blocks(Some(own)), in_service);
            assert_eq!(planned, Plan::Ask(vec![own]));
        }
    }

    #[test]
    fn blocks_in_the_store_are_asked_of_whoever_is_there() {
        let sleds = vec![SledId::new_v4(), SledId::new_v4()];
        assert_eq!(plan(&blocks(None), sleds.clone()), Plan::Ask(sleds));
        assert_eq!(plan(&blocks(None), vec![]), Plan::Wait);
    }
}
