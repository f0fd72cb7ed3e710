//! Everything that the API's document allows, and much that it does not, from a
//! generator that knows only the document: nothing that it sends is answered
//! with an error of ours, or in a way that the document does not say.

use harness::{Client, TestNexus};
use serde_json::json;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// How many requests are made up for each operation, besides those at the edges
/// of what the document allows. More, as `NEXUS_TEST_SCHEMATHESIS_EXAMPLES=200`
/// has it, are for a person's patience.
const EXAMPLES: &str = "4";

/// What takes away the caller's own rights, of which the rest is then refused.
const FAREWELLS: [&str; 9] = [
    "current_user_access_token_delete",
    "local_idp_user_delete",
    "local_idp_user_set_password",
    "logout",
    "policy_update",
    "silo_delete",
    "silo_policy_update",
    "system_policy_update",
    "user_logout",
];

const CHECKS: &str = "not_a_server_error,status_code_conformance,\
    content_type_conformance,response_headers_conformance,\
    response_schema_conformance";

#[tokio::test]
#[expect(clippy::print_stderr, reason = "who skips a test must say so")]
async fn nothing_that_is_sent_is_answered_outside_the_document() {
    let venv = match python().await {
        Ok(venv) => venv,
        Err(why) => {
            eprintln!("skipped: {why}");
            return;
        }
    };
    let nexus = TestNexus::start().await;
    nexus.running("db", json!({})).await;
    nexus.create("rests", false).await;
    nexus.create_disk("data").await;
    let document: serde_json::Value =
        serde_json::from_str(include_str!("../../nexus/openapi.json")).unwrap();
    let text = document.to_string();
    for id in FAREWELLS {
        assert!(text.contains(&format!("\"{id}\"")), "no operation {id}");
    }
    // First what leaves the caller its rights, then the rest by another.
    let of_all = |flag: &str| -> Vec<String> {
        FAREWELLS
            .iter()
            .map(|id| format!("--{flag}-operation-id={id}"))
            .collect()
    };
    let first = generated(&venv, &nexus, &of_all("exclude")).await;
    let other = nexus.process.bootstrap("main", "other", true).await;
    let other = nexus.with_token(&other.0);
    let second = generated(&venv, &other, &of_all("include")).await;
    eprintln!("{first}\n{second}");
}

/// Runs the generator as this user; what it says at the end.
async fn generated(venv: &Path, user: &Client, which: &[String]) -> String {
    let examples = std::env::var("NEXUS_TEST_SCHEMATHESIS_EXAMPLES");
    let examples = examples.unwrap_or_else(|_| EXAMPLES.to_string());
    let output = Command::new(venv.join("bin/schemathesis"))
        .arg("--config-file")
        .arg(here("schemathesis/schemathesis.toml"))
        .arg("run")
        .arg(here("../nexus/openapi.json"))
        .args(["--url", user.url()])
        .args(["--header", &format!("Authorization: Bearer {}", user.token())])
        .args(["--phases", "coverage,fuzzing", "--max-examples", &examples])
        .args(["--checks", CHECKS, "--seed", "1"])
        .args(["--continue-on-failure", "--no-color", "--warnings", "off"])
        .args(["--generation-database", "none", "--request-timeout", "100"])
        .args(which)
        .current_dir(venv)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let erred = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{erred}");
    let summary = said.find("SUMMARY").map_or("", |at| &said[at..]);
    assert!(!summary.is_empty(), "{said}\n{erred}");
    summary.to_string()
}

fn here(path: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.join(path)
}

/// A Python that has the generator, of the versions in `requirements.txt`.
async fn python() -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemathesis");
    let made =
        Command::new("python3").args(["-m", "venv"]).arg(&dir).output().await;
    if !made.is_ok_and(|output| output.status.success()) {
        return Err("there is no `python3` with venv here".to_string());
    }
    let pip = Command::new(dir.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(here("schemathesis/requirements.txt"))
        .output()
        .await
        .unwrap();
    let erred = String::from_utf8_lossy(&pip.stderr);
    assert!(pip.status.success(), "pip cannot bring schemathesis: {erred}");
    Ok(dir)
}
