//! Serial consoles: handlers and views.

use dropshot::{HttpError, HttpResponseOk, WebsocketEndpointResult};
use sled_agent_client::ConsoleStreamQuery;

use super::extract::{Path, Query, Websocket};
use super::handler::{Admitted, of_user};
use super::types::{
    InstancePath, InstanceSerialConsoleData, InstanceSerialConsoleParams,
    InstanceSerialConsoleStreamParams,
};
use crate::app::{ConsoleBytes, InstanceSelector};

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
    websocket.handle(move |connection| async move {
        relay.run(connection).await;
        Ok(())
    })
}

impl From<ConsoleBytes> for InstanceSerialConsoleData {
    fn from(read: ConsoleBytes) -> Self {
        Self { data: read.bytes, last_byte_offset: read.end }
    }
}
