//! What makes a request safe to repeat.

use schemars::JsonSchema;
use serde::Deserialize;

/// The header that makes a request safe to repeat.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct IdempotencyHeaders {
    /// Anything of 1 to 255 bytes that the caller has used for no other
    /// request in the last 24 hours. As long, a repeat of the request with the
    /// same key does nothing, and is answered as the first was; another request
    /// with it is a 409. A refused request changed nothing, and its key is
    /// free.
    #[serde(rename = "idempotency-key")]
    pub idempotency_key: Option<String>,
}
