//! What sleds say of VMMs. Push, poll and answers to calls all enter here.

use super::{Changes, Draft, Facts, ReservationFate};
use crate::{
    StartFailure, StartFailureDetails, StartFailureKind, Vmm, VmmEndReason,
    VmmId, VmmState,
};
use chrono::{DateTime, TimeDelta, Utc};

/// What a sled says of a VMM at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmmReport {
    /// Rises with each change on the sled.
    pub generation: i64,
    /// Where it is.
    pub state: VmmState,
    /// Has it ever run?
    pub ever_ran: bool,
    /// How it ended, iff it has, and the sled's sentence about it.
    pub end: Option<(VmmEndReason, Option<String>)>,
}

/// A definite piece of knowledge about a VMM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// Its sled reported it.
    Reported(VmmReport),
    /// Its sled, asked for it, does not know it. Of a VMM that is `creating`
    /// this says nothing: the order to make it may still be on its way.
    Unknown,
    /// Its sled has unregistered it: it does not run and never will. With its
    /// last state, if it was known there.
    Unregistered(Option<VmmReport>),
    /// Its sled is off for good.
    Fenced,
    /// Its sled has been silent for so long that it has stopped its guests.
    /// Says something only of a VMM that the sled has said to have: another
    /// may be made there when the sled is back, by an order that is late.
    CutOff,
}

impl Observation {
    /// Does it say that the sled has the VMM, which it was told to make, and no
    /// more?
    pub fn is_taken_in(&self) -> bool {
        matches!(
            self,
            Observation::Reported(VmmReport {
                generation: Vmm::TAKEN_IN,
                state: VmmState::Creating,
                ever_ran: false,
                end: None,
            })
        )
    }
}

/// Said of what a sled stopped, or must have, since it was cut off.
pub const CUT_OFF: &str = "Its host could not be reached and has stopped it.";

/// What came of an observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is news: write this.
    Taken(Box<Changes>),
    /// It is not news.
    Stale,
    /// The VMM's row has ended. If the sled says that it lives, it is to be
    /// unregistered there.
    Ended,
}

/// The one door: what is made of an observation of a VMM. Newer generations
/// only, never out of an end, and out of `abandoned` only into an end.
/// `boot_allowance` is how long a guest may take from the sled's taking the
/// order to its running.
pub fn observe(
    facts: &Facts,
    vmm_id: VmmId,
    observation: &Observation,
    boot_allowance: TimeDelta,
) -> Answer {
    let Some(vmm) = facts.vmm(vmm_id).filter(|v| !v.ended()) else {
        return Answer::Ended;
    };
    let new = match observation {
        Observation::Reported(report) => {
            match reported(vmm, report, boot_allowance, facts.now) {
                Some(new) => new,
                None => return Answer::Stale,
            }
        }
        Observation::Unknown if vmm.state == VmmState::Creating => {
            return Answer::Stale;
        }
        Observation::Unknown => vmm.end(VmmEndReason::Gone, None, facts.now),
        Observation::Unregistered(report) => {
            unregistered(vmm, report.as_ref(), facts.now)
        }
        Observation::Fenced => vmm.end(VmmEndReason::Fenced, None, facts.now),
        Observation::CutOff if vmm.generation < Vmm::TAKEN_IN => {
            return Answer::Stale;
        }
        Observation::CutOff => {
            vmm.end(VmmEndReason::Fenced, Some(CUT_OFF.to_string()), facts.now)
        }
    };
    let mut draft = Draft::new(facts);
    let abandoned = vmm.state == VmmState::Abandoned;
    if abandoned && new.ended() {
        draft.changes.reservation = Some((vmm_id, ReservationFate::Release));
        draft.unsettle();
    } else if !abandoned {
        follow(&mut draft, vmm, &new);
    }
    draft.changes.vmm = Some(new);
    Answer::Taken(Box::new(draft.finish()))
}

/// The VMM after a report; `None` if it is no news.
fn reported(
    vmm: &Vmm,
    report: &VmmReport,
    boot_allowance: TimeDelta,
    now: DateTime<Utc>,
) -> Option<Vmm> {
    let end = report.end.as_ref();
    if report.generation <= vmm.generation
        || (vmm.state == VmmState::Abandoned && end.is_none())
    {
        return None;
    }
    let ever_ran = vmm.ever_ran || report.ever_ran;
    let heard = Vmm {
        generation: report.generation,
        ever_ran,
        may_run: vmm.may_run || ever_ran,
        unanswered: 0,
        ..vmm.clone()
    };
    if let Some((reason, sentence)) = end {
        return Some(heard.end(*reason, sentence.clone(), now));
    }
    let started = report.state != VmmState::Creating;
    Some(Vmm {
        time_state_updated: if report.state == vmm.state {
            vmm.time_state_updated
        } else {
            now
        },
        state: report.state,
        boot_deadline: vmm
            .boot_deadline
            .or_else(|| started.then(|| now + boot_allowance)),
        ..heard
    })
}

/// The VMM after its sled has unregistered it: ended as the sled says it had
/// ended before, if it says so, or by the unregistering itself.
fn unregistered(
    vmm: &Vmm,
    last: Option<&VmmReport>,
    now: DateTime<Utc>,
) -> Vmm {
    let ever_ran = vmm.ever_ran || last.is_some_and(|r| r.ever_ran);
    let heard = Vmm {
        ever_ran,
        may_run: vmm.may_run || ever_ran,
        generation: last
            .map_or(vmm.generation, |r| r.generation.max(vmm.generation)),
        ..vmm.clone()
    };
    match last.and_then(|r| r.end.clone()) {
        Some((reason, sentence)) if reason != VmmEndReason::Requested => {
            heard.end(reason, sentence, now)
        }
        Some(_) | None => heard.end(VmmEndReason::Unwound, None, now),
    }
}

/// What a linked VMM's news means for the attempt and the instance.
fn follow(draft: &mut Draft<'_>, old: &Vmm, new: &Vmm) {
    draft.visible = old.state != new.state;
    let its_own =
        draft.facts.attempt.as_ref().is_some_and(|a| a.vmm_id == Some(new.id));
    let first_ran = new.ever_ran && !old.ever_ran;
    // One that runs is what every attempt is for, also one that was opened
    // since this VMM's own was given up.
    if first_ran && (its_own || !new.ended()) {
        draft.attempt_started();
        if !draft.rest_with(new) {
            draft.unsettle();
        }
    } else if old.boot_deadline.is_none() && boots(new) {
        draft.rest_with(new);
    } else if its_own && let Some(failure) = failed_boot(new) {
        draft.fail_attempt(&failure, None);
    }
    if new.ended() {
        draft.unsettle();
    }
}

/// Has its sled taken the order to run it, and does it not run yet?
fn boots(vmm: &Vmm) -> bool {
    vmm.boot_deadline.is_some() && !vmm.ever_ran && !vmm.ended()
}

/// Why a VMM that ended without having run failed its attempt. `None`: it did
/// not; whoever unregistered it says why, though the sled's own report of that
/// may come first.
fn failed_boot(vmm: &Vmm) -> Option<StartFailure> {
    let reason = vmm.end_reason?;
    let sentence = vmm.failure_reason.as_deref().unwrap_or(reason.sentence());
    match reason {
        VmmEndReason::Unwound | VmmEndReason::Requested => None,
        VmmEndReason::Fenced => Some(StartFailure {
            kind: StartFailureKind::HostUnreachable,
            message: format!(
                "The guest had not started when its host was lost: {sentence}"
            ),
            transient: true,
            details: StartFailureDetails::None,
        }),
        VmmEndReason::BootFailed
        | VmmEndReason::Panic
        | VmmEndReason::HypervisorDied
        | VmmEndReason::Gone
        | VmmEndReason::GuestShutdown => {
            Some(StartFailure::boot_failed(sentence))
        }
    }
}
