//! What sagas do to an instance. Each may be done twice.

use super::{Changes, Draft, Facts, Refusal, ReservationFate, reservation};
use crate::{
    InstanceState, IntendedState, SagaId, SledId, StagedFailure, StartAttempt,
    StartAttemptId, StartFailure, StartFailureKind, StartOutcome, Vmm,
    VmmEndReason, VmmId, VmmState,
};

/// The create saga is through: the instance is there.
pub fn created(facts: &Facts) -> Changes {
    let mut draft = Draft::new(facts);
    if facts.instance.state == InstanceState::Creating {
        draft.instance.state = InstanceState::NoVmm;
        draft.rest();
        draft.unsettle();
    }
    draft.finish()
}

/// The create saga is undone: there was never such an instance, and its name
/// is free. An attempt that waited for it failed with it. Nothing of it runs,
/// though it may have left `creating`: until the saga ends, none starts it.
pub fn create_undone(facts: &Facts, incident: SagaId) -> Changes {
    let mut draft = Draft::new(facts);
    if facts.instance.state == InstanceState::Destroyed
        || facts.instance.active_vmm_id.is_some()
    {
        return Changes::default();
    }
    let now = facts.now;
    draft.end_attempt(|a| {
        a.failed(&StartFailure::internal(incident), None, now)
    });
    draft.instance.state = InstanceState::Destroyed;
    draft.instance.intended_state = IntendedState::Destroyed;
    draft.instance.time_deleted.get_or_insert(now);
    draft.instance.reconcile_at = None;
    draft.finish()
}

/// Nobody will finish the create saga: what it made is undone, unless it was
/// finished after all.
pub fn create_given_up(facts: &Facts, incident: SagaId) -> Changes {
    if facts.instance.state != InstanceState::Creating {
        return Changes::default();
    }
    create_undone(facts, incident)
}

/// May a saga's node go on with its attempt? `started` counts as pending: a
/// node that runs again after a crash must not undo the start it has made.
///
/// # Errors
///
/// `AttemptOvertaken`.
pub fn may_go_on(attempt: &StartAttempt, saga: SagaId) -> Result<(), Refusal> {
    match attempt.outcome {
        StartOutcome::Pending | StartOutcome::Started
            if attempt.saga_id == Some(saga) =>
        {
            Ok(())
        }
        StartOutcome::Pending
        | StartOutcome::Started
        | StartOutcome::Failed
        | StartOutcome::Superseded => Err(Refusal::AttemptOvertaken),
    }
}

/// A start saga takes the attempt. (An attempt that another saga had is free
/// again, since an instance has one unfinished saga at a time; what that one
/// staged goes with it.)
///
/// # Errors
///
/// `AttemptOvertaken`; `OtherVmmLinked`.
pub fn claim(
    facts: &Facts,
    attempt: StartAttemptId,
    saga: SagaId,
) -> Result<Changes, Refusal> {
    let pending = facts
        .attempt
        .as_ref()
        .filter(|a| a.id == attempt)
        .ok_or(Refusal::AttemptOvertaken)?;
    if pending.saga_id == Some(saga) {
        return Ok(Changes::default());
    }
    let may_run = |v: &Vmm| v.state == VmmState::Abandoned && v.may_run;
    if facts.instance.active_vmm_id.is_some() || facts.vmms.iter().any(may_run)
    {
        return Err(Refusal::OtherVmmLinked);
    }
    Ok(Changes {
        attempt: Some(StartAttempt {
            saga_id: Some(saga),
            vmm_id: None,
            staged_failure: None,
            ..pending.clone()
        }),
        ..Changes::default()
    })
}

/// A VMM for the attempt, on `sled`: its row, its reservation and its link.
///
/// # Errors
///
/// `AttemptOvertaken`; `OtherVmmLinked`.
pub fn link(
    facts: &Facts,
    attempt: StartAttemptId,
    vmm_id: VmmId,
    sled: SledId,
) -> Result<Changes, Refusal> {
    let instance = &facts.instance;
    if instance.active_vmm_id == Some(vmm_id) {
        return Ok(Changes::default());
    }
    let pending = facts
        .attempt
        .as_ref()
        .filter(|a| a.id == attempt)
        .ok_or(Refusal::AttemptOvertaken)?;
    if instance.active_vmm_id.is_some() {
        return Err(Refusal::OtherVmmLinked);
    }
    let vmm = Vmm::new(vmm_id, instance.id, sled, attempt, facts.now);
    let mut draft = Draft::new(facts);
    draft.instance.state = InstanceState::Vmm;
    draft.instance.active_vmm_id = Some(vmm_id);
    draft.changes.attempt =
        Some(StartAttempt { vmm_id: Some(vmm_id), ..pending.clone() });
    let held = reservation(instance, &vmm);
    draft.changes.new_vmm = Some((vmm, held));
    Ok(draft.finish())
}

/// From here on the VMM may run: written before the first order to run it, and
/// after its sled has said to have it, which is noted with it.
///
/// # Errors
///
/// `VmmEnded` when it is not linked any more or has ended.
pub fn allow_to_run(facts: &Facts, vmm_id: VmmId) -> Result<Changes, Refusal> {
    let vmm = facts
        .active_vmm()
        .filter(|v| v.id == vmm_id && !v.ended())
        .ok_or(Refusal::VmmEnded)?;
    if vmm.may_run {
        return Ok(Changes::default());
    }
    Ok(Changes {
        vmm: Some(Vmm {
            may_run: true,
            generation: vmm.generation.max(Vmm::TAKEN_IN),
            unanswered: 0,
            ..vmm.clone()
        }),
        ..Changes::default()
    })
}

/// Ends the attempt as failed, if it is still pending and `saga`'s. `staged`
/// is what its failing node left; without it the failure is `internal`.
pub fn close_failed(
    facts: &Facts,
    attempt: StartAttemptId,
    saga: SagaId,
    staged: Option<StagedFailure>,
) -> Changes {
    let mine = facts
        .attempt
        .as_ref()
        .is_some_and(|a| a.id == attempt && a.saga_id == Some(saga));
    if !mine {
        return Changes::default();
    }
    let (failure, internal) = match staged {
        Some(s) => (s.failure, Some(s.internal_error)),
        None => (StartFailure::internal(saga), None),
    };
    let mut draft = Draft::new(facts);
    draft.fail_attempt(&failure, internal);
    draft.finish()
}

/// Ends the attempt as failed, if it is still pending: what the reconciler does
/// with one that no saga will end. If that is our fault, operators read what
/// went wrong last.
pub fn give_up_attempt(
    facts: &Facts,
    attempt: StartAttemptId,
    failure: &StartFailure,
) -> Changes {
    if facts.attempt.as_ref().is_none_or(|a| a.id != attempt) {
        return Changes::default();
    }
    let ours = failure.kind == StartFailureKind::Internal;
    let last_error = facts.instance.reconcile_last_error.clone();
    let mut draft = Draft::new(facts);
    draft.fail_attempt(failure, last_error.filter(|_| ours));
    draft.finish()
}

/// Parts the instance from its VMM, which ends if it had not; what it held of
/// its sled is given back. The one way out of `vmm`: sagas' undos and
/// instance_update both take it, so they cannot disagree about where the
/// instance comes to rest.
pub fn unlink(facts: &Facts, vmm_id: VmmId) -> Changes {
    let Some(vmm) = facts.active_vmm().filter(|v| v.id == vmm_id) else {
        return Changes::default();
    };
    let ended = if vmm.ended() {
        vmm.clone()
    } else {
        vmm.end(VmmEndReason::Unwound, None, facts.now)
    };
    let mut draft = Draft::new(facts);
    part(&mut draft, &ended);
    draft.changes.vmm = Some(ended.clone()).filter(|e| e != vmm);
    draft.changes.reservation = Some((vmm_id, ReservationFate::Release));
    draft.finish()
}

/// Parts the instance from a VMM about which its sled says nothing definite.
/// It keeps what it holds of its sled, and somebody goes on asking.
pub fn abandon(facts: &Facts, vmm_id: VmmId) -> Changes {
    let Some(vmm) = facts.active_vmm().filter(|v| v.id == vmm_id && !v.ended())
    else {
        return Changes::default();
    };
    let abandoned = Vmm {
        state: VmmState::Abandoned,
        time_state_updated: facts.now,
        ..vmm.clone()
    };
    let mut draft = Draft::new(facts);
    if facts.attempt.as_ref().is_some_and(|a| a.vmm_id == Some(vmm_id)) {
        draft.fail_attempt(&StartFailure::host_unreachable(), None);
    }
    part(&mut draft, &abandoned);
    draft.changes.vmm = Some(abandoned);
    draft.changes.reservation = Some((vmm_id, ReservationFate::Abandon));
    draft.finish()
}

/// Clears the link and puts the instance to rest.
fn part(draft: &mut Draft<'_>, vmm: &Vmm) {
    let now = draft.facts.now;
    let instance = &mut draft.instance;
    instance.active_vmm_id = None;
    instance.target_vmm_id = None;
    let wanted = instance.intended_state == IntendedState::Running;
    let pending = instance.pending_start_attempt_id.is_some();
    if wanted
        && !pending
        && vmm.ever_ran
        && vmm.end_reason == Some(VmmEndReason::GuestShutdown)
    {
        instance.intended_state = IntendedState::GuestShutdown;
        instance.next_retry_at = None;
    } else if vmm.ever_ran {
        if wanted && !pending {
            instance.failed_starts = 0;
            instance.next_retry_at =
                instance.auto_restart_enabled().then(|| {
                    instance.cooldown_expiration().unwrap_or(now).max(now)
                });
        }
        // A stop that finds its VMM lost says so, too; one that went as asked
        // has nothing to say.
        if vmm.end_reason.is_none_or(VmmEndReason::is_bad)
            || (wanted && !pending)
        {
            draft.note_bad_end(vmm);
        }
    }
    draft.instance.state = InstanceState::NoVmm;
    draft.rest();
    draft.unsettle();
}

/// The delete saga is through. Runs that were abandoned without ever having
/// been told to run do not hold it back; somebody goes on asking about them.
///
/// # Errors
///
/// `NotStopped` while something of it runs, or may.
pub fn destroyed(facts: &Facts) -> Result<Changes, Refusal> {
    let runs = facts.vmms.iter().any(|v| v.may_run && !v.ended());
    if facts.instance.time_deleted.is_none()
        || facts.instance.active_vmm_id.is_some()
        || runs
    {
        return Err(Refusal::NotStopped);
    }
    let mut draft = Draft::new(facts);
    if facts.instance.state != InstanceState::Destroyed {
        draft.instance.state = InstanceState::Destroyed;
        draft.instance.reconcile_at =
            (!facts.vmms.is_empty()).then_some(facts.now);
    }
    Ok(draft.finish())
}
