//! Random walks: requests, sagas, reports and the reconciler's steps in any
//! order. After each, every constraint of the schema holds that is about the
//! rows of one instance, and what [`check_step`] says besides.
//!
//! What `db_queries` guards around a transition, the walk guards, too: a saga
//! is the only one at work on its instance, and its nodes go on only while
//! their attempt is theirs.

use super::Situation;
use super::world::{BOOT_ALLOWANCE, World, check_step, constraints, user};
use crate::lifecycle::reports::{Answer, Observation, VmmReport, observe};
use crate::lifecycle::{Changes, Refusal, requests, steps};
use crate::*;
use chrono::TimeDelta;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Something that happens. Where it is about a VMM, the number chooses one of
/// those that there have ever been.
#[derive(Clone, Debug)]
enum Event {
    /// What comes next if nothing goes wrong, so that walks get far.
    Onward,
    TimePasses(u32),
    Start,
    Stop,
    Delete,
    Resize(u16),
    AllowRestarts(Option<AutoRestartPolicy>),
    AutoRestart,
    PostponeRetry,
    CallOffRetry,
    RetryNow,
    Created,
    CreateUndone,
    SagaBegins,
    SagaEnds,
    Claim,
    Link,
    AllowToRun,
    CloseFailed {
        staged: Option<bool>,
    },
    GiveUp,
    Unlink,
    Abandon(usize),
    Destroyed,
    Observe(usize, Sight),
}

/// What is seen of a VMM; a report's generation is relative to what is known.
#[derive(Clone, Debug)]
enum Sight {
    Report { newer: i64, state: VmmState, ever_ran: bool },
    EndReport { newer: i64, reason: VmmEndReason, ever_ran: bool },
    Unknown,
    Unregistered,
    UnregisteredAfter { reason: VmmEndReason, ever_ran: bool },
    Fenced,
}

fn event() -> impl Strategy<Value = Event> {
    let policy = prop_oneof![
        Just(None),
        Just(Some(AutoRestartPolicy::Never)),
        Just(Some(AutoRestartPolicy::BestEffort)),
    ];
    prop_oneof![
        20 => Just(Event::Onward),
        2 => (1..600u32).prop_map(Event::TimePasses),
        3 => Just(Event::Start),
        2 => Just(Event::Stop),
        1 => Just(Event::Delete),
        1 => (1..64u16).prop_map(Event::Resize),
        1 => policy.prop_map(Event::AllowRestarts),
        3 => Just(Event::AutoRestart),
        1 => Just(Event::PostponeRetry),
        1 => Just(Event::CallOffRetry),
        1 => Just(Event::RetryNow),
        3 => Just(Event::Created),
        1 => Just(Event::CreateUndone),
        6 => Just(Event::SagaBegins),
        4 => Just(Event::SagaEnds),
        6 => Just(Event::Claim),
        6 => Just(Event::Link),
        6 => Just(Event::AllowToRun),
        2 => prop::option::of(any::<bool>())
            .prop_map(|staged| Event::CloseFailed { staged }),
        2 => Just(Event::GiveUp),
        4 => Just(Event::Unlink),
        2 => any::<usize>().prop_map(Event::Abandon),
        2 => Just(Event::Destroyed),
        12 => (any::<usize>(), sight())
            .prop_map(|(vmm, sight)| Event::Observe(vmm, sight)),
    ]
}

fn sight() -> impl Strategy<Value = Sight> {
    let newer = || -1..3i64;
    let alive = prop::sample::select(
        &[
            VmmState::Creating,
            VmmState::Starting,
            VmmState::Running,
            VmmState::Stopping,
            VmmState::Stopped,
            VmmState::Rebooting,
            VmmState::Migrating,
        ][..],
    );
    let reason = || {
        prop::sample::select(
            &[
                VmmEndReason::GuestShutdown,
                VmmEndReason::Requested,
                VmmEndReason::BootFailed,
                VmmEndReason::Panic,
                VmmEndReason::HypervisorDied,
                VmmEndReason::Fenced,
            ][..],
        )
    };
    prop_oneof![
        6 => (newer(), alive, any::<bool>()).prop_map(
            |(newer, state, ever_ran)| Sight::Report { newer, state, ever_ran }
        ),
        4 => (newer(), reason(), any::<bool>()).prop_map(
            |(newer, reason, ever_ran)| {
                Sight::EndReport { newer, reason, ever_ran }
            }
        ),
        1 => Just(Sight::Unknown),
        1 => Just(Sight::Unregistered),
        1 => (reason(), any::<bool>()).prop_map(|(reason, ever_ran)| {
            Sight::UnregisteredAfter { reason, ever_ran }
        }),
        1 => Just(Sight::Fenced),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 1..120)
}

/// A world with the saga that is at work on the instance.
struct Walk {
    world: World,
    saga: Option<SagaId>,
}

impl Walk {
    fn new(start: bool) -> Walk {
        let mut world = World::new(start);
        let saga = Some(world.id());
        Walk { world, saga }
    }

    /// The saga of a start, whose attempt is this one's as far as it goes.
    fn at_work(&self) -> Result<SagaId, Refusal> {
        let creating = self.world.instance.state == InstanceState::Creating;
        self.saga.filter(|_| !creating).ok_or(Refusal::AttemptOvertaken)
    }

    fn may_go_on(&self) -> Result<(), Refusal> {
        let saga = self.at_work()?;
        let latest = self.world.attempts.get(&self.world.attempt_id());
        let attempt = latest.ok_or(Refusal::AttemptOvertaken)?;
        steps::may_go_on(attempt, saga)
    }

    fn onward(&self) -> Event {
        let world = &self.world;
        let next = |state, ever_ran| {
            let n = world.vmms.keys().position(|id| *id == world.linked_id());
            let sight = Sight::Report { newer: 1, state, ever_ran };
            Event::Observe(n.unwrap_or_default(), sight)
        };
        if world.instance.state == InstanceState::Creating {
            return Event::Created;
        }
        match (world.pending(), world.linked()) {
            (_, Some(vmm)) if vmm.ended() => Event::Unlink,
            (Some(_), Some(vmm)) if vmm.boot_deadline.is_some() => {
                next(VmmState::Running, true)
            }
            (Some(_), Some(vmm)) if vmm.may_run => {
                next(VmmState::Starting, false)
            }
            (Some(_), Some(_)) => Event::AllowToRun,
            (Some(_), None) if self.saga.is_none() => Event::SagaBegins,
            (Some(attempt), None) if attempt.saga_id != self.saga => {
                Event::Claim
            }
            (Some(_), None) => Event::Link,
            (None, _) if self.saga.is_some() => Event::SagaEnds,
            (None, Some(vmm)) if vmm.state == VmmState::Running => {
                next(VmmState::Rebooting, true)
            }
            (None, Some(vmm)) if vmm.state == VmmState::Rebooting => {
                next(VmmState::Stopping, true)
            }
            (None, Some(_)) => next(VmmState::Running, true),
            (None, None) if world.instance.time_deleted.is_some() => {
                Event::Destroyed
            }
            (None, None) => Event::TimePasses(300),
        }
    }

    fn vmm(&self, n: usize) -> VmmId {
        let ids: Vec<VmmId> = self.world.vmms.keys().copied().collect();
        n.checked_rem(ids.len()).map_or(VmmId(Uuid::nil()), |i| ids[i])
    }

    /// What an event changes.
    fn decide(&mut self, event: &Event) -> Result<Changes, Refusal> {
        let new_attempt = self.world.id();
        let new_vmm = self.world.id();
        let world = &self.world;
        let facts = world.facts();
        let attempt = world.attempt_id();
        let change = InstanceChange {
            boot_disk: None,
            hostname: None,
            ncpus: world.instance.ncpus,
            memory: world.instance.memory_bytes,
            cpu_platform: None,
            auto_restart_policy: world.instance.auto_restart_policy,
        };
        match event {
            Event::Onward
            | Event::TimePasses(_)
            | Event::SagaBegins
            | Event::SagaEnds => Ok(Changes::default()),
            Event::Start => requests::start(&facts, new_attempt, user()),
            Event::Stop => requests::stop(&facts),
            Event::Delete => requests::delete(&facts),
            Event::Resize(ncpus) => {
                let ncpus = VcpuCount::new(*ncpus);
                requests::change(&facts, &InstanceChange { ncpus, ..change })
            }
            Event::AllowRestarts(policy) => {
                let auto_restart_policy = *policy;
                let change = InstanceChange { auto_restart_policy, ..change };
                requests::change(&facts, &change)
            }
            Event::AutoRestart => requests::auto_restart(&facts, new_attempt),
            Event::PostponeRetry => {
                requests::postpone_retry(&facts, facts.instance.next_retry_at)
            }
            Event::CallOffRetry => {
                requests::call_off_retry(&facts, facts.instance.next_retry_at)
            }
            Event::RetryNow => requests::retry_now(&facts),
            Event::Created => Ok(steps::created(&facts)),
            Event::CreateUndone => {
                let incident = SagaId(Uuid::nil());
                Ok(steps::create_given_up(&facts, incident))
            }
            Event::Claim => steps::claim(&facts, attempt, self.at_work()?),
            Event::Link => {
                self.may_go_on()?;
                steps::link(&facts, attempt, new_vmm, super::world::sled())
            }
            Event::AllowToRun => {
                self.may_go_on()?;
                steps::allow_to_run(&facts, world.linked_id())
            }
            Event::CloseFailed { staged } => {
                let staged = staged.map(|transient| StagedFailure {
                    failure: StartFailure {
                        transient,
                        ..StartFailure::host_unreachable()
                    },
                    internal_error: "because".to_string(),
                });
                let saga = self.at_work()?;
                Ok(steps::close_failed(&facts, attempt, saga, staged))
            }
            Event::GiveUp => {
                let failure = StartFailure::host_unreachable();
                Ok(steps::give_up_attempt(&facts, attempt, &failure))
            }
            Event::Unlink => Ok(steps::unlink(&facts, world.linked_id())),
            Event::Abandon(n) => Ok(steps::abandon(&facts, self.vmm(*n))),
            Event::Destroyed => steps::destroyed(&facts),
            Event::Observe(n, sight) => {
                let vmm = self.vmm(*n);
                let seen = self.observation(vmm, sight);
                match observe(&facts, vmm, &seen, BOOT_ALLOWANCE) {
                    Answer::Taken(changes) => Ok(*changes),
                    Answer::Stale => Ok(Changes::default()),
                    Answer::Ended => Err(Refusal::VmmEnded),
                }
            }
        }
    }

    fn observation(&self, vmm: VmmId, sight: &Sight) -> Observation {
        let known = self.world.vmms.get(&vmm).map_or(0, |v| v.generation);
        let end = |reason: VmmEndReason, newer, ever_ran| VmmReport {
            generation: known + newer,
            state: reason.state(),
            ever_ran,
            end: Some((reason, None)),
        };
        match *sight {
            Sight::Report { newer, state, ever_ran } => {
                Observation::Reported(VmmReport {
                    generation: known + newer,
                    state,
                    ever_ran,
                    end: None,
                })
            }
            Sight::EndReport { newer, reason, ever_ran } => {
                Observation::Reported(end(reason, newer, ever_ran))
            }
            Sight::Unknown => Observation::Unknown,
            Sight::Unregistered => Observation::Unregistered(None),
            Sight::UnregisteredAfter { reason, ever_ran } => {
                Observation::Unregistered(Some(end(reason, 1, ever_ran)))
            }
            Sight::Fenced => Observation::Fenced,
        }
    }

    /// An event happens, and what must hold is checked. Says whether it changed
    /// anything.
    fn happens(&mut self, event: &Event) -> bool {
        if let Event::Onward = event {
            let next = self.onward();
            return self.happens(&next);
        }
        let before = self.world.clone();
        let changes = self.decide(event).unwrap_or_default();
        self.world.apply(&changes);
        if !changes.is_empty() {
            check_step(&before, &self.world, &changes);
        }
        let creating = self.world.instance.state == InstanceState::Creating;
        if let Event::TimePasses(secs) = event {
            self.world.pass(TimeDelta::seconds(i64::from(*secs)));
        } else if let Event::SagaEnds = event
            && !creating
        {
            self.saga = None;
        } else if let Event::SagaBegins = event
            && self.saga.is_none()
        {
            self.saga = Some(self.world.id());
        }
        !changes.is_empty()
    }
}

/// What tells the situations apart.
fn key(world: &World) -> String {
    let i = &world.instance;
    let vmm = |v: &Vmm| (v.state, v.may_run, v.ever_ran, v.end_reason);
    let abandoned = |v: &&Vmm| v.state == VmmState::Abandoned;
    let latest = world.attempts.get(&world.attempt_id());
    format!(
        "{:?}",
        (
            (i.state, i.intended_state, i.next_retry_at.is_some()),
            world.linked().map(vmm),
            world.vmms.values().find(abandoned).map(|v| v.may_run),
            world.pending().map(|a| (a.saga_id.is_some(), a.vmm_id.is_some())),
            latest.map(|a| a.outcome),
        )
    )
}

proptest! {
    #[test]
    fn whatever_happens_the_rows_stay_such_as_they_must_be(
        start: bool,
        events in events(),
    ) {
        let mut walk = Walk::new(start);
        for event in &events {
            walk.happens(event);
        }
    }
}

/// The walks would show nothing of a situation that they never come to.
#[test]
fn the_walks_come_to_every_situation() {
    let mut missing: BTreeSet<(String, Situation)> =
        Situation::ALL.iter().map(|s| (key(&s.world()), *s)).collect();
    let mut runner = TestRunner::deterministic();
    let walks = (any::<bool>(), events());
    for _ in 0..20_000 {
        let (start, events) = walks.new_tree(&mut runner).unwrap().current();
        let mut walk = Walk::new(start);
        for event in &events {
            if walk.happens(event) {
                let key = key(&walk.world);
                missing.retain(|(wanted, _)| *wanted != key);
            }
        }
        if missing.is_empty() {
            return;
        }
    }
    panic!("never seen: {missing:#?}");
}

/// The constraints that the walk checks are those of the schema: a new one in
/// `dbinit.sql` is to be said here as well, or to be named as one that is not
/// about one instance's rows.
#[test]
fn every_constraint_of_the_schema_is_one_that_the_walk_checks() {
    const ELSEWHERE: &[&str] = &[
        "db_metadata_one_row",
        "api_token_is_hashed",
        "silo_ttl_is_positive",
        "role_assignment_fleet_has_the_role",
        "role_assignment_one_fleet",
        "silo_user_password_is_hashed",
        "silo_user_password_failures_have_a_time",
        "login_guess_is_hashed",
        "login_guess_failures_not_negative",
        "console_session_is_hashed",
        "device_auth_request_is_hashed",
        "device_auth_request_ttl_is_positive",
        "device_auth_request_confirmed_whole",
        "device_auth_request_denied_or_confirmed",
        "device_auth_request_used_by_who_confirmed",
        "audit_log_actor_whole",
        "audit_log_result_after_completion",
        "audit_log_error_has_a_status",
        "sled_join_token_is_hashed",
        "sled_join_token_used_whole",
        "sled_vcpus_not_overcommitted",
        "sled_memory_not_overcommitted",
        "sled_storage_not_overcommitted",
        "silo_quota_not_negative",
        "silo_quota_use_not_negative",
        "disk_has_a_size",
        "disk_deleted_holds_nothing",
        "disk_allocated_whole",
        "disk_block_size",
        "disk_distributed_is_nowhere",
        "disk_local_is_blank",
        "disk_importing_is_detached",
        "snapshot_has_a_size",
        "snapshot_block_size",
        "image_has_a_size",
        "image_block_size",
        "blocks_gone_local_iff_somewhere",
        "saga_ended_iff_over",
        "nexus_lease_taken_whole",
        // Unique among all silos, users, tokens, projects and instances.
        "silo_live_name",
        "silo_user_live_external_id",
        "api_token_hash",
        "console_session_hash",
        "device_auth_request_device_code",
        "device_auth_request_user_code",
        "sled_join_token_hash",
        "project_live_name",
        "instance_live_name",
        "saga_one_unfinished",
        "affinity_group_live_name",
        "affinity_claim_exclusive",
        "disk_live_name",
        "ssh_key_live_name",
        "idempotency_key_of_user",
        "snapshot_live_name",
        "image_live_name_in_project",
        "image_live_name_in_silo",
    ];
    let mut world = Situation::FailedAbandoned.world();
    world.apply(&Changes::default());
    let checked: BTreeSet<&str> =
        constraints(&world).into_iter().map(|(name, _)| name).collect();
    let dbinit = include_str!("../../../../schema/dbinit.sql");
    let words: Vec<&str> = dbinit.split_whitespace().collect();
    let named = words.windows(3).filter_map(|w| match w {
        ["CONSTRAINT", name, _] => Some(*name),
        ["UNIQUE", "INDEX", name] => Some(*name),
        _ => None,
    });
    let mut seen = 0;
    for name in named {
        seen += 1;
        assert_ne!(
            checked.contains(name),
            ELSEWHERE.contains(&name),
            "{name}: checked in the walk, or else listed as not its business"
        );
    }
    assert!(seen > 25, "{seen} constraints were found in dbinit.sql");
}
