//! Lists, a page at a time.
//!
//! A page is named by the last thing of the page before it (keyset
//! pagination), so things that come and go in between shift nothing. The token
//! of a page holds all that the first request said, so that the next request
//! needs nothing but the token. It is the caller's own, and that list's: so
//! nobody is led on by what another was told.

use chrono::{DateTime, Utc};
use db_model::{Name, SiloId, SiloUserId};
use db_queries::{ById, ByNameOrId, ByTime, Page};
use dropshot::{
    HttpError, HttpResponseOk, PaginationParams, RequestContext, ResultsPage,
    ServerContext, WhichPage,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::extract::Query;
use crate::error::Error;

/// The most that one answer holds, whatever limit a client names: a page of
/// this size is read and written in some ten milliseconds.
const PAGE_MAX_ITEMS: u32 = 1000;

/// The parameters of a list within `W`, sorted by name or id.
pub type PagesByNameOrId<W> = Pages<W, NameOrIdSortMode, NameOrIdPlace>;

/// The parameters of a list within `W`, sorted by id.
pub type PagesById<W> = Pages<W, IdSortMode, IdPlace>;

/// The parameters of a list within `W`, newest first.
pub type PagesByTime<W> = Pages<W, TimeSortMode, TimePlace>;

/// The parameters of a list within `W`, sorted by `M`, at place `P`.
pub type Pages<W, M, P> = Query<PaginationParams<Scan<W, M>, Token<W, P>>>;

/// What the first request for a list says.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Scan<W, M: Default> {
    #[serde(flatten)]
    within: W,
    #[serde(default)]
    sort_by: M,
}

/// What a later request for a list says.
#[derive(Debug, Deserialize, Serialize)]
pub struct Token<W, P> {
    of: String,
    within: W,
    after: P,
}

/// A list that is not within anything.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
pub struct Everything {}

/// How a list can be sorted.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameOrIdSortMode {
    /// From the first name to the last.
    #[default]
    NameAscending,
    /// From the last name to the first.
    NameDescending,
    /// From the lowest id to the highest.
    IdAscending,
}

/// How a list of things without names can be sorted.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdSortMode {
    /// From the lowest id to the highest.
    #[default]
    IdAscending,
}

/// How a history can be sorted.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeSortMode {
    /// From the newest to the oldest.
    #[default]
    TimeDescending,
}

/// A place in a list by name or id: after a thing, or before the first.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NameOrIdPlace {
    /// Rising names.
    NameAscending(Option<Name>),
    /// Falling names.
    NameDescending(Option<Name>),
    /// Rising ids.
    IdAscending(Option<Uuid>),
}

impl NameOrIdPlace {
    /// The place, in the same order, after the thing with this name and id.
    pub fn after(&self, name: &Name, id: impl Into<Uuid>) -> Self {
        match self {
            Self::NameAscending(_) => Self::NameAscending(Some(name.clone())),
            Self::NameDescending(_) => Self::NameDescending(Some(name.clone())),
            Self::IdAscending(_) => Self::IdAscending(Some(id.into())),
        }
    }
}

impl From<NameOrIdSortMode> for NameOrIdPlace {
    fn from(sort_by: NameOrIdSortMode) -> Self {
        match sort_by {
            NameOrIdSortMode::NameAscending => Self::NameAscending(None),
            NameOrIdSortMode::NameDescending => Self::NameDescending(None),
            NameOrIdSortMode::IdAscending => Self::IdAscending(None),
        }
    }
}

impl From<NameOrIdPlace> for ByNameOrId {
    fn from(place: NameOrIdPlace) -> Self {
        match place {
            NameOrIdPlace::NameAscending(after) => {
                Self::Name { after, descending: false }
            }
            NameOrIdPlace::NameDescending(after) => {
                Self::Name { after, descending: true }
            }
            NameOrIdPlace::IdAscending(after) => Self::Id { after },
        }
    }
}

/// A place in a list by id: after a thing, or before the first.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IdPlace(Option<Uuid>);

impl IdPlace {
    /// The place after the thing with this id.
    pub fn after(&self, id: impl Into<Uuid>) -> Self {
        Self(Some(id.into()))
    }
}

impl From<IdSortMode> for IdPlace {
    fn from(sort_by: IdSortMode) -> Self {
        match sort_by {
            IdSortMode::IdAscending => Self(None),
        }
    }
}

impl From<IdPlace> for ById {
    fn from(place: IdPlace) -> Self {
        Self { after: place.0 }
    }
}

/// A place in a history: before a thing, or after the newest.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TimePlace(Option<(DateTime<Utc>, Uuid)>);

impl TimePlace {
    /// The place of what is next older than the thing of this time and id.
    pub fn before(&self, time: DateTime<Utc>, id: impl Into<Uuid>) -> Self {
        Self(Some((time, id.into())))
    }
}

impl From<TimeSortMode> for TimePlace {
    fn from(sort_by: TimeSortMode) -> Self {
        match sort_by {
            TimeSortMode::TimeDescending => Self(None),
        }
    }
}

impl From<TimePlace> for ByTime {
    fn from(place: TimePlace) -> Self {
        Self { before: place.0 }
    }
}

/// A request, and whose it is.
pub trait Asked {
    /// What the server keeps.
    type Context: ServerContext;

    /// The request.
    fn request(&self) -> &RequestContext<Self::Context>;

    /// Who asks, once that is known.
    fn caller(&self) -> Option<(SiloId, SiloUserId)>;
}

/// So many bytes of a digest tell lists and callers apart. Nobody gains by
/// finding another with the same: a token lets nobody see anything.
const OF_BYTES: usize = 8;

/// What tells the list of this request, as its caller sees it, from all others.
fn of(asked: &impl Asked) -> Result<String, Error> {
    let Some((silo, user)) = asked.caller() else {
        return Err(Error::internal("a page for nobody"));
    };
    let mut digest = Sha256::new();
    digest.update(silo.0.as_bytes());
    digest.update(user.0.as_bytes());
    digest.update(asked.request().request.uri().path());
    let digest = digest.finalize();
    let bytes = digest.iter().take(OF_BYTES);
    Ok(bytes.map(|byte| format!("{byte:02x}")).collect())
}

fn not_of_this_list() -> Error {
    Error::InvalidRequest {
        message: "page_token: it is of another list, or was given to another \
                  user: begin without one"
            .to_owned(),
    }
}

/// One request for a page: of what, from where, how much.
#[derive(Debug)]
pub struct Listing<W, P> {
    /// What the list is within.
    pub within: W,
    of: String,
    place: P,
    limit: u32,
}

impl<W, P> Listing<W, P>
where
    W: Clone + DeserializeOwned + Serialize,
    P: Clone + DeserializeOwned + Serialize,
{
    /// Understands the parameters of a request whose caller is known.
    ///
    /// # Errors
    ///
    /// The token is not one of this list's for this caller.
    pub fn new<M>(
        asked: &impl Asked,
        pages: Pages<W, M, P>,
    ) -> Result<Self, HttpError>
    where
        M: Default + DeserializeOwned + JsonSchema + Send + Sync + Into<P>,
        W: JsonSchema + Send + Sync,
        P: Send + Sync,
    {
        let params = pages.into_inner();
        let limit = asked.request().page_limit(&params)?.get();
        let limit = limit.min(PAGE_MAX_ITEMS);
        let of = of(asked)?;
        let (within, place) = match params.page {
            WhichPage::First(scan) => (scan.within, scan.sort_by.into()),
            WhichPage::Next(token) if token.of == of => {
                (token.within, token.after)
            }
            WhichPage::Next(_) => {
                return Err(not_of_this_list().into());
            }
        };
        Ok(Self { within, of, place, limit })
    }

    /// The same for the database.
    pub fn page<K: From<P>>(&self) -> Page<K> {
        Page { by: self.place.clone().into(), limit: self.limit.into() }
    }

    /// The answer: each of `rows` as a view, and the token of the next page,
    /// whose place `next` tells from the last view. A page that is not full
    /// is the last one.
    pub fn answer<R, V>(
        self,
        rows: Vec<R>,
        view: impl Fn(R) -> V,
        next: impl Fn(&P, &V) -> P,
    ) -> Result<HttpResponseOk<ResultsPage<V>>, HttpError>
    where
        V: JsonSchema + Serialize + Send + Sync + 'static,
    {
        let full = u32::try_from(rows.len()).is_ok_and(|n| n >= self.limit);
        let views = rows.into_iter().map(view).collect();
        let token = |last: &V, list: &Self| Token {
            of: list.of.clone(),
            within: list.within.clone(),
            after: next(&list.place, last),
        };
        let mut page = ResultsPage::new(views, &self, token)?;
        page.next_page = page.next_page.filter(|_| full);
        Ok(HttpResponseOk(page))
    }
}

#[cfg(test)]
mod tests;
