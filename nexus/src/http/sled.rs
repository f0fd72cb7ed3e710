//! Sleds: handlers and views.

use dropshot::{HttpError, HttpResponseOk, ResultsPage};
use uuid::Uuid;

use super::extract::{Path, TypedBody};
use super::handler::{Admitted, of_user};
use super::pagination::{Everything, Listing, PagesById};
use super::types::{
    Baseboard, Sled, SledInstance, SledPath, SledPolicy,
    SledProvisionPolicyParams, SledProvisionPolicyResponse, SledState,
};

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesById<Everything>,
) -> Result<HttpResponseOk<ResultsPage<Sled>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let sleds = app.sled_list(&opctx, list.page()).await?;
    let view = |sled| Sled::new(sled, app.rack_id());
    list.answer(sleds, view, |at, sled| at.after(sled.id))
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<SledPath>,
) -> Result<HttpResponseOk<Sled>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let sled = app.sled_view(&opctx, path.into_inner().sled_id).await?;
    Ok(HttpResponseOk(Sled::new(sled, app.rack_id())))
}

pub(super) async fn instance_list(
    rqctx: Admitted,
    path: Path<SledPath>,
    query: PagesById<Everything>,
) -> Result<HttpResponseOk<ResultsPage<SledInstance>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let sled = path.into_inner().sled_id;
    let rows = app.sled_instance_list(&opctx, sled, list.page()).await?;
    list.answer(rows, SledInstance::from, |at, i| at.after(i.id))
}

pub(super) async fn set_provision_policy(
    rqctx: Admitted,
    path: Path<SledPath>,
    body: TypedBody<SledProvisionPolicyParams>,
) -> Result<HttpResponseOk<SledProvisionPolicyResponse>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let sled = path.into_inner().sled_id;
    let new_state = body.into_inner().state;
    let old_state =
        app.sled_set_provision_policy(&opctx, sled, new_state).await?;
    let response = SledProvisionPolicyResponse { old_state, new_state };
    Ok(HttpResponseOk(response))
}

impl Sled {
    fn new(row: db_model::Sled, rack_id: Uuid) -> Self {
        let (policy, state) = policy_and_state(&row);
        Self {
            id: row.id,
            baseboard: Baseboard {
                serial: row.serial,
                part: row.part,
                revision: count(row.revision),
            },
            rack_id,
            policy,
            state,
            usable_hardware_threads: count(row.vcpus),
            usable_physical_ram: row.memory_bytes,
            cpu: row.cpu,
            reserved_hardware_threads: count(row.reserved_vcpus),
            reserved_physical_ram: row.reserved_memory_bytes,
            time_last_heartbeat: row.time_last_heartbeat,
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}

/// Both are what operators decided: nothing of a sled is left once it is
/// expunged, since that says that the host is off.
fn policy_and_state(row: &db_model::Sled) -> (SledPolicy, SledState) {
    match row.policy {
        db_model::SledPolicy::InService => {
            let provision_policy = row.provision_policy;
            (SledPolicy::InService { provision_policy }, SledState::Active)
        }
        db_model::SledPolicy::Expunged => {
            (SledPolicy::Expunged, SledState::Decommissioned)
        }
    }
}

/// A count of the database's, which is never negative, as the wire has it.
fn count(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

impl From<db_model::SledInstance> for SledInstance {
    fn from(row: db_model::SledInstance) -> Self {
        Self {
            id: row.id,
            name: row.name,
            project_name: row.project_name,
            silo_name: row.silo_name,
            active_sled_id: row.sled_id,
            migration_id: None,
            state: row.state,
            ncpus: row.ncpus.to_i64(),
            memory: row.memory.to_i64(),
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}
