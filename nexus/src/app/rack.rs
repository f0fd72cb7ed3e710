//! The rack: what all sleds are in.

use super::{App, about};
use crate::authz::{Action, Resource};
use crate::context::OpContext;
use crate::error::Error;
use db_model::Rack;
use db_queries::{ById, Page};
use uuid::Uuid;

const VIEW: &str = "see the fleet's racks";

impl App {
    /// The fleet's racks, of which there is one.
    ///
    /// # Errors
    ///
    /// `Forbidden`.
    pub async fn rack_list(
        &self,
        opctx: &OpContext,
        page: Page<ById>,
    ) -> Result<Vec<Rack>, Error> {
        opctx.authorize(Action::View, Resource::Fleet, VIEW)?;
        Ok(self.datastore.rack_list(page).await?)
    }

    /// A rack.
    ///
    /// # Errors
    ///
    /// `Forbidden`; `NotFound`.
    pub async fn rack_view(
        &self,
        opctx: &OpContext,
        id: Uuid,
    ) -> Result<Rack, Error> {
        opctx.authorize(Action::View, Resource::Fleet, VIEW)?;
        let rack = self.datastore.rack_view(id).await;
        rack.map_err(about("rack", &id.into()))
    }
}
