//! The rack, and what is in it that nobody has told of.

use dropshot::{HttpError, HttpResponseOk, ResultsPage};
use schemars::JsonSchema;
use serde::Serialize;

use super::extract::Path;
use super::handler::{Admitted, of_user};
use super::nothing::{Empty, Never, empty, no_such};
use super::pagination::{Everything, Listing, PagesById};
use super::types::{
    PhysicalDisk, PhysicalDiskPath, Rack, RackPath, SledPath, UninitializedSled,
};
use crate::authz::{Action, Resource};

const FLEET: &str = "see what the fleet has";

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesById<Everything>,
) -> Result<HttpResponseOk<ResultsPage<Rack>>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let racks = app.rack_list(&opctx, list.page()).await?;
    list.answer(racks, Rack::from, |at, rack| at.after(rack.id))
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<RackPath>,
) -> Result<HttpResponseOk<Rack>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let rack = app.rack_view(&opctx, path.into_inner().rack_id).await?;
    Ok(HttpResponseOk(rack.into()))
}

/// Sleds come by registering, so none is known that has not.
pub(super) async fn uninitialized_sled_list(
    rqctx: Admitted,
    query: PagesById<Everything>,
) -> Empty<UninitializedSled> {
    of_fleet(rqctx, query).await
}

/// A sled tells how much room its disks have, and not which they are.
pub(super) async fn disk_list(
    rqctx: Admitted,
    query: PagesById<Everything>,
) -> Empty<PhysicalDisk> {
    of_fleet(rqctx, query).await
}

pub(super) async fn disk_view(
    rqctx: Admitted,
    path: Path<PhysicalDiskPath>,
) -> Never<PhysicalDisk> {
    let (_, opctx) = of_user(&rqctx).await?;
    opctx.authorize(Action::View, Resource::Fleet, FLEET)?;
    Err(no_such("physical disk", &path.into_inner().disk_id.into()))
}

pub(super) async fn disks_of_sled(
    rqctx: Admitted,
    path: Path<SledPath>,
    query: PagesById<Everything>,
) -> Empty<PhysicalDisk> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    app.sled_view(&opctx, path.into_inner().sled_id).await?;
    empty(list)
}

async fn of_fleet<T>(rqctx: Admitted, query: PagesById<Everything>) -> Empty<T>
where
    T: JsonSchema + Serialize + Send + Sync + 'static,
{
    let (_, opctx) = of_user(&rqctx).await?;
    opctx.authorize(Action::View, Resource::Fleet, FLEET)?;
    empty(Listing::new(&rqctx, query)?)
}

impl From<db_model::Rack> for Rack {
    fn from(row: db_model::Rack) -> Self {
        Self {
            id: row.id,
            time_created: row.time_created,
            time_modified: row.time_modified,
        }
    }
}
