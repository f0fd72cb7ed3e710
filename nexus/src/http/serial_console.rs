//! Serial consoles: handlers and views.

use db_model::InstanceId;
use dropshot::{HttpError, HttpResponseOk, WebsocketEndpointResult};
use sled_agent_client::ConsoleStreamQuery;

use super::extract::{Path, Query, Websocket};
use super::handler::{Admitted, StillShown, of_user};
use super::types::{
    InstancePath, InstanceSerialConsoleData, InstanceSerialConsoleParams,
    InstanceSerialConsoleStreamParams,
};
use crate::app::{ConsoleBytes, InstanceSelector};
use crate::error::Error;

pub(super) async fn view(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<InstanceSerialConsoleParams>,
) -> Result<HttpResponseOk<InstanceSerialConsoleData>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    let query = query.into_inner();
    let part = query.part()?;
    let instance = path.into_inner().instance;
    let which = InstanceSelector { project: query.project, instance };
    let aside = || rqctx.step_aside();
    let read = app.instance_serial_console(&opctx, &which, part, aside).await?;
    Ok(HttpResponseOk(read.into()))
}

pub(super) async fn stream(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<InstanceSerialConsoleStreamParams>,
    websocket: Websocket,
) -> WebsocketEndpointResult {
    let (app, opctx) = of_user(&rqctx).await?;
    let query = query.into_inner();
    let from = ConsoleStreamQuery { most_recent: query.most_recent };
    let instance = path.into_inner().instance;
    let which = InstanceSelector { project: query.project, instance };
    let websocket = websocket.into_inner()?;
    let aside = || rqctx.step_aside();
    let relay =
        app.instance_serial_console_stream(&opctx, &which, from, aside).await?;
    let shut_out = shut_out(StillShown::by(&rqctx), relay.instance());
    websocket.handle(move |connection| async move {
        relay.run(connection, shut_out).await;
        Ok(())
    })
}

/// Comes to its end when who asks is not let in any more. While the database is
/// away nobody can be shut out, and nobody is.
async fn shut_out(caller: StillShown, instance: InstanceId) {
    loop {
        tokio::time::sleep(caller.app.console_look()).await;
        let may = async {
            let opctx = caller.authenticated().await?;
            caller.app.may_read_console(&opctx, instance).await
        };
        match may.await {
            Ok(()) | Err(Error::Unavailable { .. }) => {}
            Err(_) => return,
        }
    }
}

impl From<ConsoleBytes> for InstanceSerialConsoleData {
    fn from(read: ConsoleBytes) -> Self {
        Self { data: read.bytes, last_byte_offset: read.end }
    }
}
