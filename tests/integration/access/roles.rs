//! Every role × every operation: docs/access.md, which is made of the answers.

use super::{Fixture, Operation, fixture, policies};
use harness::{Answer, Client};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// Who asks, as a column's head, and with which role on what.
const ASKERS: [(&str, &str, &str); 13] = [
    ("fleet admin", "fleet", "admin"),
    ("fleet collaborator", "fleet", "collaborator"),
    ("fleet viewer", "fleet", "viewer"),
    ("silo admin", "silo", "admin"),
    ("silo collaborator", "silo", "collaborator"),
    ("silo limited collaborator", "silo", "limited_collaborator"),
    ("silo viewer", "silo", "viewer"),
    ("project admin", "project", "admin"),
    ("project collaborator", "project", "collaborator"),
    ("project limited collaborator", "project", "limited_collaborator"),
    ("project viewer", "project", "viewer"),
    ("no role", "", ""),
    ("another silo's admin", "", ""),
];

const HEAD: &str = "\
# Who may do what

Each operation, asked by a user of each role about a project \"demo\" of its \
silo, or about that silo, or the fleet. Each user has that one role and no \
other. This table is made of the answers of a running Nexus, and a test \
compares the two (`tests/integration/access/roles.rs`).

- `yes`: it is served, or refused for what is asked and not for who asks.
- `403`: the caller sees the thing, and may not do that with it.
- `404`: for the caller there is no such thing.
- `none`: there is no such thing for anybody, and the caller may look.

The SSH key that is asked for is another user's. Without credentials \
everything is answered 401 but `ping`, logging in and out, and a device's wish to \
be let in.

";

/// The askers, each with its one role.
async fn askers(fixture: &mut Fixture) -> Vec<Client> {
    let nexus = &fixture.nexus;
    let mut askers = Vec::new();
    let mut wanted = fixture.policies.clone();

    let index =
        |on: &str| ["fleet", "silo", "project"].iter().position(|o| *o == on);
    for (who, on, role) in ASKERS {
        if who == "another silo's admin" {
            askers.push(fixture.stranger.clone());
            continue;
        }
        let name = who.replace(' ', "-");
        let token = nexus.process.bootstrap("main", &name, false).await;
        let client = nexus.with_token(&token.0);
        let me = client.get("/v1/me").await.expect(200);
        if let Some(at) = index(on) {
            let roles = wanted[at]["role_assignments"].as_array_mut().unwrap();
            roles.push(json!({
                "identity_type": "silo_user",
                "identity_id": me["id"],
                "role_name": role,
            }));
        }
        askers.push(client);
    }
    for (path, policy) in [
        ("/v1/system/policy", &wanted[0]),
        ("/v1/policy", &wanted[1]),
        ("/v1/projects/demo/policy", &wanted[2]),
    ] {
        nexus.put(path, policy.clone()).await.expect(200);
    }
    fixture.policies = policies(nexus).await;
    askers
}

impl Fixture {
    /// Makes what an operation does undone, so that the next can ask it too.
    async fn again(&self, operation: &Operation) {
        let id = operation.row.operation.as_str();
        if let Some(kind) = id.strip_suffix("_member_instance_delete") {
            let path = operation.path.clone();
            assert!(path.contains(&self.rests), "{kind}: {path}");
            let added = self.nexus.post(&path, Value::Null).await;
            assert!(added.status < 300, "{path}: {added:?}");
            return;
        }
        let all = "UPDATE silo_quota SET used_storage_bytes = 1099511627776; \
                   DELETE FROM blocks_gone;";
        let live = |table: &str, which: &str| {
            format!(
                "UPDATE {table} SET time_deleted = NULL WHERE {which}; {all}"
            )
        };
        let by_id = |id: &str| format!("id = '{id}'");
        let moved = |to: &str| {
            format!(
                "UPDATE image SET project_id = {to}, time_deleted = NULL \
                 WHERE id = '{}'; {all}",
                self.image,
            )
        };
        let demo = "(SELECT project_id FROM disk WHERE name = 'attached')";
        let sql = match id {
            "silo_delete" => live("silo", "name = 'to-delete'"),
            "local_idp_user_delete" => live("silo_user", &by_id(&self.plain)),
            "project_delete" => live("project", "name = 'to-delete'"),
            "affinity_group_delete" | "anti_affinity_group_delete" => {
                live("affinity_group", "name = 'group'")
            }
            "disk_delete" => live("disk", &by_id(&self.free_disk)),
            "snapshot_delete" => live("snapshot", &by_id(&self.snapshot)),
            "image_promote" | "image_delete" => moved(demo),
            "image_demote" => moved("NULL"),
            "device_auth_confirm" => "UPDATE device_auth_request \
                SET silo_user_id = NULL, time_confirmed = NULL"
                .to_string(),
            _ => return,
        };
        self.nexus.sql(&sql);
    }
}

fn class(operation: &Operation, answer: &Answer) -> &'static str {
    let code = answer.body["error_code"].as_str();
    match (answer.status, code) {
        (403, Some("Forbidden")) => {
            let message = answer.body["message"].as_str().unwrap();
            assert!(message.contains("not allowed to"), "{message}");
            assert!(message.contains("one must be"), "{message}");
            "403"
        }
        (404, Some("ObjectNotFound")) if operation.row.always == Some(404) => {
            "none"
        }
        (404, Some("ObjectNotFound")) => "404",
        (101 | 200..300 | 400 | 409, _) => "yes",
        (status, _) => {
            assert_eq!(status, 200, "{operation}: {answer:?}");
            "yes"
        }
    }
}

#[tokio::test]
async fn each_role_may_do_what_the_table_says() {
    let mut fixture = fixture().await;
    let askers = askers(&mut fixture).await;
    let mut table = String::from(HEAD);
    let heads: Vec<_> = ASKERS.iter().map(|(head, ..)| *head).collect();
    writeln!(table, "| operation | {} |", heads.join(" | ")).unwrap();
    writeln!(table, "|---|{}", "---|".repeat(heads.len())).unwrap();
    for mut operation in fixture.external() {
        if operation.row.operation == "instance_delete" {
            // One that runs: who may delete it is told to stop it first.
            operation.path =
                operation.path.replace(&fixture.to_delete, &fixture.runs);
        }
        let mut cells = Vec::new();
        for asker in &askers {
            fixture.again(&operation).await;
            let answer = operation.ask(asker).await;
            cells.push(class(&operation, &answer));
        }
        let id = &operation.row.operation;
        writeln!(table, "| {id} | {} |", cells.join(" | ")).unwrap();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("docs/access.md"))
        .find(|path| path.parent().is_some_and(|docs| docs.is_dir()))
        .unwrap();
    if std::env::var_os("EXPECTORATE").is_some_and(|v| v == "overwrite") {
        std::fs::write(&path, &table).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differ: Vec<_> = table
        .lines()
        .filter(|line| !kept.lines().any(|l| l == *line))
        .collect();
    assert!(
        kept == table,
        "docs/access.md says something else. Look at each line; if the \
         answers are right: EXPECTORATE=overwrite cargo nextest run -p \
         nexus-tests each_role_may\n{}",
        differ.join("\n"),
    );
}

#[tokio::test]
async fn a_policy_is_replaced_whole_and_at_once_by_who_may() {
    let fixture = fixture().await;
    let nexus = &fixture.nexus;
    let token = nexus.process.bootstrap("main", "user", false).await;
    let user = nexus.with_token(&token.0);
    let me = user.get("/v1/me").await.expect(200);
    let id = me["id"].as_str().unwrap();
    let admin = nexus.get("/v1/me").await.expect(200)["id"].clone();
    let stranger = fixture.stranger.get("/v1/me").await.expect(200);
    let role = |id: &Value, role: &str| {
        json!({
            "identity_type": "silo_user",
            "identity_id": id,
            "role_name": role,
        })
    };
    let policy = |roles: Vec<Value>| json!({ "role_assignments": roles });
    let (silo, demo) = ("/v1/policy", "/v1/projects/demo/policy");

    // Without a role there is no project.
    let only_admin = policy(vec![role(&admin, "admin")]);
    nexus.put(silo, only_admin.clone()).await.expect(200);
    assert_eq!(nexus.get(silo).await.expect(200), only_admin);
    let projects = user.get("/v1/projects").await.expect(200);
    assert_eq!(projects["items"], json!([]));
    user.get("/v1/projects/demo").await.error(404, "ObjectNotFound");
    let me = user.get("/v1/me").await.expect(200);
    assert_eq!(
        (&me["silo_admin"], &me["fleet_viewer"]),
        (&json!(false), &json!(false))
    );

    // With one there is that project, from the next request on.
    let viewer = policy(vec![role(&me["id"], "viewer")]);
    nexus.put(demo, viewer.clone()).await.expect(200);
    let path = "/v1/projects?limit=1";
    let projects = user.get(path).await.expect(200);
    assert_eq!(projects["items"][0]["name"], "demo");
    assert_eq!(projects["items"].as_array().unwrap().len(), 1);
    user.get("/v1/projects/demo").await.expect(200);
    let said = user.put(demo, viewer).await.error(403, "Forbidden");
    assert_eq!(
        said,
        "not allowed to change who has which role here: one must be admin of \
         the project"
    );
    nexus.put(demo, policy(vec![])).await.expect(200);
    user.get("/v1/projects/demo").await.error(404, "ObjectNotFound");

    // What is refused changes nothing.
    let group = json!({
        "identity_type": "silo_group",
        "identity_id": id,
        "role_name": "viewer",
    });
    let many = vec![role(&me["id"], "viewer"); 65];
    let nobody = json!(uuid::Uuid::new_v4());
    for (path, roles, why) in [
        (demo, vec![group], "silo_group"),
        (demo, many, "at most 64"),
        (demo, vec![role(&nobody, "viewer")], "is no user of this silo"),
        (
            silo,
            vec![role(&stranger["id"], "viewer")],
            "is no user of this silo",
        ),
        ("/v1/system/policy", vec![role(&nobody, "admin")], "of any silo"),
        ("/v1/system/policy", vec![role(&admin, "viewer")], "no admin"),
        ("/v1/system/policy", vec![], "no admin"),
    ] {
        let before = nexus.get(path).await.expect(200);
        let refused = nexus.put(path, policy(roles)).await;
        let said = refused.error(400, "InvalidValue");
        assert!(said.starts_with("role_assignments: "), "{said}");
        assert!(said.contains(why), "{said}");
        assert_eq!(nexus.get(path).await.expect(200), before);
    }
    let limited = policy(vec![role(&admin, "limited_collaborator")]);
    let refused = nexus.put("/v1/system/policy", limited).await;
    refused.error(400, "InvalidRequest");

    // A user of another silo may have a role on the fleet.
    let both =
        policy(vec![role(&admin, "admin"), role(&stranger["id"], "viewer")]);
    fixture.stranger.get("/v1/system/hardware/sleds").await.expect(403);
    nexus.put("/v1/system/policy", both).await.expect(200);
    fixture.stranger.get("/v1/system/hardware/sleds").await.expect(200);
    let me = fixture.stranger.get("/v1/me").await.expect(200);
    assert_eq!(
        (&me["silo_admin"], &me["fleet_viewer"]),
        (&json!(true), &json!(true))
    );
    fixture.stranger.get("/v1/projects/demo").await.expect(404);

    // So may those with a role on a silo that its row maps.
    user.get("/v1/system/hardware/sleds").await.expect(403);
    nexus.sql(
        "UPDATE silo SET mapped_fleet_roles = '{\"viewer\": [\"viewer\"]}'",
    );
    let viewers =
        policy(vec![role(&admin, "admin"), role(&json!(id), "viewer")]);
    nexus.put(silo, viewers).await.expect(200);
    user.get("/v1/system/hardware/sleds").await.expect(200);

    // A project takes its roles along.
    let path = "/v1/projects/to-delete";
    let on_it = policy(vec![role(&json!(id), "admin")]);
    nexus.put(&format!("{path}/policy"), on_it).await.expect(200);
    let roles = "SELECT count(*) FROM role_assignment \
                 WHERE resource = 'project'";
    assert_eq!(nexus.database.count(roles), 1);
    user.delete(path).await.expect(204);
    assert_eq!(nexus.database.count(roles), 0);
}
