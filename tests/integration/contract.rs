//! What clients of Oxide's API meet here beside the operations that we have:
//! versions, the rest of that API, refusals of every kind, and what they are
//! seen to send.

use harness::{Answer, Client, GIB, Setup, TestNexus, is};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const INSTANCES: &str = "/v1/instances?project=demo";

#[tokio::test]
async fn what_oxide_has_and_this_server_does_not_is_a_501_by_name() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for (method, path, operation) in [
        (Method::POST, "/v1/vpcs?project=demo", "vpc_create"),
        (Method::GET, "/v1/certificates", "certificate_list"),
        (Method::DELETE, "/v1/floating-ips/x", "floating_ip_delete"),
        (Method::PUT, "/v1/vpc-firewall-rules?vpc=x", "vpc_firewall_rules"),
        (Method::GET, "/experimental/v1/probes", "probe_list"),
        (
            Method::POST,
            "/v1/instances/x/external-ips/ephemeral",
            "instance_ephemeral_ip_attach",
        ),
    ] {
        let body = (method == Method::POST).then(|| json!({}));
        let ask = async |client: &Client| {
            client.request(method.clone(), path, body.clone()).await
        };
        let message = ask(&nexus).await.error(501, "NotImplemented");
        assert!(message.contains(operation), "{message}");
        ask(&nexus.anonymous()).await.error(401, "Unauthorized");
        ask(&nexus.with_token("x")).await.error(401, "Unauthorized");
    }
}

#[tokio::test]
async fn what_leads_nowhere_is_refused_with_a_body() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for path in ["/v1", "/v2/projects", "/v1/projects/x/y/z", "/metrics"] {
        nexus.get(path).await.error(404, "ObjectNotFound");
        nexus.anonymous().get(path).await.error(401, "Unauthorized");
    }
    for (method, path) in [
        (Method::DELETE, "/v1/projects"),
        (Method::PATCH, "/v1/instances/x"),
        // Of an operation that is not served.
        (Method::DELETE, "/v1/certificates"),
    ] {
        let ask = async |client: &Client| {
            client.request(method.clone(), path, None).await
        };
        let message = ask(&nexus).await.error(405, "MethodNotAllowed");
        assert!(message.contains(method.as_str()), "{message}");
        ask(&nexus.anonymous()).await.error(401, "Unauthorized");
    }
    nexus.get("/v1/projects/%zz").await.error(400, "InvalidRequest");
}

#[tokio::test]
async fn the_versions_of_the_clients_in_use_are_served() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let ask = async |version: &str| {
        let headers = [("api-version", version)];
        nexus.send(Method::GET, "/v1/projects", &headers, "").await
    };
    for version in ["2026060800.0.0", "2026073100.0.0", "2026091500.0.0"] {
        ask(version).await.expect(200);
    }
    nexus.get("/v1/projects").await.expect(200);
    for (version, why) in [
        ("2026091500.0.1", "does not support this API version"),
        ("2026091600.0.0", "does not support this API version"),
        ("2026060799.0.0", "no longer supports this API version"),
        ("1.0.0", "no longer supports this API version"),
        ("newest", "bad value for header"),
        ("2026091500", "bad value for header"),
        ("", "bad value for header"),
    ] {
        let message = ask(version).await.error(400, "InvalidRequest");
        assert!(message.contains(why), "{version}: {message}");
        assert!(message.contains(version), "{version}: {message}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_taken_is_refused_with_a_body() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let post = async |headers: &[(&str, &str)], body: &str| {
        nexus.send(Method::POST, "/v1/projects", headers, body).await
    };
    let json = [("content-type", "application/json")];
    for body in ["", "{", "[]", "null", "{\"name\": 1}", "\u{0}"] {
        post(&json, body).await.error(400, "InvalidRequest");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "x"] {
        let answer = post(&[("content-type", kind)], "{}").await;
        let message = answer.error(415, "UnsupportedMediaType");
        assert!(message.contains(kind), "{message}");
    }
    for size in [128 * 1024 + 1, 1 << 20] {
        let answer = post(&json, &" ".repeat(size)).await;
        let message = answer.error(413, "PayloadTooLarge");
        assert!(message.contains("131072 bytes"), "{message}");
    }
    let body = r#"{"name":"big","description":""}"#;
    let largest = format!("{body}{}", " ".repeat(128 * 1024 - body.len()));
    post(&json, &largest).await.expect(201);
}

/// What is answered to bytes as they are, as far as its end.
async fn raw(nexus: &TestNexus, request: &str) -> Answer {
    let mut stream =
        TcpStream::connect(nexus.process.external()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        body: serde_json::from_str(body).unwrap(),
        retry_after: None,
        content_type: None,
        set_cookie: None,
        headers: Default::default(),
    }
}

#[tokio::test]
async fn what_is_sent_in_pieces_is_measured_too() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let token = nexus.process.bootstrap("main", "admin", true).await.0;
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        )
    };
    let piece = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let long = format!("{}{}0\r\n\r\n", head("/v1/projects"), piece.repeat(3));
    raw(&nexus, &long).await.error(413, "PayloadTooLarge");
    let body = r#"{"name":"pieces","description":""}"#;
    let short = format!(
        "{}{:x}\r\n{body}\r\n0\r\n\r\n",
        head("/v1/projects"),
        body.len()
    );
    let refused = format!(
        "{}{:x}\r\n{body}\r\nzz\r\n\r\n",
        head("/v1/projects"),
        body.len()
    );
    raw(&nexus, &refused).await.error(400, "InvalidRequest");
    let mut stream =
        TcpStream::connect(nexus.process.external()).await.unwrap();
    stream.write_all(short.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 201");
}

#[tokio::test]
async fn a_content_type_is_neither_needed_nor_in_the_way() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let body = r#"{"name":"bare","description":""}"#;
    nexus.send(Method::POST, "/v1/projects", &[], body).await.expect(201);
    let json = [("content-type", "application/json")];
    nexus.send(Method::GET, "/v1/projects/bare", &json, "").await.expect(200);
    let id = nexus.create("db", false).await;
    let stop = format!("/v1/instances/{id}/stop");
    nexus.send(Method::POST, &stop, &json, "").await.expect(202);
    let path = "/v1/projects/bare";
    nexus.send(Method::DELETE, path, &json, "").await.expect(204);
}

#[tokio::test]
async fn an_instance_is_found_by_its_id_alone() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let id = nexus.create("db", true).await;
    nexus.wait(&id, is("running")).await;
    let path = format!("/v1/instances/{id}");
    assert_eq!(nexus.get(&path).await.expect(200)["name"], "db");
    nexus.ask(&id, "stop").await.expect(202);
    nexus.wait(&id, is("stopped")).await;
    nexus.delete(&path).await.expect(204);
    nexus.get(&path).await.error(404, "ObjectNotFound");
    for what in ["start", "stop", "reboot"] {
        let path = format!("/v1/instances/db/{what}");
        let answer = nexus.request(Method::POST, &path, None).await;
        let message = answer.error(400, "InvalidRequest");
        assert!(message.contains("?project="), "{message}");
    }
}

#[tokio::test]
async fn what_clients_send_to_make_an_instance_is_taken_or_refused_by_name() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let create = async |name: &str, field: &str, value: Value| {
        let mut body = Client::instance(name, false);
        body[field] = value;
        nexus.post(INSTANCES, body).await
    };
    for kind in ["default_ipv4", "default_ipv6", "default_dual_stack", "none"] {
        let name = kind.replace('_', "-");
        let value = json!({ "type": kind });
        create(&name, "network_interfaces", value).await.expect(201);
    }
    create("next-year", "of_next_year", json!({ "x": [1] })).await.expect(201);
    for pool in [
        json!({ "type": "auto" }),
        json!({ "type": "auto", "ip_version": "v4" }),
        json!({ "type": "explicit", "pool": "default" }),
    ] {
        let ip = json!([{ "type": "ephemeral", "pool_selector": pool }]);
        let answer = create("ip", "external_ips", ip).await;
        let message = answer.error(400, "InvalidValue");
        assert!(message.starts_with("external_ips: "), "{message}");
        assert!(message.contains("leave it out or empty"), "{message}");
    }
    for (field, value) in [
        ("memory", json!(1.5e9)),
        ("memory", json!("2147483648")),
        ("ncpus", json!(1.5)),
        ("ncpus", json!(65_536)),
        ("ncpus", json!(-1)),
    ] {
        let message =
            create("size", field, value).await.error(400, "InvalidRequest");
        assert!(message.contains(field), "{message}");
    }
    for memory in [u64::MAX, i64::MAX.unsigned_abs(), 1 << 53] {
        let answer = create("size", "memory", json!(memory)).await;
        let message = answer.body["message"].as_str().unwrap().to_string();
        assert_eq!(answer.status, 400, "{message}");
        assert!(message.contains("memory"), "{message}");
    }
    let view = nexus.get("/v1/instances/none?project=demo").await.expect(200);
    assert_eq!(view["memory"], 2 * GIB);
    assert!(view["ncpus"].is_u64() && view["memory"].is_u64());
}

#[tokio::test]
async fn defaults_of_a_new_project_are_no_obstacle() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    for (name, defaults) in [
        ("none", json!({})),
        ("null", Value::Null),
        ("some", json!({ "vpc": "default" })),
    ] {
        let body = json!({
            "name": name,
            "description": "",
            "defaults": defaults,
        });
        nexus.post("/v1/projects", body).await.expect(201);
    }
}

#[tokio::test]
async fn the_rack_is_the_one_that_sleds_are_in() {
    let nexus = TestNexus::with(Setup::one_sled()).await;
    let racks = "/v1/system/hardware/racks";
    let page = nexus.get(&format!("{racks}?limit=1")).await.expect(200);
    let rack = &page["items"][0];
    let sleds = nexus.get("/v1/system/hardware/sleds").await.expect(200);
    assert_eq!(rack["id"], sleds["items"][0]["rack_id"]);
    let token = page["next_page"].as_str().unwrap();
    let path = format!("{racks}?limit=1&page_token={token}");
    assert_eq!(nexus.get(&path).await.expect(200)["items"], json!([]));
    let path = format!("{racks}/{}", rack["id"].as_str().unwrap());
    assert_eq!(nexus.get(&path).await.expect(200), *rack);
    let nobody = format!("{racks}/{}", uuid::Uuid::new_v4());
    nexus.get(&nobody).await.error(404, "ObjectNotFound");
}

#[tokio::test]
async fn what_nothing_can_be_in_is_not_found_and_else_there_is_nothing() {
    let nexus = TestNexus::with(Setup::no_sled()).await;
    let id = nexus.create("db", false).await;
    for path in [
        format!("/v1/instances/{id}/external-ips"),
        format!("/v1/network-interfaces?instance={id}"),
        "/v1/network-interfaces?instance=db&project=demo&limit=3000".into(),
        "/v1/vpcs?project=demo".into(),
        "/v1/vpc-subnets?project=demo".into(),
        "/v1/floating-ips?project=demo&sort_by=name_ascending".into(),
        "/v1/ip-pools?ip_version=v4&pool_type=unicast".into(),
        "/v1/me/groups".into(),
        "/v1/system/silos/main/ip-pools".into(),
        "/v1/system/identity-providers?silo=main".into(),
        "/v1/metrics/cpus_provisioned?start_time=2026-01-02T03:04:05Z&\
         end_time=2026-01-02T03:04:06.5Z&order=descending&limit=1"
            .into(),
        "/v1/system/metrics/ram_provisioned?silo=main".into(),
    ] {
        let page = nexus.get(&path).await.expect(200);
        assert_eq!(page["items"], json!([]), "{path}");
        assert_eq!(page.get("next_page"), Some(&Value::Null), "{path}");
    }
    for path in [
        "/v1/instances/nobody/external-ips?project=demo",
        "/v1/network-interfaces?instance=nobody&project=demo",
        "/v1/network-interfaces/eth0?instance=db&project=demo",
        "/v1/vpcs?project=nowhere",
        "/v1/vpcs/default?project=demo",
        "/v1/vpc-subnets?vpc=default&project=demo",
        "/v1/vpc-subnets/default?vpc=default&project=demo",
        "/v1/ip-pools/default",
        "/v1/metrics/cpus_provisioned?project=nowhere",
        "/v1/system/metrics/cpus_provisioned?silo=nowhere",
        "/v1/system/silos/nowhere/ip-pools",
        "/v1/system/identity-providers?silo=nowhere",
    ] {
        nexus.get(path).await.error(404, "ObjectNotFound");
    }
    for path in [
        "/v1/metrics/heat",
        "/v1/metrics/cpus_provisioned?start_time=yesterday",
        "/v1/ip-pools?ip_version=v5",
        "/v1/vpcs/default",
        "/v1/vpc-subnets/default",
        "/v1/network-interfaces/eth0",
        "/v1/network-interfaces",
    ] {
        nexus.get(path).await.error(400, "InvalidRequest");
    }
    let ask = async |query: &str| {
        let path = "/v1/timeseries/query?project=demo";
        nexus.post(path, json!({ "query": query })).await
    };
    assert_eq!(
        ask("get virtual_machine:vcpu_usage | last 1").await.expect(200),
        json!({ "tables": [
            { "name": "virtual_machine:vcpu_usage", "timeseries": [] },
        ]}),
    );
    ask("").await.error(400, "InvalidValue");
}
