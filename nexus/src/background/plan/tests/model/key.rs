//! What of a state makes a difference: two that agree in this go on alike.
//!
//! - **Ids** are numbered in the order in which they were made, among those
//!   that somebody still goes by. A VMM that has ended, is not linked, is on no
//!   sled, and that no saga, look or message names, is forgotten; so is an
//!   attempt that has ended, is not the latest, and that nobody names. What has
//!   ended never changes again, which is checked at each step, not here.
//! - **Times** are past or to come, as somebody would compare them: a retry, a
//!   boot deadline, a cooldown. Of `reconcile_at` it matters whether there is
//!   one, and whether it is what the slow look's claim wrote, or the saga has
//!   left; of a saga and the pending attempt, which was first. The rest (when something was made or
//!   changed, for people to read) decides nothing.
//! - **Counters** count as far as something depends on them: failed starts to
//!   one, since the backoff's length is time; questions in vain and waits to
//!   one beyond patience. `state_gen`, `view_gen` and the reconciler's errors
//!   decide nothing. A VMM's generation is kept: it is what reports are judged
//!   by, and a VMM has but a few.
//! - **Texts** for people decide nothing; whether there is one does.

use super::super::super::Step;
use super::super::product::{Look, Product, Saga, Work, name};
use chrono::{DateTime, Utc};
use db_model::{
    Instance, StartAttempt, StartAttemptId, StartOutcome, Vmm, VmmId,
};
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Key(Vec<u8>);

impl Hasher for Key {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    // Discriminants, lengths, positions, generations and counts, all small.

    fn write_isize(&mut self, number: isize) {
        self.0.push(number.try_into().expect("a small number"));
    }

    fn write_usize(&mut self, number: usize) {
        self.0.push(number.try_into().expect("a small number"));
    }

    fn write_i64(&mut self, number: i64) {
        self.0.push(number.try_into().expect("a small number"));
    }
}

impl Key {
    pub(super) fn of(product: &Product, look: Option<&Look>) -> Key {
        let mut key = Key(Vec::with_capacity(128));
        Naming::new(product, look).write(&mut key);
        key
    }
}

/// What is told apart, and how.
struct Naming<'a> {
    product: &'a Product,
    look: Option<&'a Look>,
    attempts: Vec<StartAttemptId>,
    vmms: Vec<VmmId>,
}

impl<'a> Naming<'a> {
    fn new(product: &'a Product, look: Option<&'a Look>) -> Naming<'a> {
        let mut attempts = BTreeSet::new();
        let mut vmms = BTreeSet::new();
        let instance = &product.instance;
        attempts.extend(instance.pending_start_attempt_id);
        attempts.extend(instance.latest_start_attempt_id);
        vmms.extend(instance.active_vmm_id);
        vmms.extend(product.vmms.values().filter(|v| !v.ended()).map(|v| v.id));
        for sled in &product.sleds {
            vmms.extend(sled.guests.keys());
        }
        vmms.extend(product.calls.iter().map(|(_, vmm, _)| *vmm));
        vmms.extend(product.words.iter().map(|(vmm, _)| *vmm));
        if let Some(saga) = &product.saga {
            let (attempt, vmm) = subject(saga);
            attempts.extend(attempt);
            vmms.extend(vmm);
        }
        if let Some(look) = look {
            vmms.extend(look.linked);
            attempts.extend(look.attempt.map(|(id, _)| id));
            for step in &look.steps {
                let (attempt, vmm) = about(step);
                attempts.extend(attempt);
                vmms.extend(vmm);
            }
        }
        Naming {
            product,
            look,
            attempts: attempts.into_iter().collect(),
            vmms: vmms.into_iter().collect(),
        }
    }

    fn attempt(&self, id: StartAttemptId) -> Option<usize> {
        self.attempts.iter().position(|a| *a == id)
    }

    fn vmm(&self, id: VmmId) -> Option<usize> {
        self.vmms.iter().position(|v| *v == id)
    }

    /// Is it over?
    fn past(&self, time: Option<DateTime<Utc>>) -> Option<bool> {
        time.map(|time| time <= self.product.now)
    }

    fn counted(&self, times: i64) -> i64 {
        times.min(i64::from(self.product.tuning.patience) + 1)
    }

    fn write(&self, to: &mut Key) {
        let product = self.product;
        self.instance(&product.instance, to);
        (self.attempts.len(), self.vmms.len()).hash(to);
        for id in &self.attempts {
            self.an_attempt(product.attempts.get(id), to);
        }
        for id in &self.vmms {
            self.row(product.vmms.get(id), to);
            for sled in &product.sleds {
                sled.guests.get(id).hash(to);
                sled.tombstones.contains(id).hash(to);
            }
        }
        product.sleds.iter().for_each(|sled| sled.expunged.hash(to));
        (product.calls.len(), product.words.len()).hash(to);
        for (sled, vmm, call) in &product.calls {
            (*sled == product.sleds[0].id, self.vmm(*vmm), call).hash(to);
        }
        for (vmm, seen) in &product.words {
            (self.vmm(*vmm), format!("{seen:?}")).hash(to);
        }
        self.saga(product.saga.as_ref(), to);
        self.a_look(self.look, to);
    }

    fn instance(&self, instance: &Instance, to: &mut Key) {
        let Instance {
            cpu_platform: _,
            boot_disk_id: _,
            id: _,
            project_id: _,
            name: _,
            description: _,
            time_created: _,
            time_modified: _,
            time_deleted,
            hostname: _,
            // Nobody changes the size here.
            ncpus: _,
            memory_bytes: _,
            user_data: _,
            network_interfaces: _,
            auto_restart_policy,
            auto_restart_cooldown_secs: _,
            time_last_auto_restarted: _,
            state,
            state_gen: _,
            time_state_updated: _,
            active_vmm_id,
            target_vmm_id: _,
            pending_start_attempt_id,
            latest_start_attempt_id,
            last_failure_kind,
            last_failure_message: _,
            time_last_failure: _,
            failed_starts,
            next_retry_at,
            reconcile_at,
            reconcile_errors: _,
            reconcile_last_error: _,
            view_gen: _,
            intended_state,
        } = instance;
        (
            (time_deleted.is_some(), auto_restart_policy, state),
            (intended_state, active_vmm_id.map(|id| self.vmm(id))),
            pending_start_attempt_id.map(|id| self.attempt(id)),
            latest_start_attempt_id.map(|id| self.attempt(id)),
            (last_failure_kind.is_some(), *failed_starts > 0),
            self.past(*next_retry_at),
            self.past(instance.cooldown_expiration()),
            reconcile_at.is_some(),
        )
            .hash(to);
    }

    fn an_attempt(&self, attempt: Option<&StartAttempt>, to: &mut Key) {
        attempt.is_some().hash(to);
        let Some(attempt) = attempt else { return };
        let StartAttempt {
            id: _,
            instance_id: _,
            // For people to read.
            reason: _,
            requested_by: _,
            saga_id,
            vmm_id,
            // Compared with the saga's, below.
            time_started: _,
            time_ended: _,
            outcome,
            failure_kind: _,
            failure_message: _,
            failure_transient: _,
            failure_details: _,
            staged_failure: _,
            internal_error: _,
            held_back,
        } = attempt;
        let saga = self.product.saga.as_ref();
        let mine = saga.is_some_and(|s| *saga_id == Some(s.row.id));
        (outcome, saga_id.is_some(), mine).hash(to);
        // Of one that has ended, nobody asks more.
        (*outcome == StartOutcome::Pending)
            .then(|| {
                (
                    vmm_id.map(|id| self.vmm(id)),
                    self.counted(*held_back),
                    attempt.staged().map(|s| s.failure.transient),
                )
            })
            .hash(to);
    }

    fn row(&self, row: Option<&Vmm>, to: &mut Key) {
        row.is_some().hash(to);
        let Some(row) = row else { return };
        let Vmm {
            id,
            instance_id: _,
            sled_id,
            start_attempt_id: _,
            state,
            generation,
            failure_reason: _,
            may_run,
            ever_ran,
            end_reason,
            boot_deadline,
            unanswered,
            time_created: _,
            time_state_updated: _,
            time_ended: _,
        } = row;
        (*sled_id == self.product.sleds[0].id, row.ended()).hash(to);
        // One that has ended and is unlinked is only told to be forgotten.
        if row.ended() && self.product.instance.active_vmm_id != Some(*id) {
            return;
        }
        (state, generation, may_run, ever_ran, end_reason).hash(to);
        (self.past(*boot_deadline), self.counted(*unanswered)).hash(to);
    }

    fn saga(&self, saga: Option<&Saga>, to: &mut Key) {
        saga.is_some().hash(to);
        let Some(saga) = saga else { return };
        let Saga { row, work, node, undoing, over, rest } = saga;
        let look = self.product.instance.reconcile_at;
        rest.map(|rest| look == rest.reconcile_at()).hash(to);
        let (attempt, vmm) = subject(saga);
        let pending = self.product.instance.pending_start_attempt_id;
        let later = pending.map(|id| {
            row.time_created >= self.product.attempts[&id].time_started
        });
        std::mem::discriminant(work).hash(to);
        (node, undoing, over, later).hash(to);
        (attempt.map(|id| self.attempt(id)), vmm.map(|id| self.vmm(id)))
            .hash(to);
    }

    fn a_look(&self, look: Option<&Look>, to: &mut Key) {
        look.is_some().hash(to);
        let Some(look) = look else { return };
        let Look { claim, linked, attempt, steps, look_again } = look;
        (
            self.product.instance.reconcile_at == Some(*claim),
            linked.map(|id| self.vmm(id)),
            attempt.map(|(id, tried)| (self.attempt(id), tried)),
            look_again.is_some(),
            steps.len(),
        )
            .hash(to);
        for step in steps {
            let (attempt, vmm) = about(step);
            name(step).hash(to);
            (attempt.map(|id| self.attempt(id)), vmm.map(|id| self.vmm(id)))
                .hash(to);
        }
    }
}

type Subject = (Option<StartAttemptId>, Option<VmmId>);

fn subject(saga: &Saga) -> Subject {
    match saga.work {
        Work::Start { attempt, vmm } => (Some(attempt), Some(vmm)),
        Work::Update { vmm } => (None, Some(vmm)),
        Work::Create | Work::Delete => (None, None),
    }
}

fn about(step: &Step) -> Subject {
    match step {
        Step::StartSaga(attempt)
        | Step::HoldBack(attempt)
        | Step::GiveUp(attempt, _) => (Some(*attempt), None),
        Step::JudgeBoot(attempt, vmm, _) => (Some(*attempt), Some(*vmm)),
        Step::UpdateSaga(vmm, _)
        | Step::OrderRun(vmm, _)
        | Step::OrderStop(vmm, _)
        | Step::Unregister(vmm, _) => (None, Some(*vmm)),
        Step::DeleteSaga
        | Step::UndoCreate
        | Step::Restart
        | Step::Retry
        | Step::CheckPlace => (None, None),
    }
}
