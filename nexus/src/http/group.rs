//! Groups of users, and who vouches for users: there are none yet.

use super::extract::Path;
use super::handler::{Admitted, of_user};
use super::nothing::{Empty, Never, empty, no_such};
use super::pagination::{Everything, Listing, PagesById, PagesByNameOrId};
use super::types::{Group, GroupPath, IdentityProvider, OptionalSiloSelector};
use crate::authz::{Action, Resource};

const FLEET: &str = "see what the fleet has";

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesById<Everything>,
) -> Empty<Group> {
    let (_, opctx) = of_user(&rqctx).await?;
    opctx.authorize(Action::View, opctx.own_silo(), "see the silo")?;
    empty(Listing::new(&rqctx, query)?)
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<GroupPath>,
) -> Never<Group> {
    let (_, opctx) = of_user(&rqctx).await?;
    opctx.authorize(Action::View, opctx.own_silo(), "see the silo")?;
    Err(no_such("group", &path.into_inner().group_id.into()))
}

pub(super) async fn identity_provider_list(
    rqctx: Admitted,
    query: PagesByNameOrId<OptionalSiloSelector>,
) -> Empty<IdentityProvider> {
    let (app, opctx) = of_user(&rqctx).await?;
    opctx.authorize(Action::View, Resource::Fleet, FLEET)?;
    let list = Listing::new(&rqctx, query)?;
    if let Some(silo) = &list.within.silo {
        app.silo_quota_view(&opctx, silo).await?;
    }
    empty(list)
}
