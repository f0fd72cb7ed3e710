//! The control plane's server.
//!
//! Four rooms, which call each other in one direction: `http` translates,
//! [`app`] decides, [`saga`] makes it so, and [`background`] makes reality
//! follow the record. [`Server::start`] builds them in a straight line.

pub mod app;
pub mod authz;
pub mod background;
pub mod config;
pub mod consoles;
pub mod context;
pub mod door;
pub mod error;
pub mod external_tls;
pub mod fleet;
pub mod http;
pub mod init;
pub mod lease;
pub mod logging;
pub mod metrics;
pub mod placement;
pub mod saga;
pub mod server;
pub mod sleds;
pub mod web_console;

pub use error::Error;
pub use server::{Server, StartError};
