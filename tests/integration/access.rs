//! Who may ask what: every operation of both APIs, with every kind of token.
//!
//! The operations are those of the documents that are checked in. One that is
//! new there fails these tests until it is given its row here.

use fleet_pki::Key;
use harness::{Answer, Client, GIB, SLED_SECRET, Setup, TestNexus, is, pki};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

mod roles;

const EXTERNAL: &str = include_str!("../../nexus/openapi.json");
const INTERNAL: &str = include_str!("../../nexus/openapi-internal.json");

/// What a user of another silo is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stranger {
    /// What anybody is told, token or not.
    Served,
    /// That there is no such thing.
    NotFound,
    /// That this is the fleet's.
    Forbidden,
    /// About the stranger's own silo, where nothing is.
    Empty,
    /// About the stranger's own silo, where this makes or shows something.
    Own,
    /// That what the body names is not the stranger's silo's.
    Invalid,
}

/// A well-formed request for an operation.
struct Row {
    operation: String,
    /// The values of the path's variables.
    path: Vec<(&'static str, String)>,
    query: &'static str,
    body: Option<Value>,
    /// Instead of a body.
    form: Option<String>,
    stranger: Stranger,
    /// What it answers whatever is asked, if that is no success.
    always: Option<u16>,
}

impl Row {
    fn new(operation: impl Into<String>, stranger: Stranger) -> Row {
        let (operation, path) = (operation.into(), Vec::new());
        let query = "";
        let (body, form, always) = (None, None, None);
        Row { operation, path, query, body, form, stranger, always }
    }

    /// Of what there is none.
    fn never(operation: &str, stranger: Stranger) -> Row {
        let always = Some(404);
        Row { always, ..Row::new(operation, stranger) }
    }

    fn form(mut self, form: String) -> Row {
        self.form = Some(form);
        self
    }

    fn at(mut self, variable: &'static str, value: &str) -> Row {
        self.path.push((variable, value.to_string()));
        self
    }

    fn within(mut self, query: &'static str) -> Row {
        self.query = query;
        self
    }

    fn body(mut self, body: Value) -> Row {
        self.body = Some(body);
        self
    }
}

/// An operation as a document has it, with its row.
struct Operation {
    row: Row,
    method: Method,
    path: String,
    success: u16,
}

impl Operation {
    async fn ask(&self, client: &Client) -> Answer {
        if self.success == 101 {
            // No more is asked of the stream than that it begins.
            let began = |_| Answer { status: 101, ..Answer::default() };
            return client.console(&self.path).await.map_or_else(|a| a, began);
        }
        if let Some(form) = &self.row.form {
            return client.post_form(&self.path, form).await;
        }
        let (method, body) = (self.method.clone(), self.row.body.clone());
        client.request(method, &self.path, body).await
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} {}", self.row.operation, self.method, self.path)
    }
}

/// Each operation of `document`, in its order, with its row of `rows`.
///
/// Panics unless each operation has a row and each row has an operation.
fn operations(document: &str, rows: Vec<Row>) -> Vec<Operation> {
    let document: Value = serde_json::from_str(document).unwrap();
    let ids = |ids: Vec<&str>| -> BTreeSet<String> {
        ids.into_iter().map(str::to_string).collect()
    };
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            found.push((path, method, operation));
        }
    }
    let known = ids(rows.iter().map(|row| &*row.operation).collect());
    let id = |o: &Value| o["operationId"].as_str().unwrap().to_string();
    let documented: BTreeSet<_> = found.iter().map(|(_, _, o)| id(o)).collect();
    assert_eq!(documented, known, "documented, and known here");
    rows.into_iter()
        .map(|row| {
            let (path, method, operation) =
                found.iter().find(|(_, _, o)| id(o) == row.operation).unwrap();
            let mut path = (*path).clone();
            for (variable, value) in &row.path {
                path = path.replace(&format!("{{{variable}}}"), value);
            }
            assert!(!path.contains('{'), "{path} has a variable more");
            path.push_str(row.query);
            let responses = operation["responses"].as_object().unwrap();
            let success = responses.keys().find_map(|k| k.parse().ok());
            Operation {
                method: method.to_uppercase().parse().unwrap(),
                path,
                // A document says no status of an answer that is no JSON.
                success: row.always.or(success).unwrap_or(200),
                row,
            }
        })
        .collect()
}

/// What the rows are about.
struct Fixture {
    nexus: TestNexus,
    stranger: Client,
    sled: String,
    vmm: String,
    /// Of the VMM, as its sled reports it.
    report: Value,
    runs: String,
    rests: String,
    to_delete: String,
    /// Of "rests", and of nobody.
    disk: String,
    free_disk: String,
    import: String,
    snapshot: String,
    image: String,
    attempt: String,
    ssh_key: String,
    /// A user of "main" without a role, who logs in by [`PASSWORD`].
    plain: String,
    /// A token that nobody uses.
    token: String,
    /// Of a device that wants to log in.
    user_code: String,
    /// A group of each kind, as their operations call it.
    groups: Vec<(&'static str, String)>,
    /// Who may what, of the fleet, of "main" and of "demo".
    policies: [Value; 3],
}

async fn fixture() -> Fixture {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let project = json!({ "name": "to-delete", "description": "" });
    nexus.post("/v1/projects", project).await.expect(201);
    let (runs, vmm) = nexus.running("runs", json!({})).await;
    let rests = nexus.create("rests", false).await;
    let to_delete = nexus.create("to-delete", false).await;
    for id in [&runs, &rests, &to_delete] {
        nexus.settled(id).await;
    }
    let mut groups = Vec::new();
    for (kind, path) in [
        ("affinity_group", "affinity-groups"),
        ("anti_affinity_group", "anti-affinity-groups"),
    ] {
        let path = format!("/v1/{path}?project=demo");
        let made = nexus.post(&path, group("group")).await.expect(201);
        groups.push((kind, made["id"].as_str().unwrap().to_string()));
    }
    let disk = nexus.create_disk("attached").await;
    nexus.ask_disk(&rests, "attach", &disk).await.expect(202);
    let free_disk = nexus.create_disk("free").await;
    nexus.create_blank("shared").await;
    let import = json!({ "type": "importing_blocks", "block_size": 512 });
    let import = Client::distributed("import", import);
    let import = made(&nexus, "disks", import).await;
    let of = json!({ "name": "s", "description": "", "disk": "shared" });
    let snapshot = made(&nexus, "snapshots", of).await;
    let image = made(&nexus, "images", new_image("i", &snapshot)).await;
    let users = "/v1/system/identity-providers/local/users?silo=main";
    let plain = json!({
        "external_id": "plain",
        "password": { "mode": "password", "value": PASSWORD },
    });
    let plain = nexus.post(users, plain).await.expect(201)["id"].clone();
    nexus.post("/v1/system/silos", silo("to-delete")).await.expect(201);
    nexus.process.bootstrap("main", "admin", true).await;
    let tokens = nexus.get("/v1/me/access-tokens").await.expect(200);
    let used = nexus.database.texts(&format!(
        "SELECT id::TEXT FROM api_token WHERE token_hash = \
             encode(sha256('{}'), 'hex')",
        nexus.token(),
    ));
    let token = tokens["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|token| token["id"] != used[0].as_str())
        .unwrap()["id"]
        .clone();
    // Not by the API: how often each operation was asked is counted.
    nexus.sql(
        "INSERT INTO device_auth_request \
             (id, client_id, device_code_hash, user_code, time_created, \
              time_expires) \
         SELECT gen_random_uuid(), gen_random_uuid(), repeat('d', 64), \
             'BCDF-GHJK', now(), now() + INTERVAL '10 minutes'",
    );
    let user_code = "BCDF-GHJK".to_string();
    let attempt = nexus.attempts(&runs).await[0]["id"].clone();
    let report = nexus.agents[0].vmms().await[0].clone();
    let key = nexus.post("/v1/me/ssh-keys", ssh_key("key")).await.expect(201);
    let policies = policies(&nexus).await;
    Fixture {
        policies,
        stranger: nexus.other_silo("other").await,
        sled: nexus.agents[0].id.clone(),
        attempt: attempt.as_str().unwrap().to_string(),
        ssh_key: key["id"].as_str().unwrap().to_string(),
        plain: plain.as_str().unwrap().to_string(),
        token: token.as_str().unwrap().to_string(),
        user_code,
        nexus,
        vmm,
        report,
        runs,
        rests,
        to_delete,
        groups,
        disk,
        free_disk,
        import,
        snapshot,
        image,
    }
}

/// Who may what, of the fleet, of "main" and of "demo", as it is.
async fn policies(nexus: &Client) -> [Value; 3] {
    let view = async |path: &str| nexus.get(path).await.expect(200);
    [
        view("/v1/system/policy").await,
        view("/v1/policy").await,
        view("/v1/projects/demo/policy").await,
    ]
}

/// The body of an SSH key to be kept.
fn ssh_key(name: &str) -> Value {
    json!({
        "name": name,
        "description": "",
        "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZ8Z3dGm9lSxYV4mA0\
                       TQzJm5l9Z3kq1mQyqzqkz3m1v",
    })
}

/// A device that wants to log in.
const DEVICE_CLIENT: Uuid = Uuid::nil();

/// The password of the user "plain".
const PASSWORD: &str = "plain and simple";

/// The body of a silo to be made.
fn silo(name: &str) -> Value {
    json!({
        "name": name,
        "description": "",
        "discoverable": true,
        "identity_mode": "local_only",
        "quotas": { "cpus": 1, "memory": GIB, "storage": GIB },
        "tls_certificates": [],
    })
}

/// Makes something in the project "demo"; its id.
async fn made(nexus: &Client, kind: &str, body: Value) -> String {
    let path = format!("/v1/{kind}?project=demo");
    let view = nexus.post(&path, body).await.expect(201);
    view["id"].as_str().unwrap().to_string()
}

/// The body of an image to be made.
fn new_image(name: &str, snapshot: &str) -> Value {
    json!({
        "name": name,
        "description": "",
        "os": "debian",
        "version": "12",
        "source": { "type": "snapshot", "id": snapshot },
    })
}

/// The body of a group to be made.
fn group(name: &str) -> Value {
    json!({
        "name": name,
        "description": "",
        "policy": "fail",
        "failure_domain": "sled",
    })
}

impl Fixture {
    /// What is asked of groups, of both kinds.
    fn of_groups(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (kind, id) in &self.groups {
            let row = |verb: &str| {
                Row::new(format!("{kind}_{verb}"), Stranger::NotFound)
            };
            let it = |verb: &str| row(verb).at(kind, id);
            let member = |verb: &str| {
                it(&format!("member_instance_{verb}"))
                    .at("instance", &self.rests)
            };
            rows.extend([
                row("list").within("?project=demo"),
                row("create").within("?project=demo").body(group("new")),
                it("view"),
                it("update").body(json!({ "description": "changed" })),
                member("add"),
                member("view"),
                it("member_list"),
                Row::new(format!("instance_{kind}_list"), Stranger::NotFound)
                    .at("instance", &self.rests),
                member("delete"),
                it("delete"),
            ]);
        }
        rows
    }

    /// What is asked of policies: that they stay as they are.
    fn of_policies(&self) -> Vec<Row> {
        use Stranger::*;
        let [fleet, silo, project] = &self.policies;
        let of_silo = |id| Row::new(id, NotFound).at("silo", "main");
        let of_project = |id| Row::new(id, NotFound).at("project", "demo");
        vec![
            Row::new("policy_view", Own),
            Row::new("policy_update", Invalid).body(silo.clone()),
            of_silo("silo_policy_view"),
            of_silo("silo_policy_update").body(silo.clone()),
            Row::new("system_policy_view", Forbidden),
            Row::new("system_policy_update", Forbidden).body(fleet.clone()),
            of_project("project_policy_view"),
            of_project("project_policy_update").body(project.clone()),
        ]
    }

    /// What is asked of what there is none of, and of the rack.
    fn of_nothing(&self) -> Vec<Row> {
        use Stranger::*;
        let nobody = Uuid::nil().to_string();
        let rack = self.nexus.database.row("SELECT rack_id FROM db_metadata");
        let rack = rack["rack_id"].as_str().unwrap();
        let of_demo = |id| Row::new(id, NotFound).within("?project=demo");
        let of_instance =
            |id| Row::new(id, NotFound).at("instance", &self.rests);
        vec![
            Row::new("current_user_groups", Empty),
            Row::new("group_list", Empty),
            Row::never("group_view", NotFound).at("group_id", &nobody),
            Row::new("silo_identity_provider_list", Forbidden),
            of_instance("instance_external_ip_list"),
            of_instance("instance_external_subnet_list"),
            Row::new("instance_network_interface_list", NotFound)
                .within("?instance=rests&project=demo"),
            Row::never("instance_network_interface_view", NotFound)
                .at("interface", &nobody),
            of_demo("external_subnet_list"),
            of_demo("floating_ip_list"),
            Row::new("ip_pool_list", Empty),
            Row::never("ip_pool_view", NotFound).at("pool", "default"),
            Row::new("silo_ip_pool_list", Forbidden).at("silo", "main"),
            of_demo("vpc_list"),
            Row::never("vpc_view", NotFound).at("vpc", &nobody),
            of_demo("vpc_subnet_list"),
            Row::never("vpc_subnet_view", NotFound).at("subnet", &nobody),
            of_demo("timeseries_query").body(json!({ "query": "get a:b" })),
            of_demo("silo_metric").at("metric_name", "cpus_provisioned"),
            Row::new("system_metric", Forbidden)
                .at("metric_name", "cpus_provisioned"),
            Row::new("system_timeseries_schema_list", Forbidden),
            Row::new("rack_list", Forbidden),
            Row::new("rack_view", Forbidden).at("rack_id", rack),
            Row::new("sled_list_uninitialized", Forbidden),
            Row::new("physical_disk_list", Forbidden),
            Row::never("physical_disk_view", Forbidden).at("disk_id", &nobody),
            Row::new("sled_physical_disk_list", Forbidden)
                .at("sled_id", &self.sled),
        ]
    }

    /// What is asked of silos, users, their tokens and sessions.
    fn of_users(&self) -> Vec<Row> {
        use Stranger::*;
        let user = |id| Row::new(id, NotFound).at("user_id", &self.plain);
        let of_main = |id| user(id).within("?silo=main");
        let password = json!({ "mode": "password", "value": PASSWORD });
        vec![
            Row::new("login_local", Served)
                .at("silo_name", "main")
                .body(json!({ "username": "plain", "password": PASSWORD })),
            Row::new("logout", Served),
            Row::new("device_auth_request", Served)
                .form(format!("client_id={DEVICE_CLIENT}")),
            Row {
                // Nobody waits under this code.
                always: Some(400),
                ..Row::new("device_access_token", Served).form(format!(
                    "client_id={DEVICE_CLIENT}&device_code=x&grant_type=\
                     urn:ietf:params:oauth:grant-type:device_code"
                ))
            },
            Row::new("device_auth_confirm", Own)
                .body(json!({ "user_code": self.user_code })),
            Row::new("silo_list", Forbidden),
            Row::new("silo_create", Forbidden).body(silo("new")),
            Row::new("silo_view", NotFound).at("silo", "main"),
            Row::new("silo_delete", NotFound).at("silo", "to-delete"),
            Row::new("silo_user_list", NotFound).within("?silo=main"),
            of_main("silo_user_view"),
            Row::new("local_idp_user_create", NotFound)
                .within("?silo=main")
                .body(json!({
                    "external_id": "new",
                    "password": { "mode": "login_disallowed" },
                })),
            of_main("local_idp_user_set_password").body(password),
            Row::new("user_list", Own),
            user("user_view"),
            user("user_token_list"),
            user("user_session_list"),
            user("user_logout"),
            of_main("local_idp_user_delete"),
            Row::new("auth_settings_view", Own),
            Row::new("auth_settings_update", Own)
                .body(json!({ "device_token_max_ttl_seconds": null })),
            Row::new("current_user_access_token_list", Own),
            Row::new("current_user_access_token_delete", NotFound)
                .at("token_id", &self.token),
        ]
    }

    fn external(&self) -> Vec<Operation> {
        use Stranger::*;
        let sled =
            |id, stranger| Row::new(id, stranger).at("sled_id", &self.sled);
        let silo = |id| Row::new(id, Forbidden).at("silo", "main");
        let instance = |id, instance: &str| {
            Row::new(id, NotFound).at("instance", instance)
        };
        let key = |id| Row::new(id, NotFound).at("ssh_key", &self.ssh_key);
        let disk = |id| Row::new(id, NotFound).at("disk", &self.free_disk);
        let import = |id| Row::new(id, NotFound).at("disk", &self.import);
        let snapshot =
            |id| Row::new(id, NotFound).at("snapshot", &self.snapshot);
        let image = |id| Row::new(id, NotFound).at("image", &self.image);
        let mut rows = vec![
            Row::new("ping", Served),
            Row::new("current_user_view", Own),
            Row::new("current_user_ssh_key_list", Empty),
            Row::new("current_user_ssh_key_create", Own).body(ssh_key("new")),
            key("current_user_ssh_key_view"),
            key("current_user_ssh_key_delete"),
            Row::new("project_list", Empty),
            Row::new("project_create", Own)
                .body(json!({ "name": "new", "description": "" })),
            Row::new("project_view", NotFound).at("project", "demo"),
            Row::new("project_update", NotFound)
                .at("project", "demo")
                .body(json!({ "description": "changed" })),
            Row::new("project_delete", NotFound).at("project", "to-delete"),
            Row::new("instance_list", NotFound).within("?project=demo"),
            Row::new("instance_create", NotFound)
                .within("?project=demo")
                .body(Client::instance("new", false)),
            instance("instance_view", &self.runs),
            instance("instance_update", &self.rests).body(json!({
                "ncpus": 1,
                "memory": GIB,
                "auto_restart_policy": "never",
                "boot_disk": null,
                "cpu_platform": null,
            })),
            instance("instance_delete", &self.to_delete),
            instance("instance_ssh_public_key_list", &self.rests),
            instance("instance_serial_console", &self.runs)
                .within("?most_recent=9"),
            instance("instance_serial_console_stream", &self.runs),
            instance("instance_disk_list", &self.rests),
            instance("instance_disk_attach", &self.rests)
                .body(json!({ "disk": self.disk })),
            instance("instance_disk_detach", &self.rests)
                .body(json!({ "disk": self.disk })),
            Row::new("disk_list", NotFound).within("?project=demo"),
            Row::new("disk_create", NotFound)
                .within("?project=demo")
                .body(Client::disk("new")),
            disk("disk_view"),
            import("disk_bulk_write_import_start"),
            import("disk_bulk_write_import")
                .body(json!({ "offset": 0, "base64_encoded_data": format!("{}=", "A".repeat(683)) })),
            import("disk_bulk_write_import_stop"),
            import("disk_finalize_import").body(json!({})),
            disk("disk_delete"),
            Row::new("snapshot_list", NotFound).within("?project=demo"),
            Row::new("snapshot_create", NotFound).within("?project=demo").body(
                json!({ "name": "n", "description": "", "disk": "shared" }),
            ),
            snapshot("snapshot_view"),
            Row::new("image_list", NotFound).within("?project=demo"),
            Row::new("image_create", NotFound)
                .within("?project=demo")
                .body(new_image("j", &self.snapshot)),
            image("image_view"),
            image("image_promote"),
            image("image_demote").within("?project=demo"),
            image("image_delete"),
            snapshot("snapshot_delete"),
            instance("instance_start", &self.rests),
            instance("instance_reboot", &self.runs),
            instance("instance_stop", &self.runs),
            instance("instance_placement_view", &self.runs),
            Row::new("placement_check", NotFound)
                .within("?project=demo")
                .body(Client::instance("new", false)),
            instance("instance_start_attempt_list", &self.runs),
            instance("instance_start_attempt_view", &self.runs)
                .at("attempt", &self.attempt),
            Row::new("start_failure_list", NotFound).within("?project=demo"),
            Row::new("audit_log_list", Forbidden)
                .within("?start_time=2026-01-01T00:00:00Z"),
            Row::new("sled_list", Forbidden),
            sled("sled_view", Forbidden),
            sled("sled_instance_list", Forbidden),
            sled("sled_set_provision_policy", Forbidden)
                .body(json!({ "state": "non_provisionable" })),
            Row::new("utilization_view", Own),
            Row::new("system_quotas_list", Forbidden),
            silo("silo_quotas_view"),
            silo("silo_quotas_update").body(json!({ "cpus": 1 })),
            Row::new("silo_utilization_list", Forbidden),
            silo("silo_utilization_view"),
        ];
        rows.extend(self.of_nothing());
        rows.extend(self.of_users());
        rows.extend(self.of_policies());
        // Before an instance is started that is to join: it must be stopped.
        rows.splice(0..0, self.of_groups());
        operations(EXTERNAL, rows)
    }

    fn internal(&self) -> Vec<Operation> {
        let new = Uuid::new_v4().to_string();
        let registration = json!({
            "address": "127.0.0.1:1",
            "serial": "s",
            "part": "p",
            "revision": 0,
            "vcpus": 1,
            "memory_bytes": GIB,
            "storage_bytes": GIB,
            "cpu": "amd_milan",
            "incarnation": Uuid::new_v4(),
        });
        let sled =
            |id, sled: &str| Row::new(id, Stranger::Served).at("sled_id", sled);
        let rows = vec![
            sled("sled_register", &new).body(registration.clone()),
            sled("sled_heartbeat", &new).body(registration),
            sled("vmm_report", &self.sled)
                .at("vmm_id", &self.vmm)
                .body(self.report.clone()),
            sled("sled_certificate", &new).body(json!({
                "public_key": Key::generate().unwrap().public_key_pem(),
            })),
            sled("sled_expunge", &new),
            Row::new("metrics", Stranger::Served),
        ];
        operations(INTERNAL, rows)
    }

    /// All that the rows would change, if they were not refused.
    fn state(&self) -> Value {
        self.nexus.database.row(
            "SELECT \
                 (SELECT jsonb_agg(p ORDER BY p.id) FROM project p \
                     JOIN silo s ON s.id = p.silo_id AND s.name = 'main') \
                     AS projects, \
                 (SELECT jsonb_agg(i ORDER BY i.id) FROM instance i) \
                     AS instances, \
                 (SELECT jsonb_agg(g ORDER BY g.id) FROM affinity_group g) \
                     AS groups, \
                 (SELECT jsonb_agg(m) FROM affinity_group_member m) \
                     AS members, \
                 (SELECT jsonb_agg(d ORDER BY d.id) FROM disk d) AS disks, \
                 (SELECT jsonb_agg(k ORDER BY k.id) FROM ssh_key k \
                     WHERE k.name = 'key') AS ssh_keys, \
                 (SELECT jsonb_agg(n ORDER BY n.id) FROM snapshot n) \
                     AS snapshots, \
                 (SELECT jsonb_agg(m ORDER BY m.id) FROM image m) AS images, \
                 (SELECT jsonb_agg(v ORDER BY v.id) FROM vmm v) AS vmms, \
                 (SELECT jsonb_agg(s ORDER BY s.id) FROM silo s \
                     WHERE s.name <> 'other') AS silos, \
                 (SELECT jsonb_agg(u ORDER BY u.id) FROM silo_user u) \
                     AS users, \
                 (SELECT jsonb_agg(t ORDER BY t.id) FROM api_token t) \
                     AS tokens, \
                 (SELECT jsonb_agg(h.hash) FROM silo_user_password h) \
                     AS passwords, \
                 (SELECT jsonb_agg(a ORDER BY a.id) FROM start_attempt a) \
                     AS attempts, \
                 (SELECT jsonb_agg(to_jsonb(s) - 'time_last_heartbeat') \
                     FROM sled s) AS sleds, \
                 (SELECT jsonb_agg(q ORDER BY q.silo_id) FROM silo_quota q) \
                     AS quotas, \
                 (SELECT jsonb_agg(to_jsonb(r) - 'time_created' \
                     ORDER BY r.resource_id, r.silo_user_id, r.role_name) \
                     FROM role_assignment r) AS roles",
        )
    }
}

#[tokio::test]
async fn each_operation_is_served_to_who_may_ask() {
    let fixture = fixture().await;
    for operation in fixture.external() {
        let answer = operation.ask(&fixture.nexus).await;
        assert_eq!(answer.status, operation.success, "{operation} {answer:?}");
    }
    let sled = fixture.nexus.process.internal_client();
    for operation in fixture.internal() {
        let answer = operation.ask(&sled).await;
        assert_eq!(answer.status, operation.success, "{operation} {answer:?}");
    }
}

#[tokio::test]
async fn without_a_user_s_token_nothing_but_a_ping_is_served() {
    let fixture = fixture().await;
    let nexus = &fixture.nexus;
    let before = fixture.state();
    for client in [
        nexus.anonymous(),
        nexus.with_token(""),
        nexus.with_token("nexus-token-0"),
        nexus.with_token(SLED_SECRET),
    ] {
        for operation in fixture.external() {
            let answer = operation.ask(&client).await;
            if operation.row.stranger == Stranger::Served {
                answer.expect(operation.success);
                continue;
            }
            assert_eq!(answer.status, 401, "{operation} {answer:?}");
            let message = answer.error(401, "Unauthorized");
            assert!(message.contains("credentials"), "{message}");
        }
    }
    assert_eq!(fixture.state(), before, "what is refused changes nothing");
}

#[tokio::test]
async fn to_another_silo_s_user_all_is_as_if_it_were_not_there() {
    let fixture = fixture().await;
    let before = fixture.state();
    for operation in fixture.external() {
        let answer = operation.ask(&fixture.stranger).await;
        let what = format!("{operation} {answer:?}");
        match operation.row.stranger {
            Stranger::NotFound => {
                assert_eq!(answer.status, 404, "{what}");
                answer.error(404, "ObjectNotFound");
            }
            Stranger::Forbidden => {
                assert_eq!(answer.status, 403, "{what}");
                answer.error(403, "Forbidden");
            }
            Stranger::Empty => {
                assert_eq!(answer.status, operation.success, "{what}");
                assert_eq!(answer.body["items"], json!([]), "{what}");
            }
            Stranger::Invalid => {
                answer.error(400, "InvalidValue");
            }
            Stranger::Own | Stranger::Served => {
                assert_eq!(answer.status, operation.success, "{what}");
            }
        }
    }
    assert_eq!(fixture.state(), before, "what is refused changes nothing");

    // Nor by name, though the stranger has a project of that name.
    let project = json!({ "name": "demo", "description": "" });
    fixture.stranger.post("/v1/projects", project).await.expect(201);
    for path in [
        "/v1/instances/runs?project=demo".to_string(),
        format!("/v1/instances/{}?project=demo", fixture.runs),
        "/v1/disks/free?project=demo".to_string(),
        format!("/v1/disks/{}?project=demo", fixture.free_disk),
    ] {
        fixture.stranger.get(&path).await.error(404, "ObjectNotFound");
    }
    let me = fixture.stranger.get("/v1/me").await.expect(200);
    assert_eq!(me["silo_name"], "other");
}

#[tokio::test]
async fn without_the_sleds_secret_the_internal_api_serves_nothing() {
    let fixture = fixture().await;
    let nexus = &fixture.nexus;
    let token = nexus.process.bootstrap("main", "admin", true).await;
    let before = fixture.state();
    let inside = nexus.process.internal_client();
    for client in [
        inside.with_token(&token.0),
        inside.anonymous(),
        inside.with_token(""),
        inside.with_token(&SLED_SECRET[1..]),
        inside.with_token(&pki::sled_secret(&Uuid::nil().to_string())),
    ] {
        for operation in fixture.internal() {
            let answer = operation.ask(&client).await;
            assert_eq!(answer.status, 401, "{operation} {answer:?}");
            answer.error(401, "Unauthorized");
        }
    }
    assert_eq!(fixture.state(), before, "what is refused changes nothing");
}

#[tokio::test]
async fn each_operation_is_timed_under_its_id_and_status() {
    let fixture = fixture().await;
    let nexus = &fixture.nexus;
    let (external, internal) = (fixture.external(), fixture.internal());
    for operation in &external {
        operation.ask(&nexus.anonymous()).await;
    }
    for operation in &internal {
        operation.ask(&nexus.process.internal_client().anonymous()).await;
    }
    let metrics = nexus.process.metrics().await;
    let (outside, inside) = (external.iter(), internal.iter());
    let asked = outside
        .map(|o| (o, o.row.stranger == Stranger::Served))
        .chain(inside.map(|o| (o, false)));
    for (operation, served) in asked {
        let id = &operation.row.operation;
        let status = if served { operation.success } else { 401 };
        let count = metrics.at(&format!(
            "nexus_request_duration_seconds_count\
             {{operation=\"{id}\",status=\"{status}\"}}"
        ));
        assert_eq!(count, 1.0, "{operation}");
    }
}

#[tokio::test]
async fn each_api_is_on_a_port_of_its_own() {
    let fixture = fixture().await;
    let nexus = &fixture.nexus;
    let sleds_at_the_front = nexus.with_token(SLED_SECRET);
    for operation in fixture.internal() {
        for client in [&nexus.admin, &sleds_at_the_front] {
            operation.ask(client).await.expect(404);
        }
    }
    let inside = nexus.process.internal_client();
    for operation in fixture.external() {
        operation.ask(&inside).await.expect(404);
    }
}

#[tokio::test]
async fn a_token_is_good_until_it_ends_or_its_owner_does() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for end in [
        "UPDATE api_token SET time_expires = now() - INTERVAL '1 second'",
        "DELETE FROM api_token",
        "UPDATE silo_user SET time_deleted = now()",
        "UPDATE silo SET time_deleted = now()",
    ] {
        let token = nexus.process.bootstrap("main", "user", false).await;
        let user = nexus.with_token(&token.0);
        nexus.sql("UPDATE api_token SET time_expires = now() + INTERVAL '1 h'");
        user.get("/v1/me").await.expect(200);
        // Not by way of this Nexus, which believes it for a moment longer.
        nexus.sql(end);
        user.until_refused().await;
    }
}

#[tokio::test]
async fn a_token_is_not_kept_as_it_is() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let token = nexus.process.bootstrap("main", "user", false).await;
    nexus.with_token(&token.0).get("/v1/me").await.expect(200);
    let secret = token.0.rsplit('-').next().unwrap();
    let kept = nexus.database.count(&format!(
        "SELECT count(*) FROM api_token t \
         WHERE position('{secret}' in to_jsonb(t)::TEXT) > 0"
    ));
    assert_eq!(kept, 0);
    assert!(!nexus.process.child.log().contains(secret));
}

#[tokio::test]
async fn every_refusal_has_a_message_a_request_id_and_a_code() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let id = nexus.create("db", true).await;
    nexus.wait(&id, is("running")).await;
    let get = async |path: &str| nexus.get(path).await;
    let create = "/v1/instances?project=demo";
    let wrong_size = json!({ "name": "x", "ncpus": 0 });
    for (answer, status, code) in [
        (get("/v1/projects?limit=0").await, 400, "InvalidRequest"),
        (get("/v1/instances").await, 400, "InvalidRequest"),
        (get("/v1/instances?project=X").await, 400, "InvalidRequest"),
        (get("/v1/projects/Not-A-Name").await, 400, "InvalidRequest"),
        (get("/v1/system/hardware/sleds/x").await, 400, "InvalidRequest"),
        (nexus.post(create, wrong_size).await, 400, "InvalidRequest"),
        (
            nexus.send_text(Method::POST, create, "{").await,
            400,
            "InvalidRequest",
        ),
        (nexus.delete_instance(&id).await, 400, "InvalidRequest"),
        (nexus.anonymous().get("/v1/me").await, 401, "Unauthorized"),
        (get("/v1/projects/nowhere").await, 404, "ObjectNotFound"),
    ] {
        answer.error(status, code);
    }
}
