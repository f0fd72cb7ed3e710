//! QEMU's command line.

use super::plan::{Accelerator, Disk, Plan};
use serde_json::{Map, Value, json};
use sled_agent_client::VmmNetwork;

/// What QEMU may do of what a hypervisor does not need: nothing.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,\
                       resourcecontrol=deny";

/// How much memory the translator may use for what it has translated: within
/// what the cgroup leaves it beside the guest's.
const TRANSLATED_MIB: u32 = 256;

/// From where on the sets of open files are those behind a disk: there are fewer
/// disks.
const BASES: u32 = 100;

/// Open files that QEMU inherits. It opens none by itself: it is somebody who
/// may not.
pub(super) struct Inherited {
    /// Where its monitor listens.
    pub(super) qmp: i32,
    /// One end of the serial line.
    pub(super) serial: i32,
    /// The disks, as in the plan.
    pub(super) disks: Vec<DiskFds>,
}

/// The open files of a disk.
pub(super) struct DiskFds {
    pub(super) file: i32,
    /// What is behind it.
    pub(super) base: Option<i32>,
}

/// The arguments with which QEMU runs the guest of this plan. It stays before
/// the first instruction until it is told to go on.
pub(super) fn arguments(plan: &Plan, inherited: &Inherited) -> Vec<String> {
    let mut args = base();
    let mut add = |name: &str, value: String| {
        args.extend([name.to_string(), value]);
    };
    add("-name", format!("{},debug-threads=on", plan.vmm_id));
    add("-uuid", plan.instance_id.to_string());
    for (name, value) in accelerator(plan.accelerator) {
        add(name, value.to_string());
    }
    add("-smp", format!("cpus={0},sockets=1,cores={0}", plan.vcpus));
    add("-m", format!("size={}B", plan.memory_bytes));
    let qmp = inherited.qmp;
    add("-chardev", format!("socket,id=qmp,fd={qmp},server=on,wait=off"));
    add("-mon", "chardev=qmp,mode=control".to_string());
    add("-chardev", format!("socket,id=serial,fd={}", inherited.serial));
    add("-serial", "chardev:serial".to_string());
    let disks = plan.disks.iter().zip(&inherited.disks);
    for (number, (disk, fds)) in (1..).zip(disks) {
        for (name, value) in self::disk(number, disk, fds) {
            add(name, value);
        }
    }
    match plan.network {
        VmmNetwork::None => {}
        VmmNetwork::User => {
            add("-netdev", "user,id=net0,restrict=off".to_string());
            add("-device", "virtio-net-pci,netdev=net0,romfile=".to_string());
        }
    }
    args
}

/// What all guests have. `q35` without what nobody asked for; the firmware and
/// what comes before a kernel talk on the serial line; a guest that panics or
/// shuts down is kept until an agent has seen it.
fn base() -> Vec<String> {
    let args = [
        "-nodefaults -no-user-config -display none -S -no-shutdown",
        "-machine q35,graphics=off,usb=off,sata=off,smbus=off,vmport=off",
        "-boot strict=on -msg timestamp=on",
        "-action panic=pause -device pvpanic",
        "-device virtio-rng-pci",
        "-sandbox",
    ];
    let args = args.iter().flat_map(|line| line.split(' '));
    args.chain([SANDBOX]).map(str::to_string).collect()
}

fn accelerator(accelerator: Accelerator) -> [(&'static str, String); 2] {
    match accelerator {
        Accelerator::Kvm => {
            [("-accel", "kvm".to_string()), ("-cpu", "host".to_string())]
        }
        Accelerator::Tcg => [
            ("-accel", format!("tcg,tb-size={TRANSLATED_MIB}")),
            ("-cpu", "max".to_string()),
        ],
    }
}

/// What stands in an image is its user's: the file behind it is the one that was
/// opened for it, whatever the image names, or none.
fn disk(
    number: u32,
    disk: &Disk,
    fds: &DiskFds,
) -> Vec<(&'static str, String)> {
    let Disk { format, read_only, serial, .. } = disk;
    let mut args = vec![("-add-fd", format!("fd={},set={number}", fds.file))];
    let mut blocks = file(number, format, *read_only);
    blocks.insert("node-name".into(), format!("disk{number}").into());
    if format == "qcow2" {
        let behind = fds.base.map(|fd| {
            let set = BASES + number;
            args.push(("-add-fd", format!("fd={fd},set={set}")));
            let mut base = file(set, format, true);
            base.insert("backing".into(), Value::Null);
            base
        });
        let behind = behind.map_or(Value::Null, Value::Object);
        blocks.insert("backing".into(), behind);
    }
    args.push(("-blockdev", Value::Object(blocks).to_string()));
    args.push((
        "-device",
        format!(
            "virtio-blk-pci,drive=disk{number},bootindex={number},\
             serial={serial},write-cache=on"
        ),
    ));
    args
}

fn file(set: u32, format: &str, read_only: bool) -> Map<String, Value> {
    let file = json!({
        "driver": "file",
        "filename": format!("/dev/fdset/{set}"),
        "locking": "on",
        "discard": "unmap",
    });
    [
        ("driver", format.into()),
        ("read-only", read_only.into()),
        ("discard", "unmap".into()),
        ("file", file),
    ]
    .map(|(name, value): (&str, Value)| (name.to_string(), value))
    .into_iter()
    .collect()
}
