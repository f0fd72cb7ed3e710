//! The two HTTP APIs: they translate between the wire and `app`, and decide
//! nothing.
//!
//! [`api`] is all that users may ask, [`internal_api`] all that sleds may
//! tell; the handlers are beside them, one noun a file.

pub mod api;
mod error;
pub mod internal_api;
mod openapi;
pub mod pagination;
pub mod types;

pub use openapi::{external_openapi, internal_openapi};
