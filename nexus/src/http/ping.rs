//! Is anybody there? The one question that needs no token.

use dropshot::{HttpError, HttpResponseOk};

use super::types::{Ping, PingStatus};

pub(super) async fn view() -> Result<HttpResponseOk<Ping>, HttpError> {
    Ok(HttpResponseOk(Ping { status: PingStatus::Ok }))
}
