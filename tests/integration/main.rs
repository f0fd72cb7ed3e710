//! The tests that go through the front door: HTTP, a real database, real
//! agent processes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

mod access;
mod auto_restart;
mod expunge;
mod guest;
mod instance_api;
mod instance_update;
mod instance_walk;
mod pagination;
mod project;
mod recovery;
mod saga_proofs;
mod sled;
mod sled_failure;
mod supersede;
mod unreachable;
