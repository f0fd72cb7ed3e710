//! Lists: their sorts, their limits, and tokens of pages that hold whatever
//! comes and goes in between.

use harness::{Client, Setup, TestNexus, is};
use reqwest::Method;
use serde_json::{Value, json};

const PROJECTS: &str = "/v1/projects";
const INSTANCES: &str = "/v1/instances?project=demo";
const GROUP_KINDS: [&str; 2] = ["affinity-groups", "anti-affinity-groups"];
const SSH_KEY: &str = "ssh-ed25519 \
    AAAAC3NzaC1lZDI1NTE5AAAAIHZ8Z3dGm9lSxYV4mA0TQzJm5l9Z3kq1mQyqzqkz3m1v";
const DISKS: &str = "/v1/disks?project=demo";

/// The lists in which nothing ever is, so that no page follows.
const EMPTY: [&str; 16] = [
    "current_user_groups",
    "external_subnet_list",
    "floating_ip_list",
    "group_list",
    "instance_network_interface_list",
    "ip_pool_list",
    "physical_disk_list",
    "silo_identity_provider_list",
    "silo_ip_pool_list",
    "silo_metric",
    "sled_list_uninitialized",
    "sled_physical_disk_list",
    "system_metric",
    "system_timeseries_schema_list",
    "vpc_list",
    "vpc_subnet_list",
];

fn with(path: &str, query: &str) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}{query}")
}

/// What a page holds. A group's member is told with its type.
fn items(page: &Value) -> Vec<Value> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item.get("value").unwrap_or(item).clone()).collect()
}

fn keys(items: &[Value], key: &str) -> Vec<String> {
    items.iter().map(|i| i[key].as_str().unwrap().to_string()).collect()
}

/// The page after `page`: nothing but its token is needed. None after the
/// last.
async fn next(client: &Client, path: &str, page: &Value) -> Option<Value> {
    let token = page["next_page"].as_str()?;
    let (path, _) = path.split_once('?').unwrap_or((path, ""));
    let path = format!("{path}?limit=2&page_token={token}");
    Some(client.get(&path).await.expect(200))
}

/// The whole list, two things at a time.
async fn walk(client: &Client, path: &str) -> Vec<Value> {
    let mut page = client.get(&with(path, "limit=2")).await.expect(200);
    let mut all = items(&page);
    while let Some(following) = next(client, path, &page).await {
        assert_eq!(items(&page).len(), 2, "only the last page is not full");
        all.extend(items(&following));
        page = following;
    }
    all
}

async fn make_projects(nexus: &Client, names: &[&str]) {
    for name in names {
        let body = json!({ "name": name, "description": "" });
        nexus.post(PROJECTS, body).await.expect(201);
    }
}

#[tokio::test]
async fn lists_by_name_or_id_are_sorted_as_asked_and_by_name_if_not() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    make_projects(&nexus, &["b", "a-1", "zz", "b-0"]).await;
    let names = ["y", "x", "x-9", "x-10", "a"];
    let mut ids = Vec::new();
    for name in names {
        ids.push(nexus.create(name, false).await);
    }
    let mut lists = vec![PROJECTS.to_string(), INSTANCES.to_string()];
    let groups = joined(&nexus, &ids[0], &names).await;
    for (kind, group) in GROUP_KINDS.iter().zip(&groups) {
        for id in &ids[1..] {
            join(&nexus, kind, group, id).await;
        }
        lists.push(format!("/v1/{kind}?project=demo"));
        lists.push(format!("/v1/{kind}/{group}/members"));
        lists.push(format!("/v1/{kind}/a/members?project=demo"));
        lists.push(format!("/v1/instances/{}/{kind}", ids[0]));
        lists.push(format!("/v1/instances/y/{kind}?project=demo"));
    }
    let id = nexus.create("holder", false).await;
    for name in ["s", "r", "r-9", "r-10", "b"] {
        nexus.create_disk(name).await;
        nexus.ask_disk(&id, "attach", name).await.expect(202);
    }
    lists.push(DISKS.to_string());
    lists.push(format!("/v1/instances/{id}/disks"));
    for path in &lists {
        let whole = items(&nexus.get(path).await.expect(200));
        assert!(whole.len() >= 5);
        let mut names = keys(&whole, "name");
        let mut ids = keys(&whole, "id");
        assert!(names.is_sorted(), "{names:?}");
        for (sort, key, sorted) in [
            ("name_ascending", "name", names.clone()),
            ("name_descending", "name", {
                names.reverse();
                names
            }),
            ("id_ascending", "id", {
                ids.sort();
                ids
            }),
        ] {
            let path = with(path, &format!("sort_by={sort}"));
            let whole = items(&nexus.get(&path).await.expect(200));
            assert_eq!(keys(&whole, key), sorted, "{path}");
            assert_eq!(walk(&nexus, &path).await, whole, "{path}");
        }
    }
}

#[tokio::test]
async fn lists_of_what_has_no_name_are_sorted_by_id_or_newest_first() {
    let nexus = TestNexus::with(Setup { sleds: 3, ..Setup::default() }).await;
    for name in ["one", "two", "three"] {
        let mut body = Client::instance(name, true);
        body["ncpus"] = 9.into();
        let id = nexus.create_as(body).await;
        nexus.wait(&id, is("failed")).await;
    }
    let id = nexus.create("db", false).await;
    for _ in 0..3 {
        nexus.ask(&id, "start").await.expect(202);
        nexus.ask(&id, "stop").await.expect(202);
        nexus.wait(&id, is("stopped")).await;
    }
    let sleds = "/v1/system/hardware/sleds";
    let failures = "/v1/start-failures?project=demo";
    let id_of = |item: &Value| {
        item.pointer("/instance/id").unwrap_or(&item["id"]).clone()
    };
    for path in [sleds, failures] {
        let whole = items(&nexus.get(path).await.expect(200));
        assert_eq!(whole.len(), 3, "{path}");
        let ids: Vec<_> = whole.iter().map(|i| id_of(i).to_string()).collect();
        assert!(ids.is_sorted(), "{path}: {ids:?}");
        let path = with(path, "sort_by=id_ascending");
        assert_eq!(ids_of(&walk(&nexus, &path).await, id_of), ids, "{path}");
    }

    let attempts = format!("/v1/instances/{id}/start-attempts");
    let whole = items(&nexus.get(&attempts).await.expect(200));
    assert_eq!(whole.len(), 3);
    let mut times = keys(&whole, "time_started");
    times.reverse();
    assert!(times.is_sorted(), "{times:?}");
    let path = with(&attempts, "sort_by=time_descending");
    assert_eq!(walk(&nexus, &path).await, whole);
    let by_name = "/v1/instances/db/start-attempts?project=demo";
    assert_eq!(walk(&nexus, by_name).await, whole);
}

fn ids_of(items: &[Value], id_of: impl Fn(&Value) -> Value) -> Vec<String> {
    items.iter().map(|i| id_of(i).to_string()).collect()
}

#[tokio::test]
async fn the_instances_of_a_sled_are_listed_in_pages() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    for name in ["one", "two", "three"] {
        nexus.running(name, json!({})).await;
    }
    let sled = &nexus.agents[0].id;
    let path = format!("/v1/system/hardware/sleds/{sled}/instances");
    let whole = items(&nexus.get(&path).await.expect(200));
    assert_eq!(whole.len(), 3);
    assert!(keys(&whole, "id").is_sorted());
    assert_eq!(walk(&nexus, &path).await, whole);
}

/// Makes groups of these names, of both kinds, and has an instance join them;
/// the ids of the last two.
async fn joined(nexus: &Client, id: &str, names: &[&str]) -> [String; 2] {
    let mut last = [String::new(), String::new()];
    for name in names {
        for (kind, last) in GROUP_KINDS.iter().zip(&mut last) {
            let body = json!({
                "name": name,
                "description": "",
                "policy": "allow",
                "failure_domain": "sled",
            });
            let path = format!("/v1/{kind}?project=demo");
            let group = nexus.post(&path, body).await.expect(201);
            *last = group["id"].as_str().unwrap().to_string();
            join(nexus, kind, last, id).await;
        }
    }
    last
}

async fn join(nexus: &Client, kind: &str, group: &str, id: &str) {
    let path = format!("/v1/{kind}/{group}/members/instance/{id}");
    nexus.request(Method::POST, &path, None).await.expect(201);
}

/// Every list of the API, with a token of a page of it.
async fn all_lists(nexus: &TestNexus) -> Vec<(String, String)> {
    let key = json!({ "name": "k", "description": "", "public_key": SSH_KEY });
    nexus.post("/v1/me/ssh-keys", key).await.expect(201);
    let (id, _) = nexus.running("db", json!({})).await;
    let mut body = Client::instance("too-large", true);
    body["ncpus"] = 9.into();
    let failed = nexus.create_as(body).await;
    nexus.wait(&failed, is("failed")).await;
    let rests = nexus.create("rests", false).await;
    nexus.create_disk("data").await;
    nexus.ask_disk(&rests, "attach", "data").await.expect(202);
    nexus.create_blank("blank").await;
    let snapshot =
        json!({ "name": "shot", "description": "", "disk": "blank" });
    let snapshot =
        nexus.post("/v1/snapshots?project=demo", snapshot).await.expect(201);
    let image = json!({
        "name": "image",
        "description": "",
        "os": "debian",
        "version": "12",
        "source": { "type": "snapshot", "id": snapshot["id"] },
    });
    nexus.post("/v1/images?project=demo", image).await.expect(201);
    let sled = &nexus.agents[0].id;
    let groups = joined(nexus, &failed, &["group"]).await;
    let me = nexus.get("/v1/me").await.expect(200)["id"].clone();
    let me = me.as_str().unwrap();
    let set_password = format!(
        "/v1/system/identity-providers/local/users/{me}/set-password?silo=main"
    );
    let password = json!({ "mode": "password", "value": "correct horse" });
    nexus.post(&set_password, password).await.expect(204);
    let login = json!({ "username": "admin", "password": "correct horse" });
    nexus.post("/v1/login/main/local", login).await.expect(204);
    // What was completed just now is not told yet.
    nexus
        .database
        .try_sql(
            "UPDATE audit_log \
             SET time_completed = time_completed - INTERVAL '1 minute'",
        )
        .unwrap();
    let mut lists = Vec::new();
    for path in [
        "/v1/system/audit-log?start_time=2026-01-01T00:00:00Z".to_string(),
        "/v1/system/silos".to_string(),
        "/v1/system/users".to_string(),
        "/v1/users".to_string(),
        format!("/v1/users/{me}/access-tokens"),
        format!("/v1/users/{me}/sessions"),
        "/v1/me/access-tokens".to_string(),
        PROJECTS.to_string(),
        INSTANCES.to_string(),
        format!("/v1/instances/{id}/start-attempts"),
        "/v1/start-failures?project=demo".to_string(),
        "/v1/system/hardware/sleds".to_string(),
        format!("/v1/system/hardware/sleds/{sled}/instances"),
        "/v1/affinity-groups?project=demo".to_string(),
        "/v1/anti-affinity-groups?project=demo".to_string(),
        format!("/v1/affinity-groups/{}/members", groups[0]),
        format!("/v1/anti-affinity-groups/{}/members", groups[1]),
        format!("/v1/instances/{failed}/affinity-groups"),
        format!("/v1/instances/{failed}/anti-affinity-groups"),
        "/v1/system/silo-quotas".to_string(),
        "/v1/system/utilization/silos".to_string(),
        DISKS.to_string(),
        format!("/v1/instances/{rests}/disks"),
        "/v1/system/hardware/racks".to_string(),
        "/v1/snapshots?project=demo".to_string(),
        "/v1/images?project=demo".to_string(),
        "/v1/me/ssh-keys".to_string(),
        format!("/v1/instances/{rests}/ssh-public-keys"),
    ] {
        let page = nexus.get(&with(&path, "limit=1")).await.expect(200);
        let token = page["next_page"].as_str().unwrap().to_string();
        lists.push((path, token));
    }
    let document: Value =
        serde_json::from_str(include_str!("../../nexus/openapi.json")).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let paginated = paths
        .values()
        .flat_map(|methods| methods.as_object().unwrap().values())
        .filter(|operation| !operation["x-dropshot-pagination"].is_null());
    let mut missing = Vec::new();
    for operation in paginated {
        missing.push(operation["operationId"].as_str().unwrap());
    }
    missing.retain(|id| !EMPTY.contains(id));
    assert_eq!(lists.len(), missing.len(), "a list is missing here");
    lists
}

#[tokio::test]
async fn a_limit_is_a_number_above_zero() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    for (path, token) in all_lists(&nexus).await {
        for limit in ["0", "-1", "1.5", "many", "", "4294967296"] {
            let path = with(&path, &format!("limit={limit}"));
            nexus.get(&path).await.error(400, "InvalidRequest");
            let path = with(&path, &format!("page_token={token}"));
            nexus.get(&path).await.error(400, "InvalidRequest");
        }
        let path = with(&path, "limit=4294967295");
        nexus.get(&path).await.expect(200);
    }
}

#[tokio::test]
async fn a_limit_above_the_most_gets_the_most() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    // Beside "demo".
    nexus.sql(
        "INSERT INTO project (id, silo_id, name, description, time_created, \
             time_modified) \
         SELECT gen_random_uuid(), silo_id, 'p-' || n, '', now(), now() \
         FROM project, generate_series(1, 1100) AS n",
    );
    let page = nexus.get("/v1/projects?limit=3000").await.expect(200);
    assert_eq!(items(&page).len(), 1000);
    let token = page["next_page"].as_str().unwrap();
    let path = format!("/v1/projects?limit=3000&page_token={token}");
    let rest = nexus.get(&path).await.expect(200);
    assert_eq!(items(&rest).len(), 101);
    assert_eq!(rest["next_page"], Value::Null);
    let page = nexus.get(PROJECTS).await.expect(200);
    assert_eq!(items(&page).len(), 100, "without a limit");
}

#[tokio::test]
async fn an_unknown_sort_is_refused() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    for (path, _) in all_lists(&nexus).await {
        for sort in ["size_ascending", "", "NAME_ASCENDING"] {
            let path = with(&path, &format!("sort_by={sort}"));
            nexus.get(&path).await.error(400, "InvalidRequest");
        }
    }
}

#[tokio::test]
async fn what_is_no_token_of_the_list_is_refused() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let lists = all_lists(&nexus).await;
    for (path, token) in &lists {
        let cut = &token[..token.len() - 8];
        for garbage in ["garbage", "!", "e30=", "bnVsbA==", cut] {
            let path = with(path, &format!("page_token={garbage}"));
            nexus.get(&path).await.error(400, "InvalidRequest");
        }
        nexus
            .get(&with(path, &format!("page_token={token}")))
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn a_page_goes_on_where_the_last_ended_whatever_came_and_went() {
    // After the first page, what it ended with goes, and something that is to
    // come; and something comes before, between and after.
    for (sort, first, goes, comes, rest) in [
        ("name_ascending", "b d", "d f", "a e i", "e h i j l n"),
        ("name_descending", "n l", "l f", "o k e a", "k j h e d b a"),
    ] {
        let nexus = TestNexus::with(Setup::no_sled()).await;
        nexus.delete("/v1/projects/demo").await.expect(204);
        make_projects(&nexus, &["b", "d", "f", "h", "j", "l", "n"]).await;
        let path = format!("{PROJECTS}?sort_by={sort}");
        let mut page = nexus.get(&with(&path, "limit=2")).await.expect(200);
        assert_eq!(keys(&items(&page), "name").join(" "), first);
        for name in goes.split(' ') {
            nexus.delete(&format!("{PROJECTS}/{name}")).await.expect(204);
        }
        make_projects(&nexus, &comes.split(' ').collect::<Vec<_>>()).await;
        let mut seen = Vec::new();
        while let Some(following) = next(&nexus, &path, &page).await {
            seen.extend(keys(&items(&following), "name"));
            page = following;
        }
        assert_eq!(seen.join(" "), rest, "{sort}");
    }
}

#[tokio::test]
async fn a_page_by_id_repeats_nothing_and_leaves_nothing_out() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for n in 0..8 {
        nexus.create(&format!("old-{n}"), false).await;
    }
    let path = with(INSTANCES, "sort_by=id_ascending");
    let old = keys(&items(&nexus.get(&path).await.expect(200)), "id");
    let mut page = nexus.get(&with(&path, "limit=2")).await.expect(200);
    let mut seen = keys(&items(&page), "id");
    let gone = [&old[1], &old[4]];
    for id in gone {
        nexus.delete_instance(id).await.expect(204);
    }
    for n in 0..8 {
        nexus.create(&format!("new-{n}"), false).await;
    }
    while let Some(following) = next(&nexus, &path, &page).await {
        seen.extend(keys(&items(&following), "id"));
        page = following;
    }
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(seen.windows(2).all(|w| w[0] != w[1]), "{seen:?}");
    let stayed = old.iter().filter(|id| **id != old[4]);
    for id in stayed {
        assert!(seen.contains(id), "{id} of {seen:?}");
    }
    assert!(!seen.contains(&old[4]));
}

#[tokio::test]
async fn a_history_goes_on_where_it_was_though_it_grows() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let id = nexus.create("db", false).await;
    let path = format!("/v1/instances/{id}/start-attempts");
    let start = async || {
        nexus.ask(&id, "start").await.expect(202);
        nexus.ask(&id, "stop").await.expect(202);
        nexus.wait(&id, is("stopped")).await;
    };
    for _ in 0..4 {
        start().await;
    }
    let old = items(&nexus.get(&path).await.expect(200));
    let page = nexus.get(&with(&path, "limit=2")).await.expect(200);
    start().await;
    let mut seen = items(&page);
    let page = next(&nexus, &path, &page).await.unwrap();
    seen.extend(items(&page));
    assert_eq!(keys(&seen, "id"), keys(&old, "id"));
}

#[tokio::test]
async fn a_client_may_repeat_what_it_asked_for_beside_the_token() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for name in ["a", "b", "c"] {
        nexus.create(name, false).await;
    }
    let path = with(INSTANCES, "sort_by=name_descending");
    let page = nexus.get(&with(&path, "limit=2")).await.expect(200);
    let token = page["next_page"].as_str().unwrap();
    let path = with(&path, &format!("limit=2&page_token={token}"));
    let rest = nexus.get(&path).await.expect(200);
    assert_eq!(keys(&items(&rest), "name"), ["a"]);
}

#[tokio::test]
async fn a_token_leads_nobody_on_but_whom_it_was_given() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let lists = all_lists(&nexus).await;
    let other_silo = nexus.other_silo("other").await;
    let token = nexus.process.bootstrap("main", "second", true).await;
    let colleague = nexus.with_token(&token.0);
    let token = nexus.process.bootstrap("main", "admin", true).await;
    let same_user = nexus.with_token(&token.0);
    for (path, token) in &lists {
        let (path, _) = path.split_once('?').unwrap_or((path, ""));
        let following = format!("{path}?limit=2&page_token={token}");
        for stranger in [&other_silo, &colleague] {
            let answer = stranger.get(&following).await;
            let message = answer.error(400, "InvalidRequest");
            assert!(message.starts_with("page_token: "), "{message}");
        }
        same_user.get(&following).await.expect(200);
        // Nor does it lead on in any other list, of the same kind or not.
        for (other, _) in lists.iter().filter(|(_, other)| other != token) {
            let (other, _) = other.split_once('?').unwrap_or((other, ""));
            let path = format!("{other}?page_token={token}");
            nexus.get(&path).await.error(400, "InvalidRequest");
        }
    }
}
