//! Instances, made and unmade by sagas as they are.

use db_model::{
    AffinityGroup, AffinityGroupKind, AffinityPolicy, AutoRestartPolicy,
    BlockSize, ByteCount, Disk, DiskId, InstanceId, InstanceView, Joins,
    KeyedRequest, NewAffinityGroup, NewDisk, NewDiskKind, NewInstance,
    NewInstanceDisk, Snapshot, StartAttemptId, VcpuCount, VmmId,
};
use db_queries::{ByNameOrId, Page};
use harness::{AgentSettings, SagaBench, eventually, name};
use nexus::authz::{Action, Granted};
use nexus::saga::instance_create::InstanceCreate;
use nexus::saga::instance_delete::InstanceDelete;
use nexus::saga::instance_start::InstanceStart;
use nexus::saga::instance_update::InstanceUpdate;
use nexus::saga::{
    Saga, instance_create, instance_delete, instance_start, instance_update,
    registry,
};
use nexus::sleds::{reported, unregistered};
use serde_json::json;
use sled_agent_client::VmmState;

/// The size of a sled, and of every instance: two of them do not fit.
pub(crate) const GUEST: AgentSettings = AgentSettings::sized(4, 4);

/// Runs a saga as it is, to its success.
pub(crate) async fn saga<S: Saga>(bench: &SagaBench, params: &S::Params) {
    bench.heartbeat().await;
    bench.executor(registry()).run::<S>(params).await.1.unwrap();
}

/// What makes an instance that is to run, with the disk "made", a distributed
/// one, which is made with it, and the local disk "there", which is there.
pub(crate) async fn to_create(bench: &SagaBench) -> instance_create::Params {
    let (made, there) = (new_disk("made", BLANK), disk_there(bench).await);
    let joins = Joins {
        made: vec![(DiskId::new_v4(), made.clone())],
        attached: vec![there.id],
        ..Joins::default()
    };
    let disks = vec![
        NewInstanceDisk::Create(made),
        NewInstanceDisk::Attach(there.name),
    ];
    instance_create::Params {
        instance_id: InstanceId::new_v4(),
        project_id: bench.project,
        granted: granted(bench, Action::Create),
        new: NewInstance {
            boot_disk: None,
            cpu_platform: None,
            anti_affinity_groups: Vec::new(),
            disks,
            name: name("proof"),
            description: String::new(),
            hostname: "proof".parse().unwrap(),
            ncpus: VcpuCount::new(4),
            memory: ByteCount::from_gib(GUEST.memory_gib),
            user_data: String::new(),
            ssh_public_keys: None,
            network_interfaces: json!({ "type": "none" }),
            auto_restart_policy: Some(AutoRestartPolicy::Never),
            start: true,
        },
        joins,
        attempt: Some((StartAttemptId::new_v4(), bench.user)),
        request: Some(KeyedRequest {
            silo_user_id: bench.user,
            key_hash: uuid::Uuid::new_v4().to_string(),
            request_hash: String::new(),
        }),
    }
}

/// What the bench's user is allowed in its project.
pub(crate) fn granted(bench: &SagaBench, action: Action) -> Option<Granted> {
    let (user, silo) = (bench.user, bench.silo);
    Some(Granted { user, silo, project: Some(bench.project), action })
}

/// Makes a group whose members are on different sleds, or do not run.
pub(crate) async fn group(bench: &SagaBench) -> AffinityGroup {
    let new = NewAffinityGroup {
        name: name(&format!("g-{}", uuid::Uuid::new_v4())),
        description: String::new(),
        policy: AffinityPolicy::Fail,
    };
    let kind = AffinityGroupKind::AntiAffinity;
    let made = bench.datastore.affinity_group_create(bench.project, kind, new);
    made.await.unwrap()
}

/// A distributed disk.
pub(crate) const BLANK: NewDiskKind =
    NewDiskKind::Blank { block_size: BlockSize::LOCAL };

fn new_disk(called: &str, kind: NewDiskKind) -> NewDisk {
    NewDisk {
        name: name(called),
        description: String::new(),
        size: ByteCount::GIB,
        kind,
    }
}

/// The disk "there", made if it is not.
async fn disk_there(bench: &SagaBench) -> Disk {
    let there =
        disks(bench).await.into_iter().find(|d| d.name == name("there"));
    match there {
        Some(there) => there,
        None => {
            let new = new_disk("there", NewDiskKind::Local);
            bench.datastore.disk_create(bench.project, new).await.unwrap()
        }
    }
}

/// All disks that are not deleted.
pub(crate) async fn disks(bench: &SagaBench) -> Vec<Disk> {
    let by = ByNameOrId::Name { after: None, descending: false };
    let page = Page { by, limit: 100 };
    bench.datastore.disk_list(bench.project, page).await.unwrap()
}

/// All snapshots that are not deleted.
pub(crate) async fn snapshots(bench: &SagaBench) -> Vec<Snapshot> {
    let by = ByNameOrId::Name { after: None, descending: false };
    let page = Page { by, limit: 100 };
    bench.datastore.snapshot_list(bench.project, page).await.unwrap()
}

/// Deletes all snapshots.
pub(crate) async fn snapshots_deleted(bench: &SagaBench) {
    for snapshot in snapshots(bench).await {
        bench.datastore.snapshot_delete(snapshot.id).await.unwrap();
    }
}

/// Makes an instance that is to run, and has not been started.
pub(crate) async fn created(bench: &SagaBench) -> InstanceId {
    let params = to_create(bench).await;
    saga::<InstanceCreate>(bench, &params).await;
    params.instance_id
}

/// What starts an instance, by its pending attempt.
pub(crate) async fn to_start(
    bench: &SagaBench,
    id: InstanceId,
) -> instance_start::Params {
    let instance = view(bench, id).await.instance;
    instance_start::Params {
        instance_id: id,
        attempt_id: instance.pending_start_attempt_id.unwrap(),
        vmm_id: VmmId::new_v4(),
        hostname: instance.hostname,
        ncpus: instance.ncpus,
        memory: instance.memory_bytes,
    }
}

/// Makes an instance and starts it; it and its VMM, which is known to run.
pub(crate) async fn running(bench: &SagaBench) -> (InstanceId, VmmId) {
    let id = created(bench).await;
    let params = to_start(bench, id).await;
    saga::<InstanceStart>(bench, &params).await;
    booted(bench, params.vmm_id).await;
    (id, params.vmm_id)
}

/// Lets guests boot, waits until this one is up, and takes that in.
pub(crate) async fn booted(bench: &SagaBench, vmm: VmmId) {
    bench.agent.hold(json!({ "boot": false })).await;
    heard(bench, vmm, |state| state == VmmState::Running).await;
}

/// Stops an instance, if it runs, and deletes it and all disks.
pub(crate) async fn deleted(bench: &SagaBench, id: InstanceId) {
    bench.datastore.instance_stop(id).await.unwrap();
    if let Some(vmm_id) = view(bench, id).await.instance.active_vmm_id {
        let answer = bench.sled.vmm_unregister(vmm_id.0).await.unwrap();
        bench.observe(vmm_id, unregistered(&answer)).await;
        let sled_id = bench.sled_id();
        let params =
            instance_update::Params { instance_id: id, vmm_id, sled_id };
        saga::<InstanceUpdate>(bench, &params).await;
    }
    bench.datastore.instance_delete(id).await.unwrap();
    let params = instance_delete::Params { instance_id: id };
    saga::<InstanceDelete>(bench, &params).await;
    disks_deleted(bench).await;
}

/// Deletes all disks.
pub(crate) async fn disks_deleted(bench: &SagaBench) {
    for disk in disks(bench).await {
        bench.datastore.disk_delete(disk.id).await.unwrap();
    }
}

/// Waits until the sled says of a VMM what `so` holds of, and takes that in.
pub(crate) async fn heard(
    bench: &SagaBench,
    vmm: VmmId,
    so: impl Fn(VmmState) -> bool,
) {
    let report = eventually("the sled says so", async || {
        let report = bench.sled.vmm_view(vmm.0).await.unwrap();
        so(report.state).then_some(report)
    })
    .await;
    bench.observe(vmm, reported(&report)).await;
}

/// An instance, deleted or not.
pub(crate) async fn view(bench: &SagaBench, id: InstanceId) -> InstanceView {
    bench.datastore.instance_view(id).await.unwrap()
}
