//! A saga as it is kept, read for people.

use super::SagaFailure;
use db_model::StagedFailure;
use serde_json::Value;
use steno::{ActionError, SagaDag};

/// What a graph says, whatever version wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// The nodes that have a name, in order, each with the id of its records.
    pub nodes: Vec<(i64, String)>,
    /// What the saga was told, or null.
    pub params: Value,
}

/// Reads a saga's graph. `None`: steno does not understand it.
pub fn kept(graph: &Value) -> Option<Kept> {
    let dag: SagaDag = serde_json::from_value(graph.clone()).ok()?;
    let nodes = dag
        .get_nodes()
        .filter_map(|node| {
            let id = i64::try_from(node.index().index()).ok()?;
            Some((id, node.name().as_ref().to_string()))
        })
        .collect();
    // steno keeps them in its own first node, and gives them to actions alone.
    let params = graph
        .pointer("/graph/nodes")?
        .as_array()?
        .iter()
        .find_map(|node| node.get("Start")?.get("params").cloned())
        .unwrap_or_default();
    Some(Kept { nodes, params })
}

/// Why a node failed, from the data of its record, with all that operators may
/// read. As it is kept, if this version does not understand it.
pub fn kept_failure(data: &Value) -> String {
    let failure = serde_json::from_value::<ActionError>(data.clone())
        .ok()
        .and_then(|error| error.convert::<SagaFailure>().ok());
    match failure {
        None => data.to_string(),
        Some(SagaFailure::AlreadyExists) => "the name was taken".to_string(),
        Some(SagaFailure::NotFound) => {
            "what it builds on is not there any more".to_string()
        }
        Some(SagaFailure::InUse) => {
            "a disk was attached to another instance".to_string()
        }
        Some(SagaFailure::TooMany { limit }) => limit.to_string(),
        Some(SagaFailure::DiskState { state }) => {
            format!("the disk's state was {state}")
        }
        Some(SagaFailure::BeingCopied) => "it was being copied".to_string(),
        Some(SagaFailure::StorageExceeded { exceeded }) => exceeded.to_string(),
        Some(SagaFailure::BlocksFailed { message }) => message,
        Some(SagaFailure::NoAnswer { chain }) => {
            format!("no sled answered: {chain}")
        }
        Some(SagaFailure::Overtaken) => {
            "a later request has overtaken it".to_string()
        }
        Some(SagaFailure::Start(staged)) => {
            let StagedFailure { failure, internal_error } = *staged;
            let said = format!("{}: {}", failure.kind, failure.message);
            if internal_error == failure.message {
                return said;
            }
            format!("{said}\nCause: {internal_error}")
        }
        Some(SagaFailure::Internal { chain }) => chain,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Saga;
    use super::super::instance_update::{InstanceUpdate, Params};
    use super::super::registry::dag;
    use super::*;
    use db_model::{InstanceId, SledId, VmmId};

    #[test]
    fn a_kept_graph_tells_its_nodes_in_order_and_its_params() {
        let params = Params {
            instance_id: InstanceId::new_v4(),
            vmm_id: VmmId::new_v4(),
            sled_id: SledId::new_v4(),
        };
        let graph = dag::<InstanceUpdate>(&params).unwrap();
        let kept = kept(&serde_json::to_value(graph).unwrap()).unwrap();
        let names: Vec<&str> =
            kept.nodes.iter().map(|(_, name)| &**name).collect();
        let expected: Vec<&str> =
            InstanceUpdate::nodes().iter().map(|node| node.name).collect();
        assert_eq!(names, expected);
        assert_eq!(kept.params, serde_json::to_value(&params).unwrap());
        assert_eq!(super::kept(&Value::Null), None);
    }

    #[test]
    fn a_kept_failure_is_told_whole_and_one_of_another_version_as_it_is() {
        let chain = "the database refused: no such column".to_string();
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing is to be staged"
        )]
        let error = ActionError::action_failed(SagaFailure::Internal {
            chain: chain.clone(),
        });
        let data = serde_json::to_value(error).unwrap();
        assert_eq!(kept_failure(&data), chain);
        let other = serde_json::json!({ "Other": 1 });
        assert_eq!(kept_failure(&other), r#"{"Other":1}"#);
    }
}
