//! The host's side of Nexus: runs instances as VMMs.
//!
//! ```text
//! Nexus --> http --> agent --> machine            (what may become of a VMM)
//!                     |  ^       store            (written before it is said)
//!                     |  |
//!            keeper --+  +-- events
//!               |            |
//!               `--> hypervisor (simulated, qemu)
//!
//! Nexus --> http --> agent --> blocks --> qemu-img    (what disks are made of)
//!
//! Nexus <-- reports, heartbeat
//! Nexus <-> console <-- what the guests print
//! ```
//!
//! A request is decided, written, answered; the keeper of the VMM then has the
//! hypervisor do what the new state calls for, and takes in what comes of it.
//! Guests run for as long as the [`lease`] holds, which heartbeats renew.
//!
//! An agent may be killed at any moment: its guests run on, and the next one
//! finds them.

mod agent;
mod before;
mod blocks;
mod capacity;
pub mod config;
mod console;
mod counters;
mod cpu;
mod faults;
mod files;
mod heartbeat;
mod http;
mod hypervisor;
pub mod lease;
mod ledger;
pub mod logger;
mod machine;
mod membership;
mod qemu;
mod reports;
mod runner;
mod seed;
mod server;
mod simulated;
mod slot;
mod store;
mod test_control;
mod vmm;

pub use counters::Counts;
pub use faults::{Effect, Fault, FaultyOperation};
pub use membership::{MEMBERSHIP_FILE, Membership};
pub use qemu::Stage;
pub use server::{Addresses, Server};
pub use simulated::{GuestStep, Hold, Settings};
pub use test_control::GuestStepRequested;
