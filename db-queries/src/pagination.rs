//! Pages by key: what was inserted or deleted in between neither repeats nor
//! hides what is listed.

use chrono::{DateTime, Utc};
use db_model::Name;
use uuid::Uuid;

/// A page: where it begins and how long it may be.
#[derive(Clone, Debug)]
pub struct Page<K> {
    /// The order, and the key after which the page begins.
    pub by: K,
    /// At most so many rows.
    pub limit: i64,
}

/// By name or by id.
#[derive(Clone, Debug)]
pub enum ByNameOrId {
    /// By name.
    Name {
        /// The last name of the page before.
        after: Option<Name>,
        /// Z to a.
        descending: bool,
    },
    /// By id.
    Id {
        /// The last id of the page before.
        after: Option<Uuid>,
    },
}

/// By id.
#[derive(Clone, Debug)]
pub struct ById {
    /// The last id of the page before.
    pub after: Option<Uuid>,
}

/// Newest first.
#[derive(Clone, Debug)]
pub struct ByTime {
    /// The last time and id of the page before.
    pub before: Option<(DateTime<Utc>, Uuid)>,
}
