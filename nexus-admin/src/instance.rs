//! `instance show`: all that is known of an instance, and what the reconciler
//! would do about it now.

use crate::database::Database;
use crate::failure::{Failure, missing};
use crate::lease::runner;
use crate::report::Report;
use crate::saga::in_a_word;
use crate::table::Table;
use crate::words::{moment, or_dash, set_in, span, when, yes_no};
use chrono::{DateTime, Utc};
use db_model::{
    ByteCount, InstanceId, InstanceState, IntendedState, LeaseState,
    ReservationRole, RunState, SagaId, SecId, Sled, SledId, StartAttempt,
    StartAttemptId, StartFailure, StartOutcome, StartReason, Vmm, VmmEndReason,
    VmmId, VmmState, run_state,
};
use db_queries::{InstancePath, InstanceRecord};
use nexus::background::plan::plan;
use serde::Serialize;
use std::str::FromStr;

/// Attempts shown: the last ones.
const ATTEMPTS: i64 = 10;

/// Which instance.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    Id(InstanceId),
    Path(InstancePath),
}

impl Which {
    /// The instance's id.
    pub(crate) async fn id(
        &self,
        database: &Database,
    ) -> Result<InstanceId, Failure> {
        let path = match self {
            Which::Id(id) => return Ok(*id),
            Which::Path(path) => path,
        };
        let found = database.datastore.instance_id_by_path(path.clone());
        found.await.map_err(missing(format!(
            "there is no instance {path} (SILO/PROJECT/NAME); one that is \
             deleted is found by its id"
        )))
    }
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Which, String> {
        if let Ok(id) = text.parse() {
            return Ok(Which::Id(id));
        }
        let parts: Vec<&str> = text.split('/').collect();
        let [silo, project, name] = parts[..] else {
            return Err("it is an id or SILO/PROJECT/NAME".to_string());
        };
        let part = |text: &str| text.parse().map_err(|e| format!("{e}"));
        let (silo, project, name) = (part(silo)?, part(project)?, part(name)?);
        Ok(Which::Path(InstancePath { silo, project, name }))
    }
}

/// What `instance show` answers.
#[derive(Serialize)]
pub(crate) struct Shown {
    time: DateTime<Utc>,
    id: InstanceId,
    instance: String,
    time_created: DateTime<Utc>,
    time_deleted: Option<DateTime<Utc>>,
    intended_state: IntendedState,
    state: InstanceState,
    time_state_updated: DateTime<Utc>,
    run_state: RunState,
    auto_restart: bool,
    failed_starts: i64,
    next_retry_at: Option<DateTime<Utc>>,
    last_failure: Option<LastFailure>,
    unfinished_saga: Option<Saga>,
    vmms: Vec<ShownVmm>,
    reservations: Vec<Reservation>,
    attempts: Vec<Attempt>,
    reconcile_at: Option<DateTime<Utc>>,
    reconcile_errors: i64,
    reconcile_last_error: Option<String>,
    plan: ShownPlan,
}

#[derive(Serialize)]
struct LastFailure {
    kind: VmmEndReason,
    message: String,
    time: DateTime<Utc>,
}

#[derive(Serialize)]
struct Saga {
    id: SagaId,
    name: String,
    current_sec: SecId,
    runner_lease: Option<LeaseState>,
    time_created: DateTime<Utc>,
}

#[derive(Serialize)]
struct ShownVmm {
    id: VmmId,
    sled_id: SledId,
    sled_serial: Option<String>,
    sled_silent_since: Option<DateTime<Utc>>,
    state: VmmState,
    linked: bool,
    may_run: bool,
    ever_ran: bool,
    unanswered: i64,
    boot_deadline: Option<DateTime<Utc>>,
    failure_reason: Option<String>,
    time_created: DateTime<Utc>,
    time_state_updated: DateTime<Utc>,
}

#[derive(Serialize)]
struct Reservation {
    vmm_id: VmmId,
    sled_id: SledId,
    role: ReservationRole,
    vcpus: i64,
    memory_bytes: ByteCount,
}

#[derive(Serialize)]
struct Attempt {
    id: StartAttemptId,
    reason: StartReason,
    outcome: StartOutcome,
    time_started: DateTime<Utc>,
    time_ended: Option<DateTime<Utc>>,
    saga_id: Option<SagaId>,
    vmm_id: Option<VmmId>,
    held_back: i64,
    failure: Option<StartFailure>,
    internal_error: Option<String>,
    /// What the failing node left, while the saga is still being undone.
    staged_failure: Option<StartFailure>,
    staged_internal_error: Option<String>,
}

#[derive(Serialize)]
struct ShownPlan {
    /// A sentence a step; or one that says why there is none.
    steps: Vec<String>,
    /// When it would look again after that. Null: when something changes.
    look_again: Option<DateTime<Utc>>,
    /// The times and bounds are those of the configuration, else the defaults.
    configured: bool,
}

/// An instance.
pub(crate) async fn show(
    database: &Database,
    which: &Which,
) -> Result<Shown, Failure> {
    let id = which.id(database).await?;
    let datastore = &database.datastore;
    let record = datastore.instance_whole(id, ATTEMPTS).await;
    let record =
        record.map_err(missing(format!("there is no instance {id}")))?;
    Ok(shown(record, database))
}

fn shown(record: InstanceRecord, database: &Database) -> Shown {
    let InstanceRecord { path, facts, saga, saga_lease, .. } = &record;
    let instance = &facts.instance;
    let now = facts.now;
    let tuning = database.tuning();
    let plan = plan(facts, saga.as_ref(), &tuning);
    let last_failure = || {
        Some(LastFailure {
            kind: instance.last_failure_kind?,
            message: instance.last_failure_message.clone()?,
            time: instance.time_last_failure?,
        })
    };
    Shown {
        time: now,
        id: instance.id,
        instance: path.to_string(),
        time_created: instance.time_created,
        time_deleted: instance.time_deleted,
        intended_state: instance.intended_state,
        state: instance.state,
        time_state_updated: instance.time_state_updated,
        run_state: run_state(instance, facts.active_vmm()),
        auto_restart: instance.auto_restart_enabled(),
        failed_starts: instance.failed_starts,
        next_retry_at: instance.next_retry_at,
        last_failure: last_failure(),
        unfinished_saga: saga.as_ref().map(|saga| Saga {
            id: saga.id,
            name: saga.name.clone(),
            current_sec: saga.current_sec,
            runner_lease: runner(saga_lease.as_ref(), now),
            time_created: saga.time_created,
        }),
        vmms: facts.vmms.iter().map(|vmm| shown_vmm(vmm, &record)).collect(),
        reservations: record
            .reservations
            .iter()
            .map(|held| Reservation {
                vmm_id: held.vmm_id,
                sled_id: held.sled_id,
                role: held.role,
                vcpus: held.vcpus,
                memory_bytes: held.memory_bytes,
            })
            .collect(),
        attempts: record.attempts.iter().map(attempt).collect(),
        reconcile_at: instance.reconcile_at,
        reconcile_errors: instance.reconcile_errors,
        reconcile_last_error: instance.reconcile_last_error.clone(),
        plan: ShownPlan {
            steps: plan.explain(facts, saga.as_ref(), &tuning),
            look_again: plan.look_again,
            configured: database.config.is_some(),
        },
    }
}

fn shown_vmm(vmm: &Vmm, record: &InstanceRecord) -> ShownVmm {
    let facts = &record.facts;
    let sled = record.sleds.iter().find(|sled| sled.id == vmm.sled_id);
    let silent = |sled: &&Sled| sled.silent(facts.now);
    ShownVmm {
        id: vmm.id,
        sled_id: vmm.sled_id,
        sled_serial: sled.map(|sled| sled.serial.clone()),
        sled_silent_since: sled.filter(silent).map(|s| s.time_last_heartbeat),
        state: vmm.state,
        linked: facts.instance.active_vmm_id == Some(vmm.id),
        may_run: vmm.may_run,
        ever_ran: vmm.ever_ran,
        unanswered: vmm.unanswered,
        boot_deadline: vmm.boot_deadline,
        failure_reason: vmm.failure_reason.clone(),
        time_created: vmm.time_created,
        time_state_updated: vmm.time_state_updated,
    }
}

fn attempt(row: &StartAttempt) -> Attempt {
    let (staged_failure, staged_internal_error) = match row.staged() {
        Some(staged) => (Some(staged.failure), Some(staged.internal_error)),
        None => (None, None),
    };
    Attempt {
        id: row.id,
        reason: row.reason,
        outcome: row.outcome,
        time_started: row.time_started,
        time_ended: row.time_ended,
        saga_id: row.saga_id,
        vmm_id: row.vmm_id,
        held_back: row.held_back,
        failure: row.failure(),
        internal_error: row.internal_error.clone(),
        staged_failure,
        staged_internal_error,
    }
}

impl Report for Shown {
    fn text(&self) -> String {
        let blocks = [
            self.facts_text(),
            self.vmms_text(),
            self.attempts_text(),
            self.plan_text(),
        ];
        blocks.join("\n")
    }
}

impl Shown {
    fn facts_text(&self) -> String {
        let now = self.time;
        let ago = |at| when(at, now);
        let mut text = format!(
            "Instance {} ({})\n  \
             created       {} ({})\n",
            self.instance,
            self.id,
            moment(self.time_created),
            ago(self.time_created),
        );
        if let Some(deleted) = self.time_deleted {
            text += &format!(
                "  deleted       {} ({})\n",
                moment(deleted),
                ago(deleted)
            );
        }
        let run_state = serde_json::to_value(self.run_state);
        let run_state = run_state.unwrap_or_default();
        text += &format!(
            "  intent        {}\n  \
             state         {}, for {}; users see: {}\n  \
             auto-restart  {}; failed starts in a row: {}; next retry: {}\n",
            self.intended_state,
            self.state,
            span(now - self.time_state_updated),
            run_state.as_str().unwrap_or_default(),
            yes_no(self.auto_restart),
            self.failed_starts,
            or_dash(self.next_retry_at.map(ago)),
        );
        if let Some(last) = &self.last_failure {
            text += &format!(
                "  last failure  {}, {}: {}\n",
                last.kind,
                ago(last.time),
                last.message
            );
        }
        match &self.unfinished_saga {
            Some(saga) => {
                text += &format!(
                    "  saga          {} ({}),\n                created {}; \
                     its runner's lease is {}\n",
                    saga.id,
                    saga.name,
                    ago(saga.time_created),
                    in_a_word(saga.runner_lease)
                );
            }
            None => text += "  saga          none is at work on it\n",
        }
        text
    }

    fn vmms_text(&self) -> String {
        if self.vmms.is_empty() {
            return "VMMs\n  none is linked or left\n".to_string();
        }
        let mut table = Table::new(&[
            "VMM",
            "STATE",
            "LINKED",
            "MAY RUN",
            "RAN",
            "UNANSWERED",
            "SLED",
        ]);
        for vmm in &self.vmms {
            let sled = vmm.sled_serial.clone();
            let sled = sled.unwrap_or(vmm.sled_id.to_string());
            let silent = vmm.sled_silent_since.map(|since| {
                format!(" (silent for {})", span(self.time - since))
            });
            table.row([
                vmm.id.to_string(),
                vmm.state.to_string(),
                yes_no(vmm.linked),
                yes_no(vmm.may_run),
                yes_no(vmm.ever_ran),
                vmm.unanswered.to_string(),
                sled + &silent.unwrap_or_default(),
            ]);
        }
        let mut text = format!("VMMs\n{table}");
        for vmm in &self.vmms {
            if let Some(reason) = &vmm.failure_reason {
                text += &set_in(&format!("{} failed: {reason}", vmm.id), 2);
            }
            if let Some(deadline) = vmm.boot_deadline.filter(|_| !vmm.ever_ran)
            {
                let deadline = when(deadline, self.time);
                text += &format!("  {} must have booted: {deadline}\n", vmm.id);
            }
        }
        text += "\nReservations\n";
        if self.reservations.is_empty() {
            text += "  none\n";
            return text;
        }
        let mut table = Table::new(&["VMM", "ROLE", "VCPUS", "MEMORY", "SLED"]);
        for held in &self.reservations {
            table.row([
                held.vmm_id.to_string(),
                held.role.to_string(),
                held.vcpus.to_string(),
                held.memory_bytes.to_string(),
                held.sled_id.to_string(),
            ]);
        }
        text + &table.to_string()
    }

    fn attempts_text(&self) -> String {
        if self.attempts.is_empty() {
            return "Start attempts\n  none\n".to_string();
        }
        let mut text = format!(
            "Start attempts, newest first (the last {ATTEMPTS} at most)\n"
        );
        for attempt in &self.attempts {
            let took = attempt.time_ended.map(|end| {
                format!(" after {}", span(end - attempt.time_started))
            });
            text += &format!(
                "  {}  {}, began {}: {}{}\n",
                attempt.id,
                attempt.reason,
                when(attempt.time_started, self.time),
                attempt.outcome,
                took.unwrap_or_default(),
            );
            if let Some(saga) = attempt.saga_id {
                text += &format!("    saga {saga}\n");
            }
            if attempt.held_back > 0 {
                text += &format!("    had to wait: {}\n", attempt.held_back);
            }
            let failure =
                attempt.failure.as_ref().or(attempt.staged_failure.as_ref());
            if let Some(failure) = failure {
                let prospect = match failure.transient {
                    true => "may pass",
                    false => "will not pass by itself",
                };
                let StartFailure { kind, message, .. } = failure;
                text += &set_in(&format!("{kind} ({prospect}): {message}"), 4);
            }
            let internal = attempt.internal_error.as_deref();
            let internal =
                internal.or(attempt.staged_internal_error.as_deref());
            let said = failure.map_or("", |failure| &failure.message);
            if let Some(internal) = internal.filter(|text| *text != said) {
                text += &set_in(&format!("internal error: {internal}"), 4);
            }
        }
        text
    }

    fn plan_text(&self) -> String {
        let next = match self.reconcile_at {
            None => "none is planned: it is settled".to_string(),
            Some(at) if at <= self.time => {
                format!("due since {}", span(self.time - at))
            }
            Some(at) => when(at, self.time),
        };
        let mut text = format!(
            "The reconciler\n  next look     {next}\n  errors        {} in a \
             row\n",
            self.reconcile_errors,
        );
        if let Some(error) = &self.reconcile_last_error {
            text += &set_in(&format!("last error: {error}"), 4);
        }
        text += "  What it would do now\n";
        for step in &self.plan.steps {
            text += &set_in(step, 4);
        }
        if let Some(at) = self.plan.look_again {
            text += &format!("  and look again {}\n", when(at, self.time));
        }
        if !self.plan.configured {
            text += "  (by the default times and bounds: no --config was \
                     given)\n";
        }
        text
    }
}
