//! Makes an instance.
//!
//! 1. `will_insert`: nothing. Undo: the attempt fails and the instance is
//!    destroyed; its name is free. Apart from the next node, since steno does
//!    not undo the node that failed, and that may have inserted it.
//! 2. `insert`: the row, `creating`, and with its request's key, and with
//!    `start` the pending attempt with it, so that the wish to start cannot be lost between two sagas; its groups
//!    and its disks, too.
//! 3. `make_blocks`: those of the distributed disks that are made with it.
//! 4. `finish`: `creating` becomes `no_vmm`. The reconciler does the rest.

use super::{Node, NodeError, Saga, SagaContext, granted_silo, store};
use crate::authz::{Action, Granted};
use db_model::{
    BlocksOf, DiskState, InstanceId, Joins, KeyedRequest, NewInstance,
    ProjectId, SiloUserId, StartAttemptId,
};
use futures::FutureExt;
use serde::{Deserialize, Serialize};

/// See the module.
pub struct InstanceCreate;

/// What is to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Params {
    pub instance_id: InstanceId,
    pub project_id: ProjectId,
    pub new: NewInstance,
    #[serde(default)]
    pub joins: Joins,
    /// With `start`: the first attempt, and who asked.
    pub attempt: Option<(StartAttemptId, SiloUserId)>,
    /// With a key: the request that wants it made, and made once.
    #[serde(default)]
    pub request: Option<KeyedRequest>,
    /// Who asked, and what was allowed. `None`: it was begun before that was
    /// recorded.
    #[serde(default)]
    pub granted: Option<Granted>,
}

impl Saga for InstanceCreate {
    const NAME: &'static str = "instance_create";
    type Params = Params;

    fn instance_id(params: &Params) -> InstanceId {
        params.instance_id
    }

    fn nodes() -> Vec<Node<Params>> {
        vec![
            Node {
                name: "will_insert",
                action: |_, _| async { Ok(()) }.boxed(),
                undo: Some(|cx, p| will_insert_undo(cx, p).boxed()),
            },
            Node {
                name: "insert",
                action: |cx, p| insert(cx, p).boxed(),
                undo: None,
            },
            Node {
                name: "make_blocks",
                action: |cx, p| make_blocks(cx, p).boxed(),
                undo: None,
            },
            Node {
                name: "finish",
                action: |cx, p| finish(cx, p).boxed(),
                undo: None,
            },
        ]
    }
}

async fn will_insert_undo(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    cx.datastore
        .instance_create_undone(cx.fence, p.instance_id, p.request)
        .await?;
    cx.activators.changed();
    cx.activators.blocks_gone();
    Ok(())
}

async fn insert(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    let silo = granted_silo(p.granted, Action::Create, Some(p.project_id))?;
    let inserted = cx
        .datastore
        .instance_insert(
            cx.fence,
            silo.zip(p.granted.map(|granted| granted.user)),
            p.new,
            p.joins,
            p.instance_id,
            p.project_id,
            p.attempt,
            p.request,
        )
        .await;
    Ok(inserted?)
}

async fn make_blocks(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    for (id, new) in &p.joins.made {
        let Some(source) = new.kind.blocks_source() else { continue };
        let of = BlocksOf::Disk(*id);
        let read_only = new.kind.read_only();
        store::ensure(&cx, of, new.size, read_only, source).await?;
        cx.datastore.blocks_made(cx.fence, of, DiskState::Ready).await?;
    }
    Ok(())
}

async fn finish(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    cx.datastore.instance_created(cx.fence, p.instance_id).await?;
    cx.activators.changed();
    Ok(())
}
