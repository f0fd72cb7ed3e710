//! Why an instance did not start, as its user reads it: each kind of failure,
//! whoever asked for the start. And what its user does not read.

use harness::{Client, Setup, TestNexus, Tuning, eventually, is};
use serde_json::{Value, json};

/// Who may ask for a start.
const REASONS: [&str; 3] = ["user", "create", "auto_restart"];

/// Another tenant, with names that nobody else must see.
const TENANT: [&str; 3] = ["rivals", "skunkworks", "moonshot"];

/// An attempt that failed, in a fleet of its own.
struct Failed {
    nexus: TestNexus,
    instance: String,
    /// As its user reads it.
    attempt: Value,
}

/// Has an instance be started for `reason` right after its fleet was broken.
/// `broken` is told which sled the instance runs on, if on any.
async fn start_in(
    setup: Setup,
    reason: &str,
    broken: impl AsyncFn(&TestNexus, Option<&str>),
) -> Failed {
    let nexus = TestNexus::with(setup).await;
    let [silo, project, name] = TENANT;
    let tenant = nexus.other_silo(silo).await;
    let body = json!({ "name": project, "description": "" });
    tenant.post("/v1/projects", body).await.expect(201);
    let path = format!("/v1/instances?project={project}");
    tenant.post(&path, Client::instance(name, false)).await.expect(201);

    let instance = match reason {
        "user" => {
            let id = nexus.create("unlucky", false).await;
            broken(&nexus, None).await;
            nexus.ask(&id, "start").await.expect(202);
            id
        }
        "create" => {
            broken(&nexus, None).await;
            nexus.create("unlucky", true).await
        }
        _ => {
            let (id, vmm) = nexus.running("unlucky", json!({})).await;
            let agent = nexus.agent_of(&vmm).await;
            broken(&nexus, Some(&agent.id)).await;
            agent.guest(&vmm, "panic").await;
            id
        }
    };
    let attempt = eventually("the attempt failed", async || {
        let attempts = nexus.attempts(&instance).await;
        attempts
            .into_iter()
            .find(|a| a["reason"] == reason && a["outcome"] == "failed")
    })
    .await;
    Failed { nexus, instance, attempt }
}

impl Failed {
    /// The failure, once it is found to be of this kind and to read the same
    /// wherever it is shown.
    async fn reads(&self, kind: &str, transient: bool) -> Value {
        let Failed { nexus, instance, attempt } = self;
        let failure = &attempt["failure"];
        assert_eq!(failure["kind"], kind, "{failure}");
        assert_eq!(failure["transient"], transient, "{failure}");
        assert!(!failure["message"].as_str().unwrap().is_empty());
        assert!(failure["details"]["type"].is_string(), "{failure}");
        let me = nexus.get("/v1/me").await.expect(200)["id"].clone();
        let by_system = attempt["reason"] == "auto_restart";
        let asked_by = if by_system { Value::Null } else { me };
        assert_eq!(attempt["requested_by"], asked_by);
        assert!(attempt["time_ended"].is_string());

        let id = attempt["id"].as_str().unwrap();
        let path = format!("/v1/instances/{instance}/start-attempts/{id}");
        assert_eq!(&nexus.get(&path).await.expect(200), attempt);

        // By now a retry may have failed as well.
        let view = nexus
            .wait(instance, |v| {
                v["start_failure"]["kind"] == kind && is("failed")(v)
            })
            .await;
        assert_eq!(view["intended_state"], "running");
        let shown = &view["start_failure"];
        let attempts = nexus.attempts(instance).await;
        let its_own = attempts.iter().find(|a| a["id"] == shown["attempt_id"]);
        let its_own = its_own.unwrap();
        for key in ["kind", "message", "transient", "details"] {
            assert_eq!(shown[key], its_own["failure"][key]);
        }
        assert_eq!(shown["time"], its_own["time_ended"]);
        assert_eq!(shown["next_retry_at"].is_string(), transient);
        failure.clone()
    }

    /// What is kept of it for operators.
    fn internal_error(&self) -> String {
        let id = self.attempt["id"].as_str().unwrap();
        let kept = self.nexus.database.texts(&format!(
            "SELECT internal_error FROM start_attempt \
             WHERE id = '{id}' AND internal_error IS NOT NULL"
        ));
        kept.concat()
    }

    /// Checks that users read nothing that they should not, mends the fleet,
    /// and checks that the instance starts then.
    async fn ends_well(self) {
        let Failed { nexus, instance, .. } = &self;
        reads_nothing_internal(nexus).await;
        nexus.clear_all_faults().await;
        nexus.hold_all(json!({ "boot": false })).await;
        nexus.set_all(json!({ "failure_share": 0.0 })).await;
        nexus.sql(
            "ALTER TABLE sled_reservation DROP CONSTRAINT IF EXISTS sabotage",
        );
        for agent in &nexus.agents {
            nexus.set_provision_policy(&agent.id, "provisionable").await;
        }
        nexus.ask(instance, "start").await.expect(202);
        let view = nexus.wait(instance, is("running")).await;
        assert_eq!(view["start_failure"], Value::Null);
        nexus.check_invariants().await;
    }
}

/// Reads all that a user of the project can get, errors too, and checks that
/// no sled, no address, no SQL and no other tenant is in it.
async fn reads_nothing_internal(nexus: &TestNexus) {
    let user = nexus.plain_user().await;
    let mut answers = Vec::new();
    for path in [
        "/v1/me",
        "/v1/projects",
        "/v1/projects/demo",
        "/v1/instances?project=demo",
        "/v1/instances/nobody?project=demo",
        "/v1/start-failures?project=demo",
        "/v1/system/hardware/sleds",
    ] {
        answers.push((path.to_string(), user.get(path).await));
    }
    let list = user.get("/v1/instances?project=demo").await.expect(200);
    for instance in list["items"].as_array().unwrap() {
        let path =
            format!("/v1/instances/{}", instance["id"].as_str().unwrap());
        answers.push((path.clone(), user.get(&path).await));
        let attempts = format!("{path}/start-attempts");
        let page = user.get(&attempts).await;
        for attempt in page.body["items"].as_array().unwrap() {
            let id = attempt["id"].as_str().unwrap();
            let path = format!("{attempts}/{id}");
            answers.push((path.clone(), user.get(&path).await));
        }
        answers.push((attempts, page));
        let again = json!({ "name": instance["name"] });
        let mut body = Client::instance("again", true);
        body["name"] = again["name"].clone();
        let create = "/v1/instances?project=demo".to_string();
        answers.push((create.clone(), user.post(&create, body).await));
        let reboot = format!("{path}/reboot");
        answers.push((reboot.clone(), user.post(&reboot, json!({})).await));
    }
    let secrets = secrets(nexus);
    for (path, answer) in answers {
        let text = answer.body.to_string();
        for secret in &secrets {
            assert!(!text.contains(secret), "{secret:?} in {path}: {text}");
        }
    }
}

fn secrets(nexus: &TestNexus) -> Vec<String> {
    let mut secrets: Vec<String> = [
        "127.0.0.1",
        "localhost",
        "postgres",
        "diesel",
        "SELECT",
        "INSERT",
        "UPDATE",
        "DELETE",
        "violates",
        "constraint",
        "relation ",
        "column",
        "sled_reservation",
        "sabotage",
        "saga",
        "steno",
    ]
    .into_iter()
    .chain(TENANT)
    .map(str::to_string)
    .collect();
    for agent in &nexus.agents {
        secrets.push(agent.id.clone());
        secrets.push(agent.address().port().to_string());
    }
    secrets.push(nexus.process.internal().to_string());
    let tenant = TENANT[0];
    secrets.extend(nexus.database.texts(&format!(
        "SELECT id::TEXT FROM vmm \
         UNION SELECT serial FROM sled \
         UNION SELECT id::TEXT FROM silo WHERE name = '{tenant}' \
         UNION SELECT p.id::TEXT FROM project p \
             JOIN silo s ON s.id = p.silo_id WHERE s.name = '{tenant}' \
         UNION SELECT i.id::TEXT FROM instance i WHERE i.name = '{}'",
        TENANT[2],
    )));
    secrets
}

/// Closes one sled, that on which the instance runs if it does, and fills the
/// other with another tenant's instance.
async fn crowd(nexus: &TestNexus, runs_on: Option<&str>) {
    let closed = runs_on.unwrap_or(&nexus.agents[0].id);
    nexus.set_provision_policy(closed, "non_provisionable").await;
    let tenant = nexus.other_silo(TENANT[0]).await;
    let mut body = Client::instance("hog", true);
    body["ncpus"] = 7.into();
    let path = format!("/v1/instances?project={}", TENANT[1]);
    let view = tenant.post(&path, body).await.expect(201);
    tenant.wait(view["id"].as_str().unwrap(), is("running")).await;
}

#[tokio::test]
async fn insufficient_capacity_says_what_is_short_where() {
    for reason in REASONS {
        let failed = start_in(Setup::default(), reason, crowd).await;
        let failure = failed.reads("insufficient_capacity", true).await;
        assert_eq!(
            failure["details"],
            json!({
                "type": "placement",
                "requested_vcpus": 2,
                "requested_memory": 2_u64 << 30,
                "requested_storage": 0,
                "requested_cpu_platform": null,
                "sleds_considered": 2,
                "excluded": {
                    "not_in_service": 0,
                    "not_provisionable": 1,
                    "unreachable": 0,
                    "cpu_platform": 0,
                    "local_disk": 0,
                    "affinity": 0,
                    "anti_affinity": 0,
                    "vcpus": 1,
                    "memory": 0,
                    "storage": 0,
                },
                "best_sled": {
                    "free_vcpus": 1,
                    "free_memory": 14_u64 << 30,
                    "free_storage": 100_u64 << 30,
                    "short_vcpus": 1,
                    "short_memory": 0,
                    "short_storage": 0,
                },
                "fits_an_empty_sled": true,
                "groups": [],
                "disks": [],
                "quota": null,
                "remedies": [
                    {
                        "message": "Shrink it to 1 vCPU.",
                        "changes": [{
                            "type": "resize",
                            "ncpus": 1,
                            "memory": 2_u64 << 30,
                        }],
                    },
                    {
                        "message": "Wait until a host has room for it.",
                        "changes": [{ "type": "wait", "until": "room" }],
                    },
                ],
            }),
        );
        let message = failure["message"].as_str().unwrap();
        assert!(message.contains("short of 1 vCPU"), "{message}");
        failed.ends_well().await;
    }
}

#[tokio::test]
async fn what_no_sled_could_ever_hold_is_told_so() {
    let nexus = TestNexus::start().await;
    let id = nexus.create_sized("giant", 4, 20).await;
    let view = nexus.wait(&id, is("failed")).await;
    let failure = &view["start_failure"];
    assert_eq!(failure["kind"], "insufficient_capacity");
    assert_eq!(failure["transient"], false);
    assert_eq!(failure["next_retry_at"], Value::Null);
    let details = &failure["details"];
    assert_eq!(details["fits_an_empty_sled"], false);
    assert_eq!(details["excluded"]["memory"], 2);
    assert_eq!(details["best_sled"]["short_vcpus"], 0);
    assert_eq!(details["best_sled"]["short_memory"], 4_u64 << 30);
    let message = failure["message"].as_str().unwrap();
    assert!(message.contains("short of 4 GiB of memory"), "{message}");
    assert!(message.contains("even an empty one"), "{message}");
    reads_nothing_internal(&nexus).await;
    nexus.check_invariants().await;
}

#[tokio::test]
async fn no_sled_in_service_says_why_each_is_out() {
    for reason in REASONS {
        let close = async |nexus: &TestNexus, _: Option<&str>| {
            for agent in &nexus.agents {
                nexus
                    .set_provision_policy(&agent.id, "non_provisionable")
                    .await;
            }
        };
        let failed = start_in(Setup::default(), reason, close).await;
        let failure = failed.reads("no_sled_in_service", true).await;
        assert_eq!(failure["details"]["sleds_considered"], 2);
        assert_eq!(failure["details"]["excluded"]["not_provisionable"], 2);
        assert_eq!(failure["details"]["best_sled"], Value::Null);
        failed.ends_well().await;
    }
}

#[tokio::test]
async fn host_rejected_gives_the_hosts_reason() {
    for reason in REASONS {
        let reject = async |nexus: &TestNexus, _: Option<&str>| {
            let why = json!({ "reject": "The host is being emptied." });
            nexus.fault_all("register", 100, why).await;
        };
        let failed = start_in(Setup::default(), reason, reject).await;
        let failure = failed.reads("host_rejected", true).await;
        assert_eq!(
            failure["details"],
            json!({ "type": "host", "reason": "The host is being emptied." }),
        );
        // Operators read which host.
        let kept = failed.internal_error();
        let mut sleds = failed.nexus.agents.iter().map(|a| &a.id);
        assert!(sleds.any(|id| kept.contains(id)), "{kept}");
        failed.ends_well().await;
    }
}

#[tokio::test]
async fn host_unreachable_says_that_the_host_did_not_answer() {
    for reason in REASONS {
        let silence = async |nexus: &TestNexus, _: Option<&str>| {
            nexus.fault_all("register", 100, json!({ "error": 503 })).await;
        };
        let failed = start_in(Setup::default(), reason, silence).await;
        let failure = failed.reads("host_unreachable", true).await;
        assert_eq!(failure["details"], json!({ "type": "none" }));
        let kept = failed.internal_error();
        let mut sleds = failed.nexus.agents.iter().map(|a| &a.id);
        assert!(sleds.any(|id| kept.contains(id)), "{kept}");
        failed.ends_well().await;
    }
}

#[tokio::test]
async fn boot_failed_gives_the_hosts_account_of_the_guest() {
    for reason in REASONS {
        let fail = async |nexus: &TestNexus, _: Option<&str>| {
            nexus.set_all(json!({ "failure_share": 1.0 })).await;
        };
        let failed = start_in(Setup::default(), reason, fail).await;
        let failure = failed.reads("boot_failed", true).await;
        assert_eq!(
            failure["details"],
            json!({ "type": "host", "reason": "The guest did not come up." }),
        );
        failed.ends_well().await;
    }
}

#[tokio::test]
async fn timed_out_says_how_long_the_guest_had() {
    for reason in REASONS {
        let tuning = Tuning { boot_allowance_ms: 1_000, ..Tuning::default() };
        let setup = Setup { tuning, ..Setup::default() };
        let hold = async |nexus: &TestNexus, _: Option<&str>| {
            nexus.hold_all(json!({ "boot": true })).await;
        };
        let failed = start_in(setup, reason, hold).await;
        let failure = failed.reads("timed_out", true).await;
        let message = failure["message"].as_str().unwrap();
        assert!(message.contains("not running 1 s later"), "{message}");
        failed.ends_well().await;
    }
}

/// Checks that a user reads of the failure an incident that finds its saga,
/// and nothing else; what operators read.
async fn is_an_incident(failed: &Failed) -> String {
    let failure = failed.reads("internal", true).await;
    let incident = failure["details"]["incident_id"].as_str().unwrap();
    assert_eq!(
        failure["details"],
        json!({ "type": "incident", "incident_id": incident }),
    );
    assert!(failure["message"].as_str().unwrap().contains(incident));
    let saga = failed.nexus.database.count(&format!(
        "SELECT count(*) FROM saga s JOIN start_attempt a ON a.saga_id = s.id \
         WHERE s.id = '{incident}' AND a.id = '{}' \
           AND s.instance_id = '{}' AND s.name = 'instance_start'",
        failed.attempt["id"].as_str().unwrap(),
        failed.instance,
    ));
    assert_eq!(saga, 1, "incident {incident} is no saga");
    failed.internal_error()
}

#[tokio::test]
async fn internal_gives_an_incident_when_the_database_refuses() {
    for reason in REASONS {
        let sabotage = async |nexus: &TestNexus, _: Option<&str>| {
            nexus.sql(
                "ALTER TABLE sled_reservation \
                 ADD CONSTRAINT sabotage CHECK (vcpus <> 2) NOT VALID",
            );
        };
        let failed = start_in(Setup::default(), reason, sabotage).await;
        let kept = is_an_incident(&failed).await;
        assert!(kept.contains("violates check constraint"), "{kept}");
        assert!(kept.contains("sabotage"), "{kept}");
        failed.ends_well().await;
    }
}

#[tokio::test]
async fn internal_gives_an_incident_when_a_sled_does_not_understand() {
    for reason in REASONS {
        let confuse = async |nexus: &TestNexus, _: Option<&str>| {
            nexus.fault_all("register", 100, json!({ "error": 400 })).await;
        };
        let failed = start_in(Setup::default(), reason, confuse).await;
        let kept = is_an_incident(&failed).await;
        let mut sleds = failed.nexus.agents.iter().map(|a| &a.id);
        assert!(sleds.any(|id| kept.contains(id)), "{kept}");
        assert!(kept.contains("HTTP 400"), "{kept}");
        failed.ends_well().await;
    }
}

#[tokio::test]
async fn a_request_that_fails_inside_is_answered_with_an_incident_alone() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    let user = nexus.plain_user().await;
    nexus.sql("ALTER TABLE project RENAME COLUMN silo_id TO sabotage");
    let path = format!("/v1/instances/{id}");
    for answer in [
        user.get(&path).await,
        user.get("/v1/instances?project=demo").await,
        user.post(&format!("{path}/start"), json!({})).await,
        user.post(&format!("{path}/stop"), json!({})).await,
        user.delete(&path).await,
        user.post("/v1/instances?project=demo", Client::instance("x", true))
            .await,
    ] {
        let message = answer.error(500, "Internal");
        let incident = message.strip_prefix("internal error; incident ");
        let incident: uuid::Uuid = incident.unwrap().parse().unwrap();
        // By which the log, which is written a little later, leads to the
        // cause.
        let incident = incident.to_string();
        eventually("the log explains the incident", async || {
            let log = nexus.process.child.log();
            let mut about = log.lines().filter(|l| l.contains(&incident));
            about.any(|line| line.contains("silo_id")).then_some(())
        })
        .await;
    }
}
