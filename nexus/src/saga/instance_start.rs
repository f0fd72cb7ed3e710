//! Starts an instance: carries out a start attempt.
//!
//! 1. `claim`: nothing, since the attempt is this saga's from the moment on in
//!    which the saga was written down. Undo: what `place` made is unlinked, and
//!    the attempt, if it is still pending, fails with what the failing node
//!    staged.
//! 2. `will_register`: nothing. Undo: unregister.
//! 3. `place`: a sled is chosen; its room, the VMM's row and the link come
//!    about together.
//! 4. `register`: the sled takes the VMM in, without running it.
//! 5. `run`: the VMM may run, which is stored first; the sled is told, and what it
//!    answers is stored, unless it says more by itself in a moment. If the sled
//!    does not answer, that fails nothing: the boot deadline judges.
//!
//! An effect is undone by a node before it: steno does not undo the node that
//! failed, and that may have had its effect all the same, as a register that
//! timed out. That `will_register` was run is written by the transaction of
//! `place`, so that nothing more need be durable before a sled is asked to take
//! the VMM in: whoever carries the saga on from there runs `place` again, which
//! finds its VMM, and asks again, or undoes.
//!
//! A stop or a delete ends the attempt; each node after the claim then fails.
//! No undo waits for a sled without a bound: a VMM about which nothing definite
//! is heard is abandoned, and the reconciler goes on asking.

use super::asking::{
    pause_between, reach, reach_as_logged, reach_known, reach_lately,
};
use super::{Node, NodeError, Saga, SagaContext, SagaFailure};
use crate::error::chain;
use crate::placement::explained;
use crate::sleds::{Reach, reported, sentence, unregistered};
use db_model::lifecycle::reports::Observation;
use db_model::placement::{Nowhere, choose};
use db_model::{
    BlocksPlace, ByteCount, Disk, Hostname, Instance, InstanceId, SledId,
    StagedFailure, StartAttemptId, StartFailure, VcpuCount, VmmId,
};
use db_queries::{Error, ToRegister};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sled_agent_client::{
    Client, Error as SledError, RefusalCode, RequestedState, VmmDisk,
    VmmNetwork, VmmRegister, VmmState,
};
use slog::info;
use std::time::{Duration, Instant};

/// How often a chosen sled may turn out not to do any more before the start fails
/// for now: each time, somebody else has got the place, so there is progress.
const MAX_PLACEMENTS: u32 = 100;

/// Among how many of the best sleds a start chooses, at first: few starts choose
/// at the same moment.
pub const SPREAD: usize = 4;

/// How often that is doubled for one that lost a race: as far as sleds are read.
const MAX_SCATTER: u32 = 4;

/// How long an order to run that was taken is not written down, since the guest may
/// run by then, and its sled say so: what is written then says both.
const MOMENT: Duration = Duration::from_millis(50);

/// See the module.
pub struct InstanceStart;

/// What is to be started.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Params {
    pub instance_id: InstanceId,
    pub attempt_id: StartAttemptId,
    pub vmm_id: VmmId,
    pub hostname: Hostname,
    pub ncpus: VcpuCount,
    pub memory: ByteCount,
}

impl Params {
    /// To carry out an attempt to start the instance as it is.
    pub fn new(instance: &Instance, attempt_id: StartAttemptId) -> Params {
        Params {
            instance_id: instance.id,
            attempt_id,
            vmm_id: VmmId::new_v4(),
            hostname: instance.hostname.clone(),
            ncpus: instance.ncpus,
            memory: instance.memory_bytes,
        }
    }
}

impl Saga for InstanceStart {
    const NAME: &'static str = "instance_start";
    type Params = Params;

    fn instance_id(params: &Params) -> InstanceId {
        params.instance_id
    }

    fn attempt(params: &Params) -> Option<StartAttemptId> {
        Some(params.attempt_id)
    }

    fn nodes() -> Vec<Node<Params>> {
        vec![
            Node {
                name: "claim",
                action: |_, _| async { Ok(()) }.boxed(),
                undo: Some(|cx, p| claim_undo(cx, p).boxed()),
            },
            Node {
                name: "will_register",
                action: |_, _| async { Ok(()) }.boxed(),
                undo: Some(|cx, p| will_register_undo(cx, p).boxed()),
            },
            Node {
                name: "place",
                action: |cx, p| place(cx, p).boxed(),
                undo: None,
            },
            Node {
                name: "register",
                action: |cx, p| register(cx, p).boxed(),
                undo: None,
            },
            Node {
                name: "run",
                action: |cx, p| run(cx, p).boxed(),
                undo: None,
            },
        ]
    }

    fn stage(
        cx: SagaContext,
        p: Params,
        failure: SagaFailure,
    ) -> BoxFuture<'static, Result<(), Error>> {
        async move {
            let staged = match failure {
                SagaFailure::Start(staged) => *staged,
                // Whoever overtook it has ended the attempt, or the saga finds
                // that it never had it.
                SagaFailure::Overtaken => return Ok(()),
                SagaFailure::Internal { chain } => StagedFailure {
                    failure: StartFailure::internal(cx.fence.saga_id),
                    internal_error: chain,
                },
                other @ (SagaFailure::AlreadyExists
                | SagaFailure::NotFound
                | SagaFailure::InUse
                | SagaFailure::TooMany { .. }
                | SagaFailure::KeyUsed
                | SagaFailure::DiskState { .. }
                | SagaFailure::BeingCopied
                | SagaFailure::StorageExceeded { .. }
                | SagaFailure::BlocksFailed { .. }
                | SagaFailure::NoAnswer { .. }) => StagedFailure {
                    failure: StartFailure::internal(cx.fence.saga_id),
                    internal_error: format!("{other:?}"),
                },
            };
            cx.datastore
                .start_attempt_stage(cx.fence, p.attempt_id, staged)
                .await
        }
        .boxed()
    }
}

async fn claim_undo(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    cx.datastore.vmm_unlink(cx.fence, p.instance_id, p.vmm_id).await?;
    cx.datastore
        .start_attempt_close_failed(cx.fence, p.instance_id, p.attempt_id)
        .await?;
    cx.activators.changed();
    Ok(())
}

/// The node that finds a place and takes it. Idempotent by the VMM's id.
///
/// # Errors
///
/// There is none, with the reason; or the attempt is over.
pub async fn place(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    for round in 0..MAX_PLACEMENTS {
        let look =
            cx.datastore.placement_look(p.instance_id, Some(p.vmm_id)).await?;
        // Run again, it must not find its own room taken.
        if let Some(sled) = look.placed_on {
            return Ok(link(&cx, &p, sled).await?);
        }
        if let Some(disk) = look.unavailable {
            let failure =
                StartFailure::disk_unavailable(&disk.name, disk.state);
            let cause = format!("disk {} is {}", disk.id, disk.state);
            return Err(NodeError::start(failure, cause));
        }
        // Those who lost a race scatter, the more the oftener they did.
        let spread = SPREAD << round.min(MAX_SCATTER);
        let (ticket, _) = uuid::Uuid::new_v4().as_u64_pair();
        let sled = match choose(&look.ask, &look.sleds, spread, ticket) {
            Ok(sled) => sled,
            Err(Nowhere) => {
                refused(&cx, &p).await?;
                continue;
            }
        };
        match link(&cx, &p, sled).await {
            Err(Error::NoRoom) => continue,
            linked => return Ok(linked?),
        }
    }
    Err(NodeError::start(
        StartFailure::internal(cx.fence.saga_id),
        format!("lost {MAX_PLACEMENTS} races for a place"),
    ))
}

/// Says why there is no place; or says nothing, when there is one after all.
async fn refused(cx: &SagaContext, p: &Params) -> Result<(), NodeError> {
    let case = cx.datastore.placement_case(p.instance_id).await?;
    let Some(failure) = explained(case).await else { return Ok(()) };
    let cause = failure.message.clone();
    Err(NodeError::start(failure, cause))
}

async fn link(cx: &SagaContext, p: &Params, sled: SledId) -> Result<(), Error> {
    let (of, attempt) = (p.instance_id, p.attempt_id);
    let wakes =
        cx.datastore.vmm_link(cx.fence, of, attempt, p.vmm_id, sled).await?;
    if wakes {
        cx.activators.reconcile();
    }
    Ok(())
}

async fn will_register_undo(
    cx: SagaContext,
    p: Params,
) -> Result<(), NodeError> {
    let vmm = match cx.datastore.vmm_view(p.vmm_id).await {
        Ok(vmm) => vmm,
        // It has found no place.
        Err(Error::NotFound) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for round in 0..cx.tuning.sled_tries {
        pause_between(&cx, round).await;
        let observation = match reach(&cx, vmm.sled_id).await? {
            Reach::Expunged => Some(Observation::Fenced),
            Reach::Client(sled) => {
                match sled.vmm_unregister(p.vmm_id.0).await {
                    Ok(answer) => Some(unregistered(&answer)),
                    Err(error) => {
                        info!(cx.log, "the sled did not unregister a VMM yet";
                        "vmm" => %p.vmm_id, "error" => chain(&error));
                        None
                    }
                }
            }
        };
        if let Some(observation) = observation {
            return observe(
                &cx,
                p.instance_id,
                vmm.sled_id,
                p.vmm_id,
                observation,
            )
            .await;
        }
    }
    cx.datastore.vmm_abandon(Some(cx.fence), p.instance_id, p.vmm_id).await?;
    cx.activators.changed();
    Ok(())
}

async fn register(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    let asked = Instant::now();
    let ToRegister {
        sled,
        user_data,
        network_interfaces,
        ssh_public_keys,
        disks,
    } = cx.datastore.vmm_to_register(cx.fence, p.vmm_id).await?;
    let body = VmmRegister {
        instance_id: p.instance_id.0,
        hostname: p.hostname.to_string(),
        vcpus: u32::from(p.ncpus.to_u16()),
        memory_bytes: p.memory.to_u64(),
        disks: disks.iter().map(|disk| on_the_wire(disk, &p)).collect(),
        network: network(&network_interfaces),
        user_data,
        ssh_public_keys,
    };
    let id = sled.id;
    let mut known = Some(sled);
    let mut silence = String::new();
    for round in 0..cx.tuning.sled_tries {
        pause_between(&cx, round).await;
        let sled = match known.take() {
            Some(sled) => reach_known(&cx, &sled, asked).await?,
            None => {
                cx.datastore
                    .start_attempt_check(cx.fence, p.attempt_id)
                    .await?;
                reach_as_logged(&cx, id).await?
            }
        };
        let sled = in_service(id, sled)?;
        match sled.vmm_register(p.vmm_id.0, &body).await {
            Ok(report) => {
                let seen = reported(&report);
                // That it is there is written with that it may run.
                if seen.is_taken_in() {
                    return Ok(());
                }
                return observe(&cx, p.instance_id, id, p.vmm_id, seen).await;
            }
            Err(SledError::Refused {
                code: RefusalCode::HostRejected,
                message,
            }) => {
                let message = sentence(&message);
                return Err(NodeError::start(
                    StartFailure::host_rejected(&message),
                    format!("sled {}: {message}", id),
                ));
            }
            Err(SledError::NoSuchBlocks) => {
                let names = disks.iter().map(|disk| &disk.name);
                return Err(NodeError::start(
                    StartFailure::blocks_not_found(names),
                    format!("sled {} has not all the blocks", id),
                ));
            }
            Err(
                error @ (SledError::Refused { .. }
                | SledError::NoSuchVmm
                | SledError::NoSuchConsole
                | SledError::Bug { .. }),
            ) => return Err(internal(&cx, id, &error)),
            Err(error @ SledError::Unreachable(_)) => silence = chain(&error),
        }
    }
    Err(NodeError::start(
        StartFailure::host_unreachable(),
        format!("sled {}: {silence}", id),
    ))
}

/// A disk, as the sled is told of it. A local one's blocks come about with the VMM
/// that allocated it.
fn on_the_wire(disk: &Disk, p: &Params) -> VmmDisk {
    let (blocks, place) = disk.blocks();
    VmmDisk {
        blocks_id: blocks.0,
        place: match place {
            BlocksPlace::Store => sled_agent_client::BlocksPlace::Store,
            BlocksPlace::Local => sled_agent_client::BlocksPlace::Local,
        },
        size_bytes: disk.size_bytes.to_u64(),
        read_only: disk.read_only,
        allocate: disk.allocated_by == Some(p.vmm_id),
    }
}

/// What a guest is connected to, by the interfaces that were asked for: `none`,
/// or one of the defaults.
fn network(interfaces: &serde_json::Value) -> VmmNetwork {
    match interfaces.get("type").and_then(serde_json::Value::as_str) {
        Some(
            "default" | "default_ipv4" | "default_ipv6" | "default_dual_stack",
        ) => VmmNetwork::User,
        Some(_) | None => VmmNetwork::None,
    }
}

async fn run(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    let (id, heard) = cx
        .datastore
        .vmm_allow_to_run(cx.fence, p.instance_id, p.attempt_id, p.vmm_id)
        .await?;
    for round in 0..cx.tuning.sled_tries {
        pause_between(&cx, round).await;
        let sled = match round {
            0 => reach_lately(&cx, id).await?,
            _ => {
                let datastore = &cx.datastore;
                datastore.start_attempt_check(cx.fence, p.attempt_id).await?;
                reach_as_logged(&cx, id).await?
            }
        };
        let sled = in_service(id, sled)?;
        let order = RequestedState::Running;
        let answer = match sled.vmm_put_state(p.vmm_id.0, order).await {
            // It has run and ended already, or was told to stop: its state
            // says the rest.
            Err(SledError::Refused { .. }) => sled.vmm_view(p.vmm_id.0).await,
            answer => answer,
        };
        match answer {
            Ok(report) => {
                // Whatever its sled says of it first is as much, or more.
                if report.state == VmmState::Starting
                    && cx.datastore.vmm_heard_of(cx.fence, heard, MOMENT).await
                {
                    return Ok(());
                }
                let seen = reported(&report);
                return observe(&cx, p.instance_id, id, p.vmm_id, seen).await;
            }
            Err(SledError::NoSuchVmm) => {
                return Err(NodeError::start(
                    StartFailure::boot_failed(
                        "its host lost it before it had started.",
                    ),
                    format!("sled {} lost VMM {}", id, p.vmm_id),
                ));
            }
            Err(
                error @ (SledError::Refused { .. }
                | SledError::NoSuchBlocks
                | SledError::NoSuchConsole
                | SledError::Bug { .. }),
            ) => {
                return Err(internal(&cx, id, &error));
            }
            Err(error @ SledError::Unreachable(_)) => {
                info!(cx.log, "the sled did not take the order to run yet";
                    "vmm" => %p.vmm_id, "error" => chain(&error));
            }
        }
    }
    Ok(())
}

/// Takes in what a sled said.
async fn observe(
    cx: &SagaContext,
    of: InstanceId,
    sled: SledId,
    vmm: VmmId,
    observation: Observation,
) -> Result<(), NodeError> {
    let observed = cx
        .datastore
        .vmm_answered(
            cx.fence,
            of,
            (sled, vmm),
            observation,
            cx.tuning.boot_allowance(),
        )
        .await?;
    match observed.wakes() {
        true => cx.activators.changed(),
        false => cx.activators.seen(),
    }
    Ok(())
}

/// The way to the sled; a sled that is gone for good fails the start.
fn in_service(id: SledId, reach: Reach) -> Result<Client, NodeError> {
    match reach {
        Reach::Client(client) => Ok(client),
        Reach::Expunged => Err(NodeError::start(
            StartFailure::host_unreachable(),
            format!("sled {id} was expunged"),
        )),
    }
}

fn internal(cx: &SagaContext, sled: SledId, error: &SledError) -> NodeError {
    NodeError::start(
        StartFailure::internal(cx.fence.saga_id),
        format!("sled {sled}: {}", chain(error)),
    )
}
