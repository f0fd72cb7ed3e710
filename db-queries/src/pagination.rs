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

/// A boxed query of a table that has a `name` and an `id`, in the order of this
/// [`ByNameOrId`], after its key. A macro, since a function that says the same
/// of any table is longer than what it would save.
macro_rules! begun_at {
    ($query:expr, $by:expr, $table:ident) => {
        match &$by {
            $crate::ByNameOrId::Name { after, descending: false } => {
                let query = $query.order($table::name.asc());
                match after {
                    Some(after) => query.filter($table::name.gt(after.clone())),
                    None => query,
                }
            }
            $crate::ByNameOrId::Name { after, descending: true } => {
                let query = $query.order($table::name.desc());
                match after {
                    Some(after) => query.filter($table::name.lt(after.clone())),
                    None => query,
                }
            }
            $crate::ByNameOrId::Id { after } => {
                let query = $query.order($table::id.asc());
                match *after {
                    Some(after) => query.filter($table::id.gt(after)),
                    None => query,
                }
            }
        }
    };
}

pub(crate) use begun_at;

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
