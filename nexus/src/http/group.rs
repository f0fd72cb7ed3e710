//! Groups of users, and who vouches for users: there are none yet.

use super::extract::Path;
use super::handler::{Admitted, of_user};
use super::nothing::{Empty, Never, empty, no_such};
use super::pagination::{Everything, Listing, PagesById, PagesByNameOrId};
use super::types::{Group, GroupPath, IdentityProvider, OptionalSiloSelector};

pub(super) async fn list(
    rqctx: Admitted,
    query: PagesById<Everything>,
) -> Empty<Group> {
    of_user(&rqctx).await?;
    empty(Listing::new(&rqctx, query)?)
}

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<GroupPath>,
) -> Never<Group> {
    of_user(&rqctx).await?;
    Err(no_such("group", &path.into_inner().group_id.into()))
}

pub(super) async fn identity_provider_list(
    rqctx: Admitted,
    query: PagesByNameOrId<OptionalSiloSelector>,
) -> Empty<IdentityProvider> {
    let (app, opctx) = of_user(&rqctx).await?;
    opctx.may_see_fleet()?;
    let list = Listing::new(&rqctx, query)?;
    if let Some(silo) = &list.within.silo {
        app.silo_quota_view(&opctx, silo).await?;
    }
    empty(list)
}
