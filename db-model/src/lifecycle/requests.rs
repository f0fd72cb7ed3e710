//! What users ask for, and what the system does in their stead. Each writes
//! the intent, or refuses and writes nothing.

use super::{Changes, Draft, Facts, Refusal};
use crate::{
    Instance, InstanceChange, InstanceId, InstanceState, IntendedState,
    NewInstance, ProjectId, SiloUserId, StartAttempt, StartAttemptId,
    StartReason, VmmState, retry_backoff,
};
use chrono::{DateTime, Utc};

/// The rows of a new instance: it is `creating`, and with `start` its first
/// attempt is pending from its first moment.
pub fn create(
    new: &NewInstance,
    id: InstanceId,
    project_id: ProjectId,
    attempt: Option<(StartAttemptId, SiloUserId)>,
    now: DateTime<Utc>,
) -> (Instance, Option<StartAttempt>) {
    let attempt = attempt.map(|(attempt_id, user)| {
        StartAttempt::new(attempt_id, id, StartReason::Create, Some(user), now)
    });
    let attempt_id = attempt.as_ref().map(|a| a.id);
    let instance = Instance {
        id,
        project_id,
        name: new.name.clone(),
        description: new.description.clone(),
        time_created: now,
        time_modified: now,
        time_deleted: None,
        hostname: new.hostname.clone(),
        ncpus: new.ncpus,
        memory_bytes: new.memory,
        user_data: new.user_data.clone(),
        network_interfaces: new.network_interfaces.clone(),
        auto_restart_policy: new.auto_restart_policy,
        auto_restart_cooldown_secs: None,
        time_last_auto_restarted: None,
        state: InstanceState::Creating,
        state_gen: 1,
        time_state_updated: now,
        active_vmm_id: None,
        target_vmm_id: None,
        pending_start_attempt_id: attempt_id,
        latest_start_attempt_id: attempt_id,
        last_failure_kind: None,
        last_failure_message: None,
        time_last_failure: None,
        failed_starts: 0,
        next_retry_at: None,
        reconcile_at: Some(now),
        reconcile_errors: 0,
        reconcile_last_error: None,
        view_gen: 1,
        intended_state: if attempt_id.is_some() {
            IntendedState::Running
        } else {
            IntendedState::Stopped
        },
        cpu_platform: new.cpu_platform,
        boot_disk_id: None,
    };
    (instance, attempt)
}

/// A user asks for it to run. Taken while it is `creating`, too: it then waits
/// for the create saga. Asking for what is already so changes nothing.
///
/// # Errors
///
/// `Deleted`; `StillStopping` while the run that was told to stop goes on.
pub fn start(
    facts: &Facts,
    attempt: StartAttemptId,
    user: SiloUserId,
) -> Result<Changes, Refusal> {
    let instance = &facts.instance;
    if instance.time_deleted.is_some() {
        return Err(Refusal::Deleted);
    }
    let run = facts.active_vmm().filter(|v| !v.ended());
    if run.is_some() && instance.intended_state != IntendedState::Running {
        return Err(Refusal::StillStopping);
    }
    // A VMM that never ran and whose attempt is over is on its way out, and so
    // is one whose guest shuts itself down: no runs that this request could be
    // content with.
    let lasts = |v: &crate::Vmm| {
        v.ever_ran && !matches!(v.state, VmmState::Stopping | VmmState::Stopped)
    };
    if facts.attempt.is_some() || run.is_some_and(lasts) {
        return Ok(Changes::default());
    }
    let mut draft = Draft::new(facts);
    draft.instance.failed_starts = 0;
    draft.open_attempt(StartAttempt::new(
        attempt,
        instance.id,
        StartReason::User,
        Some(user),
        facts.now,
    ));
    Ok(draft.finish())
}

/// The system starts again what should run and does not. Never writes intent.
///
/// # Errors
///
/// `NoRestartNeeded` unless it rests in `failed` and its time has come.
pub fn auto_restart(
    facts: &Facts,
    attempt: StartAttemptId,
) -> Result<Changes, Refusal> {
    let instance = &facts.instance;
    // None is planned after a permanent failure: then it was found to be none.
    let due = instance.next_retry_at.is_none_or(|at| at <= facts.now);
    if !instance.auto_restart_enabled()
        || instance.state != InstanceState::Failed
        || instance.intended_state != IntendedState::Running
        || facts.attempt.is_some()
        || !due
    {
        return Err(Refusal::NoRestartNeeded);
    }
    let mut draft = Draft::new(facts);
    if instance.failed_starts == 0 {
        // It ran, and failed: from here its cooldown counts.
        draft.instance.time_last_auto_restarted = Some(facts.now);
    }
    draft.open_attempt(StartAttempt::new(
        attempt,
        instance.id,
        StartReason::AutoRestart,
        None,
        facts.now,
    ));
    Ok(draft.finish())
}

/// The placement, asked before the retry that was planned for `planned`, still
/// says no: the next retry comes later than the last. Opens no attempt.
///
/// # Errors
///
/// `NoRestartNeeded` unless it rests in `failed` and that retry is still what
/// is planned: room that was freed since the placement was asked has moved it,
/// and a user may have called it off.
pub fn postpone_retry(
    facts: &Facts,
    planned: Option<DateTime<Utc>>,
) -> Result<Changes, Refusal> {
    retry_is_planned(facts, planned)?;
    let mut draft = Draft::new(facts);
    draft.instance.failed_starts += 1;
    draft.instance.next_retry_at =
        Some(facts.now + retry_backoff(draft.instance.failed_starts));
    draft.unsettle();
    Ok(draft.finish())
}

/// The placement says that the retry that was planned for `planned` cannot
/// work before something changes: none is planned any more.
///
/// # Errors
///
/// `NoRestartNeeded` as [`postpone_retry`].
pub fn call_off_retry(
    facts: &Facts,
    planned: Option<DateTime<Utc>>,
) -> Result<Changes, Refusal> {
    retry_is_planned(facts, planned)?;
    let mut draft = Draft::new(facts);
    draft.instance.next_retry_at = None;
    draft.unsettle();
    Ok(draft.finish())
}

/// What it waits for has come: its retry is due.
///
/// # Errors
///
/// `NoRestartNeeded` unless it rests in `failed`, for want of a start, and may
/// be restarted.
pub fn retry_now(facts: &Facts) -> Result<Changes, Refusal> {
    let instance = &facts.instance;
    if instance.state != InstanceState::Failed
        || instance.failed_starts == 0
        || !instance.auto_restart_enabled()
    {
        return Err(Refusal::NoRestartNeeded);
    }
    let mut draft = Draft::new(facts);
    draft.instance.next_retry_at = Some(facts.now);
    draft.unsettle();
    Ok(draft.finish())
}

/// A user attaches a disk to it, or detaches one, while it holds no place on a
/// sled. That may let a failed start succeed, so it is tried again.
///
/// # Errors
///
/// `Deleted`; `NotStopped` while a VMM is linked; `OtherVmmLinked` while one
/// that was abandoned has not ended.
pub fn move_disk(facts: &Facts) -> Result<Changes, Refusal> {
    if facts.instance.time_deleted.is_some() {
        return Err(Refusal::Deleted);
    }
    if facts.instance.active_vmm_id.is_some() {
        return Err(Refusal::NotStopped);
    }
    if !facts.vmms.is_empty() {
        return Err(Refusal::OtherVmmLinked);
    }
    Ok(retry_now(facts).unwrap_or_default())
}

fn retry_is_planned(
    facts: &Facts,
    planned: Option<DateTime<Utc>>,
) -> Result<(), Refusal> {
    let instance = &facts.instance;
    if !instance.auto_restart_enabled()
        || instance.state != InstanceState::Failed
        || instance.next_retry_at.is_none()
        || instance.next_retry_at != planned
    {
        return Err(Refusal::NoRestartNeeded);
    }
    Ok(())
}

/// A user asks for it not to run. Always taken, but while `creating`.
///
/// # Errors
///
/// `Deleted`; `Creating`.
pub fn stop(facts: &Facts) -> Result<Changes, Refusal> {
    let instance = &facts.instance;
    if instance.time_deleted.is_some() {
        return Err(Refusal::Deleted);
    }
    if instance.state == InstanceState::Creating {
        return Err(Refusal::Creating);
    }
    let mut draft = Draft::new(facts);
    if instance.intended_state != IntendedState::Stopped {
        draft.instance.intended_state = IntendedState::Stopped;
        draft.instance.failed_starts = 0;
        draft.instance.next_retry_at = None;
        draft.end_attempt(|a| a.superseded(facts.now));
        draft.rest();
        draft.unsettle();
    }
    Ok(draft.finish())
}

/// A user asks for it not to be. From here on it is not found, and its name is
/// free; what cleans up follows.
///
/// # Errors
///
/// `Deleted`; `Creating`; `NotStopped` while a VMM is linked.
pub fn delete(facts: &Facts) -> Result<Changes, Refusal> {
    let instance = &facts.instance;
    if instance.time_deleted.is_some() {
        return Err(Refusal::Deleted);
    }
    if instance.state == InstanceState::Creating {
        return Err(Refusal::Creating);
    }
    if instance.active_vmm_id.is_some() {
        return Err(Refusal::NotStopped);
    }
    let mut draft = Draft::new(facts);
    draft.instance.intended_state = IntendedState::Destroyed;
    draft.instance.time_deleted = Some(facts.now);
    draft.instance.next_retry_at = None;
    draft.end_attempt(|a| a.superseded(facts.now));
    draft.rest();
    draft.unsettle();
    Ok(draft.finish())
}

/// Is this the moment to reset the guest? Reboot is not an intent, so there is
/// nothing to write.
///
/// # Errors
///
/// `Deleted`; `Creating`; `NotRunning` unless it runs and is to go on running.
pub fn reboot(facts: &Facts) -> Result<crate::Vmm, Refusal> {
    let instance = &facts.instance;
    if instance.time_deleted.is_some() {
        return Err(Refusal::Deleted);
    }
    if instance.state == InstanceState::Creating {
        return Err(Refusal::Creating);
    }
    facts
        .active_vmm()
        .filter(|_| instance.intended_state == IntendedState::Running)
        .filter(|v| matches!(v.state, VmmState::Running | VmmState::Rebooting))
        .cloned()
        .ok_or(Refusal::NotRunning)
}

/// A user changes it. The size, the CPU and the boot disk only at rest, the
/// hostname and the policy at any time; a guest that runs keeps its hostname until the next start. What it
/// changes may let a failed start succeed, so it is tried again.
///
/// # Errors
///
/// `Deleted`; `NotStopped` when the size, the CPU or the boot disk would change
/// and it is not at rest.
pub fn change(
    facts: &Facts,
    change: &InstanceChange,
) -> Result<Changes, Refusal> {
    let old = &facts.instance;
    if old.time_deleted.is_some() {
        return Err(Refusal::Deleted);
    }
    let resized = (old.ncpus, old.memory_bytes, old.cpu_platform)
        != (change.ncpus, change.memory, change.cpu_platform)
        || old.boot_disk_id != change.boot_disk;
    let at_rest = old.active_vmm_id.is_none()
        && facts.attempt.is_none()
        && old.state != InstanceState::Creating;
    if resized && !at_rest {
        return Err(Refusal::NotStopped);
    }
    let mut draft = Draft::new(facts);
    let new = &mut draft.instance;
    if let Some(hostname) = &change.hostname {
        new.hostname = hostname.clone();
    }
    new.ncpus = change.ncpus;
    new.memory_bytes = change.memory;
    new.cpu_platform = change.cpu_platform;
    new.boot_disk_id = change.boot_disk;
    new.auto_restart_policy = change.auto_restart_policy;
    if new == old {
        return Ok(Changes::default());
    }
    new.time_modified = facts.now;
    // Also while the VMM of a failed start is still linked.
    let failed = new.state == InstanceState::Failed
        || (new.intended_state == IntendedState::Running
            && facts.attempt.is_none()
            && new.failed_starts > 0);
    if !new.auto_restart_enabled() {
        new.next_retry_at = None;
    } else if failed {
        new.next_retry_at = Some(if new.failed_starts > 0 {
            facts.now
        } else {
            new.cooldown_expiration().unwrap_or(facts.now).max(facts.now)
        });
        draft.unsettle();
    }
    Ok(draft.finish())
}
