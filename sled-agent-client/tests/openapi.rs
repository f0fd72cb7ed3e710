//! The sled's API is what `openapi.json` says; a change of either shows.
//!
//! `EXPECTORATE=overwrite cargo nextest run -p sled-agent-client` rewrites the
//! file.

#[test]
fn the_api_is_the_documented_one() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let document = sled_agent_client::openapi().unwrap();
    let text =
        format!("{}\n", serde_json::to_string_pretty(&document).unwrap());
    if std::env::var("EXPECTORATE").as_deref() == Ok("overwrite") {
        std::fs::write(golden, &text).unwrap();
    }
    let documented = std::fs::read_to_string(golden).unwrap_or_default();
    assert!(
        documented == text,
        "openapi.json differs from the API; if the change is meant, run this \
         test with EXPECTORATE=overwrite and look at the diff"
    );
}
