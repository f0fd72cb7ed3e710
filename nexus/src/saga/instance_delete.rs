//! Cleans up after an instance that its user has deleted. The user's request
//! has already made it vanish; this makes it `destroyed`.
//!
//! 1. `destroy`: refuses while anything of it runs, or may; the reconciler
//!    starts the saga again then. No undo: there is no way back.
//!
//! What the instance owns will be released before.

use super::{Node, NodeError, Saga, SagaContext};
use db_model::InstanceId;
use futures::FutureExt;
use serde::{Deserialize, Serialize};

/// See the module.
pub struct InstanceDelete;

/// What is to be cleaned up after.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Params {
    pub instance_id: InstanceId,
}

impl Saga for InstanceDelete {
    const NAME: &'static str = "instance_delete";
    type Params = Params;

    fn instance_id(params: &Params) -> InstanceId {
        params.instance_id
    }

    fn nodes() -> Vec<Node<Params>> {
        vec![Node {
            name: "destroy",
            action: |cx, p| destroy(cx, p).boxed(),
            undo: None,
        }]
    }
}

async fn destroy(cx: SagaContext, p: Params) -> Result<(), NodeError> {
    Ok(cx.datastore.instance_destroyed(cx.fence, p.instance_id).await?)
}
