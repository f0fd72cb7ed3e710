//! Silos and their users, through the front door.

use harness::{GIB, Setup, TestNexus, eventually};
use serde_json::{Value, json};

async fn nexus() -> TestNexus {
    TestNexus::with(Setup { sleds: 0, ..Setup::default() }).await
}

fn silo(name: &str) -> Value {
    json!({
        "name": name,
        "description": "Tenants",
        "discoverable": false,
        "identity_mode": "local_only",
        "mapped_fleet_roles": { "admin": ["viewer"] },
        "quotas": { "cpus": 4, "memory": 8 * GIB, "storage": GIB },
        "tls_certificates": [],
    })
}

fn user(name: &str) -> Value {
    let password = json!({ "mode": "login_disallowed" });
    json!({ "external_id": name, "password": password })
}

const SILOS: &str = "/v1/system/silos";
const USERS: &str = "/v1/system/identity-providers/local/users";

#[tokio::test]
async fn a_silo_comes_with_its_quota_and_goes_with_its_users() {
    let nexus = nexus().await;
    let made = nexus.post(SILOS, silo("tenant")).await.expect(201);
    assert_eq!(made["mapped_fleet_roles"], json!({ "admin": ["viewer"] }));
    assert_eq!(made["identity_mode"], "local_only");
    assert_eq!(made["discoverable"], false);
    let id = made["id"].as_str().unwrap();
    let view = nexus.get(&format!("{SILOS}/tenant")).await.expect(200);
    assert_eq!(view, made);
    let quotas = nexus.get(&format!("{SILOS}/{id}/quotas")).await.expect(200);
    assert_eq!(quotas["cpus"], 4);
    let message = nexus.post(SILOS, silo("tenant")).await;
    let message = message.error(400, "ObjectAlreadyExists");
    assert_eq!(message, "already exists: silo \"tenant\"");

    let users = format!("{USERS}?silo=tenant");
    let ann = nexus.post(&users, user("ann")).await.expect(201);
    nexus.post(&users, user("ann")).await.error(400, "ObjectAlreadyExists");
    let list = nexus.get("/v1/system/users?silo=tenant").await.expect(200);
    assert_eq!(list["items"], json!([ann]));

    // An admin of the silo, to whom it gives a look at the fleet.
    let token = nexus.process.bootstrap("tenant", "ann", false).await;
    let ann_asks = nexus.with_token(&token.0);
    let me = ann_asks.get("/v1/me").await.expect(200);
    assert_eq!(me["fleet_viewer"], true);
    ann_asks.get("/v1/system/hardware/sleds").await.expect(200);
    ann_asks.post(SILOS, silo("more")).await.error(403, "Forbidden");
    let project = json!({ "name": "p", "description": "" });
    ann_asks.post("/v1/projects", project).await.expect(201);

    let path = format!("{SILOS}/tenant");
    let message = nexus.delete(&path).await.error(400, "InvalidRequest");
    let expected = "silo \"tenant\" still has projects: delete them first";
    assert_eq!(message, expected);
    ann_asks.delete("/v1/projects/p").await.expect(204);
    nexus.delete(&path).await.expect(204);
    ann_asks.get("/v1/me").await.error(401, "Unauthorized");
    nexus.get(&path).await.error(404, "ObjectNotFound");
    let kept = "SELECT (SELECT count(*) FROM api_token t \
                    JOIN silo_user u ON u.id = t.silo_user_id \
                    WHERE u.external_id = 'ann') \
                + (SELECT count(*) FROM role_assignment r \
                    JOIN silo_user u ON u.id = r.silo_user_id \
                    WHERE u.external_id = 'ann')";
    assert_eq!(nexus.database.count(kept), 0);
    // Its name is free.
    nexus.post(SILOS, silo("tenant")).await.expect(201);
}

#[tokio::test]
async fn what_is_not_to_be_had_is_refused_by_name() {
    let nexus = nexus().await;
    for (field, value, says) in [
        ("identity_mode", json!("saml_jit"), "identity_mode: this server"),
        ("admin_group_name", json!("admins"), "admin_group_name: this"),
        ("tls_certificates", json!([{}]), "tls_certificates: this server"),
        ("mapped_fleet_roles", json!({ "boss": [] }), "\"boss\" is no role"),
    ] {
        let mut body = silo("tenant");
        body[field] = value;
        let message = nexus.post(SILOS, body).await.error(400, "InvalidValue");
        assert!(message.contains(says), "{message}");
    }
    let mut body = silo("tenant");
    body["quotas"]["cpus"] = json!(-1);
    let message = nexus.post(SILOS, body).await.error(400, "InvalidValue");
    assert!(message.starts_with("quotas.cpus: -1"), "{message}");
    let group = "/v1/users?group=b5a1b0b2-7a4c-4c8e-9a57-0c5d1a0d0001";
    nexus.get(group).await.error(404, "ObjectNotFound");
    let zero = json!({ "device_token_max_ttl_seconds": 0 });
    nexus.put("/v1/auth-settings", zero).await.error(400, "InvalidRequest");
    let missing = nexus.put("/v1/auth-settings", json!({})).await;
    missing.error(400, "InvalidRequest");
    let hour = json!({ "device_token_max_ttl_seconds": 3600 });
    let set = nexus.put("/v1/auth-settings", hour).await.expect(200);
    assert_eq!(nexus.get("/v1/auth-settings").await.expect(200), set);
    assert_eq!(set["device_token_max_ttl_seconds"], 3600);
}

#[tokio::test]
async fn neither_one_s_own_silo_nor_the_last_admin_can_be_deleted() {
    let nexus = nexus().await;
    let message = nexus.delete(&format!("{SILOS}/main")).await;
    let message = message.error(400, "InvalidRequest");
    assert!(message.contains("is your own"), "{message}");
    let me = nexus.get("/v1/me").await.expect(200);
    let path = format!("{USERS}/{}?silo=main", me["id"].as_str().unwrap());
    let message = nexus.delete(&path).await.error(400, "InvalidRequest");
    assert!(message.contains("the fleet's last admin"), "{message}");
    // Nor a silo with all of them, by who may delete silos.
    nexus.delete("/v1/projects/demo").await.expect(204);
    let other = nexus.other_silo("other").await;
    let id = other.get("/v1/me").await.expect(200)["id"].clone();
    let id = id.as_str().unwrap();
    nexus.sql(&format!(
        "INSERT INTO role_assignment \
             (resource, resource_id, silo_user_id, role_name, time_created) \
         SELECT resource, resource_id, '{id}', 'collaborator', now() \
         FROM role_assignment WHERE resource = 'fleet' LIMIT 1"
    ));
    eventually("its role is known", async || {
        let seen = other.get(&format!("{SILOS}/main")).await;
        (seen.status == 200).then_some(())
    })
    .await;
    let refusal = other.delete(&format!("{SILOS}/main")).await;
    let message = refusal.error(400, "InvalidRequest");
    assert!(message.contains("has all admins of the fleet"), "{message}");
    nexus.process.bootstrap("main", "second", true).await;
    nexus.delete(&path).await.expect(204);
    nexus.get("/v1/me").await.error(401, "Unauthorized");
}

#[tokio::test]
async fn a_user_without_a_role_sees_its_silo_and_changes_nothing_in_it() {
    let nexus = nexus().await;
    let users = format!("{USERS}?silo=main");
    let plain = nexus.post(&users, user("plain")).await.expect(201);
    let id = plain["id"].as_str().unwrap();
    let token = nexus.process.bootstrap("main", "plain", false).await;
    let roles =
        format!("DELETE FROM role_assignment WHERE silo_user_id = '{id}'");
    nexus.database.try_sql(&roles).unwrap();
    let plain = nexus.with_token(&token.0);
    let me = plain.get("/v1/me").await.expect(200);
    assert_eq!(
        (&me["fleet_viewer"], &me["silo_admin"]),
        (&json!(false), &json!(false))
    );
    let list = plain.get("/v1/users").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    plain.get(&format!("/v1/users/{id}")).await.expect(200);
    plain.get(&format!("/v1/users/{id}/sessions")).await.expect(200);
    plain.post(&users, user("more")).await.error(403, "Forbidden");
    let ttl = json!({ "device_token_max_ttl_seconds": 3600 });
    plain.put("/v1/auth-settings", ttl).await.error(403, "Forbidden");
    let admin = nexus.get("/v1/me").await.expect(200);
    let admin = admin["id"].as_str().unwrap();
    for (what, path) in [
        ("list the user's tokens", format!("/v1/users/{admin}/access-tokens")),
        ("list the user's sessions", format!("/v1/users/{admin}/sessions")),
    ] {
        let message = plain.get(&path).await.error(403, "Forbidden");
        let expected =
            format!("not allowed to {what}: one must be admin of the silo");
        assert_eq!(message, expected);
    }
    let path = format!("/v1/users/{admin}/logout");
    plain.post(&path, Value::Null).await.error(403, "Forbidden");
    plain.get(SILOS).await.error(403, "Forbidden");
}
