//! The head of a request: its version, method, path and headers. What is refused
//! is refused as 4xx, with a code.
#![no_main]

use dropshot::{Body, VersionPolicy};
use http::{HeaderName, HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static FRONT: OnceLock<VersionPolicy> = OnceLock::new();

fuzz_target!(|head: (&str, &str, Vec<(&str, &[u8])>)| {
    let (method, uri, headers) = head;
    let Ok(method) = method.parse::<http::Method>() else { return };
    let Ok(uri) = uri.parse::<http::Uri>() else { return };
    let mut request =
        Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
    for (name, value) in headers {
        // Mostly the header that is looked at here.
        let name = if name.is_empty() { "api-version" } else { name };
        let Ok(name) = name.parse::<HeaderName>() else { continue };
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        request.headers_mut().append(name, value);
    }
    let limits = nexus::config::Limits::default();
    let front = FRONT.get_or_init(|| {
        let peers = nexus::door::Peers::new(limits, &[]);
        nexus::http::front(&limits, peers).unwrap()
    });
    let VersionPolicy::Dynamic(front) = front else { unreachable!() };
    let log = slog::Logger::root(slog::Discard, slog::o!());
    if let Err(refusal) = front.request_extract_version(&request, &log) {
        assert!(refusal.status_code.as_status().is_client_error());
        assert!(refusal.error_code.is_some());
    }
});
