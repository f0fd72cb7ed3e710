//! The body of a request that may be repeated: what tells whether two are the
//! same is the same for all ways to write it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nexus::http::doors;

fuzz_target!(|body: &[u8]| {
    let Some(canonical) = doors::canonical(body) else {
        assert!(serde_json::from_slice::<serde_json::Value>(body).is_err());
        return;
    };
    assert_eq!(doors::canonical(canonical.as_bytes()), Some(canonical.clone()));
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    let pretty = serde_json::to_vec_pretty(&value).unwrap();
    assert_eq!(doors::canonical(&pretty), Some(canonical));
});
