//! What things are: ids, units, enums, rows, and the pure functions that decide
//! how they change. No I/O, no clock, no HTTP.
//!
//! Read [`lifecycle`] for the heart: every change of an instance, its VMMs and
//! its start attempts is decided there.

#[macro_use]
mod sql_enum;

mod affinity_group;
mod audit_log;
mod block_size;
mod blocks;
mod cpu;
mod device_request;
mod disk;
mod idempotency;
mod ids;
mod image;
mod instance;
mod lease;
pub mod lifecycle;
mod name;
pub mod placement;
mod project;
mod rack;
mod role;
mod run_state;
mod saga;
pub mod schema;
mod silo;
mod sled;
mod sled_join_token;
mod snapshot;
pub mod sql_types;
mod ssh_key;
mod ssh_public_key;
mod start_attempt;
mod units;
mod user_name;
mod vmm;

pub use affinity_group::*;
pub use audit_log::*;
pub use block_size::*;
pub use blocks::*;
pub use cpu::*;
pub use device_request::*;
pub use disk::*;
pub use idempotency::*;
pub use ids::*;
pub use image::*;
pub use instance::*;
pub use lease::*;
pub use name::*;
pub use project::*;
pub use rack::*;
pub use role::*;
pub use run_state::*;
pub use saga::*;
pub use silo::*;
pub use sled::*;
pub use sled_join_token::*;
pub use snapshot::*;
pub use ssh_key::*;
pub use ssh_public_key::*;
pub use start_attempt::*;
pub use units::*;
pub use user_name::*;
pub use vmm::*;
