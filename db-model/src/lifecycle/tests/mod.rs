//! The lifecycle as tables: what each transition does in each situation that
//! an instance can be in. And as a random walk ([`walk`]): whatever order
//! transitions come in, what must always hold, holds.

mod reports;
mod requests;
mod situations;
mod steps;
mod walk;
mod world;

use super::{Changes, Refusal};
use situations::Situation;
use std::collections::BTreeMap;
use world::World;

/// Holds a transition against its whole table. Each row names situations and
/// says in words what the transition does there; every situation that no row
/// names is `otherwise`.
#[track_caller]
fn table<R: Outcome>(
    transition: impl Fn(&World) -> R,
    otherwise: &str,
    rows: &[(&[Situation], &str)],
) {
    let mut expected = BTreeMap::new();
    for (situations, text) in rows {
        for situation in *situations {
            let twice = expected.insert(*situation, (*text).to_string());
            assert_eq!(twice, None, "{situation:?} has two rows");
        }
    }
    let mut wrong = Vec::new();
    for situation in Situation::ALL {
        let before = situation.world();
        let text = match transition(&before).outcome() {
            Err(refusal) => format!("refused: {refusal}"),
            Ok(changes) => {
                let mut after = before.clone();
                after.apply(&changes);
                world::check_step(&before, &after, &changes);
                before.describe(&changes)
            }
        };
        let expected =
            expected.get(situation).map_or(otherwise, String::as_str);
        if text != expected {
            wrong.push(format!(
                "{situation:?}\n     is: {text}\n not as: {expected}"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What a transition answers with: some cannot be refused.
trait Outcome {
    fn outcome(self) -> Result<Changes, Refusal>;
}

impl Outcome for Changes {
    fn outcome(self) -> Result<Changes, Refusal> {
        Ok(self)
    }
}

impl Outcome for Result<Changes, Refusal> {
    fn outcome(self) -> Result<Changes, Refusal> {
        self
    }
}
