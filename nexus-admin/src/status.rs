//! `status`: how it stands.

use crate::database::Database;
use crate::failure::Failure;
use crate::lease::{self, Lease};
use crate::report::Report;
use crate::sled::{self, Sled};
use crate::table::Table;
use crate::words::{or_dash, set_in, span, when};
use chrono::{DateTime, Utc};
use db_model::{InstanceId, LeaseState, SagaState};
use serde::Serialize;

/// Leases shown at most; those that are not taken come first.
const LEASES: i64 = 20;

/// Instances shown at most whose looks end in errors.
const ERRING: i64 = 10;

/// What `status` answers.
#[derive(Serialize)]
pub(crate) struct Status {
    time: DateTime<Utc>,
    leases: Vec<Lease>,
    unfinished_sagas: Vec<Sagas>,
    unsettled: Unsettled,
    sleds: Vec<Sled>,
}

#[derive(Serialize)]
struct Sagas {
    name: String,
    state: SagaState,
    count: i64,
    oldest: DateTime<Utc>,
    without_runner: i64,
}

#[derive(Serialize)]
struct Unsettled {
    count: i64,
    overdue: i64,
    oldest_due: Option<DateTime<Utc>>,
    lag_secs: f64,
    with_errors: i64,
    worst: Vec<Erring>,
}

#[derive(Serialize)]
struct Erring {
    id: InstanceId,
    instance: String,
    errors: i64,
    reconcile_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
}

/// Reads all of it.
pub(crate) async fn read(database: &Database) -> Result<Status, Failure> {
    let datastore = &database.datastore;
    let now = datastore.database_time().await?;
    let leases = datastore.lease_list(LEASES).await?;
    let sagas = datastore.saga_unfinished_counts().await?;
    let unsettled = datastore.instance_unsettled().await?;
    let worst = datastore.instance_erring(ERRING).await?;
    let lag = unsettled.oldest_due.map(|due| (now - due).as_seconds_f64());
    Ok(Status {
        time: now,
        leases: leases.into_iter().map(|l| Lease::of(l, now)).collect(),
        unfinished_sagas: sagas
            .into_iter()
            .map(|s| Sagas {
                name: s.name,
                state: s.state,
                count: s.count,
                oldest: s.oldest,
                without_runner: s.without_runner,
            })
            .collect(),
        unsettled: Unsettled {
            count: unsettled.count,
            overdue: unsettled.overdue,
            oldest_due: unsettled.oldest_due,
            lag_secs: lag.unwrap_or(0.0).max(0.0),
            with_errors: unsettled.with_errors,
            worst: worst
                .into_iter()
                .map(|e| Erring {
                    id: e.id,
                    instance: e.path.to_string(),
                    errors: e.errors,
                    reconcile_at: e.reconcile_at,
                    last_error: e.last_error,
                })
                .collect(),
        },
        sleds: sled::read(database, now).await?,
    })
}

impl Status {
    /// What an operator should not have to find in the tables.
    fn attention(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.leases.iter().any(|l| l.state == LeaseState::Live) {
            lines.push(
                "No Nexus lives: nothing of this is looked after, and sleds \
                 have nobody to report to. Start one."
                    .to_string(),
            );
        }
        let orphans: i64 =
            self.unfinished_sagas.iter().map(|s| s.without_runner).sum();
        if orphans > 0 {
            lines.push(format!(
                "{orphans} unfinished sagas have no live runner: a living \
                 Nexus adopts them once the lease has run out."
            ));
        }
        let silent = self.sleds.iter().filter(|s| s.is_missed()).count();
        if silent > 0 {
            lines.push(format!(
                "{silent} sleds in service are silent: what runs there is not \
                 restarted elsewhere unless they are expunged."
            ));
        }
        let abandoned: i64 = self.sleds.iter().map(|s| s.abandoned_vmms).sum();
        if abandoned > 0 {
            lines.push(format!(
                "{abandoned} VMMs are abandoned: their sleds gave no definite \
                 answer. Bring those sleds back, or expunge them."
            ));
        }
        lines
    }

    fn saga_table(&self) -> String {
        if self.unfinished_sagas.is_empty() {
            return "  none\n".to_string();
        }
        let mut table =
            Table::new(&["NAME", "STATE", "COUNT", "OLDEST", "WITHOUT RUNNER"]);
        for sagas in &self.unfinished_sagas {
            table.row([
                sagas.name.clone(),
                sagas.state.to_string(),
                sagas.count.to_string(),
                span(self.time - sagas.oldest),
                sagas.without_runner.to_string(),
            ]);
        }
        table.to_string()
    }
}

impl Report for Status {
    fn text(&self) -> String {
        let now = self.time;
        let mut text = String::new();
        for line in self.attention() {
            text += &set_in(&format!("! {line}"), 0);
        }
        text += &format!(
            "Nexuses\n{}\nUnfinished sagas\n{}\n",
            if self.leases.is_empty() {
                "  none\n".to_string()
            } else {
                lease::table(&self.leases, now).to_string()
            },
            self.saga_table(),
        );
        let unsettled = &self.unsettled;
        let lag = unsettled.oldest_due.map(|due| span(now - due));
        text += &format!(
            "Unsettled instances\n  {}, of which {} overdue (longest: {}), {} \
             with errors\n",
            unsettled.count,
            unsettled.overdue,
            or_dash(lag),
            unsettled.with_errors,
        );
        for erring in &unsettled.worst {
            text += &format!(
                "  {} ({}): {} errors in a row, next look {}\n{}",
                erring.instance,
                erring.id,
                erring.errors,
                or_dash(erring.reconcile_at.map(|at| when(at, now))),
                set_in(erring.last_error.as_deref().unwrap_or_default(), 4),
            );
        }
        text += &format!(
            "\nSleds\n{}",
            if self.sleds.is_empty() {
                "  none\n".to_string()
            } else {
                sled::table(&self.sleds, now).to_string()
            }
        );
        text
    }
}
