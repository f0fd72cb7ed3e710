//! Dry runs of placement, on the wire.

use db_model::StartFailure;
use schemars::JsonSchema;
use serde::Serialize;

/// Whether an instance would start now, and if not, why.
#[derive(Debug, JsonSchema, Serialize)]
pub struct PlacementCheck {
    /// Is there a place for it at this moment? Nothing is reserved by asking.
    pub would_start: bool,
    /// Why not, as the start would say. Null if there is a place.
    pub failure: Option<StartFailure>,
}
