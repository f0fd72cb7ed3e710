//! The Nexus processes: configuration, first set-up, launch.

use crate::failure::{Context, Failure, Result};
use crate::home::Home;
use crate::log::Log;
use crate::ports::Ports;
use crate::process::{Launch, Process};
use crate::say::say;
use camino::Utf8Path;
use rustix::process::Signal;
use serde::Deserialize;
use std::process::{Command, Stdio};
use std::time::Duration;

/// It ends its requests first; sagas go on at the next start.
const STOP: &[(Signal, Duration)] = &[(Signal::TERM, Duration::from_secs(20))];

/// What `nexus init` prints.
#[derive(Deserialize)]
struct FirstAdmin {
    token: String,
    password: String,
}

/// What `nexus-admin user issue-token` prints.
#[derive(Deserialize)]
struct IssuedToken {
    token: String,
}

pub(crate) fn process(home: &Home, i: u16) -> Process {
    Process {
        name: format!("Nexus {i}"),
        program: "nexus",
        marker: vec![
            String::from("run"),
            String::from("--config"),
            home.nexus_config(i).into(),
        ],
        log: home.log(&format!("nexus-{i}")),
        account: None,
        stop: STOP,
    }
}

pub(crate) fn launch(home: &Home, i: u16, bin_dir: &Utf8Path) -> Launch {
    let process = process(home, i);
    let args = process.marker.clone();
    Launch { process, program: bin_dir.join("nexus"), args }
}

pub(crate) fn api(ports: Ports, i: u16) -> String {
    format!("http://127.0.0.1:{}", ports.nexus_external(i))
}

pub(crate) fn write_config(
    home: &Home,
    ports: Ports,
    i: u16,
    database_url: &str,
) -> Result<()> {
    let text = config(ports, i, database_url, home)?;
    crate::secret::write_private(&home.nexus_config(i), &text)
}

fn config(
    ports: Ports,
    i: u16,
    database_url: &str,
    home: &Home,
) -> Result<String> {
    let mut text = String::from(
        "# Written by `cargo xtask up` each time it starts this Nexus.\n",
    );
    for (key, value) in [
        ("database_url", database_url),
        ("external_address", &address(ports.nexus_external(i))),
        ("internal_address", &address(ports.nexus_internal(i))),
        ("join_address", &address(ports.nexus_join(i))),
        ("sled_secret_file", home.sled_secret().as_str()),
        ("pki_dir", home.pki().as_str()),
    ] {
        // A JSON string is a TOML string.
        let value = serde_json::to_string(value)
            .context(|| format!("cannot write {key}"))?;
        text.push_str(&format!("{key} = {value}\n"));
    }
    Ok(text)
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The fleet's CA is made once, and kept.
pub(crate) fn make_ca(home: &Home, bin_dir: &Utf8Path) -> Result<()> {
    if home.ca().exists() {
        return Ok(());
    }
    let mut command = init(home, bin_dir);
    command.arg("--ca-only");
    let log = Log::attach_stderr(&home.log("init"), &mut command)?;
    let status = command.status().context(|| "cannot run nexus init")?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!(
            "nexus init failed ({status}):\n{}",
            log.last_words()
        ))),
    }
}

fn init(home: &Home, bin_dir: &Utf8Path) -> Command {
    let mut command = Command::new(bin_dir.join("nexus"));
    command
        .args(["init", "--config", home.nexus_config(0).as_str()])
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

/// The token of the admin user, who is made once; its password is kept beside
/// it.
pub(crate) fn token(home: &Home, bin_dir: &Utf8Path) -> Result<String> {
    let path = home.token();
    if let Ok(token) = std::fs::read_to_string(&path) {
        return Ok(token.trim().to_owned());
    }
    say("Setting up the database, the silo and its admin user");
    let mut command = init(home, bin_dir);
    let log = Log::attach_stderr(&home.log("init"), &mut command)?;
    let output = command.output().context(|| "cannot run nexus init")?;
    if !output.status.success() {
        // It may have been done before, and what it said not have been kept.
        if let Some(token) = issue_token(home, bin_dir) {
            crate::secret::write_private(&path, &token)?;
            return Ok(token);
        }
        return Err(Failure::new(format!(
            "nexus init failed ({}):\n{}",
            output.status,
            log.last_words()
        )));
    }
    let made: FirstAdmin = serde_json::from_slice(&output.stdout)
        .context(|| "nexus init did not print what is expected")?;
    crate::secret::write_private(&home.password(), &made.password)?;
    crate::secret::write_private(&path, &made.token)?;
    Ok(made.token)
}

/// Another token of the admin user, if there is one.
fn issue_token(home: &Home, bin_dir: &Utf8Path) -> Option<String> {
    let output = Command::new(bin_dir.join("nexus-admin"))
        .args(["--config", home.nexus_config(0).as_str(), "--json"])
        .args(["user", "issue-token", "main", "admin"])
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let issued: IssuedToken = serde_json::from_slice(&output.stdout).ok()?;
    Some(issued.token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_whatever_the_path_holds() {
        let ports = Ports::new(12220, 3).unwrap();
        let home = Home::at(Utf8Path::new("/tmp/a \"b\"\\c"));
        let text = config(ports, 0, "postgresql://u:p@h:1/d", &home).unwrap();
        let expected = r#"# Written by `cargo xtask up` each time it starts this Nexus.
database_url = "postgresql://u:p@h:1/d"
external_address = "127.0.0.1:12220"
internal_address = "127.0.0.1:12221"
join_address = "127.0.0.1:12223"
sled_secret_file = "/tmp/a \"b\"\\c/sled-secret"
pki_dir = "/tmp/a \"b\"\\c/pki"
"#;
        assert_eq!(text, expected);
    }
}
