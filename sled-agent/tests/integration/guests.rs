//! Real guests: where they are possible, their disks, what they print, their
//! processes.

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};
use sled_agent_client::{BlocksPlace, VmmDisk};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use uuid::Uuid;

/// Set where tests with real guests must not be left out.
const MUST: &str = "NEXUS_TEST_QEMU";

/// What runs the guests of a test.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Simulated,
    Qemu,
}

impl Kind {
    /// Whether a test can have such guests here. If not, it says so, and is to
    /// be left out; unless it must not be.
    pub(crate) fn is_possible(self) -> bool {
        if self == Kind::Simulated || (runs("qemu-img") && runs(QEMU)) {
            return true;
        }
        let why = format!("{QEMU} and qemu-img are not installed");
        assert!(std::env::var_os(MUST).is_none(), "{MUST} is set, and {why}");
        let name = std::thread::current().name().map(str::to_string);
        // Past the harness, which shows nothing of a test that passes.
        let name = name.unwrap_or_default();
        let said = format!("LEFT OUT {name}: {why}\n");
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        false
    }
}

const QEMU: &str = "qemu-system-x86_64";

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Makes a disk in the store of the agent in `dir`, with this boot sector.
pub(crate) fn disk(dir: &Utf8Path, sector: &[u8]) -> VmmDisk {
    let disk = no_disk();
    let store = dir.join("store");
    std::fs::create_dir_all(&store).unwrap();
    let raw = store.join(format!("{}.raw", disk.blocks_id));
    let file = std::fs::File::create(&raw).unwrap();
    file.set_len(disk.size_bytes).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, sector, 0).unwrap();
    let convert = ["convert", "-f", "raw", "-O", "qcow2"];
    let mut command = Command::new("qemu-img");
    command.args(convert).args([&raw, &image(dir, &disk)]);
    assert!(command.status().unwrap().success());
    std::fs::remove_file(raw).unwrap();
    to_be_written(&image(dir, &disk));
    disk
}

/// Gives a file the mode of blocks that a guest may write.
fn to_be_written(file: &Utf8Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
    std::fs::set_permissions(file, mode).unwrap();
}

/// The file of a disk.
pub(crate) fn image(dir: &Utf8Path, disk: &VmmDisk) -> Utf8PathBuf {
    let place = match disk.place {
        BlocksPlace::Store => "store",
        BlocksPlace::Local => "local",
    };
    dir.join(place).join(format!("{}.qcow2", disk.blocks_id))
}

/// Makes a disk whose file names that of another as what is behind it.
pub(crate) fn disk_on(dir: &Utf8Path, behind: &VmmDisk) -> VmmDisk {
    let disk = no_disk();
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
    command.args([image(dir, behind), image(dir, &disk)]);
    assert!(command.status().unwrap().success());
    to_be_written(&image(dir, &disk));
    disk
}

/// A disk that nobody made.
pub(crate) fn no_disk() -> VmmDisk {
    VmmDisk {
        blocks_id: Uuid::new_v4(),
        place: BlocksPlace::Store,
        size_bytes: 1 << 20,
        read_only: false,
        allocate: false,
    }
}

/// What a guest has printed. The file has more than that in it, and a test
/// looks for words.
pub(crate) fn printed(dir: &Utf8Path, vmm_id: Uuid) -> String {
    let ring = dir.join("consoles").join(format!("{vmm_id}.ring"));
    let printed = std::fs::read(ring).unwrap_or_default();
    String::from_utf8_lossy(&printed).into_owned()
}

/// The QEMUs of this VMM.
pub(crate) fn qemus(vmm_id: Uuid) -> Vec<Pid> {
    let name = format!("{vmm_id},debug-threads=on");
    processes(|args| args.contains(&name.as_str()) && !args.contains(&"launch"))
}

/// The warden of this VMM.
pub(crate) fn warden(dir: &Utf8Path, vmm_id: Uuid) -> Vec<Pid> {
    let guest = dir.join("guests").join(vmm_id.to_string());
    processes(|args| args.contains(&"warden") && args.contains(&guest.as_str()))
}

/// The wardens of the agent in this directory.
pub(crate) fn wardens(dir: &Utf8Path) -> Vec<Pid> {
    let guests = dir.join("guests");
    processes(|args| {
        args.contains(&"warden")
            && args.iter().any(|arg| arg.starts_with(guests.as_str()))
    })
}

pub(crate) fn kill(processes: &[Pid]) {
    send(processes, Signal::KILL);
}

/// Has wardens end, and leave nothing.
pub(crate) fn end(wardens: &[Pid]) {
    send(wardens, Signal::TERM);
}

fn send(processes: &[Pid], signal: Signal) {
    for process in processes {
        // It may have ended by itself.
        let _ = kill_process(*process, signal);
    }
}

/// Types at a guest's console, with no agent.
pub(crate) fn type_in(dir: &Utf8Path, vmm_id: Uuid, text: &str) {
    let guest = dir.join("guests").join(vmm_id.to_string());
    let mut input = UnixStream::connect(guest.join("input.sock")).unwrap();
    input.write_all(text.as_bytes()).unwrap();
}

/// With what arguments a process was started.
pub(crate) fn arguments(process: Pid) -> Vec<String> {
    let pid = process.as_raw_pid();
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
    let line = line.unwrap();
    line.split_terminator('\0').map(str::to_string).collect()
}

/// What the kernel says of a process under this key.
pub(crate) fn status(process: Pid, key: &str) -> String {
    let pid = process.as_raw_pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.unwrap();
    let mut lines = status.lines().filter_map(|line| line.split_once(":\t"));
    lines.find(|(its, _)| *its == key).unwrap().1.to_string()
}

/// The groups that hold a guest, where there are any.
pub(crate) fn cgroups(vmm_id: Uuid) -> Vec<Utf8PathBuf> {
    let groups = ["", "cpu", "memory"].map(|part| {
        Utf8Path::new("/sys/fs/cgroup")
            .join(part)
            .join("nexus-guests")
            .join(vmm_id.to_string())
    });
    groups.into_iter().filter(|group| group.is_dir()).collect()
}

/// The processes, alive, whose arguments are so.
fn processes(are_so: impl Fn(&[&str]) -> bool) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Of one that is gone or a zombie nothing is left to read.
        let line = std::fs::read(format!("/proc/{pid}/cmdline"));
        let line =
            String::from_utf8_lossy(&line.unwrap_or_default()).into_owned();
        let args: Vec<&str> = line.split_terminator('\0').collect();
        if are_so(&args) {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}
