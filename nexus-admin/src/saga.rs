//! `saga list` and `saga show`.

use crate::database::Database;
use crate::failure::{Failure, missing};
use crate::lease::runner;
use crate::report::Report;
use crate::table::Table;
use crate::words::{moment, or_dash, set_in, span, when};
use chrono::{DateTime, Utc};
use db_model::{
    InstanceId, LeaseState, NexusLease, SagaId, SagaNodeEvent, SagaState, SecId,
};
use db_queries::{ById, Page, SagaHead, SagaRecord};
use nexus::saga::{Kept, kept, kept_failure};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;

/// Sagas read at a time when all are looked through.
const PAGE: i64 = 1000;

/// Which sagas.
#[derive(clap::Args)]
pub(crate) struct List {
    /// Finished ones too, newest first (reads through all that are kept)
    #[arg(long)]
    all: bool,
    /// Those in this state; `done` and `abandoned` imply --all
    #[arg(long, value_parser = state)]
    state: Option<SagaState>,
    /// Those of this instance
    #[arg(long, value_name = "ID")]
    instance: Option<InstanceId>,
    /// At most so many
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    limit: u32,
}

fn state(text: &str) -> Result<SagaState, String> {
    let known = SagaState::ALL.iter().find(|state| state.as_str() == text);
    known.copied().ok_or_else(|| {
        let all = SagaState::ALL.iter().map(|state| state.as_str());
        format!("it is one of {}", all.collect::<Vec<_>>().join(", "))
    })
}

impl List {
    /// Does it ask for sagas that are over?
    fn finished_too(&self) -> bool {
        self.all
            || match self.state {
                Some(SagaState::Done | SagaState::Abandoned) => true,
                Some(SagaState::Running | SagaState::Unwinding) | None => false,
            }
    }

    fn wants(&self, saga: &SagaHead) -> bool {
        self.state.is_none_or(|state| state == saga.state)
            && self.instance.is_none_or(|id| id == saga.instance_id)
    }
}

/// What `saga list` answers.
#[derive(Serialize)]
pub(crate) struct Sagas {
    time: DateTime<Utc>,
    sagas: Vec<Listed>,
    /// There may be more than these.
    more: bool,
}

#[derive(Serialize)]
struct Listed {
    id: SagaId,
    name: String,
    state: SagaState,
    instance_id: InstanceId,
    /// Null: it is deleted, or was not made yet.
    instance: Option<String>,
    current_sec: SecId,
    runner_lease: Option<LeaseState>,
    adopt_generation: i64,
    time_created: DateTime<Utc>,
    time_ended: Option<DateTime<Utc>>,
}

type Found = Vec<(SagaHead, Option<NexusLease>)>;

/// Sagas: unfinished ones by their index; those that are over by reading them
/// all.
pub(crate) async fn list(
    database: &Database,
    which: &List,
) -> Result<Sagas, Failure> {
    let datastore = &database.datastore;
    let time = datastore.database_time().await?;
    let limit = i64::from(which.limit);
    let found = if which.finished_too() {
        look_through(database, which).await?
    } else {
        let (state, instance) = (which.state, which.instance);
        datastore.saga_unfinished_list(state, instance, limit).await?
    };
    let ids = found.iter().map(|(saga, _)| saga.instance_id).collect();
    let paths = datastore.instance_paths(ids).await?;
    let paths: HashMap<_, _> = paths.into_iter().collect();
    let listed = |(saga, lease): (SagaHead, Option<NexusLease>)| Listed {
        id: saga.id,
        name: saga.name,
        state: saga.state,
        instance_id: saga.instance_id,
        instance: paths.get(&saga.instance_id).map(ToString::to_string),
        current_sec: saga.current_sec,
        runner_lease: runner(lease.as_ref(), time),
        adopt_generation: saga.adopt_generation,
        time_created: saga.time_created,
        time_ended: saga.time_ended,
    };
    let sagas: Vec<_> = found.into_iter().map(listed).collect();
    let more = i64::try_from(sagas.len()).is_ok_and(|n| n >= limit);
    Ok(Sagas { time, sagas, more })
}

/// Reads all sagas, a page at a time, and keeps the newest of those wanted.
async fn look_through(
    database: &Database,
    which: &List,
) -> Result<Found, Failure> {
    let limit = usize::try_from(which.limit).unwrap_or(usize::MAX);
    let mut found: Found = Vec::new();
    let mut after = None;
    loop {
        let page = Page { by: ById { after }, limit: PAGE };
        let page = database.datastore.saga_list(page).await?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = Some(last.id.0);
        found.extend(page.into_iter().filter(|(saga, _)| which.wants(saga)));
        found.sort_by_key(|(saga, _)| std::cmp::Reverse(saga.time_created));
        found.truncate(limit);
    }
}

impl Report for Sagas {
    fn text(&self) -> String {
        if self.sagas.is_empty() {
            return "No such sagas.\n".to_string();
        }
        let mut table =
            Table::new(&["SAGA", "NAME", "STATE", "AGE", "RUNNER", "INSTANCE"]);
        for saga in &self.sagas {
            let runner = match saga.time_ended {
                Some(_) => "-".to_string(),
                None => in_a_word(saga.runner_lease),
            };
            let instance = saga.instance.clone();
            table.row([
                saga.id.to_string(),
                saga.name.clone(),
                saga.state.to_string(),
                span(self.time - saga.time_created),
                runner,
                instance.unwrap_or(saga.instance_id.to_string()),
            ]);
        }
        let more = match self.more {
            true => "  There may be more: see --limit.\n",
            false => "",
        };
        format!("{table}{more}")
    }
}

pub(crate) fn in_a_word(lease: Option<LeaseState>) -> String {
    lease.map_or("gone".to_string(), |state| state.to_string())
}

/// What `saga show` answers.
#[derive(Serialize)]
pub(crate) struct Shown {
    time: DateTime<Utc>,
    id: SagaId,
    name: String,
    state: SagaState,
    instance_id: InstanceId,
    instance: Option<String>,
    current_sec: SecId,
    runner_lease: Option<LeaseState>,
    adopt_generation: i64,
    time_adopted: DateTime<Utc>,
    creator_sec: SecId,
    time_created: DateTime<Utc>,
    time_ended: Option<DateTime<Utc>>,
    params: Value,
    nodes: Vec<Node>,
}

#[derive(Serialize)]
struct Node {
    name: String,
    records: Vec<Record>,
}

#[derive(Serialize)]
struct Record {
    event: String,
    time: DateTime<Utc>,
    creator: SecId,
    error: Option<String>,
}

/// A saga.
pub(crate) async fn show(
    database: &Database,
    id: SagaId,
) -> Result<Shown, Failure> {
    let record = read(database, id).await?;
    let SagaRecord { saga, log, lease, now } = record;
    let paths = database.datastore.instance_paths(vec![saga.instance_id]);
    let path = paths.await?.pop();
    let (params, nodes) = match kept(&saga.dag) {
        Some(Kept { nodes, params }) => (without_user_data(params), nodes),
        // Of another version of steno: the ids in the log are all there is.
        None => (Value::Null, ids_of(&log)),
    };
    let nodes = nodes.into_iter().map(|(id, name)| Node {
        name,
        records: log
            .iter()
            .filter(|e| e.node_id == id)
            .map(record_of)
            .collect(),
    });
    Ok(Shown {
        time: now,
        id: saga.id,
        name: saga.name,
        state: saga.state,
        instance_id: saga.instance_id,
        instance: path.map(|(_, path)| path.to_string()),
        current_sec: saga.current_sec,
        runner_lease: runner(lease.as_ref(), now),
        adopt_generation: saga.adopt_generation,
        time_adopted: saga.time_adopted,
        creator_sec: saga.creator_sec,
        time_created: saga.time_created,
        time_ended: saga.time_ended,
        params,
        nodes: nodes.collect(),
    })
}

/// The saga of this id.
pub(crate) async fn read(
    database: &Database,
    id: SagaId,
) -> Result<SagaRecord, Failure> {
    database.datastore.saga_whole(id).await.map_err(missing(format!(
        "there is no saga {id}: finished ones are kept for 14 days; \
         `nexus-admin saga list` shows the others"
    )))
}

fn ids_of(log: &[SagaNodeEvent]) -> Vec<(i64, String)> {
    let mut ids: Vec<i64> = log.iter().map(|event| event.node_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(|id| (id, format!("node {id}"))).collect()
}

fn record_of(event: &SagaNodeEvent) -> Record {
    let failed = ["failed", "undo_failed"].contains(&&*event.event_type);
    Record {
        event: event.event_type.clone(),
        time: event.event_time,
        creator: event.creator,
        error: event.data.as_ref().filter(|_| failed).map(kept_failure),
    }
}

/// A user's data for a guest may hold passwords, and is no operator's business.
fn without_user_data(params: Value) -> Value {
    match params {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| match &*key {
                    "user_data" => (key, "(not shown)".into()),
                    _ => (key, without_user_data(value)),
                })
                .collect(),
        ),
        Value::Array(values) => {
            values.into_iter().map(without_user_data).collect()
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)) => other,
    }
}

impl Report for Shown {
    fn text(&self) -> String {
        let at = |time| format!("{} ({})", moment(time), when(time, self.time));
        let mut text = format!(
            "Saga {}\n  \
             {}, {}\n  \
             instance  {} ({})\n  \
             created   {}\n  \
             ended     {}\n  \
             runner    {}, whose lease is {}\n  \
             adopted   {}, generation {}\n",
            self.id,
            self.name,
            self.state,
            or_dash(self.instance.as_ref()),
            self.instance_id,
            at(self.time_created),
            or_dash(self.time_ended.map(at)),
            self.current_sec,
            in_a_word(self.runner_lease),
            at(self.time_adopted),
            self.adopt_generation,
        );
        text += "\nNodes\n";
        let mut table = Table::new(&["NODE", "EVENT", "TIME"]);
        for node in &self.nodes {
            if node.records.is_empty() {
                table.row([node.name.clone(), "-".into(), String::new()]);
            }
            for record in &node.records {
                let time = moment(record.time);
                table.row([node.name.clone(), record.event.clone(), time]);
            }
        }
        text += &table.to_string();
        for node in &self.nodes {
            for record in &node.records {
                if let Some(error) = &record.error {
                    text += &format!("\n{} {}:\n", node.name, record.event);
                    text += &set_in(error, 2);
                }
            }
        }
        let params = serde_json::to_string_pretty(&self.params);
        text += "\nParams\n";
        text += &set_in(&params.unwrap_or_default(), 2);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_user_has_for_the_guest_is_not_shown_wherever_it_stands() {
        let params = json!({
            "new": { "name": "db", "user_data": "c2VjcmV0" },
            "list": [{ "user_data": "c2VjcmV0" }],
        });
        let shown = without_user_data(params);
        assert_eq!(shown["new"]["name"], "db");
        assert!(!shown.to_string().contains("c2VjcmV0"), "{shown}");
    }
}
