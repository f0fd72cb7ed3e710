//! Whether KVM works: by a guest that runs on it.

use super::account::{Account, KVM};
use super::launch;
use super::plan::Accelerator;
use camino::Utf8Path;
use slog::{Logger, info, warn};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};
use std::time::Duration;

/// How long the guest may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The port of a device that has QEMU exit with twice what is written there,
/// and one.
const DEVICE: &str = "isa-debug-exit,iobase=0xf4,iosize=1";

/// `mov al, 0x10; out 0xf4, al; hlt`
const BOOT_CODE: [u8; 5] = [0xb0, 0x10, 0xe6, 0xf4, 0xf4];
const EXIT_CODE: i32 = 0x21;

/// Why nothing can be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error(
        "cannot run `{qemu}`; install QEMU (on Debian: qemu-system-x86), or \
         name it by --qemu"
    )]
    NoQemu {
        qemu: String,
        #[source]
        source: io::Error,
    },
    #[error("`{qemu} --version` ended with {status}")]
    BadQemu { qemu: String, status: std::process::ExitStatus },
    #[error("the probe for KVM cannot be prepared")]
    Prepare(#[source] io::Error),
}

/// Finds out what guests are to run on. `scratch` is a file that may be made,
/// and is removed.
///
/// *Errors*: there is no QEMU that runs at all.
pub(super) async fn accelerator(
    qemu: &str,
    account: Option<&Account>,
    scratch: &Utf8Path,
    log: &Logger,
) -> Result<Accelerator, ProbeError> {
    let mut version = tokio::process::Command::new(qemu);
    let version = version.arg("--version").stdin(Stdio::null()).output().await;
    let version = version.map_err(|source| ProbeError::NoQemu {
        qemu: qemu.to_string(),
        source,
    })?;
    if !version.status.success() {
        let (qemu, status) = (qemu.to_string(), version.status);
        return Err(ProbeError::BadQemu { qemu, status });
    }
    let version = String::from_utf8_lossy(&version.stdout);
    let version = version.lines().next().unwrap_or_default();
    if !Utf8Path::new(KVM).exists() {
        info!(log, "guests are emulated: there is no KVM"; "qemu" => version);
        return Ok(Accelerator::Tcg);
    }
    let tried = try_kvm(qemu, account, scratch).await;
    let _ = std::fs::remove_file(scratch);
    match tried.map_err(ProbeError::Prepare)? {
        Ok(()) => {
            info!(log, "guests run on KVM"; "qemu" => version);
            Ok(Accelerator::Kvm)
        }
        Err(why) => {
            warn!(log, "guests are emulated: KVM does not work";
                "qemu" => version, "why" => why);
            Ok(Accelerator::Tcg)
        }
    }
}

/// Runs a guest on KVM; what speaks against KVM if it does not do as it is to.
async fn try_kvm(
    qemu: &str,
    account: Option<&Account>,
    scratch: &Utf8Path,
) -> io::Result<Result<(), String>> {
    let mut command = launch::command(account, &[], qemu);
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-machine", "q35", "-accel", "kvm", "-cpu", "host"])
        .args(["-m", "64", "-no-reboot", "-device", DEVICE])
        // By the open file: QEMU may not see where it lies.
        .args(["-drive", "file=/dev/stdin,format=raw,if=virtio,read-only=on"])
        .current_dir("/")
        .stdin(boot_disk(scratch)?);
    let mut command = tokio::process::Command::from(command);
    let output = command.kill_on_drop(true).output();
    Ok(match tokio::time::timeout(PATIENCE, output).await {
        Err(_) => Err("the guest does not run".to_string()),
        Ok(output) => judge(&output?),
    })
}

fn judge(output: &Output) -> Result<(), String> {
    if output.status.code() == Some(EXIT_CODE) {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", output.status, stderr.trim()))
}

fn boot_disk(path: &Utf8Path) -> io::Result<File> {
    let mut sector = [0; 512];
    let (code, _) = sector.split_at_mut(BOOT_CODE.len());
    code.copy_from_slice(&BOOT_CODE);
    let (_, signature) = sector.split_at_mut(510);
    signature.copy_from_slice(&[0x55, 0xaa]);
    let mut file = File::create(path)?;
    file.write_all(&sector)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o444))?;
    File::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_disk_is_one_sector_with_its_signature() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("probe");
        boot_disk(&path).unwrap();
        let sector = std::fs::read(path).unwrap();
        assert_eq!(sector.len(), 512);
        assert_eq!(sector[..5], BOOT_CODE);
        assert_eq!(sector[510..], [0x55, 0xaa]);
    }
}
