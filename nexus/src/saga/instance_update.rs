//! Parts an instance from a VMM that has ended.
//!
//! 1. `unlink`: the instance comes to rest where its intent says, and what the
//!    VMM held of its sled is given back. No undo: an end is an end.
//! 2. `unregister`: the sled is told, once, to forget the VMM. If it does not
//!    answer, the watcher tells it when it finds the VMM listed there.

use super::asking::reach;
use super::{Node, NodeError, Saga, SagaContext};
use crate::sleds::Reach;
use db_model::{InstanceId, SledId, VmmId};
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use slog::info;

/// See the module.
pub struct InstanceUpdate;

/// What is to be parted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Params {
    pub instance_id: InstanceId,
    pub vmm_id: VmmId,
    pub sled_id: SledId,
}

impl Saga for InstanceUpdate {
    const NAME: &'static str = "instance_update";
    type Params = Params;

    fn instance_id(params: &Params) -> InstanceId {
        params.instance_id
    }

    fn nodes() -> Vec<Node<Params>> {
        vec![
            Node {
                name: "unlink",
                action: |cx, p| unlink(cx, p).boxed(),
                undo: None,
            },
            Node {
                name: "unregister",
                action: |cx, p| unregister(cx, p).boxed(),
                undo: None,
            },
        ]
    }
}

async fn unlink(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    cx.datastore.vmm_unlink(cx.fence, p.instance_id, p.vmm_id).await?;
    cx.activators.changed();
    Ok(())
}

async fn unregister(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    // Best effort, so its own outcome fails nothing.
    if let Ok(Reach::Client(sled)) = reach(&cx, p.sled_id).await
        && let Err(error) = sled.vmm_unregister(p.vmm_id.0).await
    {
        info!(cx.log, "the sled was not told to forget a VMM; the watcher will";
            "vmm" => %p.vmm_id, "sled" => %p.sled_id, "error" => %error);
    }
    Ok(())
}
