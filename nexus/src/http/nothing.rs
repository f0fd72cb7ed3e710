//! The answers about what this server has none of.

use db_model::NameOrId;
use dropshot::{HttpError, HttpResponseOk, ResultsPage};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pagination::Listing;
use crate::error::Error;

/// A page of a list of `T`, of which there are none.
pub(super) type Empty<T> = Result<HttpResponseOk<ResultsPage<T>>, HttpError>;

/// A `T`, of which there is none.
pub(super) type Never<T> = Result<HttpResponseOk<T>, HttpError>;

/// The page of a list in which nothing is.
pub(super) fn empty<W, P, T>(list: Listing<W, P>) -> Empty<T>
where
    W: Clone + DeserializeOwned + Serialize,
    P: Clone + DeserializeOwned + Serialize,
    T: JsonSchema + Serialize + Send + Sync + 'static,
{
    list.answer(Vec::new(), |nothing: T| nothing, |at, _| at.clone())
}

/// There is no `kind` with this name or id, or any other.
pub(super) fn no_such(kind: &'static str, which: &NameOrId) -> HttpError {
    Error::not_found(kind, which).into()
}
