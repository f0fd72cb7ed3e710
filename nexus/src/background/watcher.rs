//! Asks each sled for all its VMMs at once, and takes in what is news.

use super::silence::Silence;
use super::{Activators, Task};
use crate::config::Tuning;
use crate::error::chain;
use crate::lease::Lease;
use crate::sleds::{Reach, Sleds, reported};
use db_model::lifecycle::reports::Observation;
use db_model::{SecId, Sled, SledId, SledPolicy, VmmId, VmmState};
use db_queries::{ById, DataStore, Page, SledVmm};
use futures::StreamExt;
use sha2::{Digest, Sha256};
use sled_agent_client::{Client, Error as SledError, VmmReport};
use slog::{Logger, warn};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Sleds asked at once.
const SLEDS_AT_ONCE: usize = 16;

/// A sled on which nothing has a place is asked in one of so many rounds, for what
/// it may have that nobody knows of: by chance not all in the same.
///
/// It has not said here of late whether it lists any VMM.
const UNTOLD_ROUNDS: u32 = 12;
/// It says that it lists none: then this shows above all that it can be asked.
const EMPTY_ROUNDS: u32 = 120;

/// VMMs that one sled is told to forget at once.
const CLEARED_AT_ONCE: usize = 16;

/// Rows read at once.
const PAGE: i64 = 500;

/// See the module.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Watcher {
    pub datastore: DataStore,
    pub sleds: Sleds,
    pub lease: Lease,
    pub activators: Activators,
    pub silence: Silence,
    pub round: AtomicU32,
    pub tuning: Tuning,
    pub log: Logger,
}

/// What an activation found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Reports that were news.
    pub news: usize,
    /// VMMs that their sleds had lost.
    pub lost: usize,
    /// VMMs that ended with their sled, or since it was cut off.
    pub fenced: usize,
    /// VMMs that a sled still had though they had ended.
    pub cleared: usize,
    /// VMMs on a sled that have no row: shown here, not killed.
    pub unknown: usize,
    /// What the database refused of all this.
    pub refused: usize,
    /// Sleds that did not answer.
    pub silent: usize,
}

impl std::ops::AddAssign for Status {
    fn add_assign(&mut self, other: Status) {
        self.news += other.news;
        self.lost += other.lost;
        self.fenced += other.fenced;
        self.cleared += other.cleared;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.silent += other.silent;
    }
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("the database did not do it")]
    Database(#[from] db_queries::Error),
    #[error("the sled cannot be asked")]
    Reach(#[from] crate::sleds::ReachError),
    #[error("the sled does not answer")]
    Sled(#[from] SledError),
}

impl Task for Watcher {
    type Status = Status;
    const NAME: &'static str = "watcher";

    async fn activate(&self) -> Status {
        if !self.lease.is_live() {
            self.silence.begin_anew();
        }
        self.lease.live().await;
        let round = self.round.fetch_add(1, Ordering::Relaxed);
        let round = (!self.activators.watch_was_asked_for()).then_some(round);
        let mut status = Status::default();
        let mut after = None;
        let live = match self.datastore.lease_live().await {
            Ok(live) => live,
            Err(error) => {
                warn!(self.log, "cannot list processes now";
                    "error" => chain(&error));
                self.silence.begin_anew();
                return status;
            }
        };
        loop {
            let page = Page { by: ById { after }, limit: PAGE };
            let listed = Instant::now();
            let sleds = match self.datastore.sled_list(page).await {
                Ok(sleds) => sleds,
                Err(error) => {
                    warn!(self.log, "cannot list sleds now";
                        "error" => chain(&error));
                    self.silence.begin_anew();
                    break;
                }
            };
            let Some(last) = sleds.last() else { break };
            after = Some(last.id.0);
            let mine = sleds
                .into_iter()
                .filter(|s| watched_by(s.id, &live) == Some(self.lease.id()));
            let mut watched = futures::stream::iter(mine)
                .map(|sled| self.watch(sled, listed, round))
                .buffer_unordered(SLEDS_AT_ONCE);
            while let Some(one) = watched.next().await {
                status += one;
            }
        }
        if status.news + status.lost + status.fenced > 0 {
            self.activators.changed();
        }
        status
    }

    async fn pause(&self) -> Duration {
        Duration::from_millis(u64::from(self.tuning.watch_period_ms))
    }
}

impl Watcher {
    /// Watches a sled whose row was `listed` then.
    async fn watch(
        &self,
        sled: Sled,
        listed: Instant,
        round: Option<u32>,
    ) -> Status {
        let mut status = Status::default();
        let watched = match sled.policy {
            SledPolicy::Expunged => self.fence(sled.id, &mut status).await,
            SledPolicy::InService => {
                match self.judge_silence(&sled, &mut status).await {
                    Ok(()) if self.passes_over(&sled, round) => Ok(()),
                    Ok(()) => self.ask(&sled, listed, &mut status).await,
                    error => error,
                }
            }
        };
        match watched {
            Ok(()) => (),
            Err(WatchError::Sled(_)) => status.silent += 1,
            Err(error) => {
                warn!(self.log, "cannot watch a sled now";
                    "sled" => %sled.id, "error" => chain(&error));
            }
        }
        status
    }

    fn passes_over(&self, sled: &Sled, round: Option<u32>) -> bool {
        let lists = self.sleds.lists_lately(sled.id);
        is_empty(sled) && passed_over(sled.id, lists, round)
    }

    /// Ends the VMMs of a sled that is off for good. A page at a time, each
    /// VMM by itself, so it may be cut off and go on later.
    async fn fence(
        &self,
        sled: SledId,
        status: &mut Status,
    ) -> Result<(), WatchError> {
        let mut after = None;
        loop {
            let vmms =
                self.datastore.vmm_live_on_sled(sled, after, PAGE).await?;
            let Some(last) = vmms.last() else { return Ok(()) };
            after = Some(last.id);
            for vmm in vmms {
                self.observe(sled, vmm.id, Observation::Fenced, status).await?;
                status.fenced += 1;
            }
        }
    }

    /// Ends the VMMs of a sled that must have stopped them, as it promised to
    /// do when nobody hears it for long. A page at a time, each VMM by itself;
    /// one that has been heard since ends none of them.
    async fn judge_silence(
        &self,
        sled: &Sled,
        status: &mut Status,
    ) -> Result<(), WatchError> {
        let margin = self.tuning.fence_margin();
        if !self.silence.has_stopped(sled, margin, Instant::now()) {
            return Ok(());
        }
        let heard = sled.time_last_heartbeat;
        let mut after = None;
        loop {
            let vmms =
                self.datastore.vmm_live_on_sled(sled.id, after, PAGE).await?;
            let Some(last) = vmms.last() else { return Ok(()) };
            after = Some(last.id);
            for vmm in vmms {
                let ended =
                    self.datastore.vmm_cut_off(&vmm, heard, margin).await;
                match ended {
                    Ok(true) => {
                        warn!(self.log, "a sled that is cut off has stopped a VMM";
                            "sled" => %sled.id, "vmm" => %vmm.id,
                            "last_heard" => %heard);
                        status.fenced += 1;
                    }
                    Ok(false) => (),
                    Err(error @ db_queries::Error::Unavailable(_)) => {
                        return Err(error.into());
                    }
                    Err(error) => {
                        warn!(self.log, "a VMM that was cut off was not ended";
                            "vmm" => %vmm.id, "error" => chain(&error));
                        status.refused += 1;
                    }
                }
            }
        }
    }

    async fn ask(
        &self,
        sled: &Sled,
        listed: Instant,
        status: &mut Status,
    ) -> Result<(), WatchError> {
        let reach = self.sleds.reach_known(sled, listed).await?;
        let Reach::Client(client) = reach else { return Ok(()) };
        if is_empty(sled) && client.vmm_list().await?.vmms.is_empty() {
            return Ok(());
        }
        let sled = sled.id;
        // The rows first: a VMM that is made in between is then listed, and
        // not taken for lost; nor is one of which there is news in between.
        let rows = self.live_rows(sled).await?;
        let listed = client.vmm_list().await?.vmms;
        let reports: HashMap<VmmId, &VmmReport> =
            listed.iter().map(|r| (VmmId(r.vmm_id), r)).collect();
        for row in rows.values() {
            let report = reports.get(&row.id).copied();
            match (listing(row, report.map(generation)), report) {
                (Listing::News, Some(report)) => {
                    let news = reported(report);
                    self.observe(sled, row.id, news, status).await?;
                    status.news += 1;
                }
                (Listing::Missing, _) => {
                    self.confirm_lost(&client, sled, row.id, status).await?;
                }
                (Listing::MadeAnew, _) => {
                    // It is not to come up when it is taken for lost.
                    client.vmm_unregister(row.id.0).await?;
                    let lost = Observation::Unknown;
                    self.observe(sled, row.id, lost, status).await?;
                    status.lost += 1;
                }
                (Listing::News | Listing::Known, _) => (),
            }
        }
        let strangers = reports.into_keys().filter(|id| !rows.contains_key(id));
        let strangers = strangers.collect();
        self.clear(&client, sled, strangers, status).await
    }

    async fn live_rows(
        &self,
        sled: SledId,
    ) -> Result<HashMap<VmmId, SledVmm>, WatchError> {
        let mut rows = HashMap::new();
        let mut after = None;
        loop {
            let page =
                self.datastore.vmm_live_on_sled(sled, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(rows) };
            after = Some(last.id);
            rows.extend(page.into_iter().map(|row| (row.id, row)));
        }
    }

    /// Not being listed is not an answer about a VMM; being asked for it is.
    async fn confirm_lost(
        &self,
        client: &Client,
        sled: SledId,
        vmm: VmmId,
        status: &mut Status,
    ) -> Result<(), WatchError> {
        let observation = match client.vmm_view(vmm.0).await {
            Ok(report) => reported(&report),
            Err(SledError::NoSuchVmm) => {
                // A sled that has lost it may yet get a late order to make it,
                // and one to run it. It leaves a tombstone there first.
                client.vmm_unregister(vmm.0).await?;
                status.lost += 1;
                Observation::Unknown
            }
            Err(error) => return Err(error.into()),
        };
        self.observe(sled, vmm, observation, status).await
    }

    /// VMMs that a sled has and that are not live here: those that ended are
    /// unregistered, those that nobody knows are shown.
    async fn clear(
        &self,
        client: &Client,
        sled: SledId,
        strangers: Vec<VmmId>,
        status: &mut Status,
    ) -> Result<(), WatchError> {
        if strangers.is_empty() {
            return Ok(());
        }
        let (ended, unknown) =
            self.datastore.vmm_ended_or_unknown(strangers).await?;
        // At once, so that one that cannot be killed holds up no other.
        let mut cleared = futures::stream::iter(ended)
            .map(|vmm| client.vmm_unregister(vmm.0))
            .buffer_unordered(CLEARED_AT_ONCE);
        let mut outcome = Ok(());
        while let Some(one) = cleared.next().await {
            status.cleared += usize::from(one.is_ok());
            outcome = outcome.and(one.map(drop));
        }
        for vmm in unknown {
            warn!(self.log, "a sled runs a VMM that is not in the database";
                "sled" => %sled, "vmm" => %vmm);
            status.unknown += 1;
        }
        Ok(outcome?)
    }

    /// What goes wrong with one VMM keeps no other from being looked at; a
    /// database that is away does.
    async fn observe(
        &self,
        sled: SledId,
        vmm: VmmId,
        observation: Observation,
        status: &mut Status,
    ) -> Result<(), WatchError> {
        let observed = self
            .datastore
            .vmm_observe(sled, vmm, observation, self.tuning.boot_allowance())
            .await;
        match observed {
            Err(error @ db_queries::Error::Unavailable(_)) => Err(error.into()),
            Err(error) => {
                warn!(self.log, "what a sled says of a VMM was not taken";
                    "sled" => %sled, "vmm" => %vmm, "error" => chain(&error));
                status.refused += 1;
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

/// Which of the processes that live watches a sled: rendezvous hashing, so that
/// one that comes or goes moves only what it watches itself. By a hash that is
/// the same in every build, as processes of different ones must agree.
fn watched_by(sled: SledId, live: &[SecId]) -> Option<SecId> {
    live.iter().copied().max_by_key(|nexus| {
        let mut hasher = Sha256::new();
        hasher.update(sled.0.as_bytes());
        hasher.update(nexus.0.as_bytes());
        hasher.finalize()
    })
}

/// What a sled's list says of a VMM whose row was read before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// More than the row.
    News,
    /// Nothing that is not known, or that means anything.
    Known,
    /// Nothing, of one that should be there.
    Missing,
    /// Less than the row: the sled has lost it, and has then got a late order
    /// to make it. What is there is not what is known to have run.
    MadeAnew,
}

/// What a list says of a VMM: with this generation, or not at all.
pub(super) fn listing(row: &SledVmm, generation: Option<i64>) -> Listing {
    // One that is `creating` may not have got there yet; one that is abandoned
    // is the reconciler's to ask about.
    let expected =
        !matches!(row.state, VmmState::Creating | VmmState::Abandoned);
    match generation {
        Some(listed) if listed > row.generation => Listing::News,
        Some(listed) if listed < row.generation && expected => {
            Listing::MadeAnew
        }
        None if expected => Listing::Missing,
        Some(_) | None => Listing::Known,
    }
}

/// Has nothing a place on this sled? Then it has no VMM that lives here: each
/// holds its place until it has ended.
fn is_empty(sled: &Sled) -> bool {
    sled.reserved_vcpus == 0
}

/// Is it not the turn of this sled, on which nothing has a place and that says to
/// list so many VMMs? In no round, that is when somebody has woken the watcher, it
/// always is.
fn passed_over(sled: SledId, lists: Option<u32>, round: Option<u32>) -> bool {
    let Some(round) = round else { return false };
    let rounds = match lists {
        None => UNTOLD_ROUNDS,
        Some(0) => EMPTY_ROUNDS,
        Some(1..) => 1,
    };
    let (first, ..) = sled.0.as_fields();
    first % rounds != round % rounds
}

fn generation(report: &VmmReport) -> i64 {
    i64::try_from(report.generation).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use db_model::InstanceId;

    #[test]
    fn an_empty_sled_is_asked_if_it_lists_vmms_and_else_seldom() {
        for sled in std::iter::repeat_with(SledId::new_v4).take(100) {
            for first in [0, 7, u32::MAX - EMPTY_ROUNDS] {
                let asked = |lists| {
                    let rounds = first..first + EMPTY_ROUNDS;
                    let asked =
                        rounds.filter(|n| !passed_over(sled, lists, Some(*n)));
                    asked.count()
                };
                let asked = [asked(Some(1)), asked(None), asked(Some(0))];
                assert_eq!(asked, [120, 10, 1], "{sled} from {first}");
            }
            let when_woken = [None, Some(0), Some(1)];
            assert!(when_woken.iter().all(|n| !passed_over(sled, *n, None)));
        }
    }

    #[test]
    fn a_list_is_judged_by_the_row_that_was_read_before_it() {
        let row = |state, generation| SledVmm {
            id: VmmId::new_v4(),
            sled_id: SledId::new_v4(),
            instance_id: InstanceId::new_v4(),
            state,
            generation,
        };
        for state in VmmState::ALL.iter().filter(|s| !s.is_end()) {
            let sure =
                !matches!(state, VmmState::Creating | VmmState::Abandoned);
            let unless_sure = |then| if sure { then } else { Listing::Known };
            for (listed, expected) in [
                (Some(4), Listing::News),
                (Some(3), Listing::Known),
                (Some(1), unless_sure(Listing::MadeAnew)),
                (None, unless_sure(Listing::Missing)),
            ] {
                let is = listing(&row(*state, 3), listed);
                assert_eq!(is, expected, "{state}, {listed:?}");
            }
        }
    }
}
