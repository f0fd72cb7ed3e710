//! What goes on by itself: makes reality follow the record.
//!
//! A task takes no input: it reads what there is to do from the database. It is
//! woken when there may be something ([`Activators`]), and polls in case nobody
//! woke it. It repeats nothing by itself: the next activation is the retry.
//!
//! - [`reconciler`]: brings each unsettled instance nearer to its intent;
//! - [`watcher`]: asks each sled for all its VMMs;
//! - [`silence`]: for how long it has listened to sleds that say nothing;
//! - [`reaper`]: has sleds be rid of blocks that nothing has any more;
//! - [`retention`]: forgets what is older than its time;
//! - [`unanswered`]: completes the audit log where nobody did;
//! - [`recovery`]: takes over sagas that nobody runs.

mod activators;
pub mod certificates;
mod driver;
pub mod plan;
pub mod reaper;
pub mod reconciler;
pub mod recovery;
pub mod retention;
pub mod silence;
pub mod unanswered;
pub mod watcher;

pub use activators::Activators;
pub use driver::{Task, spawn};
