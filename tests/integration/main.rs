//! The tests that go through the front door: HTTP, a real database, real
//! agent processes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

mod access;
mod admin;
mod affinity_group;
mod audit_log;
mod auto_restart;
mod constraints;
mod contract;
mod cpu_platform;
mod disk;
mod disk_distributed;
mod disk_import;
mod expunge;
mod external_tls;
mod fencing;
mod guest;
mod idempotency;
mod image;
mod instance_api;
mod instance_update;
mod instance_walk;
mod membership;
mod metrics;
mod nexus_killed;
mod outage;
mod overload;
mod oxide_api;
mod pagination;
mod placement;
mod project;
mod query_plans;
mod real_guest;
mod recovery;
mod retention;
mod saga_proofs;
mod schema;
mod schemathesis;
mod serial_console;
mod session;
mod several_nexuses;
mod silo;
mod silo_quota;
mod sled;
mod sled_failure;
mod snapshot;
mod sql_rules;
mod ssh_key;
mod start_attempt;
mod start_failure;
mod supersede;
mod unreachable;
