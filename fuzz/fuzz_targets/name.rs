//! Names, hostnames, and what may be either a name or an id. One that is taken
//! is what it was read from, and is no id.
#![no_main]

use db_model::{Hostname, Name, NameOrId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<Name>() {
        assert_eq!(name.as_str(), text);
        assert!(text.len() <= 63 && text.is_ascii());
        assert!(uuid::Uuid::try_parse(text).is_err(), "{text} is an id");
        assert!(matches!(text.parse(), Ok(NameOrId::Name(_))));
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(serde_json::from_str::<Name>(&json).unwrap(), name);
    }
    if let Ok(hostname) = text.parse::<Hostname>() {
        assert_eq!(hostname.to_string(), text);
    }
    let _ = text.parse::<NameOrId>();
});
