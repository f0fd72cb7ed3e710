//! An instance with all its rows, in memory: changes are written as
//! `db_queries` writes them, and what the schema refuses is refused.

use crate::lifecycle::reports::{Answer, Observation, VmmReport, observe};
use crate::lifecycle::{Changes, Facts, ReservationFate, requests};
use crate::*;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::BTreeMap;
use uuid::Uuid;

pub(super) const BOOT_ALLOWANCE: TimeDelta = TimeDelta::minutes(2);

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) instance: Instance,
    pub(super) vmms: BTreeMap<VmmId, Vmm>,
    pub(super) attempts: BTreeMap<StartAttemptId, StartAttempt>,
    pub(super) reservations: BTreeMap<VmmId, SledReservation>,
    pub(super) now: DateTime<Utc>,
    ids: u128,
}

pub(super) fn user() -> SiloUserId {
    SiloUserId(Uuid::from_u128(1))
}

pub(super) fn sled() -> SledId {
    SledId(Uuid::from_u128(2))
}

impl World {
    /// A new instance: its create saga is at work.
    pub(super) fn new(start: bool) -> World {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let new = NewInstance {
            boot_disk: None,
            name: "db".parse().unwrap(),
            description: String::new(),
            hostname: "db".parse().unwrap(),
            ncpus: VcpuCount::new(2),
            memory: ByteCount::GIB,
            user_data: String::new(),
            ssh_public_keys: None,
            network_interfaces: serde_json::json!({ "type": "none" }),
            auto_restart_policy: None,
            cpu_platform: None,
            anti_affinity_groups: Vec::new(),
            disks: Vec::new(),
            start,
        };
        let attempt = StartAttemptId(Uuid::from_u128(3));
        let (instance, attempt) = requests::create(
            &new,
            InstanceId(Uuid::from_u128(4)),
            ProjectId(Uuid::from_u128(5)),
            start.then_some((attempt, user())),
            now,
        );
        World {
            instance,
            vmms: BTreeMap::new(),
            attempts: attempt.into_iter().map(|a| (a.id, a)).collect(),
            reservations: BTreeMap::new(),
            now,
            ids: 100,
        }
    }

    /// An id that nothing has yet.
    pub(super) fn id<T: From<Uuid>>(&mut self) -> T {
        self.ids += 1;
        Uuid::from_u128(self.ids).into()
    }

    /// The facts, as `db_queries` reads them.
    pub(super) fn facts(&self) -> Facts {
        let linked = self.instance.active_vmm_id;
        let pending = self.instance.pending_start_attempt_id;
        Facts {
            instance: self.instance.clone(),
            vmms: self
                .vmms
                .values()
                .filter(|v| !v.ended() || Some(v.id) == linked)
                .cloned()
                .collect(),
            attempt: pending.map(|id| self.attempts[&id].clone()),
            now: self.now,
        }
    }

    /// Writes changes, as `db_queries` writes them, a second later.
    pub(super) fn apply(&mut self, changes: &Changes) {
        let changes = changes.clone();
        if let Some(row) = changes.attempt {
            let known = self.attempts.insert(row.id, row);
            assert!(known.is_some(), "an attempt that is not there changed");
        }
        if let Some(row) = changes.new_attempt {
            let known = self.attempts.insert(row.id, row);
            assert_eq!(known, None, "an attempt was opened twice");
        }
        if let Some((row, held)) = changes.new_vmm {
            assert_eq!(row.id, held.vmm_id);
            self.reservations.insert(held.vmm_id, held);
            let known = self.vmms.insert(row.id, row);
            assert_eq!(known, None, "a VMM was made twice");
        }
        if let Some(row) = changes.vmm {
            let known = self.vmms.insert(row.id, row);
            assert!(known.is_some(), "a VMM that is not there changed");
        }
        if let Some(row) = changes.instance {
            self.instance = row;
        }
        match changes.reservation {
            Some((vmm, ReservationFate::Release)) => {
                self.reservations.remove(&vmm);
            }
            Some((vmm, ReservationFate::Abandon)) => {
                if let Some(held) = self.reservations.get_mut(&vmm) {
                    held.role = ReservationRole::Abandoned;
                }
            }
            None => (),
        }
        self.pass(TimeDelta::seconds(1));
    }

    pub(super) fn pass(&mut self, time: TimeDelta) {
        self.now += time;
    }

    /// Takes in what a sled says of a VMM.
    pub(super) fn observe(
        &mut self,
        vmm: VmmId,
        observation: &Observation,
    ) -> Answer {
        let answer = observe(&self.facts(), vmm, observation, BOOT_ALLOWANCE);
        if let Answer::Taken(changes) = &answer {
            self.apply(changes);
        }
        answer
    }

    /// What the linked VMM's sled says next of it.
    pub(super) fn report(
        &self,
        state: VmmState,
        ever_ran: bool,
        end: Option<VmmEndReason>,
    ) -> Observation {
        let vmm = self.linked().expect("a VMM is linked");
        Observation::Reported(VmmReport {
            generation: vmm.generation + 1,
            state,
            ever_ran,
            end: end.map(|reason| (reason, None)),
        })
    }

    pub(super) fn linked(&self) -> Option<&Vmm> {
        self.instance.active_vmm_id.map(|id| &self.vmms[&id])
    }

    pub(super) fn pending(&self) -> Option<&StartAttempt> {
        self.instance.pending_start_attempt_id.map(|id| &self.attempts[&id])
    }

    pub(super) fn view(&self) -> InstanceView {
        InstanceView {
            silo_id: SiloId(Uuid::nil()),
            instance: self.instance.clone(),
            vmm: self.linked().cloned(),
            latest_attempt: self
                .instance
                .latest_start_attempt_id
                .map(|id| self.attempts[&id].clone()),
            sled_last_seen: None,
            now: self.now,
        }
    }

    /// Changes, in words: each change of a fact that a person would name.
    pub(super) fn describe(&self, changes: &Changes) -> String {
        let mut says = Vec::new();
        let old = &self.instance;
        if let Some(new) = &changes.instance {
            let facts = |i: &Instance| {
                [
                    ("state", i.state.to_string()),
                    ("wants", i.intended_state.to_string()),
                    ("vcpus", i.ncpus.to_string()),
                    (
                        "restarts",
                        i.auto_restart_policy
                            .map_or("default".to_string(), |p| p.to_string()),
                    ),
                    ("failed starts", i.failed_starts.to_string()),
                    (
                        "last failure",
                        i.last_failure_kind
                            .map_or("none".to_string(), |k| k.to_string()),
                    ),
                    ("retry", self.when(i.next_retry_at)),
                    ("look", self.when(i.reconcile_at)),
                ]
            };
            for ((what, old), (_, new)) in
                facts(old).iter().zip(facts(new).iter())
            {
                if old != new {
                    says.push(format!("{what} {new}"));
                }
            }
            if old.active_vmm_id.is_some() && new.active_vmm_id.is_none() {
                says.push("parted".to_string());
            }
            if new.time_deleted != old.time_deleted {
                says.push("deleted".to_string());
            }
            if new.time_last_auto_restarted != old.time_last_auto_restarted {
                says.push("cooldown begins".to_string());
            }
        }
        if let Some(attempt) = &changes.attempt {
            let kind = attempt
                .failure()
                .map_or(String::new(), |f| format!(" ({})", f.kind));
            let saga = self.attempts[&attempt.id].saga_id;
            let saga = if attempt.saga_id == saga { "" } else { " claimed" };
            says.push(format!("attempt {}{kind}{saga}", attempt.outcome));
        }
        if let Some(attempt) = &changes.new_attempt {
            says.push(format!("new attempt ({})", attempt.reason));
        }
        if changes.new_vmm.is_some() {
            says.push("new VMM, room taken".to_string());
        }
        if let Some(vmm) = &changes.vmm {
            let end = vmm
                .end_reason
                .map_or(String::new(), |reason| format!(" ({reason})"));
            let may_run = if vmm.may_run && !self.vmms[&vmm.id].may_run {
                ", may run"
            } else {
                ""
            };
            says.push(format!("VMM {}{end}{may_run}", vmm.state));
        }
        match changes.reservation {
            Some((_, ReservationFate::Release)) => {
                says.push("room given back".to_string());
            }
            Some((_, ReservationFate::Abandon)) => {
                says.push("room kept".to_string());
            }
            None => (),
        }
        if says.is_empty() {
            says.push(
                if changes.is_empty() { "nothing" } else { "unseen" }.into(),
            );
        }
        says.join("; ")
    }

    fn when(&self, time: Option<DateTime<Utc>>) -> String {
        match time.map(|time| (time - self.now).num_seconds()) {
            None => "never".to_string(),
            Some(secs) if secs <= 0 => "now".to_string(),
            Some(secs) => format!("in {secs} s"),
        }
    }
}

/// What must hold between the rows before a transition and after it.
///
/// # Panics
///
/// It does not.
pub(super) fn check_step(before: &World, after: &World, changes: &Changes) {
    if let Some(broken) = broken_constraint(after) {
        panic!("{broken} is broken by {}", before.describe(changes));
    }
    for (id, old) in &before.attempts {
        let new = &after.attempts[id];
        if old.outcome != StartOutcome::Pending {
            assert_eq!(old, new, "an attempt ends once");
        }
    }
    for (id, old) in &before.vmms {
        let new = &after.vmms[id];
        if old.ended() {
            assert_eq!(old, new, "an ended VMM never comes back");
        }
        if old.state == VmmState::Abandoned {
            assert!(
                new.state == VmmState::Abandoned || new.ended(),
                "abandoned is left only to an end"
            );
        }
        assert!(old.generation <= new.generation);
        assert!(!old.ever_ran || new.ever_ran);
        assert!(!old.may_run || new.may_run);
    }
    let (old, new) = (&before.instance, &after.instance);
    if shown(before) != shown(after) {
        assert!(
            new.view_gen > old.view_gen,
            "view_gen stands though the view changed: {} -> {}",
            shown(before),
            shown(after),
        );
    }
    assert!(new.view_gen >= old.view_gen);
    assert!(new.state_gen >= old.state_gen);
    if (old.state, old.active_vmm_id) != (new.state, new.active_vmm_id) {
        assert!(new.state_gen > old.state_gen, "state_gen guards the state");
    }
    assert!(old.time_deleted.is_none() || new.time_deleted.is_some());
    assert!(
        old.state != InstanceState::Destroyed
            || new.state == InstanceState::Destroyed
    );
    if let Some(opened) = &changes.new_attempt {
        assert_eq!(new.intended_state, IntendedState::Running);
        if opened.reason == StartReason::AutoRestart {
            assert_eq!(
                old.intended_state,
                IntendedState::Running,
                "the system never starts what is not wanted"
            );
        }
    }
    for vmm in after.vmms.values() {
        let linked = new.active_vmm_id == Some(vmm.id);
        let abandoned = vmm.state == VmmState::Abandoned;
        assert!(
            vmm.ended() || linked != abandoned,
            "a VMM lives that nobody looks after"
        );
        assert_eq!(
            after.reservations.contains_key(&vmm.id),
            linked || abandoned,
            "room is held while its VMM is linked or abandoned"
        );
    }
    if let Some((vmm, _)) = &changes.new_vmm {
        let other = after
            .vmms
            .values()
            .find(|v| v.id != vmm.id && !v.ended() && v.may_run);
        assert_eq!(other, None, "two VMMs of one instance may run");
    }
}

/// What a user sees of the instance.
fn shown(world: &World) -> serde_json::Value {
    let view = world.view();
    let row = &view.instance;
    let vmm_updated = view.vmm.as_ref().map(|v| v.time_state_updated);
    serde_json::json!({
        "run_state": view.run_state(),
        "since": vmm_updated.map_or(row.time_state_updated, |t| {
            t.max(row.time_state_updated)
        }),
        "intended_state": row.intended_state,
        "deleted": row.time_deleted,
        "ncpus": row.ncpus,
        "memory": row.memory_bytes,
        "policy": row.auto_restart_policy,
        "restarted": row.time_last_auto_restarted,
        "modified": row.time_modified,
        "start_failure": view.start_failure().map(|(attempt, failure)| {
            serde_json::json!({
                "attempt": attempt.id,
                "failure": failure,
                "time": attempt.time_ended,
                "next_retry_at": row.next_retry_at,
            })
        }),
        "last_failure": [
            serde_json::json!(row.last_failure_kind),
            serde_json::json!(row.last_failure_message),
            serde_json::json!(row.time_last_failure),
        ],
    })
}

/// The first constraint of `schema/dbinit.sql` that the rows break.
fn broken_constraint(world: &World) -> Option<&'static str> {
    constraints(world).into_iter().find(|(_, holds)| !holds).map(|(n, _)| n)
}

/// The constraints of `schema/dbinit.sql` on the tables that transitions
/// write, each with whether it holds.
pub(super) fn constraints(world: &World) -> Vec<(&'static str, bool)> {
    let i = &world.instance;
    let mut all = vec![
        (
            "instance_has_a_size",
            i.ncpus.to_i64() > 0 && i.memory_bytes > ByteCount::ZERO,
        ),
        (
            "instance_vmm_iff_linked",
            (i.state == InstanceState::Vmm) == i.active_vmm_id.is_some(),
        ),
        (
            "instance_target_needs_active",
            i.target_vmm_id.is_none() || i.active_vmm_id.is_some(),
        ),
        (
            "instance_last_failure_whole",
            i.last_failure_kind.is_none() == i.last_failure_message.is_none()
                && i.last_failure_kind.is_none()
                    == i.time_last_failure.is_none(),
        ),
        (
            "instance_destroyed_is_deleted",
            i.state != InstanceState::Destroyed || i.time_deleted.is_some(),
        ),
        (
            "instance_wanted_is_pending",
            !(i.intended_state == IntendedState::Running
                && i.state == InstanceState::NoVmm
                && i.pending_start_attempt_id.is_none()),
        ),
        (
            "instance_pending_is_wanted",
            i.pending_start_attempt_id.is_none()
                || i.intended_state == IntendedState::Running,
        ),
        (
            "instance_failed_is_wanted",
            i.state != InstanceState::Failed
                || (i.intended_state == IntendedState::Running
                    && i.pending_start_attempt_id.is_none()),
        ),
        (
            "instance_deleted_iff_unwanted",
            (i.intended_state == IntendedState::Destroyed)
                == i.time_deleted.is_some(),
        ),
    ];
    for vmm in world.vmms.values() {
        let failed = vmm.state == VmmState::Failed;
        all.extend([
            ("vmm_failure_iff_failed", failed == vmm.failure_reason.is_some()),
            (
                "vmm_end_reason_iff_ended",
                vmm.state.is_end() == vmm.end_reason.is_some(),
            ),
            (
                "vmm_end_time_iff_ended",
                vmm.end_reason.is_some() == vmm.time_ended.is_some(),
            ),
            ("vmm_ran_was_allowed", vmm.may_run || !vmm.ever_ran),
        ]);
    }
    let held: Vec<&SledReservation> = world.reservations.values().collect();
    all.push((
        "sled_reservation_one_per_role",
        [ReservationRole::Active, ReservationRole::Target]
            .iter()
            .all(|role| held.iter().filter(|r| r.role == *role).count() <= 1),
    ));
    for reservation in held {
        all.push((
            "sled_reservation_has_a_size",
            reservation.vcpus > 0 && reservation.memory_bytes > ByteCount::ZERO,
        ));
    }
    let pending = StartOutcome::Pending;
    all.push((
        "start_attempt_one_pending",
        world.attempts.values().filter(|a| a.outcome == pending).count() <= 1,
    ));
    for attempt in world.attempts.values() {
        let kind = attempt.failure_kind.is_some();
        all.extend([
            (
                "start_attempt_kind_iff_failed",
                (attempt.outcome == StartOutcome::Failed) == kind,
            ),
            (
                "start_attempt_failure_whole",
                kind == attempt.failure_message.is_some()
                    && kind == attempt.failure_transient.is_some()
                    && kind == attempt.failure_details.is_some(),
            ),
            (
                "start_attempt_ended_iff_not_pending",
                (attempt.outcome == pending) == attempt.time_ended.is_none(),
            ),
        ]);
    }
    // No constraint of the schema's, since it spans rows: what the instance
    // calls pending is.
    all.push((
        "what the instance calls pending is pending",
        world.pending().is_none_or(|a| a.outcome == pending)
            && world.attempts.values().all(|a| {
                a.outcome != pending || i.pending_start_attempt_id == Some(a.id)
            }),
    ));
    all
}
