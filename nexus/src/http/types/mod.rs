//! What goes over the wire: parameters, bodies and views, one noun a file.
//!
//! A type of `db_model` that users read as it is stands here unchanged.

mod affinity_group;
mod description;
mod disk;
mod group;
mod idempotency;
mod instance;
mod instance_create;
mod instance_update;
mod measurement;
mod network_interfaces;
mod networking;
mod nullable;
mod ping;
mod placement;
mod project;
mod rack;
mod silo_quota;
mod sled;
mod start_attempt;
mod start_failure;
mod user;

pub use affinity_group::*;
pub use disk::*;
pub use group::*;
pub use idempotency::*;
pub use instance::*;
pub use instance_create::*;
pub use instance_update::*;
pub use measurement::*;
pub use network_interfaces::*;
pub use networking::*;
pub use nullable::*;
pub use ping::*;
pub use placement::*;
pub use project::*;
pub use rack::*;
pub use silo_quota::*;
pub use sled::*;
pub use start_attempt::*;
pub use start_failure::*;
pub use user::*;
