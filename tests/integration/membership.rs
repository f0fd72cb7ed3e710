//! Who is of the fleet: how a sled joins it, stays in it, and leaves it; and
//! that nobody else is heard.

use fleet_pki::{
    Credentials, Key, Peer, SLED_LIFE, client_config,
    first_contact_client_config,
};
use harness::{
    Agent, AgentSettings, Answer, Child, Client, DEADLINE, Setup, TestNexus,
    eventually, is, pki,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use tokio::io::AsyncReadExt;
use uuid::Uuid;

const ISSUE: [&str; 3] = ["sled", "token", "issue"];

/// The path of the list of sleds.
const SLEDS: &str = "/v1/system/hardware/sleds";

/// A token, and the sled that it is for.
async fn issue(nexus: &TestNexus, more: &[&str]) -> (String, String) {
    let issued = nexus.process.admin_json(&[&ISSUE, more].concat()).await;
    let text = |key: &str| issued[key].as_str().unwrap().to_string();
    (text("token"), text("sled_id"))
}

/// Who has no certificate, at the door where sleds join.
fn outside(nexus: &TestNexus, token: &str) -> Client {
    let trust = pki::authority().trust().clone();
    let tls = first_contact_client_config(trust).unwrap();
    let own = pki::credentials(Peer::Operator);
    let door = nexus.process.join();
    Client::member(door, &own, Peer::Nexus, token).by(pki::http_of(tls))
}

async fn join(nexus: &TestNexus, token: &str, key: &Key) -> Answer {
    let body = json!({ "public_key": key.public_key_pem() });
    outside(nexus, token).post("/join", body).await
}

async fn sleds(nexus: &TestNexus) -> Vec<Value> {
    let page = nexus.get(SLEDS).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

async fn registered(nexus: &TestNexus, sled: &str) {
    eventually("the sled is registered", async || {
        let sleds = sleds(nexus).await;
        sleds.iter().any(|s| s["id"] == sled).then_some(())
    })
    .await;
}

fn membership(agent: &Agent) -> Value {
    let path = agent.dir().join(sled_agent::MEMBERSHIP_FILE);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[tokio::test]
async fn a_host_joins_by_a_token_and_runs_instances() {
    let mut nexus = TestNexus::with(Setup::no_sled()).await;
    let (token, sled) = issue(&nexus, &[]).await;
    let listed = nexus.process.admin(&["sled", "token", "list"]).await.done();
    assert!(listed.contains(&sled) && !listed.contains(&token), "{listed}");

    let mut agent = Agent::join(&nexus.process, 0, &token).await;
    assert_eq!(agent.id, sled);
    registered(&nexus, &sled).await;
    // Nobody else on the host can read by what it is known.
    for name in [sled_agent::MEMBERSHIP_FILE, "lock"] {
        use std::os::unix::fs::PermissionsExt;
        let file = std::fs::metadata(agent.dir().join(name)).unwrap();
        let others = file.permissions().mode() & 0o077;
        assert_eq!(others == 0, name != "lock", "{name}: {others:o}");
    }
    assert!(!agent.dir().join("joining.json").exists());

    // From then on it needs no token, though it is told of one still.
    let before = membership(&agent);
    agent.kill().await;
    agent.restart().await;
    assert_eq!(membership(&agent), before);
    nexus.agents.push(agent);
    nexus.running("db", json!({})).await;
    let kept = format!(
        "SELECT count(*) FROM sled_join_token t \
         WHERE position('{token}' in to_jsonb(t)::TEXT) > 0"
    );
    assert_eq!(nexus.database.count(&kept), 0);
    assert!(!nexus.process.child.log().contains(&token));
}

#[tokio::test]
async fn a_token_is_good_for_one_key_until_it_expires() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let (token, sled) = issue(&nexus, &[]).await;
    let (one, other) = (Key::generate().unwrap(), Key::generate().unwrap());

    // What is no key does not use it up.
    let body = json!({ "public_key": "none" });
    let wrong = outside(&nexus, &token).post("/join", body).await;
    wrong.error(400, "InvalidValue");

    // The answer to the first may have been lost.
    let first = join(&nexus, &token, &one).await.expect(200);
    let again = join(&nexus, &token, &one).await.expect(200);
    for joined in [&first, &again] {
        assert_eq!(joined["sled_id"], sled.as_str());
        assert_eq!(joined["secret"], pki::sled_secret(&sled).as_str());
        let pem = joined["certificate"].as_str().unwrap();
        let trust = pki::authority().trust().clone();
        Credentials::new(pem, &one, trust).unwrap();
    }
    let used = join(&nexus, &token, &other).await.error(409, "Conflict");
    assert!(used.contains("used"), "{used}");

    // A host that is another sled already does not become this one.
    let body = json!({
        "public_key": one.public_key_pem(), "sled_id": Uuid::nil(),
    });
    let other_sled = outside(&nexus, &token).post("/join", body).await;
    assert!(other_sled.error(409, "Conflict").contains(&sled));

    nexus.sql("UPDATE sled_join_token SET time_expires = now()");
    for token in [token.as_str(), "nexus-sled-0", ""] {
        join(&nexus, token, &one).await.error(401, "Unauthorized");
    }
    let list = ["sled", "token", "list"];
    let left = nexus.process.admin_json(&list).await;
    assert_eq!(left["tokens"], json!([]));
}

#[tokio::test]
async fn who_says_nothing_where_sleds_join_is_cut_and_keeps_no_sled_out() {
    let mut nexus = TestNexus::with(Setup::no_sled()).await;
    let (token, sled) = issue(&nexus, &[]).await;
    // More than one address may have: some are turned away at once, and for a
    // while nobody else gets in.
    let mut silent = Vec::new();
    for _ in 0..50 {
        let one = tokio::net::TcpStream::connect(nexus.process.join()).await;
        silent.push(one.unwrap());
    }
    let agent = Agent::join(&nexus.process, 0, &token).await;
    assert_eq!(agent.id, sled);
    nexus.agents.push(agent);
    // Those of them that were let in have been cut, and nobody else.
    for mut one in silent {
        let end = tokio::time::timeout(DEADLINE, one.read_u8()).await;
        // A reset is an end, too.
        assert!(end.expect("it is closed").is_err());
    }
    let log = nexus.process.child.log();
    for said in ["turned a connection away", "cut a connection off"] {
        assert!(log.contains(said), "{said}: {log}");
    }
}

#[tokio::test]
async fn two_hosts_with_one_token_are_not_both_let_in() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let (token, _) = issue(&nexus, &[]).await;
    let (one, other) = (Key::generate().unwrap(), Key::generate().unwrap());
    let (one, other) =
        tokio::join!(join(&nexus, &token, &one), join(&nexus, &token, &other),);
    let mut statuses = [one.status, other.status];
    statuses.sort();
    assert_eq!(statuses, [200, 409]);
}

#[tokio::test]
async fn an_agent_that_may_not_join_says_why_and_ends() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let dir = nexus.process.dir();
    let (token, _) = issue(&nexus, &[]).await;
    join(&nexus, &token, &Key::generate().unwrap()).await.expect(200);
    let data = dir.join("late");
    let text = |path: &Path| path.to_str().unwrap().to_string();
    let mut args: Vec<String> = [
        "--data-dir".to_string(),
        text(&data),
        "--listen".to_string(),
        "127.0.0.1:0".to_string(),
        "--nexus".to_string(),
        format!("https://{}", nexus.process.internal()),
        "--vcpus".to_string(),
        "1".to_string(),
        "--memory-gib".to_string(),
        "1".to_string(),
    ]
    .into();
    let run = async |args: &[String], log: &str| {
        let mut child = Child::start("sled-agent", args, &dir.join(log));
        (child.exited().await, child.log())
    };
    let (code, said) = run(&args, "nothing.log").await;
    assert_eq!(code, Some(1));
    assert!(said.contains("--join-token-file"), "{said}");

    args.extend(pki::joining(dir, nexus.process.join(), &token));
    let (code, said) = run(&args, "late.log").await;
    assert_eq!(code, Some(1));
    assert!(said.contains("the token was used"), "{said}");
    assert!(!data.join("address.json").exists());

    // In the clear it asks nobody.
    let plain = args.iter().map(|a| a.replace("https://", "http://"));
    let (code, said) = run(&plain.collect::<Vec<_>>(), "plain.log").await;
    assert_eq!(code, Some(2));
    assert!(said.contains("https://IP:PORT"), "{said}");
}

#[tokio::test]
async fn a_sled_joins_again_as_who_it_was() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    nexus.running("db", json!({})).await;
    let mut agent = nexus.agents.pop().unwrap();
    let id = agent.id.clone();
    agent.kill().await;
    // As one whose certificate has run out: nobody would speak with it.
    std::fs::remove_file(agent.dir().join(sled_agent::MEMBERSHIP_FILE))
        .unwrap();
    let (token, sled) = issue(&nexus, &["--sled", &id]).await;
    assert_eq!(sled, id);
    let agent = Agent::join(&nexus.process, 0, &token).await;
    assert_eq!(agent.id, id);
    // It has its guest still.
    assert_eq!(agent.vmms().await.len(), 1);
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_runs_out() {
    let mut nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &mut nexus.agents[0];
    agent.kill().await;
    let mut before = membership(agent);
    before["time_renew"] = "2020-01-01T00:00:00Z".into();
    let path = agent.dir().join(sled_agent::MEMBERSHIP_FILE);
    std::fs::write(&path, before.to_string()).unwrap();
    agent.restart().await;
    let after = eventually("the certificate is renewed", async || {
        let after = membership(agent);
        (after["certificate"] != before["certificate"]).then_some(after)
    })
    .await;
    assert_ne!(after["key"], before["key"]);
    assert_eq!(after["secret"], before["secret"]);
    assert_eq!(after["sled_id"], before["sled_id"]);
    // It works by the new one, in either direction.
    nexus.running("db", json!({})).await;
    nexus.agents[0].kill().await;
    nexus.agents[0].restart().await;
    nexus.running("db-2", json!({})).await;
}

#[tokio::test]
async fn an_expunged_sled_gets_no_certificate_and_is_told_that_it_is_out() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let id = nexus.agents[0].id.clone();
    let (token, _) = issue(&nexus, &["--sled", &id]).await;
    nexus.expunge(&id).await.expect(204);

    let key = Key::generate().unwrap();
    let refused = join(&nexus, &token, &key).await.error(409, "Conflict");
    assert!(refused.contains("expunged"), "{refused}");
    let again = [&ISSUE[..], &["--sled", &id]].concat();
    let refused = nexus.process.admin(&again).await.refused(2);
    assert!(refused.contains("expunged"), "{refused}");
    let secret = pki::sled_secret(&id);
    let sled: Uuid = id.parse().unwrap();
    let sled = nexus.process.member(Peer::Sled(sled), &secret);
    let path = format!("/sleds/{id}/certificate");
    let body = json!({ "public_key": key.public_key_pem() });
    let refused = sled.post(&path, body).await.error(409, "Conflict");
    assert!(refused.contains("expunged"), "{refused}");

    // It is heard all the same: so it learns that it has to stop its guests.
    let said = json!({
        "address": "127.0.0.1:9", "serial": "s", "part": "p", "revision": 1,
        "vcpus": 1, "memory_bytes": 1, "storage_bytes": 1,
        "incarnation": Uuid::now_v7(),
    });
    let beat = sled.post(&format!("/sleds/{id}/heartbeat"), said).await;
    assert_eq!(beat.expect(200)["expunged"], true);
}

#[tokio::test]
async fn a_sled_speaks_for_itself_alone() {
    let nexus = TestNexus::start().await;
    let (id, vmm) = nexus.running("db", json!({})).await;
    nexus.settled(&id).await;
    let sled = nexus.agent_of(&vmm).await;
    let other = nexus.agents.iter().find(|a| a.id != sled.id).unwrap();
    let mut report = sled.vmms().await.remove(0);
    let generation = report["generation"].as_u64().unwrap();
    report["state"] = "destroyed".into();
    report["end_reason"] = "guest_shutdown".into();
    report["generation"] = (generation + 1).into();
    let path = format!("/sleds/{}/vmms/{vmm}", sled.id);
    let before = nexus.database.row("SELECT state, generation FROM vmm");

    let as_other = Peer::Sled(other.id.parse().unwrap());
    let shown = pki::sled_secret(&other.id);
    let liar = nexus.process.member(as_other, &shown);
    liar.put(&path, report.clone()).await.error(401, "Unauthorized");
    for (method, path) in [
        (Method::PUT, format!("/sleds/{}", sled.id)),
        (Method::POST, format!("/sleds/{}/heartbeat", sled.id)),
        (Method::POST, format!("/sleds/{}/certificate", sled.id)),
    ] {
        let body = json!({
            "address": "127.0.0.1:9", "serial": "s", "part": "p",
            "revision": 1, "vcpus": 1, "memory_bytes": 1, "storage_bytes": 1,
            "incarnation": Uuid::now_v7(),
            "public_key": Key::generate().unwrap().public_key_pem(),
        });
        let refused = liar.request(method, &path, Some(body)).await;
        refused.error(401, "Unauthorized");
    }
    // Nor is it an operator.
    let expunge = format!("/sleds/{}/expunge", sled.id);
    liar.request(Method::POST, &expunge, None).await.expect(401);
    liar.get("/metrics").await.expect(401);
    let after = nexus.database.row("SELECT state, generation FROM vmm");
    assert_eq!(after, before);
    assert_eq!(nexus.instance_view(&id).await["run_state"], "running");
}

#[tokio::test]
async fn who_is_not_of_the_fleet_is_not_heard() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let agent = &nexus.agents[0];
    let id: Uuid = agent.id.parse().unwrap();
    let secret = pki::sled_secret(&agent.id);
    let trust = pki::authority().trust().clone();

    // Another fleet's sled of the same id, which believes ours.
    let key = Key::generate().unwrap();
    let theirs = pki::strange_authority().issue(
        Peer::Sled(id),
        &key.public_key(),
        SLED_LIFE,
    );
    let stranger =
        Credentials::new(&theirs.unwrap(), &key, trust.clone()).unwrap();
    let internal = nexus.process.internal();
    let nobody = Client::member(internal, &stranger, Peer::Nexus, &secret);
    let without = first_contact_client_config(trust).unwrap();
    let path = format!("/sleds/{id}/expunge");
    for client in
        [nobody.clone(), nobody.by(pki::http_of(without)), nobody.at(internal)]
    {
        let answer = client.try_request(Method::POST, &path, None).await;
        assert!(answer.is_err(), "{answer:?}");
    }

    // Nor by a sled: of another CA, or one that is no Nexus.
    let other_sled = pki::credentials(Peer::Sled(Uuid::new_v4()));
    for own in [&stranger, &other_sled] {
        let asked = agent.asked_by(own);
        let answer = asked.try_request(Method::GET, "/vmms", None).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    // And a Nexus speaks with no other sled than it means.
    let nexus_means = client_config(
        &pki::credentials(Peer::Nexus),
        Peer::Sled(Uuid::new_v4()),
    );
    let mistaken = agent.api().by(pki::http_of(nexus_means.unwrap()));
    let answer = mistaken.try_request(Method::GET, "/vmms", None).await;
    assert!(answer.is_err(), "{answer:?}");

    let view = nexus.get(&format!("{SLEDS}/{id}")).await.expect(200);
    assert_eq!(view["policy"]["kind"], "in_service");
}

#[tokio::test]
async fn members_who_say_nothing_keep_no_other_out() {
    let mut nexus = TestNexus::with(Setup::no_sled()).await;
    // Where sleds join, there is a door.
    let internal = nexus.process.internal();
    let silent: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(internal).unwrap()).collect();
    let (token, _) = issue(&nexus, &[]).await;
    join(&nexus, &token, &Key::generate().unwrap()).await.expect(200);
    nexus.add_sled(&AgentSettings::default()).await;
    let id = nexus.create("db", true).await;
    nexus.wait(&id, is("running")).await;
    drop(silent);
}

/// What a program that knows nothing of fleets is given, and what it then is.
async fn given(
    nexus: &TestNexus,
    whose: &[&str],
    server: SocketAddr,
) -> (reqwest::Client, String, String) {
    let dir = nexus.process.dir().join(whose.join("-"));
    let dir_text = dir.to_str().unwrap();
    let args = [&["credentials"], whose, &[dir_text]].concat();
    let written = nexus.process.admin_json(&args).await;
    let name = written["server_name"].as_str().unwrap().to_string();
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let ca = reqwest::Certificate::from_pem(read("ca.pem").as_bytes());
    let own = format!("{}{}", read("key.pem"), read("cert.pem"));
    let own = reqwest::Identity::from_pem(own.as_bytes()).unwrap();
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([ca.unwrap()])
        .identity(own)
        .resolve(&name, server);
    let base = format!("https://{name}:{}", server.port());
    (http.build().unwrap(), base, read("secret"))
}

#[tokio::test]
async fn programs_that_are_not_of_the_fleet_are_let_in_by_files() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let internal = nexus.process.internal();
    let (reader, base, secret) = given(&nexus, &["metrics"], internal).await;
    let get = reader.get(format!("{base}/metrics")).bearer_auth(&secret);
    assert_eq!(get.send().await.unwrap().status(), 200);
    // And they can do nothing else.
    let expunge = format!("{base}/sleds/{}/expunge", nexus.agents[0].id);
    let expunge = reader.post(expunge).bearer_auth(&secret);
    assert_eq!(expunge.send().await.unwrap().status(), 401);

    let agent = &nexus.agents[0];
    let of_sled = ["sled", agent.id.as_str()];
    let (operator, base, secret) =
        given(&nexus, &of_sled, agent.address()).await;
    let list = operator.get(format!("{base}/vmms")).bearer_auth(&secret);
    assert_eq!(list.send().await.unwrap().status(), 200);

    // What is there is not written over.
    let dir = nexus.process.dir().join("metrics");
    let again = ["credentials", "metrics", dir.to_str().unwrap()];
    nexus.process.admin(&again).await.refused(1);
}
