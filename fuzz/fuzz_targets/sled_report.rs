//! What a sled says of a VMM, report by report. Nothing that it says makes a VMM
//! go back: no older generation is taken, and none after the end.
#![no_main]

use chrono::{DateTime, TimeDelta, Utc};
use db_model::lifecycle::reports::{Answer, Observation, observe};
use db_model::lifecycle::{Changes, Facts, requests, steps};
use db_model::{
    ByteCount, InstanceId, NewInstance, ProjectId, SagaId, SiloUserId, SledId,
    StartAttemptId, VcpuCount, VmmId,
};
use libfuzzer_sys::fuzz_target;
use sled_agent_client::{VmmReport, VmmUnregistered};

const BOOT_ALLOWANCE: TimeDelta = TimeDelta::minutes(2);

fuzz_target!(|bytes: &[u8]| {
    let mut facts = placed();
    let vmm = VmmId(uuid::Uuid::from_u128(7));
    for line in bytes.split(|byte| *byte == b'\n') {
        let said = if let Ok(report) = serde_json::from_slice::<VmmReport>(line)
        {
            nexus::sleds::reported(&report)
        } else if let Ok(gone) = serde_json::from_slice::<VmmUnregistered>(line)
        {
            nexus::sleds::unregistered(&gone)
        } else {
            match line {
                b"unknown" => Observation::Unknown,
                b"fenced" => Observation::Fenced,
                b"cut off" => Observation::CutOff,
                b"run" => {
                    if let Ok(changes) = steps::allow_to_run(&facts, vmm) {
                        apply(&mut facts, changes);
                    }
                    continue;
                }
                _ => continue,
            }
        };
        let before = facts.vmm(vmm).cloned().unwrap();
        match observe(&facts, vmm, &said, BOOT_ALLOWANCE) {
            Answer::Taken(changes) => {
                assert!(!before.ended(), "{said:?} after the end");
                apply(&mut facts, *changes);
                let after = facts.vmm(vmm).unwrap();
                assert!(after.generation >= before.generation);
                assert!(after.ever_ran || !before.ever_ran);
                assert!(after.may_run || !before.may_run);
                assert!(after.may_run || !after.ever_ran);
            }
            Answer::Stale => (),
            Answer::Ended => assert!(before.ended()),
        }
    }
});

fn apply(facts: &mut Facts, changes: Changes) {
    if let Some(row) = changes.instance {
        facts.instance = row;
    }
    if let Some(row) = changes.attempt {
        facts.attempt = facts.instance.pending_start_attempt_id.map(|_| row);
    }
    for row in changes.vmm.into_iter().chain(changes.new_vmm.map(|new| new.0)) {
        facts.vmms.retain(|vmm| vmm.id != row.id);
        facts.vmms.push(row);
    }
}

/// An instance with a VMM that was just placed.
fn placed() -> Facts {
    let now: DateTime<Utc> = "2026-01-02T03:04:05Z".parse().unwrap();
    let id = uuid::Uuid::from_u128;
    let new = NewInstance {
        boot_disk: None,
        name: "db".parse().unwrap(),
        description: String::new(),
        hostname: "db".parse().unwrap(),
        ncpus: VcpuCount::new(2),
        memory: ByteCount::GIB,
        user_data: String::new(),
        ssh_public_keys: None,
        network_interfaces: serde_json::json!({ "type": "none" }),
        auto_restart_policy: None,
        cpu_platform: None,
        anti_affinity_groups: Vec::new(),
        disks: Vec::new(),
        start: true,
    };
    let attempt_id = StartAttemptId(id(3));
    let (instance, attempt) = requests::create(
        &new,
        InstanceId(id(4)),
        ProjectId(id(5)),
        Some((attempt_id, SiloUserId(id(1)))),
        now,
    );
    let mut facts = Facts { instance, vmms: Vec::new(), attempt, now };
    let changes = steps::created(&facts);
    apply(&mut facts, changes);
    let changes = steps::claim(&facts, attempt_id, SagaId(id(6))).unwrap();
    apply(&mut facts, changes);
    let (vmm, sled) = (VmmId(id(7)), SledId(id(2)));
    let changes = steps::link(&facts, attempt_id, vmm, sled).unwrap();
    apply(&mut facts, changes);
    facts
}
