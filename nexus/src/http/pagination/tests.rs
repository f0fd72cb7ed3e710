//! Lists of names over HTTP, from a set in memory.

use std::collections::BTreeSet;
use std::sync::Mutex;

use db_model::NameOrId;
use dropshot::test_util::{ClientTestContext, read_json};
use dropshot::{
    ApiDescription, ConfigDropshot, HttpServer, ServerBuilder, endpoint,
};
use http::{Method, StatusCode};
use proptest::prelude::*;
use slog::{Discard, Logger, o};

use super::*;

type Names = Mutex<BTreeSet<Name>>;

/// As the database would do it.
fn names_of_page(names: &Names, page: Page<ByNameOrId>) -> Vec<Name> {
    let names = names.lock().expect("no test panics with the lock");
    let limit = usize::try_from(page.limit).expect("a small limit");
    let names = names.iter().cloned();
    match page.by {
        ByNameOrId::Name { after, descending: false } => names
            .filter(|name| after.as_ref().is_none_or(|after| name > after))
            .take(limit)
            .collect(),
        ByNameOrId::Name { after, descending: true } => names
            .rev()
            .filter(|name| after.as_ref().is_none_or(|after| name < after))
            .take(limit)
            .collect(),
        ByNameOrId::Id { .. } => panic!("names have no ids"),
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct ShelfSelector {
    shelf: NameOrId,
}

#[derive(Debug, Deserialize, JsonSchema, Serialize)]
struct Item {
    shelf: NameOrId,
    name: Name,
}

/// Somebody's request.
struct Visit(RequestContext<Names>);

impl Asked for Visit {
    type Context = Names;

    fn request(&self) -> &RequestContext<Names> {
        &self.0
    }

    fn caller(&self) -> Option<(SiloId, SiloUserId)> {
        Some((Uuid::nil().into(), Uuid::nil().into()))
    }
}

#[endpoint { method = GET, path = "/items" }]
async fn item_list(
    rqctx: RequestContext<Names>,
    query: PagesByNameOrId<ShelfSelector>,
) -> Result<HttpResponseOk<ResultsPage<Item>>, HttpError> {
    let asked = Visit(rqctx);
    let list = Listing::new(&asked, query)?;
    let names = names_of_page(asked.0.context(), list.page());
    let shelf = list.within.shelf.clone();
    let view = |name| Item { shelf: shelf.clone(), name };
    list.answer(names, view, |at, item| at.after(&item.name, Uuid::nil()))
}

fn name(text: impl AsRef<str>) -> Name {
    text.as_ref().parse().expect("a name")
}

struct Shop {
    server: HttpServer<Names>,
    client: ClientTestContext,
}

impl Shop {
    fn open(names: impl IntoIterator<Item = Name>) -> Self {
        let mut api = ApiDescription::new();
        api.register(item_list).expect("a sound endpoint");
        let log = Logger::root(Discard, o!());
        let names = Mutex::new(names.into_iter().collect());
        let server = ServerBuilder::new(api, names, log.clone())
            .config(ConfigDropshot::default())
            .start()
            .expect("a free port");
        let client = ClientTestContext::new(server.local_addr(), log);
        Self { server, client }
    }

    async fn list(&self, query: &str) -> ResultsPage<Item> {
        let path = format!("/items?{query}");
        let mut response = self
            .client
            .make_request_no_body(Method::GET, &path, StatusCode::OK)
            .await
            .expect("a page");
        read_json(&mut response).await
    }

    async fn refusal(&self, query: &str) -> String {
        let path = format!("/items?{query}");
        let status = StatusCode::BAD_REQUEST;
        self.client.make_request_error(Method::GET, &path, status).await.message
    }

    /// Changes what is there.
    fn names(&self) -> std::sync::MutexGuard<'_, BTreeSet<Name>> {
        let names = self.server.app_private();
        names.lock().expect("no test panics with the lock")
    }
}

fn names_on(page: &ResultsPage<Item>) -> Vec<&str> {
    page.items.iter().map(|item| item.name.as_str()).collect()
}

#[tokio::test]
async fn a_token_alone_leads_on_in_the_same_list_and_order() {
    let shop = Shop::open(["a", "b", "c", "d"].map(name));
    let query = "shelf=top&sort_by=name_descending&limit=3";
    let first = shop.list(query).await;
    assert_eq!(names_on(&first), ["d", "c", "b"]);
    let token = first.next_page.expect("there is more");
    let second = shop.list(&format!("limit=3&page_token={token}")).await;
    assert_eq!(names_on(&second), ["a"]);
    assert_eq!(second.items[0].shelf, name("top").into());
    assert_eq!(second.next_page, None);
}

#[tokio::test]
async fn what_comes_and_goes_between_pages_shifts_nothing() {
    let shop = Shop::open(["b", "d", "f"].map(name));
    let first = shop.list("shelf=top&limit=2").await;
    assert_eq!(names_on(&first), ["b", "d"]);
    shop.names().extend(["a", "c", "e"].map(name));
    shop.names().remove(&name("d"));
    let token = first.next_page.expect("there may be more");
    let second = shop.list(&format!("limit=2&page_token={token}")).await;
    assert_eq!(names_on(&second), ["e", "f"]);
}

#[tokio::test]
async fn a_limit_is_a_hundred_unless_named_and_a_thousand_at_most() {
    let shop = Shop::open((0..1001).map(|n| name(format!("n{n}"))));
    assert_eq!(shop.list("shelf=top").await.items.len(), 100);
    assert_eq!(shop.list("shelf=top&limit=3000").await.items.len(), 1000);
}

#[tokio::test]
async fn senseless_parameters_are_refused() {
    let shop = Shop::open([]);
    for query in [
        "shelf=top&limit=0",
        "shelf=top&limit=-1",
        "shelf=top&limit=x",
        "shelf=top&sort_by=size",
        "shelf=No+Name",
        "page_token=garbage",
        "page_token=",
        // No token of this list: {"v":"v1","page_start":{}}
        "page_token=eyJ2IjoidjEiLCJwYWdlX3N0YXJ0Ijp7fX0=",
    ] {
        shop.refusal(query).await;
    }
    let message = shop.refusal("limit=1").await;
    assert!(message.contains("missing field `shelf`"), "{message}");
}

#[tokio::test]
async fn a_token_is_short_whatever_the_names() {
    let longest = "n".repeat(63);
    let shop = Shop::open([name(&longest)]);
    let query = format!("limit=1&shelf={longest}&sort_by=name_descending");
    let token = shop.list(&query).await.next_page.expect("a full page");
    assert!(token.len() <= 512, "{token}");
}

#[test]
fn a_place_by_id_or_time_survives_its_token() {
    let id = Uuid::from_u128(7);
    let time = "2026-01-02T03:04:05.123456Z".parse().expect("a time");
    let place = TimePlace(None).before(time, id);
    let json = serde_json::to_string(&place).expect("it is plain data");
    let place = serde_json::from_str::<TimePlace>(&json).expect("its own");
    assert_eq!(ByTime::from(place).before, Some((time, id)));

    let place = IdPlace(None).after(id);
    let json = serde_json::to_string(&place).expect("it is plain data");
    let place = serde_json::from_str::<IdPlace>(&json).expect("its own");
    assert_eq!(ById::from(place).after, Some(id));
}

proptest! {
    #[test]
    fn a_token_says_what_it_was_made_of_and_is_short(
        of in "[0-9a-f]{16}",
        shelf in "[a-z][a-z0-9-]{0,61}[a-z0-9]",
        last in proptest::option::of("[a-z][a-z0-9-]{0,61}[a-z0-9]"),
        falling: bool,
    ) {
        let after = last.map(name);
        let place = if falling {
            NameOrIdPlace::NameDescending(after)
        } else {
            NameOrIdPlace::NameAscending(after)
        };
        let within = ShelfSelector { shelf: name(shelf).into() };
        let token = Token { of, within, after: place };
        let json = serde_json::to_string(&token).expect("it is plain data");
        // dropshot wraps it so, and then in base64.
        let wrapped = r#"{"v":"v1","page_start":}"#.len() + json.len();
        prop_assert!(wrapped.div_ceil(3) * 4 <= 512);
        let read: Token<ShelfSelector, NameOrIdPlace> =
            serde_json::from_str(&json).expect("its own");
        prop_assert_eq!(serde_json::to_string(&read).expect("plain"), json);
    }
}
