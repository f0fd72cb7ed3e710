//! The sled-agent processes.

use crate::failure::{Context, Failure, Result};
use crate::home::Home;
use crate::ports::Ports;
use crate::process::{Launch, Process};
use crate::settings::Settings;
use camino::Utf8Path;
use rustix::process::Signal;
use serde::Deserialize;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Its VMMs are on disk at any moment, so there is little to do at the end.
const STOP: &[(Signal, Duration)] = &[(Signal::TERM, Duration::from_secs(10))];

/// What stands in a sled's `sled.json`.
#[derive(Deserialize)]
struct Identity {
    sled_id: String,
}

pub(crate) fn process(home: &Home, j: u16) -> Process {
    Process {
        name: format!("sled-agent {j}"),
        program: "sled-agent",
        marker: vec![String::from("--data-dir"), home.sled_data(j).into()],
        log: home.log(&format!("sled-agent-{j}")),
        account: None,
        stop: STOP,
    }
}

pub(crate) fn launch(
    home: &Home,
    settings: &Settings,
    ports: Ports,
    j: u16,
    bin_dir: &Utf8Path,
) -> Launch {
    let process = process(home, j);
    let mut args = process.marker.clone();
    let mut flag = |name: &str, value: String| {
        args.extend([String::from(name), value]);
    };
    flag("--listen", format!("127.0.0.1:{}", ports.sled(j)));
    for i in 0..settings.nexus {
        let port = ports.nexus_internal(i);
        flag("--nexus", format!("https://127.0.0.1:{port}"));
    }
    if must_join(home, j) {
        for i in 0..settings.nexus {
            let port = ports.nexus_join(i);
            flag("--join", format!("https://127.0.0.1:{port}"));
        }
        flag("--join-token-file", home.sled_token(j).into());
        flag("--ca-file", home.ca().into());
    }
    flag("--vcpus", settings.sled_vcpus.to_string());
    flag("--memory-gib", settings.sled_memory_gib.to_string());
    flag("--storage-gib", settings.sled_storage_gib.to_string());
    flag("--disk-store", home.disk_store().into());
    flag("--hypervisor", String::from(settings.hypervisor.name()));
    // Those who try things do not wait a minute for a guest that has no disk, and
    // so nothing that listens to its power button.
    flag("--grace-ms", String::from("10000"));
    // Sleds on one machine have it in common.
    args.push(String::from("--overcommit"));
    let mut flag = |name: &str, value: String| {
        args.extend([String::from(name), value]);
    };
    if settings.test_control {
        let port = ports.sled_test_control(j);
        flag("--test-control", format!("127.0.0.1:{port}"));
    }
    Launch { process, program: bin_dir.join("sled-agent"), args }
}

/// Is it no member of the fleet yet?
pub(crate) fn must_join(home: &Home, j: u16) -> bool {
    !home.sled_data(j).join("membership.json").exists()
}

/// Has it a token to join by, as an operator has it: one for the sled that it
/// was already, if it was one when sleds had no certificates.
pub(crate) fn give_token(
    home: &Home,
    j: u16,
    bin_dir: &Utf8Path,
) -> Result<()> {
    let mut command = Command::new(bin_dir.join("nexus-admin"));
    command
        .args(["--config", home.nexus_config(0).as_str()])
        .args(["sled", "token", "issue"])
        .current_dir("/")
        .stdin(Stdio::null());
    let before = std::fs::read(home.sled_data(j).join("sled.json"));
    if let Ok(before) = before {
        let identity: Identity = serde_json::from_slice(&before)
            .context(|| format!("sled {j} does not know who it is"))?;
        command.args(["--sled", &identity.sled_id]);
    }
    let output = command.output().context(|| "cannot run nexus-admin")?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "sled {j} gets no token to join by:\n{}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    let token = String::from_utf8_lossy(&output.stdout);
    crate::secret::write_private(&home.sled_token(j), token.trim())
}

/// The processes of guests, which outlive their agents. Each ends its QEMU
/// before it ends.
pub(crate) fn guests(home: &Home, sleds: u16) -> Vec<Process> {
    let mut guests = Vec::new();
    for j in 0..sleds {
        let Ok(entries) = home.sled_data(j).join("guests").read_dir_utf8()
        else {
            continue;
        };
        for entry in entries.flatten() {
            let dir = entry.path();
            guests.push(Process {
                name: format!("guest {}", entry.file_name()),
                program: "sled-agent",
                marker: vec![String::from("--dir"), dir.as_str().to_owned()],
                log: dir.join("warden.log"),
                account: None,
                stop: STOP,
            });
        }
    }
    guests
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_control_is_off_unless_asked_for() {
        let dir = std::env::temp_dir();
        let dir = camino::Utf8PathBuf::from_path_buf(dir).unwrap();
        let home = Home::existing(Some(dir)).unwrap();
        let mut settings = Settings::default();
        let ports = settings.ports().unwrap();
        let args = |settings: &Settings| {
            launch(&home, settings, ports, 1, Utf8Path::new("/bin")).args
        };
        assert!(!args(&settings).contains(&String::from("--test-control")));
        settings.test_control = true;
        assert!(args(&settings).ends_with(&[
            String::from("--test-control"),
            String::from("127.0.0.1:12323")
        ]));
    }
}
