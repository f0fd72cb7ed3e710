//! Oxide's TypeScript SDK, unmodified, in Node: docs/oxide-api.md, which is made
//! of what went over the wire.

use harness::TestNexus;
use std::path::{Path, PathBuf};
use tokio::process::Command;

const HEAD: &str = "\
# An instance's life by `@oxide/api`

What Oxide's TypeScript SDK, unmodified, asks of a running Nexus from the first \
request to the last, and with which status each is answered. It is made by \
`tests/oxide-api/lifecycle.mjs`, and a test compares the two \
(`tests/integration/oxide_api.rs`). Left out are the requests that only wait, \
with `wait_for_change`; for ids stands `{id}`.

```text
";

#[tokio::test]
#[expect(clippy::print_stderr, reason = "who skips a test must say so")]
async fn an_instance_lives_and_dies_by_oxide_s_typescript_sdk() {
    for program in ["node", "npm"] {
        let there = Command::new(program).arg("--version").output().await;
        if !there.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: there is no `{program}` here");
            return;
        }
    }
    let dir = sdk().await;
    let nexus = TestNexus::start().await;
    let output = Command::new("node")
        .arg("lifecycle.mjs")
        .current_dir(&dir)
        .env("OXIDE_HOST", format!("http://{}", nexus.process.external()))
        .env("OXIDE_TOKEN", nexus.token())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let erred = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{erred}");
    let mut text = HEAD.to_string();
    for line in said.lines().filter(|l| !l.contains("wait_for_change")) {
        text.push_str(&without_ids(line));
        text.push('\n');
    }
    text.push_str("```\n");
    let kept = repository().join("docs/oxide-api.md");
    if std::env::var_os("EXPECTORATE").is_some_and(|v| v == "overwrite") {
        std::fs::write(&kept, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&kept).unwrap_or_default(),
        text,
        "docs/oxide-api.md says something else; if the answers are right: \
         EXPECTORATE=overwrite cargo xtask test oxide_s_typescript"
    );
}

fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.ancestors().find(|dir| dir.join("docs").is_dir()).unwrap()
}

/// The script, with the SDK of the lock file beside it, where cargo keeps what
/// tests make.
async fn sdk() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oxide-api");
    std::fs::create_dir_all(&dir).unwrap();
    for file in ["package.json", "package-lock.json", "lifecycle.mjs"] {
        let from = repository().join("tests/oxide-api").join(file);
        std::fs::copy(from, dir.join(file)).unwrap();
    }
    let npm = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(&dir)
        .output()
        .await
        .unwrap();
    let erred = String::from_utf8_lossy(&npm.stderr);
    assert!(npm.status.success(), "npm cannot bring the SDK: {erred}");
    dir
}

/// The line, with `{id}` for each of its UUIDs.
fn without_ids(line: &str) -> String {
    let mut words = Vec::new();
    for word in line.split('/') {
        let (id, rest) = word.split_at(word.len().min(36));
        let is_id = uuid::Uuid::try_parse(id).is_ok();
        words.push(match is_id {
            true => format!("{{id}}{rest}"),
            false => word.to_string(),
        });
    }
    words.join("/")
}
