//! The list of sagas, and their nodes as steno wants them.

use super::node::{Node, run_action, run_stage, run_undo};
use super::{Saga, SagaContext, SagaFailure};
use super::{
    blocks_make, import_finish, instance_create, instance_delete,
    instance_start, instance_update,
};
use crate::error::chain;
use futures::FutureExt;
use futures::future::BoxFuture;
use slog::error;
use std::fmt;
use std::sync::Arc;
use steno::{
    Action, ActionContext, ActionError, ActionRegistry, ActionResult,
    DagBuilder, SagaDag, SagaName, UndoResult,
};

/// Our sagas, to steno.
#[derive(Debug)]
pub struct NexusSaga;

impl steno::SagaType for NexusSaga {
    type ExecContextType = SagaContext;
}

/// The names of all sagas. A test fails for one that is not proved.
pub const SAGAS: &[&str] = &[
    instance_create::InstanceCreate::NAME,
    instance_start::InstanceStart::NAME,
    instance_update::InstanceUpdate::NAME,
    instance_delete::InstanceDelete::NAME,
    blocks_make::BlocksMake::NAME,
    import_finish::ImportFinish::NAME,
];

/// The actions of all sagas.
pub fn registry() -> ActionRegistry<NexusSaga> {
    let mut registry = ActionRegistry::new();
    register::<instance_create::InstanceCreate>(
        &mut registry,
        &Wrap::default(),
    );
    register::<instance_start::InstanceStart>(&mut registry, &Wrap::default());
    register::<instance_update::InstanceUpdate>(
        &mut registry,
        &Wrap::default(),
    );
    register::<instance_delete::InstanceDelete>(
        &mut registry,
        &Wrap::default(),
    );
    register::<blocks_make::BlocksMake>(&mut registry, &Wrap::default());
    register::<import_finish::ImportFinish>(&mut registry, &Wrap::default());
    registry
}

/// How the proofs of a saga run its nodes. The default is how they are run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wrap {
    /// Run each action twice.
    pub actions_twice: bool,
    /// Run each undo twice.
    pub undos_twice: bool,
    /// Fail this node.
    pub fail: Option<(usize, Fault)>,
}

/// When a node that is to fail does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Before its action has done anything.
    Before,
    /// With its action done.
    After,
}

impl Wrap {
    /// The actions of one saga, wrapped.
    pub fn registry<S: Saga>(&self) -> ActionRegistry<NexusSaga> {
        let mut registry = ActionRegistry::new();
        register::<S>(&mut registry, self);
        registry
    }
}

fn register<S: Saga>(registry: &mut ActionRegistry<NexusSaga>, wrap: &Wrap) {
    for (index, node) in S::nodes().into_iter().enumerate() {
        registry.register(Arc::new(NodeAction::<S> {
            node,
            wrap: *wrap,
            fault: wrap.fail.filter(|(n, _)| *n == index).map(|(_, f)| f),
        }));
    }
}

/// The graph of a saga: its nodes in a line, and its params.
///
/// # Errors
///
/// The params cannot be written down, or two nodes share a name.
pub fn dag<S: Saga>(params: &S::Params) -> Result<SagaDag, anyhow::Error> {
    let mut builder = DagBuilder::new(SagaName::new(S::NAME));
    for node in S::nodes() {
        let action =
            NodeAction::<S> { node, wrap: Wrap::default(), fault: None };
        builder.append(steno::Node::action::<_, _, NexusSaga>(
            action.node.name,
            action.node.name,
            &action,
        ));
    }
    Ok(SagaDag::new(builder.build()?, serde_json::to_value(params)?))
}

/// A node, as a steno action.
struct NodeAction<S: Saga> {
    node: Node<S::Params>,
    wrap: Wrap,
    fault: Option<Fault>,
}

impl<S: Saga> fmt::Debug for NodeAction<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", S::NAME, self.node.name)
    }
}

impl<S: Saga> NodeAction<S> {
    async fn act(
        &self,
        context: &SagaContext,
        params: &S::Params,
    ) -> Result<(), SagaFailure> {
        let injected = || SagaFailure::Internal { chain: "injected".into() };
        if self.fault == Some(Fault::Before) {
            return Err(injected());
        }
        if self.wrap.actions_twice {
            run_action(self.node.action, context, params).await?;
        }
        run_action(self.node.action, context, params).await?;
        if self.fault == Some(Fault::After) {
            return Err(injected());
        }
        Ok(())
    }
}

/// The saga's params. Those that cannot be read were written by another
/// version: the saga is left for one that can, or for an operator. To fail it
/// would do no good, since its undos could not read them either.
async fn params<S: Saga>(steno: &ActionContext<NexusSaga>) -> S::Params {
    match steno.saga_params::<S::Params>() {
        Ok(params) => params,
        Err(error) => {
            error!(steno.user_data().log, "a saga's params make no sense";
                "error" => chain(&error));
            std::future::pending().await
        }
    }
}

impl<S: Saga> Action<NexusSaga> for NodeAction<S> {
    fn do_it(
        &self,
        steno: ActionContext<NexusSaga>,
    ) -> BoxFuture<'_, ActionResult> {
        async move {
            let params = params::<S>(&steno).await;
            let context = steno.user_data();
            match self.act(context, &params).await {
                Ok(()) => Ok(Arc::new(serde_json::Value::Null)),
                Err(failure) => {
                    let failure = failure.fit_to_keep();
                    run_stage::<S>(context, &params, &failure).await;
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "staged the line before"
                    )]
                    Err(ActionError::action_failed(failure))
                }
            }
        }
        .boxed()
    }

    fn undo_it(
        &self,
        steno: ActionContext<NexusSaga>,
    ) -> BoxFuture<'_, UndoResult> {
        async move {
            let Some(undo) = self.node.undo else { return Ok(()) };
            let params = params::<S>(&steno).await;
            let context = steno.user_data();
            if self.wrap.undos_twice {
                run_undo(undo, context, &params).await;
            }
            run_undo(undo, context, &params).await;
            Ok(())
        }
        .boxed()
    }

    fn name(&self) -> steno::ActionName {
        steno::ActionName::new(format!("{}.{}", S::NAME, self.node.name))
    }
}
