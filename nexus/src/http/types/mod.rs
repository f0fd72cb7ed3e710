//! What goes over the wire: parameters, bodies and views, one noun a file.
//!
//! A type of `db_model` that users read as it is stands here unchanged.

mod affinity_group;
mod audit_log;
mod description;
mod disk;
mod disk_import;
mod group;
mod idempotency;
mod image;
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
mod serial_console;
mod silo_quota;
mod sled;
mod snapshot;
mod ssh_key;
mod start_attempt;
mod start_failure;
mod user;
mod user_data;

pub use affinity_group::*;
pub use audit_log::*;
pub use disk::*;
pub use disk_import::*;
pub use group::*;
pub use idempotency::*;
pub use image::*;
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
pub use serial_console::*;
pub use silo_quota::*;
pub use sled::*;
pub use snapshot::*;
pub use ssh_key::*;
pub use start_attempt::*;
pub use start_failure::*;
pub use user::*;
