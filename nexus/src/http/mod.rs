//! The two HTTP APIs: they translate between the wire and `app`, and decide
//! nothing.
//!
//! [`api`] is all that users may ask, [`internal_api`] all that sleds may
//! tell, [`join_api`] what they ask before that. [`ExternalApiImpl`] and [`InternalApiImpl`] lead to the handlers, one
//! noun a file.

mod admission;
mod affinity_group;
pub mod api;
mod audit;
mod audit_log;
mod body;
mod credentials;
mod device;
mod disk;
mod disk_import;
pub mod doors;
mod error;
mod external;
pub mod extract;
mod front;
mod group;
mod handler;
pub mod idempotency;
mod image;
mod instance;
mod internal;
pub mod internal_api;
pub mod join_api;
mod measurement;
mod networking;
mod nothing;
mod openapi;
mod origin;
mod pages;
pub mod pagination;
mod ping;
mod placement;
mod policy;
mod project;
mod rack;
mod rate;
mod serial_console;
mod session;
mod silo;
mod silo_quota;
mod sled;
mod snapshot;
mod source;
mod ssh_key;
mod start_attempt;
pub mod types;
mod unserved;
mod until;
mod user;
mod withheld;

pub use admission::Admission;
pub use audit::Audit;
pub use external::ExternalApiImpl;
pub use front::front;
pub use handler::ApiContext;
pub use internal::InternalApiImpl;
pub use join_api::JoinApiImpl;
pub use openapi::{external_openapi, internal_openapi, join_openapi};
pub use rate::Rates;
pub use source::Sources;
pub use unserved::external_api;
