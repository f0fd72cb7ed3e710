//! What silos may have at once, and what they have. What starts are charged
//! with is the placement's; here it is written to the database.

use harness::{Client, GIB, Setup, TestNexus, is};
use reqwest::Method;
use serde_json::{Value, json};

const QUOTAS: &str = "/v1/system/silo-quotas";
const UTILIZATION: &str = "/v1/system/utilization/silos";

fn quotas_of(silo: &str) -> String {
    format!("/v1/system/silos/{silo}/quotas")
}

fn utilization_of(silo: &str) -> String {
    format!("{UTILIZATION}/{silo}")
}

fn counts(cpus: u64, memory: u64, storage: u64) -> Value {
    json!({ "cpus": cpus, "memory": memory, "storage": storage })
}

/// What a silo has that was given no quota: more than it can feel.
fn unfelt() -> Value {
    counts(1_000_000_000, GIB << 30, GIB << 30)
}

/// The id of the caller's silo.
async fn silo_of(client: &Client) -> String {
    let me = client.get("/v1/me").await.expect(200);
    me["silo_id"].as_str().unwrap().to_string()
}

/// Writes what a silo has.
fn set_use(nexus: &TestNexus, silo: &str, cpus: u64, memory: u64, disk: u64) {
    nexus.sql(&format!(
        "UPDATE silo_quota SET used_vcpus = {cpus}, \
             used_memory_bytes = {memory}, used_storage_bytes = {disk} \
         WHERE silo_id = '{silo}'"
    ));
}

#[tokio::test]
async fn a_new_silo_has_nothing_and_may_have_more_than_it_can_feel() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let silo = silo_of(&nexus.other_silo("other").await).await;
    let mut quotas = unfelt();
    quotas["silo_id"] = silo.as_str().into();
    let utilization = json!({
        "silo_id": silo,
        "silo_name": "other",
        "allocated": unfelt(),
        "provisioned": counts(0, 0, 0),
    });
    for which in ["other", &silo] {
        let path = quotas_of(which);
        assert_eq!(nexus.get(&path).await.expect(200), quotas);
        let path = utilization_of(which);
        assert_eq!(nexus.get(&path).await.expect(200), utilization);
    }
}

#[tokio::test]
async fn what_an_update_names_changes_and_nothing_else() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let other = nexus.other_silo("other").await;
    let silo = silo_of(&other).await;
    let before = nexus.get(&quotas_of("main")).await.expect(200);
    let mut quotas = unfelt();
    quotas["silo_id"] = silo.as_str().into();
    for (which, change) in [
        ("other", json!({ "cpus": 7 })),
        (&silo, json!({ "memory": 5 * GIB, "storage": null })),
        ("other", json!({ "storage": 9 * GIB, "cpus": null })),
        ("other", json!({})),
        (&silo, json!({ "cpus": 0, "memory": 0, "storage": 0 })),
        (&silo, json!({ "cpus": i64::MAX, "memory": i64::MAX })),
        ("other", json!({ "storage": i64::MAX, "of_next_year": 1 })),
    ] {
        let named = change.as_object().unwrap();
        for field in ["cpus", "memory", "storage"] {
            if let Some(limit) = named.get(field).filter(|v| !v.is_null()) {
                quotas[field] = limit.clone();
            }
        }
        let path = quotas_of(which);
        let answer = nexus.put(&path, change.clone()).await.expect(200);
        assert_eq!(answer, quotas, "{change}");
        assert_eq!(nexus.get(&path).await.expect(200), quotas, "{change}");
    }
    let mut limits = quotas.clone();
    limits.as_object_mut().unwrap().remove("silo_id");
    let shown = nexus.get(&utilization_of("other")).await.expect(200);
    assert_eq!(shown["allocated"], limits);
    let own = other.get("/v1/utilization").await.expect(200);
    assert_eq!(own["capacity"], limits);
    assert_eq!(nexus.get(&quotas_of("main")).await.expect(200), before);
}

#[tokio::test]
async fn a_limit_may_be_set_below_the_use_which_stays() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let silo = silo_of(&nexus).await;
    set_use(&nexus, &silo, 12, 34 * GIB, 56 * GIB);
    let lower = counts(11, 33 * GIB, 0);
    nexus.put(&quotas_of("main"), lower.clone()).await.expect(200);
    let used = counts(12, 34 * GIB, 56 * GIB);
    let shown = nexus.get(&utilization_of("main")).await.expect(200);
    assert_eq!(shown["allocated"], lower);
    assert_eq!(shown["provisioned"], used);
    let own = nexus.get("/v1/utilization").await.expect(200);
    assert_eq!(own, json!({ "capacity": lower, "provisioned": used }));
}

#[tokio::test]
async fn a_wrong_limit_is_refused_by_name_and_nothing_changes() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let row = || nexus.database.row("SELECT * FROM silo_quota");
    let before = row();
    let negative = nexus.put(&quotas_of("main"), json!({ "cpus": -1 })).await;
    let message = negative.error(400, "InvalidValue");
    assert_eq!(message, "cpus: -1 is negative: it must be 0 or more");
    for field in ["cpus", "memory", "storage"] {
        for wrong in [
            json!(-1),
            json!(1_u64 << 63),
            json!(1.5),
            json!("1"),
            json!([]),
            json!(true),
        ] {
            // What is right beside it is not taken, either.
            let mut body = counts(1, GIB, GIB);
            body[field] = wrong.clone();
            let refused = nexus.put(&quotas_of("main"), body).await;
            assert_eq!(refused.status, 400, "{field} {wrong}: {refused:?}");
            let message = refused.body["message"].as_str().unwrap();
            assert!(message.contains(field), "{wrong}: {message}");
        }
    }
    for (body, code) in [("", 400), ("{", 400), ("[]", 400), ("null", 400)] {
        let path = quotas_of("main");
        let refused = nexus.send_text(Method::PUT, &path, body).await;
        assert_eq!(refused.status, code, "{body:?}: {refused:?}");
    }
    assert_eq!(row(), before);
}

#[tokio::test]
async fn a_silo_that_is_not_there_or_not_any_more_has_no_quota() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let gone = silo_of(&nexus.other_silo("gone").await).await;
    nexus.sql("UPDATE silo SET time_deleted = now() WHERE name = 'gone'");
    let nowhere = uuid::Uuid::new_v4().to_string();
    for silo in ["gone", &gone, "nowhere", &nowhere] {
        for answer in [
            nexus.get(&quotas_of(silo)).await,
            nexus.put(&quotas_of(silo), json!({ "cpus": 1 })).await,
            nexus.get(&utilization_of(silo)).await,
        ] {
            let message = answer.error(404, "ObjectNotFound");
            assert!(message.contains("silo"), "{message}");
            assert!(message.contains(silo), "{message}");
        }
    }
    for list in [QUOTAS, UTILIZATION] {
        let page = nexus.get(list).await.expect(200);
        assert_eq!(page["items"].as_array().unwrap().len(), 1, "{list}");
    }
    for wrong in ["under_score", "-", "UPPER"] {
        let refused = nexus.get(&quotas_of(wrong)).await;
        refused.error(400, "InvalidRequest");
    }
}

/// A list, two at a time.
async fn walk(client: &Client, list: &str) -> Vec<Value> {
    let sign = if list.contains('?') { '&' } else { '?' };
    let mut path = format!("{list}{sign}limit=2");
    let mut all = Vec::new();
    loop {
        let page = client.get(&path).await.expect(200);
        all.extend(page["items"].as_array().unwrap().clone());
        let Some(token) = page["next_page"].as_str() else {
            return all;
        };
        let (list, _) = list.split_once('?').unwrap_or((list, ""));
        path = format!("{list}?limit=2&page_token={token}");
    }
}

#[tokio::test]
async fn the_silos_are_listed_by_id_or_name_each_with_what_is_its_own() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let names = ["acme", "beta", "main", "other", "zeta"];
    let mut ids = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let user = match *name {
            "main" => nexus.admin.clone(),
            name => nexus.other_silo(name).await,
        };
        let id = silo_of(&user).await;
        let n = u64::try_from(n).unwrap();
        nexus.put(&quotas_of(name), json!({ "cpus": n })).await.expect(200);
        set_use(&nexus, &id, 10 + n, n, 0);
        ids.push(id);
    }
    let own = |listed: &Value, of: &str| {
        let id = listed["silo_id"].as_str().unwrap();
        let n = ids.iter().position(|i| i == id).unwrap();
        assert_eq!(listed.pointer(of).unwrap().as_u64(), n.try_into().ok());
        n
    };
    let by_id = {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|n| &ids[*n]);
        order
    };
    for list in [QUOTAS.to_string(), format!("{QUOTAS}?sort_by=id_ascending")] {
        let all = walk(&nexus, &list).await;
        let order: Vec<_> = all.iter().map(|q| own(q, "/cpus")).collect();
        assert_eq!(order, by_id, "{list}");
    }
    for (sort, expected) in [
        ("", vec![0, 1, 2, 3, 4]),
        ("?sort_by=name_ascending", vec![0, 1, 2, 3, 4]),
        ("?sort_by=name_descending", vec![4, 3, 2, 1, 0]),
        ("?sort_by=id_ascending", by_id),
    ] {
        let all = walk(&nexus, &format!("{UTILIZATION}{sort}")).await;
        let order: Vec<_> = all
            .iter()
            .map(|silo| {
                let n = own(silo, "/allocated/cpus");
                assert_eq!(silo["silo_name"], names[n]);
                assert_eq!(silo["provisioned"]["cpus"], 10 + n);
                n
            })
            .collect();
        assert_eq!(order, expected, "{sort}");
    }
}

#[tokio::test]
async fn a_user_sees_its_own_silo_s_use_and_an_admin_every_silo_s() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let plain = nexus.plain_user().await;
    let other = nexus.other_silo("other").await;
    for (client, n) in [(&plain, 3), (&other, 4)] {
        let silo = silo_of(client).await;
        nexus.put(&quotas_of(&silo), counts(n, n, n)).await.expect(200);
        set_use(&nexus, &silo, n, n, n);
    }
    for (client, n) in [(&plain, 3), (&nexus.admin, 3), (&other, 4)] {
        let own = client.get("/v1/utilization").await.expect(200);
        let all = counts(n, n, n);
        assert_eq!(own, json!({ "capacity": all, "provisioned": all }));
    }
    // Of its own silo, too, an admin alone may say it.
    let before = nexus.get(&quotas_of("main")).await.expect(200);
    for client in [&plain, &other] {
        for silo in ["main", "other", "nowhere"] {
            let change = json!({ "cpus": 1_000 });
            for answer in [
                client.get(&quotas_of(silo)).await,
                client.put(&quotas_of(silo), change).await,
                client.get(&utilization_of(silo)).await,
                client.get(QUOTAS).await,
                client.get(UTILIZATION).await,
            ] {
                let message = answer.error(403, "Forbidden");
                assert!(message.starts_with("not allowed to"), "{message}");
            }
        }
    }
    assert_eq!(nexus.get(&quotas_of("main")).await.expect(200), before);
}

/// An instance that failed to start, for this reason, so long ago, and that
/// nobody means to look at before tomorrow.
async fn failed(
    nexus: &TestNexus,
    client: &Client,
    body: Value,
    kind: &str,
    minutes: usize,
) -> String {
    let mut body = body;
    body["auto_restart_policy"] = "never".into();
    let id = client.create_as(body).await;
    client.wait(&id, is("failed")).await;
    nexus.settled(&id).await;
    nexus.sql(&format!(
        "UPDATE instance SET auto_restart_policy = NULL, \
             reconcile_at = now() + INTERVAL '1 day', next_retry_at = NULL, \
             time_state_updated = now() - {minutes} * INTERVAL '1 minute' \
             WHERE id = '{id}'; \
         UPDATE start_attempt SET failure_kind = '{kind}' \
             WHERE instance_id = '{id}'"
    ));
    id
}

#[tokio::test]
async fn a_raised_limit_wakes_those_that_fit_the_longest_waiting_first() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let silo = silo_of(&nexus).await;
    nexus.put(&quotas_of("main"), counts(1, GIB, 0)).await.expect(200);
    set_use(&nexus, &silo, 1, GIB, 0);
    let other = nexus.other_silo("other").await;
    let project = json!({ "name": "demo", "description": "" });
    other.post("/v1/projects", project).await.expect(201);

    let quota = "quota_exceeded";
    let mut waiting = Vec::new();
    for n in 0..10 {
        let body = Client::instance(&format!("db-{n}"), true);
        waiting.push(failed(&nexus, &nexus, body, quota, 30 - n).await);
    }
    // These wait longer than any, and not for this.
    let mut passed_over = Vec::new();
    for (name, key, value, kind) in [
        ("wide", "ncpus", json!(3), quota),
        ("fat", "memory", json!(3 * GIB), quota),
        ("roomless", "ncpus", json!(2), "insufficient_capacity"),
        ("unwilling", "ncpus", json!(2), quota),
    ] {
        let mut body = Client::instance(name, true);
        body[key] = value;
        passed_over.push(failed(&nexus, &nexus, body, kind, 60).await);
    }
    let unwilling = passed_over.last().unwrap();
    nexus.sql(&format!(
        "UPDATE instance SET auto_restart_policy = 'never' \
         WHERE id = '{unwilling}'"
    ));
    let body = Client::instance("theirs", true);
    passed_over.push(failed(&nexus, &other, body, quota, 60).await);
    // Its owner is about to have it looked at.
    let mut owner = nexus.database.connect();
    let locked = waiting.remove(0);
    hold(&mut owner, &locked);
    passed_over.push(locked);

    let woken = || {
        let rows = nexus.database.row(
            "SELECT coalesce(jsonb_agg(id), '[]'::JSONB) AS ids \
             FROM instance WHERE reconcile_at < now() + INTERVAL '1 hour'",
        );
        let mut ids: Vec<String> =
            serde_json::from_value(rows["ids"].clone()).unwrap();
        ids.sort();
        ids
    };
    // What is lowered, or not enough, wakes nobody.
    for change in [
        json!({ "cpus": 3 }),
        json!({ "cpus": 2, "memory": 3 * GIB }),
        json!({ "cpus": 1 }),
        json!({ "memory": 2 * GIB, "storage": GIB }),
        json!({ "cpus": 3 }),
        json!({}),
    ] {
        nexus.put(&quotas_of("main"), change.clone()).await.expect(200);
        assert_eq!(woken(), Vec::<String>::new(), "{change}");
    }
    let enough = json!({ "memory": 3 * GIB });
    nexus.put(&quotas_of("main"), enough).await.expect(200);
    let mut first = waiting[..8].to_vec();
    first.sort();
    assert_eq!(woken(), first);
}

/// Locks an instance's row until the connection is dropped.
fn hold(conn: &mut diesel::PgConnection, instance: &str) {
    use diesel::connection::SimpleConnection;
    let lock =
        format!("SELECT id FROM instance WHERE id = '{instance}' FOR UPDATE");
    conn.batch_execute(&format!("BEGIN; {lock}")).unwrap();
}
