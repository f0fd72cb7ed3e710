//! `instance placement`: where an instance would go if it were started now, and
//! what speaks against each sled, on the whole fleet.

use crate::database::Database;
use crate::failure::{Failure, missing};
use crate::instance::Which;
use crate::report::Report;
use crate::table::Table;
use crate::words::set_in;
use db_model::placement::{Cause, matrix};
use db_model::{ByteCount, InstanceId, SledId, StartFailure};
use serde::Serialize;

/// What `instance placement` answers.
#[derive(Serialize)]
pub(crate) struct Placement {
    id: InstanceId,
    would_start: bool,
    /// What its user reads, with all numbers. Null if it would start.
    failure: Option<StartFailure>,
    /// The whole fleet, those that would do first.
    sleds: Vec<Sled>,
}

#[derive(Serialize)]
struct Sled {
    id: SledId,
    free_vcpus: i64,
    free_memory_bytes: i64,
    free_storage_bytes: i64,
    /// All that speaks against it, not only the first of it.
    causes: Vec<Cause>,
}

/// The whole fleet's view of an instance.
pub(crate) async fn show(
    database: &Database,
    which: &Which,
) -> Result<Placement, Failure> {
    let id = which.id(database).await?;
    let case = database.datastore.placement_case(id).await;
    let case = case.map_err(missing(format!("there is no instance {id}")))?;
    let rooms = case.sleds.iter().map(|sled| sled.free());
    let mut sleds: Vec<Sled> = matrix(&case.ask, &case.sleds)
        .into_iter()
        .zip(rooms)
        .map(|((id, causes), free)| Sled {
            id,
            free_vcpus: free.vcpus,
            free_memory_bytes: free.memory,
            free_storage_bytes: free.storage,
            causes,
        })
        .collect();
    sleds.sort_by_key(|sled| (sled.causes.len(), sled.id));
    let failure = case.explain();
    Ok(Placement { id, would_start: failure.is_none(), failure, sleds })
}

impl Report for Placement {
    fn text(&self) -> String {
        let verdict = match &self.failure {
            None => format!("Instance {} would start now.\n", self.id),
            Some(failure) => {
                let kind = failure.kind;
                let message = set_in(&failure.message, 2);
                format!(
                    "Instance {} would not start now ({kind}):\n{message}\n",
                    self.id
                )
            }
        };
        let mut table =
            Table::new(&["SLED", "VCPUS", "MEMORY", "STORAGE", "AGAINST IT"]);
        let gib = |bytes: i64| {
            let bytes = ByteCount::try_from(bytes).unwrap_or(ByteCount::ZERO);
            format!("{} GiB", bytes.to_u64() / ByteCount::GIB.to_u64())
        };
        for sled in &self.sleds {
            let causes: Vec<String> = sled
                .causes
                .iter()
                .map(|cause| cause.as_str().to_string())
                .collect();
            table.row([
                sled.id.to_string(),
                sled.free_vcpus.to_string(),
                gib(sled.free_memory_bytes),
                gib(sled.free_storage_bytes),
                match causes.is_empty() {
                    true => "nothing".to_string(),
                    false => causes.join(", "),
                },
            ]);
        }
        format!(
            "{verdict}\nFree on each sled, and what speaks against it:\n{table}"
        )
    }
}
