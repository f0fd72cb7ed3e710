//! Who is asking.

use dropshot::{HttpError, HttpResponseOk};

use crate::authz::{Action, Resource};

use super::handler::{Admitted, of_user};
use super::types::CurrentUser;

pub(super) async fn view(
    rqctx: Admitted,
) -> Result<HttpResponseOk<CurrentUser>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let (user, silo) = app.current_user(&opctx).await?;
    Ok(HttpResponseOk(CurrentUser {
        id: user.id,
        display_name: user.external_id,
        silo_id: silo.id,
        silo_name: silo.name,
        fleet_viewer: opctx.may(Action::View, Resource::Fleet),
        silo_admin: opctx.may(Action::ChangePolicy, Resource::Silo(silo.id)),
        time_created: user.time_created,
        time_modified: user.time_modified,
    }))
}
