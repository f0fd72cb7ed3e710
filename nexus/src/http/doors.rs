//! Ways to what is private here, for those who try it with everything (`fuzz/`).
//! Nothing in the product goes through them.

use http::HeaderMap;

use super::{credentials, idempotency};

/// The secret of a console session in these headers.
pub fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    credentials::session_cookie(headers)
}

/// The token in these headers.
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    credentials::bearer_token(headers).ok()
}

/// What a body says, in the one way to write it.
pub fn canonical(body: &[u8]) -> Option<String> {
    idempotency::canonical(body)
}
