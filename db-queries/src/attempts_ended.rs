//! Counts the start attempts that end. Where they end is one place
//! ([`crate::lifecycle`]), after whose commit each is counted: by the process
//! that ended it, once. One whose commit got no answer is not.

use db_model::{StartAttempt, StartFailureKind, StartOutcome};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AttemptEnded {
    /// A [`StartOutcome`], but `pending`.
    pub outcome: &'static str,
    /// A [`StartFailureKind`], if it failed; else empty.
    pub kind: &'static str,
}

/// So many attempts ended like this.
pub type AttemptsEnded = Family<AttemptEnded, Counter>;

impl AttemptEnded {
    /// How this attempt ended, if it did.
    pub(crate) fn of(attempt: &StartAttempt) -> Option<AttemptEnded> {
        let kind = attempt.failure_kind.map_or("", StartFailureKind::as_str);
        let outcome = attempt.outcome.as_str();
        (attempt.outcome != StartOutcome::Pending)
            .then_some(AttemptEnded { outcome, kind })
    }
}

/// Zero of each: a counter that appears at 1 shows no increase.
pub(crate) fn none_yet() -> AttemptsEnded {
    let ended = AttemptsEnded::default();
    for outcome in [StartOutcome::Started, StartOutcome::Superseded] {
        let outcome = outcome.as_str();
        drop(ended.get_or_create(&AttemptEnded { outcome, kind: "" }));
    }
    for kind in StartFailureKind::ALL {
        let outcome = StartOutcome::Failed.as_str();
        let kind = kind.as_str();
        drop(ended.get_or_create(&AttemptEnded { outcome, kind }));
    }
    ended
}
