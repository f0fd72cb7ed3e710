//! QEMU's command line.

use super::plan::{Accelerator, Disk, Plan};
use serde_json::json;
use sled_agent_client::VmmNetwork;

/// What QEMU may do of what a hypervisor does not need: nothing.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,\
                       resourcecontrol=deny";

/// How much memory the translator may use for what it has translated: within
/// what the cgroup leaves it beside the guest's.
const TRANSLATED_MIB: u32 = 256;

/// Open files that QEMU inherits. It opens none by itself: it is somebody who
/// may not.
pub(super) struct Inherited {
    /// Where its monitor listens.
    pub(super) qmp: i32,
    /// One end of the serial line.
    pub(super) serial: i32,
    /// The disks, as in the plan.
    pub(super) disks: Vec<i32>,
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
    for (number, (disk, fd)) in (1..).zip(disks) {
        for (name, value) in self::disk(number, disk, *fd) {
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

/// A file that is named here as another's backing is not opened: what stands
/// in an image is its user's.
fn disk(number: u32, disk: &Disk, fd: i32) -> [(&'static str, String); 3] {
    let Disk { format, read_only, serial, .. } = disk;
    let mut blocks = json!({
        "driver": format,
        "node-name": format!("disk{number}"),
        "read-only": read_only,
        "discard": "unmap",
        "file": {
            "driver": "file",
            "filename": format!("/dev/fdset/{number}"),
            "locking": "on",
            "discard": "unmap",
        },
    });
    if format == "qcow2"
        && let Some(blocks) = blocks.as_object_mut()
    {
        blocks.insert("backing".to_string(), serde_json::Value::Null);
    }
    [
        ("-add-fd", format!("fd={fd},set={number}")),
        ("-blockdev", blocks.to_string()),
        (
            "-device",
            format!(
                "virtio-blk-pci,drive=disk{number},bootindex={number},\
                 serial={serial},write-cache=on"
            ),
        ),
    ]
}
