//! Who is asking.

use dropshot::{HttpError, HttpResponseOk};

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
        fleet_viewer: user.fleet_admin,
        // Whoever is of a silo may do anything in it, until there are roles.
        silo_admin: true,
        time_created: user.time_created,
        time_modified: user.time_modified,
    }))
}
