//! The headers by which a caller says who it is. What is found in them is a part
//! of them.
#![no_main]

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use nexus::http::doors;

fuzz_target!(|said: (Vec<&[u8]>, Vec<&[u8]>)| {
    let mut headers = HeaderMap::new();
    let (cookies, authorizations) = said;
    for (name, values) in [(COOKIE, cookies), (AUTHORIZATION, authorizations)] {
        for value in values {
            let Ok(value) = HeaderValue::from_bytes(value) else { continue };
            headers.append(name.clone(), value);
        }
    }
    if let Some(session) = doors::session_cookie(&headers) {
        assert!(!session.is_empty() && !session.contains(';'));
    }
    if let Some(token) = doors::bearer_token(&headers) {
        assert_eq!(token.trim(), token);
    }
});
