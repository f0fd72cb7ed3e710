//! What all sleds of the fleet are in.

use crate::schema::db_metadata;
use chrono::{DateTime, Utc};
use diesel::{Queryable, Selectable};
use uuid::Uuid;

/// The rack, of which the database keeps one.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = db_metadata)]
#[expect(missing_docs, reason = "dbinit.sql says what each column means")]
pub struct Rack {
    #[diesel(column_name = rack_id)]
    pub id: Uuid,
    pub time_created: DateTime<Utc>,
    pub time_modified: DateTime<Utc>,
}
