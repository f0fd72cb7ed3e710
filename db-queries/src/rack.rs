//! The rack that all sleds are in: a part of the database's own record.

use crate::{ById, DataStore, Error, Page};
use db_model::Rack;
use db_model::schema::db_metadata;
use diesel::{ExpressionMethods, QueryDsl, RunQueryDsl, SelectableHelper};
use uuid::Uuid;

impl DataStore {
    /// The fleet's racks, of which there is one.
    pub async fn rack_list(
        &self,
        page: Page<ById>,
    ) -> Result<Vec<Rack>, Error> {
        self.run(move |conn| {
            let query = db_metadata::table
                .select(Rack::as_select())
                .order(db_metadata::rack_id.asc())
                .limit(page.limit)
                .into_boxed();
            let query = match page.by.after {
                Some(after) => query.filter(db_metadata::rack_id.gt(after)),
                None => query,
            };
            Ok(query.load(conn)?)
        })
        .await
    }

    /// The rack of this id.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn rack_view(&self, id: Uuid) -> Result<Rack, Error> {
        self.run(move |conn| {
            Ok(db_metadata::table
                .filter(db_metadata::rack_id.eq(id))
                .select(Rack::as_select())
                .first(conn)?)
        })
        .await
    }
}
