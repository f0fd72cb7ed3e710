//! SSH keys: kept for their user, and given to instances.

use harness::{Answer, Client, Setup, TestNexus, is};
use serde_json::{Value, json};

const KEYS: &str = "/v1/me/ssh-keys";
const INSTANCES: &str = "/v1/instances?project=demo";
const ED25519: &str = "ssh-ed25519 \
     AAAAC3NzaC1lZDI1NTE5AAAAIHZ8Z3dGm9lSxYV4mA0TQzJm5l9Z3kq1mQyqzqkz3m1v";

async fn nexus() -> TestNexus {
    TestNexus::with(Setup::no_sled()).await
}

async fn add(client: &Client, name: &str, public_key: &str) -> Answer {
    let body =
        json!({ "name": name, "description": "", "public_key": public_key });
    client.post(KEYS, body).await
}

/// Keeps a key, whose comment is its name; its id.
async fn kept(client: &Client, name: &str) -> String {
    let key = add(client, name, &line(name)).await.expect(201);
    key["id"].as_str().unwrap().to_string()
}

fn line(name: &str) -> String {
    format!("{ED25519} {name}")
}

async fn remove(client: &Client, key: &str) -> Answer {
    client.delete(&format!("{KEYS}/{key}")).await
}

/// What a request to create an instance with these keys is answered.
async fn create_with(client: &Client, name: &str, keys: Value) -> Answer {
    let mut body = Client::instance(name, false);
    body["ssh_public_keys"] = keys;
    client.post(INSTANCES, body).await
}

async fn created_with(client: &Client, name: &str, keys: Value) -> String {
    let made = create_with(client, name, keys).await.expect(201);
    made["id"].as_str().unwrap().to_string()
}

fn names(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|i| i["name"].as_str().unwrap().to_string()).collect()
}

async fn keys_of(client: &Client, instance: &str) -> Vec<String> {
    let path = format!("/v1/instances/{instance}/ssh-public-keys");
    names(&client.get(&path).await.expect(200))
}

#[tokio::test]
async fn a_key_is_kept_found_and_deleted() {
    let nexus = nexus().await;
    let me = nexus.get("/v1/me").await.expect(200);
    let body = json!({
        "name": "laptop",
        "description": "At home",
        "public_key": format!("\n{ED25519} me@home \n"),
    });
    let made = nexus.post(KEYS, body).await.expect(201);
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        made,
        json!({
            "id": id,
            "name": "laptop",
            "description": "At home",
            "silo_user_id": me["id"],
            "public_key": format!("{ED25519} me@home"),
            "time_created": made["time_created"],
            "time_modified": made["time_created"],
        })
    );
    let paths = [format!("{KEYS}/{id}"), format!("{KEYS}/laptop")];
    for path in &paths {
        assert_eq!(nexus.get(path).await.expect(200), made);
    }
    let list = nexus.get(KEYS).await.expect(200);
    assert_eq!(list["items"], json!([made]));

    remove(&nexus, "laptop").await.expect(204);
    for path in &paths {
        nexus.get(path).await.error(404, "ObjectNotFound");
        let message = nexus.delete(path).await.error(404, "ObjectNotFound");
        assert!(message.contains("SSH key with"), "{message}");
    }
    let list = nexus.get(KEYS).await.expect(200);
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn what_is_no_public_key_is_refused_and_not_repeated() {
    let nexus = nexus().await;
    let secret = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";
    let private = format!(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}\n\
         -----END OPENSSH PRIVATE KEY-----\n"
    );
    for (text, why) in [
        (private, "this is a private key"),
        (format!("{ED25519}\n{ED25519}"), "one line"),
        (String::new(), "one line"),
        (ED25519.replace("ssh-ed25519", "ssh-rsa"), "no key of that type"),
        ("ssh-ed25519 AAAA".to_string(), "no key of that type"),
        ("ssh-dss AAAA".to_string(), "one of ssh-ed25519, ssh-rsa, "),
        (format!("{ED25519} {}", "x".repeat(9000)), "longer than 8192"),
    ] {
        let refused = add(&nexus, "laptop", &text).await;
        let message = refused.error(400, "InvalidValue");
        assert!(message.starts_with("public_key: "), "{message}");
        assert!(message.contains(why), "{message}");
        assert!(!message.contains(secret), "{message}");
    }
    assert!(!nexus.process.child.log().contains(secret));
    let list = nexus.get(KEYS).await.expect(200);
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn a_key_is_its_user_s_own_and_so_is_its_name() {
    let nexus = nexus().await;
    let key = kept(&nexus, "laptop").await;
    let taken = add(&nexus, "laptop", ED25519).await;
    let message = taken.error(400, "ObjectAlreadyExists");
    assert!(message.contains("SSH key \"laptop\""), "{message}");

    // Another user of the same silo has keys of that name, and not this one.
    let token = nexus.process.bootstrap("main", "another", false).await;
    let another = nexus.with_token(&token.0);
    another.get(&format!("{KEYS}/{key}")).await.error(404, "ObjectNotFound");
    remove(&another, &key).await.error(404, "ObjectNotFound");
    let theirs = kept(&another, "laptop").await;
    assert_ne!(theirs, key);
    let refused = create_with(&another, "db", json!([key])).await;
    let message = refused.error(400, "InvalidValue");
    assert!(message.contains(&key), "{message}");

    remove(&nexus, &key).await.expect(204);
    assert_ne!(kept(&nexus, "laptop").await, key);
    let path = format!("{KEYS}/laptop");
    assert_eq!(another.get(&path).await.expect(200)["id"], theirs.as_str());
}

#[tokio::test]
async fn a_user_has_at_most_a_hundred_keys() {
    let nexus = nexus().await;
    nexus.sql(&format!(
        "INSERT INTO ssh_key SELECT gen_random_uuid(), id, 'key-' || n, '', \
             '{ED25519}', now(), now(), NULL \
         FROM silo_user, generate_series(1, 99) n"
    ));
    let (one, two) =
        tokio::join!(add(&nexus, "one", ED25519), add(&nexus, "two", ED25519),);
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 400], "{one:?} {two:?}");
    let refused = if one.status == 400 { one } else { two };
    let message = refused.error(400, "InvalidRequest");
    assert!(message.contains("at most 100 SSH keys"), "{message}");
    remove(&nexus, "key-1").await.expect(204);
    add(&nexus, "three", ED25519).await.expect(201);

    let mut listed = Vec::new();
    let mut next = format!("{KEYS}?limit=40&sort_by=name_descending");
    loop {
        let page = nexus.get(&next).await.expect(200);
        listed.extend(names(&page));
        let Some(token) = page["next_page"].as_str() else { break };
        next = format!("{KEYS}?limit=40&page_token={token}");
    }
    assert_eq!(listed.len(), 100);
    assert!(listed.is_sorted_by(|a, b| a > b), "{listed:?}");
}

#[tokio::test]
async fn an_instance_is_given_the_keys_that_are_chosen_or_all_that_there_are() {
    let nexus = nexus().await;
    let ids = [kept(&nexus, "a").await, kept(&nexus, "b").await];
    let unsaid = nexus.create("unsaid", false).await;
    let all = created_with(&nexus, "all", json!(null)).await;
    let none = created_with(&nexus, "none", json!([])).await;
    let chosen = created_with(&nexus, "chosen", json!(["b"])).await;
    let twice = json!(["a", ids[0], "a"]);
    let twice = created_with(&nexus, "twice", twice).await;
    // One that comes later is given to none of them.
    kept(&nexus, "c").await;
    for (instance, keys) in [
        (&unsaid, vec!["a", "b"]),
        (&all, vec!["a", "b"]),
        (&none, vec![]),
        (&chosen, vec!["b"]),
        (&twice, vec!["a"]),
    ] {
        assert_eq!(keys_of(&nexus, instance).await, keys);
    }
}

#[tokio::test]
async fn keys_that_cannot_be_given_are_named() {
    let nexus = nexus().await;
    for n in 0..9 {
        kept(&nexus, &format!("key-{n}")).await;
    }
    let unknown = "00000000-0000-0000-0000-000000000000";
    let named: Vec<_> = (0..9).map(|n| format!("key-{n}")).collect();
    for (keys, why) in [
        (json!(["key-0", "nowhere"]), "no SSH key \"nowhere\""),
        (json!([unknown]), unknown),
        (json!(named), "at most 8, and these are 9: name fewer"),
        (json!(null), "these are 9: which are all that you have"),
    ] {
        let refused = create_with(&nexus, "db", keys.clone()).await;
        let message = refused.error(400, "InvalidValue");
        assert!(message.starts_with("ssh_public_keys: "), "{message}");
        assert!(message.contains(why), "{message}");
        // Nor would it start, if it were made now.
        let mut body = Client::instance("db", false);
        body["ssh_public_keys"] = keys;
        let check = "/v1/placement/check?project=demo";
        nexus.post(check, body).await.error(400, "InvalidValue");
    }
    let eight = created_with(&nexus, "db", json!(named[1..])).await;
    assert_eq!(keys_of(&nexus, &eight).await, named[1..]);
}

#[tokio::test]
async fn a_key_leaves_its_instances_when_it_goes_and_they_it_when_they_go() {
    let nexus = nexus().await;
    for name in ["a", "b"] {
        kept(&nexus, name).await;
    }
    let db = created_with(&nexus, "db", json!(null)).await;
    remove(&nexus, "a").await.expect(204);
    assert_eq!(keys_of(&nexus, &db).await, ["b"]);
    nexus.settled(&db).await;
    nexus.delete_instance(&db).await.expect(204);
    let links = "SELECT count(*) FROM instance_ssh_key";
    assert_eq!(nexus.database.count(links), 0);
    nexus.get(&format!("{KEYS}/b")).await.expect(200);
    let path = format!("/v1/instances/{db}/ssh-public-keys");
    nexus.get(&path).await.error(404, "ObjectNotFound");
}

#[tokio::test]
async fn at_each_start_the_sled_is_told_what_the_guest_is_to_know() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    for name in ["a", "b"] {
        kept(&nexus, name).await;
    }
    let user_data = "I2Nsb3VkLWNvbmZpZwo=";
    let wishes =
        json!({ "user_data": user_data, "ssh_public_keys": ["b", "a"] });
    let (db, vmm) = nexus.running("db", wishes).await;
    let spec = nexus.agents[0].kept(&vmm)["spec"].clone();
    assert_eq!(spec["hostname"], "db");
    assert_eq!(spec["user_data"], user_data);
    assert_eq!(spec["ssh_public_keys"], json!([line("a"), line("b")]));

    // What changes meanwhile is told at the next start.
    remove(&nexus, "a").await.expect(204);
    let spec = nexus.agents[0].kept(&vmm)["spec"].clone();
    assert_eq!(spec["ssh_public_keys"], json!([line("a"), line("b")]));
    nexus.ask(&db, "stop").await.expect(202);
    nexus.wait(&db, is("stopped")).await;
    nexus.ask(&db, "start").await.expect(202);
    nexus.wait(&db, is("running")).await;
    let vmm = nexus.vmm_of(&db).await;
    let spec = nexus.agents[0].kept(&vmm)["spec"].clone();
    assert_eq!(spec["user_data"], user_data);
    assert_eq!(spec["ssh_public_keys"], json!([line("b")]));
}
