//! VMMs: linked and unlinked by sagas, and what sleds say of them.

use crate::lifecycle::Decided;
use crate::shared::{Answers, Queue, SharedStatement};
use crate::sled::read_sled;
use crate::sql::Keep;
use crate::start_attempt::check_in;
use crate::{DataStore, Error, facts};
use chrono::{DateTime, TimeDelta, Utc};
use db_model::lifecycle::reports::{Answer, CUT_OFF, Observation, observe};
use db_model::lifecycle::{Changes, Facts, Rest, steps};
use db_model::schema::{start_attempt, vmm};
use db_model::{
    Fence, InstanceId, SledId, SledPolicy, StartAttemptId, StartReason, Vmm,
    VmmEndReason, VmmId, VmmState,
};
use diesel::{
    ExpressionMethods, JoinOnDsl, NullableExpressionMethods, OptionalExtension,
    PgConnection, QueryDsl, RunQueryDsl, SelectableHelper,
};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use uuid::Uuid;

/// What is written of an answer.
fn taken(answer: Answer) -> (Changes, Answer) {
    let changes = match &answer {
        Answer::Taken(changes) => (**changes).clone(),
        Answer::Stale | Answer::Ended => Changes::default(),
    };
    (changes, answer)
}

/// Does the sled say that it stopped the VMM of its own accord?
fn is_fenced(said: &Observation) -> bool {
    let (Observation::Reported(report)
    | Observation::Unregistered(Some(report))) = said
    else {
        return false;
    };
    matches!(report.end, Some((VmmEndReason::Fenced, _)))
}

/// A VMM of which this sled says something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfVmm {
    vmm: VmmId,
    sled: SledId,
}

impl SharedStatement for OfVmm {
    type Answer = Facts;

    fn about(&self) -> Uuid {
        self.vmm.0
    }

    fn queue(of: &DataStore) -> &Queue<OfVmm> {
        &of.vmm_reads
    }

    fn ask(
        conn: &mut PgConnection,
        all: &[OfVmm],
    ) -> Result<Answers<OfVmm>, Error> {
        if let [OfVmm { vmm, sled }] = all {
            let facts = facts::read_by_vmm(conn, *vmm, *sled)?;
            return Ok(Answers::<OfVmm>::from([(vmm.0, Ok(facts))]));
        }
        let these: Vec<_> = all.iter().map(|one| (one.vmm, one.sled)).collect();
        let found = facts::read_by_vmms(conn, &these)?;
        Ok(found.into_iter().map(|(id, facts)| (id.0, Ok(facts))).collect())
    }
}

/// VMMs that were just let run through this datastore: what their sleds say of them
/// next is news, they need not be looked up for it, and somebody waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LetRun(Arc<Mutex<HashMap<VmmId, Awaited>>>);

#[derive(Debug)]
struct Awaited {
    sled: SledId,
    instance: InstanceId,
    tell: oneshot::Sender<Option<Rest>>,
}

/// That a sled has said something of a VMM that was just let run.
#[derive(Debug)]
pub struct Heard(oneshot::Receiver<Option<Rest>>);

impl LetRun {
    /// So many are awaited at most: of some of them their sleds say nothing, or say
    /// it to another process.
    const MOST: usize = 10_000;

    fn add(&self, vmm: VmmId, sled: SledId, instance: InstanceId) -> Heard {
        let (tell, hears) = oneshot::channel();
        let mut awaited = self.awaited();
        if awaited.len() >= Self::MOST {
            awaited.retain(|_, vmm| !vmm.tell.is_closed());
        }
        if awaited.len() >= Self::MOST {
            awaited.clear();
        }
        awaited.insert(vmm, Awaited { sled, instance, tell });
        Heard(hears)
    }

    /// The VMM, once, if it is this sled's.
    fn take(&self, vmm: VmmId, by: SledId) -> Option<Awaited> {
        let mut awaited = self.awaited();
        awaited.get(&vmm).filter(|vmm| vmm.sled == by)?;
        awaited.remove(&vmm)
    }

    fn awaited(&self) -> MutexGuard<'_, HashMap<VmmId, Awaited>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of an observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What was made of it.
    pub answer: Answer,
    /// A saga is at work on the instance, at whose end it is looked at if need be.
    pub saga_at_work: bool,
    /// Until when nobody need look at the instance.
    pub rest: Option<Rest>,
}

impl Observed {
    /// Is somebody to look, at this instance or at one that waits for what it had
    /// of its sled?
    pub fn wakes(&self) -> bool {
        match &self.answer {
            Answer::Taken(changes) => {
                !(self.saga_at_work || self.rest.is_some())
                    || changes.reservation.is_some()
            }
            Answer::Stale | Answer::Ended => false,
        }
    }
}

/// A VMM that has not ended, as the watcher of its sled sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SledVmm {
    pub id: VmmId,
    pub sled_id: SledId,
    pub instance_id: InstanceId,
    pub state: VmmState,
    pub generation: i64,
}

impl DataStore {
    /// A VMM for the attempt: its row, its link, and its room on `sled`, all
    /// or nothing. Idempotent by the VMM's id. Says whether that may have woken
    /// others.
    ///
    /// # Errors
    ///
    /// `NoRoom`: choose again; `Refused`: see [`steps::link`].
    pub async fn vmm_link(
        &self,
        fence: Fence,
        instance: InstanceId,
        attempt: StartAttemptId,
        vmm: VmmId,
        sled: SledId,
    ) -> Result<bool, Error> {
        self.transition_beside(Some(fence), instance, move |conn, facts, _| {
            check_in(conn, facts, attempt, &fence)?;
            let changes = steps::link(facts, attempt, vmm, sled)?;
            let system = changes
                .attempt
                .as_ref()
                .is_some_and(|a| a.reason == StartReason::AutoRestart);
            Ok((Decided { changes, saga: None }, system))
        })
        .await
    }

    /// Which sled the VMM was placed on.
    ///
    /// # Errors
    ///
    /// `NotFound`: it was not placed.
    pub async fn vmm_view(&self, id: VmmId) -> Result<Vmm, Error> {
        self.run(move |conn| {
            Ok(vmm::table.find(id).select(Vmm::as_select()).first(conn)?)
        })
        .await
    }

    /// The VMM of an instance's last run: the newest that may have run; none
    /// if none ever did, or that was forgotten.
    pub async fn vmm_of_last_run(
        &self,
        instance: InstanceId,
    ) -> Result<Option<Vmm>, Error> {
        self.run(move |conn| {
            // By attempt: an index has them by instance and time.
            Ok(start_attempt::table
                .inner_join(
                    vmm::table.on(start_attempt::vmm_id.eq(vmm::id.nullable())),
                )
                .filter(start_attempt::instance_id.eq(instance))
                .filter(vmm::may_run)
                .order((
                    start_attempt::time_started.desc(),
                    start_attempt::id.desc(),
                ))
                .select(Vmm::as_select())
                .first(conn)
                .optional()?)
        })
        .await
    }

    /// From here on the VMM may run. Says on which sled; and when that has said
    /// something of it, see [`DataStore::vmm_heard_of`].
    ///
    /// # Errors
    ///
    /// `Refused`: the attempt is over, or the VMM is.
    pub async fn vmm_allow_to_run(
        &self,
        fence: Fence,
        instance: InstanceId,
        attempt: StartAttemptId,
        vmm: VmmId,
    ) -> Result<(SledId, Heard), Error> {
        let allowed = self.transition_beside(
            Some(fence),
            instance,
            move |conn, facts, _| {
                check_in(conn, facts, attempt, &fence)?;
                let changes = steps::allow_to_run(facts, vmm)?;
                let sled = facts.vmm(vmm).map(|vmm| vmm.sled_id);
                let decided = Decided { changes, saga: None };
                Ok((decided, sled.ok_or(Error::NotFound)?))
            },
        );
        let sled = allowed.await?;
        Ok((sled, self.let_run.add(vmm, sled, instance)))
    }

    /// Has the sled of a VMM that a saga has just let run said something of it,
    /// within so long, that was taken in here? Then it is no news any more that the
    /// sled has taken the order.
    pub async fn vmm_heard_of(
        &self,
        fence: Fence,
        heard: Heard,
        within: Duration,
    ) -> bool {
        match tokio::time::timeout(within, heard.0).await {
            Ok(Ok(rest)) => {
                self.owed.leaves(fence, rest);
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Parts the instance from its VMM. Idempotent. `fence` is the saga's that
    /// does it.
    pub async fn vmm_unlink(
        &self,
        fence: Fence,
        instance: InstanceId,
        vmm: VmmId,
    ) -> Result<(), Error> {
        self.transition(Some(fence), instance, move |facts| {
            Ok((steps::unlink(facts, vmm), ()))
        })
        .await
    }

    /// Gives up waiting for a definite word about a VMM. Idempotent; does
    /// nothing to one that has ended. `fence` is the saga's that does it, none
    /// the reconciler's.
    pub async fn vmm_abandon(
        &self,
        fence: Option<Fence>,
        instance: InstanceId,
        vmm: VmmId,
    ) -> Result<(), Error> {
        self.transition(fence, instance, move |facts| {
            Ok((steps::abandon(facts, vmm), ()))
        })
        .await
    }

    /// The one door for what sleds say of VMMs: push, poll and answers. What is no
    /// news locks nothing, but for what is said first of a VMM that was let run.
    ///
    /// # Errors
    ///
    /// `NotFound`: this sled was never given such a VMM.
    pub async fn vmm_observe(
        &self,
        sled: SledId,
        vmm: VmmId,
        observation: Observation,
        boot_allowance: TimeDelta,
    ) -> Result<Observed, Error> {
        if let Some(Awaited { instance, tell, .. }) =
            self.let_run.take(vmm, sled)
        {
            let said = self.why_fenced(observation, sled).await?;
            let observed =
                self.take(None, instance, vmm, said, boot_allowance).await?;
            if let Answer::Taken(_) = observed.answer {
                // The saga may wait no more.
                let _ = tell.send(observed.rest);
            }
            return Ok(observed);
        }
        let facts = self.ask(OfVmm { vmm, sled }).await?;
        let said = self.why_fenced(observation, sled).await?;
        let answer = observe(&facts, vmm, &said, boot_allowance);
        let instance = facts.instance.id;
        match answer {
            Answer::Stale | Answer::Ended => {
                Ok(Observed { answer, saga_at_work: false, rest: None })
            }
            Answer::Taken(_) => {
                self.take(None, instance, vmm, said, boot_allowance).await
            }
        }
    }

    /// The same of what a saga was answered.
    ///
    /// # Errors
    ///
    /// `Fenced`.
    pub async fn vmm_answered(
        &self,
        fence: Fence,
        instance: InstanceId,
        (sled, vmm): (SledId, VmmId),
        observation: Observation,
        boot_allowance: TimeDelta,
    ) -> Result<Observed, Error> {
        let said = self.why_fenced(observation, sled).await?;
        let observed =
            self.take(Some(fence), instance, vmm, said, boot_allowance).await?;
        self.owed.leaves(fence, observed.rest);
        Ok(observed)
    }

    /// A sled stops its guests for one of two reasons, and does not say for which:
    /// it is of the fleet no more, or else it was cut off.
    async fn why_fenced(
        &self,
        mut said: Observation,
        by: SledId,
    ) -> Result<Observation, Error> {
        if is_fenced(&said)
            && self.run(move |conn| read_sled(conn, by)).await?.0.policy
                == SledPolicy::InService
            && let Observation::Reported(report)
            | Observation::Unregistered(Some(report)) = &mut said
            && let Some((_, sentence)) = &mut report.end
        {
            *sentence = Some(CUT_OFF.to_string());
        }
        Ok(said)
    }

    async fn take(
        &self,
        fence: Option<Fence>,
        instance: InstanceId,
        vmm: VmmId,
        said: Observation,
        boot_allowance: TimeDelta,
    ) -> Result<Observed, Error> {
        self.transition_beside(fence, instance, move |_, facts, saga| {
            let answer = observe(facts, vmm, &said, boot_allowance);
            let (changes, answer) = taken(answer);
            let rest = Rest::left_by(facts, &changes);
            let saga_at_work = saga.is_some();
            let observed = Observed { answer, saga_at_work, rest };
            Ok((Decided { changes, saga: None }, observed))
        })
        .await
    }

    /// A VMM of a sled that was last heard at `heard`, and since then not for so
    /// long that it has stopped it. Says whether that ended it: not if the sled
    /// was heard in the meantime, or does not stop its guests by itself, or has
    /// never said that it has the VMM. Idempotent.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn vmm_cut_off(
        &self,
        vmm: &SledVmm,
        heard: DateTime<Utc>,
        margin: TimeDelta,
    ) -> Result<bool, Error> {
        let SledVmm { id, sled_id, instance_id, .. } = *vmm;
        let cut_off = self.lifecycle(None, instance_id, move |conn, facts| {
            // Read after the VMM: what the sled has said to have, before it was
            // heard anew, it has stopped.
            let (sled, now) = read_sled(conn, sled_id)?;
            let silent = sled.policy == SledPolicy::InService
                && sled.time_last_heartbeat == heard
                && sled.has_stopped(now, margin);
            if !silent {
                return Ok((Changes::default(), false));
            }
            // No boot begins by this.
            let allowance = TimeDelta::zero();
            let answer = observe(facts, id, &Observation::CutOff, allowance);
            let (changes, answer) = taken(answer);
            Ok((changes, matches!(answer, Answer::Taken(_))))
        });
        let cut_off = cut_off.await?;
        self.vmms_cut_off().inc_by(u64::from(cut_off));
        Ok(cut_off)
    }

    /// Counts a question about a VMM that its sled did not answer; says how
    /// many in a row there are. Only time in which we could ask counts that
    /// way, so an outage of ours is held against nobody.
    pub async fn vmm_unanswered(&self, id: VmmId) -> Result<i64, Error> {
        self.run(move |conn| {
            Ok(diesel::update(vmm::table.find(id))
                .set(vmm::unanswered.eq(vmm::unanswered + 1))
                .returning(vmm::unanswered)
                .kept()
                .get_result(conn)?)
        })
        .await
    }

    /// The VMMs of a sled that have not ended, by id.
    pub async fn vmm_live_on_sled(
        &self,
        sled: SledId,
        after: Option<VmmId>,
        limit: i64,
    ) -> Result<Vec<SledVmm>, Error> {
        self.run(move |conn| {
            let query = vmm::table
                .filter(vmm::sled_id.eq(sled))
                .filter(vmm::time_ended.is_null())
                .order(vmm::id.asc())
                .limit(limit)
                .select((
                    vmm::id,
                    vmm::instance_id,
                    vmm::state,
                    vmm::generation,
                ))
                .into_boxed();
            let query = match after {
                Some(after) => query.filter(vmm::id.gt(after)),
                None => query,
            };
            let rows: Vec<(VmmId, InstanceId, VmmState, i64)> =
                query.load(conn)?;
            Ok(rows
                .into_iter()
                .map(|(id, instance_id, state, generation)| SledVmm {
                    id,
                    sled_id: sled,
                    instance_id,
                    state,
                    generation,
                })
                .collect())
        })
        .await
    }

    /// Which of these VMMs, as a sled lists them, have rows here that ended,
    /// and which have none at all.
    pub async fn vmm_ended_or_unknown(
        &self,
        ids: Vec<VmmId>,
    ) -> Result<(Vec<VmmId>, Vec<VmmId>), Error> {
        self.run(move |conn| {
            let rows: Vec<(VmmId, Option<chrono::DateTime<chrono::Utc>>)> =
                vmm::table
                    .filter(vmm::id.eq_any(&ids))
                    .select((vmm::id, vmm::time_ended))
                    .load(conn)?;
            let ended = rows
                .iter()
                .filter(|(_, t)| t.is_some())
                .map(|(id, _)| *id)
                .collect();
            let unknown = ids
                .iter()
                .filter(|id| !rows.iter().any(|(known, _)| known == *id))
                .copied()
                .collect();
            Ok((ended, unknown))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PoolSettings;
    use db_model::{SagaId, SecId};

    fn ids() -> (VmmId, SledId, InstanceId) {
        (VmmId::new_v4(), SledId::new_v4(), InstanceId::new_v4())
    }

    fn fence() -> Fence {
        let (saga_id, sec_id) = (SagaId::new_v4(), SecId::new_v4());
        Fence { saga_id, sec_id, adopt_generation: 1 }
    }

    /// One that connects to nothing.
    fn datastore() -> DataStore {
        DataStore::new("postgres://nowhere", PoolSettings::default())
    }

    #[test]
    fn a_vmm_that_was_let_run_is_known_once_and_to_its_own_sled_alone() {
        let (vmm, sled, instance) = ids();
        let let_run = LetRun::default();
        let _heard = let_run.add(vmm, sled, instance);
        assert!(let_run.take(vmm, SledId::new_v4()).is_none());
        assert!(let_run.take(VmmId::new_v4(), sled).is_none());
        let found = let_run.take(vmm, sled).map(|found| found.instance);
        assert_eq!(found, Some(instance));
        assert!(let_run.take(vmm, sled).is_none());
    }

    #[test]
    fn of_too_many_that_were_let_run_those_go_for_which_nobody_waits() {
        let let_run = LetRun::default();
        let (vmm, sled, instance) = ids();
        let _heard = let_run.add(vmm, sled, instance);
        for _ in 0..LetRun::MOST {
            let_run.add(VmmId::new_v4(), sled, instance);
        }
        assert!(let_run.awaited().len() < LetRun::MOST);
        assert!(let_run.take(vmm, sled).is_some());
    }

    #[tokio::test]
    async fn what_a_sled_has_said_in_time_leaves_the_saga_its_rest() {
        let (datastore, fence) = (datastore(), fence());
        let (vmm, sled, instance) = ids();
        let heard = datastore.let_run.add(vmm, sled, instance);
        let said = datastore.let_run.take(vmm, sled).unwrap();
        said.tell.send(Some(Rest::Settled)).unwrap();
        let moment = Duration::from_millis(50);
        assert!(datastore.vmm_heard_of(fence, heard, moment).await);
        assert_eq!(datastore.owed.left(fence), Some(Rest::Settled));
    }

    #[tokio::test]
    async fn a_saga_waits_a_moment_for_its_sled_and_not_for_what_was_no_news() {
        let (datastore, fence) = (datastore(), fence());
        let (vmm, sled, instance) = ids();
        let heard = datastore.let_run.add(vmm, sled, instance);
        drop(datastore.let_run.take(vmm, sled));
        // It would never end if it waited.
        assert!(!datastore.vmm_heard_of(fence, heard, Duration::MAX).await);
        let heard = datastore.let_run.add(vmm, sled, instance);
        let moment = Duration::from_millis(1);
        assert!(!datastore.vmm_heard_of(fence, heard, moment).await);
        assert_eq!(datastore.owed.left(fence), None);
    }
}
