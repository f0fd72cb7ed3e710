//! A user, or anybody, at the front door.

use crate::wait::{DEADLINE, eventually};
use crate::{GIB, PROJECT, Token};
use fleet_pki::{Credentials, Peer};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What users are told of the API: each refusal that a test meets must be there.
const API: &str = include_str!("../../docs/api.md");

/// What sleds alone are told.
const OF_SLEDS: [&str; 2] = ["NO_SUCH_VMM", "SLED_UNKNOWN"];

/// What was answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The JSON, or null where there is none.
    pub body: Value,
    /// `Retry-After`, if there is one.
    pub retry_after: Option<String>,
    /// `Content-Type`, if there is one.
    pub content_type: Option<String>,
    /// The cookie that it sets.
    pub set_cookie: Option<String>,
    /// All headers.
    pub headers: reqwest::header::HeaderMap,
}

impl Answer {
    /// The body, of an answer with this status.
    ///
    /// # Panics
    ///
    /// Another status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// A header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The text, of an answer with this status that is no JSON.
    ///
    /// # Panics
    ///
    /// Another status, or JSON.
    #[track_caller]
    pub fn text(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        self.body.as_str().unwrap().to_string()
    }

    /// The message, of an error with this status and code.
    ///
    /// # Panics
    ///
    /// Another status or code, or one that users are not told of.
    #[track_caller]
    pub fn error(self, status: u16, code: &str) -> String {
        let body = self.expect(status);
        assert_eq!(body["error_code"], code, "{body}");
        let row = format!("\n| {status} | `{code}` |");
        let told = API.contains(&row) || OF_SLEDS.contains(&code);
        assert!(told, "docs/api.md has no {code} of status {status}");
        for key in ["request_id", "message"] {
            let said = body[key].as_str().is_some_and(|s| !s.is_empty());
            assert!(said, "no {key}: {body}");
        }
        body["message"].as_str().unwrap().to_string()
    }
}

/// Somebody with a token, or without.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
    /// In place of the token, the secret of the sled that a request is about.
    speaks_for_sleds: bool,
}

impl Client {
    /// Whom `token` speaks for, at the API of this address.
    pub fn new(address: std::net::SocketAddr, token: &Token) -> Client {
        Client {
            http: http(),
            base: format!("http://{address}"),
            token: Some(token.0.clone()),
            speaks_for_sleds: false,
        }
    }

    /// Who has a certificate of the fleet's, at the API of this address, where
    /// `whom` must be found.
    pub fn member(
        address: std::net::SocketAddr,
        own: &Credentials,
        whom: Peer,
        token: &str,
    ) -> Client {
        Client {
            http: crate::pki::http(own, whom),
            base: format!("https://{address}"),
            token: Some(token.to_string()),
            speaks_for_sleds: false,
        }
    }

    /// The same, who shows with what is about a sled that sled's secret: it
    /// stands for all of them, and keeps its token for the rest.
    pub fn for_any_sled(self) -> Client {
        Client { speaks_for_sleds: true, ..self }
    }

    /// The same door, which has TLS, by this client.
    pub fn over_tls(&self, http: reqwest::Client) -> Client {
        let base = self.base.replace("http://", "https://");
        Client { http, base, ..self.clone() }
    }

    /// The same door, by this client.
    pub fn by(&self, http: reqwest::Client) -> Client {
        Client { http, ..self.clone() }
    }

    /// The same user, at the door of this address.
    pub fn at(&self, address: std::net::SocketAddr) -> Client {
        Client { base: format!("http://{address}"), ..self.clone() }
    }

    /// Where the API is.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// The token that it shows.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// The same door, by this cookie alone.
    pub fn with_cookie(&self, cookie: &str) -> Client {
        let value = cookie.parse().unwrap();
        let headers = [(reqwest::header::COOKIE, value)].into_iter().collect();
        let http = builder().default_headers(headers).build().unwrap();
        Client { token: None, http, speaks_for_sleds: false, ..self.clone() }
    }

    /// The same door, without a token.
    pub fn anonymous(&self) -> Client {
        Client { token: None, speaks_for_sleds: false, ..self.clone() }
    }

    /// The same door, with this token.
    pub fn with_token(&self, token: &str) -> Client {
        let token = Some(token.to_string());
        Client { token, speaks_for_sleds: false, ..self.clone() }
    }

    /// The same, who takes a request for lost after so long.
    pub fn patient_for(&self, time: Duration) -> Client {
        let http = builder().timeout(time);
        Client { http: http.build().unwrap(), ..self.clone() }
    }

    /// A request as it is.
    ///
    /// # Panics
    ///
    /// There is no answer.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        self.try_request(method, path, body).await.unwrap()
    }

    /// A request as it is, of which it is not certain that it is answered.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub async fn try_request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.bare(method, path);
        if let Some(body) = &body {
            request = request.json(body);
        }
        Client::answer(request).await
    }

    /// A request with these headers and this body, whatever they say.
    ///
    /// # Panics
    ///
    /// There is no answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    /// The same, of which it is not certain that it is answered.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, reqwest::Error> {
        let mut request =
            self.http.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        Client::answer(request.body(body.to_string())).await
    }

    /// A request whose body is said to be JSON, whether or not it is.
    pub async fn send_text(
        &self,
        method: Method,
        path: &str,
        body: &str,
    ) -> Answer {
        let request = self
            .bare(method, path)
            .header("content-type", "application/json")
            .body(body.to_string());
        Client::answer(request).await.unwrap()
    }

    /// A request without a body, of whoever this is.
    pub(crate) fn bare(
        &self,
        method: Method,
        path: &str,
    ) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        if self.speaks_for_sleds
            && let Some(rest) = path.strip_prefix("/sleds/")
            && !rest.ends_with("/expunge")
        {
            let sled = rest.split('/').next().unwrap();
            return request.bearer_auth(crate::pki::sled_secret(sled));
        }
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn answer(
        request: reqwest::RequestBuilder,
    ) -> Result<Answer, reqwest::Error> {
        Client::read(request.send().await?).await
    }

    /// What was answered, whole.
    pub(crate) async fn read(
        answer: reqwest::Response,
    ) -> Result<Answer, reqwest::Error> {
        let status = answer.status().as_u16();
        let header = |name: &str| {
            let value = answer.headers().get(name);
            value.map(|v| v.to_str().unwrap().to_string())
        };
        let retry_after = header("retry-after");
        let content_type = header("content-type");
        let set_cookie = header("set-cookie");
        let headers = answer.headers().clone();
        let text = answer.text().await?;
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        Ok(Answer {
            status,
            body,
            retry_after,
            content_type,
            set_cookie,
            headers,
        })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.request(Method::POST, path, Some(body)).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.request(Method::PUT, path, Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, None).await
    }

    /// POST of a form.
    pub async fn post_form(&self, path: &str, form: &str) -> Answer {
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        self.send(Method::POST, path, &kind, form).await
    }

    /// The body of an `InstanceCreate`: 2 vCPUs and 2 GiB.
    pub fn instance(name: &str, start: bool) -> Value {
        json!({
            "name": name,
            "description": "",
            "hostname": name,
            "ncpus": 2,
            "memory": 2 * GIB,
            "start": start,
        })
    }

    /// Makes an instance of 2 vCPUs and 2 GiB in the project "demo"; its id.
    pub async fn create(&self, name: &str, start: bool) -> String {
        self.create_as(Client::instance(name, start)).await
    }

    /// Makes an instance of `ncpus` and `gib` in the project "demo", to run;
    /// its id.
    pub async fn create_sized(
        &self,
        name: &str,
        ncpus: u64,
        gib: u64,
    ) -> String {
        let mut body = Client::instance(name, true);
        body["ncpus"] = ncpus.into();
        body["memory"] = (gib * GIB).into();
        self.create_as(body).await
    }

    /// Makes an instance in the project "demo"; its id.
    pub async fn create_as(&self, body: Value) -> String {
        let path = format!("/v1/instances?project={PROJECT}");
        let view = self.post(&path, body).await.expect(201);
        view["id"].as_str().unwrap().to_string()
    }

    /// The body of a `DiskCreate`: 1 GiB, local.
    pub fn disk(name: &str) -> Value {
        json!({
            "name": name,
            "description": "",
            "size": GIB,
            "disk_backend": { "type": "local" },
        })
    }

    /// The body of a new distributed disk of 1 GiB that begins with `source`.
    pub fn distributed(name: &str, source: Value) -> Value {
        let mut body = Client::disk(name);
        body["disk_backend"] =
            json!({ "type": "distributed", "disk_source": source });
        body
    }

    /// Makes a blank distributed disk of 1 GiB in the project "demo"; its id.
    pub async fn create_blank(&self, name: &str) -> String {
        let path = format!("/v1/disks?project={PROJECT}");
        let blank = json!({ "type": "blank", "block_size": 512 });
        let body = Client::distributed(name, blank);
        let view = self.post(&path, body).await.expect(201);
        view["id"].as_str().unwrap().to_string()
    }

    /// Makes a disk of 1 GiB in the project "demo"; its id.
    pub async fn create_disk(&self, name: &str) -> String {
        let path = format!("/v1/disks?project={PROJECT}");
        let view = self.post(&path, Client::disk(name)).await.expect(201);
        view["id"].as_str().unwrap().to_string()
    }

    /// Asks for a disk to be `moved`, "attach" or "detach", to or from an
    /// instance.
    pub async fn ask_disk(
        &self,
        instance: &str,
        moved: &str,
        disk: &str,
    ) -> Answer {
        let path = format!("/v1/instances/{instance}/disks/{moved}");
        self.post(&path, json!({ "disk": disk })).await
    }

    /// Waits until what this client shows is refused: a Nexus believes for a moment
    /// longer what it has found out about a credential.
    pub async fn until_refused(&self) {
        eventually("the credential is refused", async || {
            (self.get("/v1/me").await.status == 401).then_some(())
        })
        .await;
    }

    /// An instance's view.
    pub async fn instance_view(&self, id: &str) -> Value {
        self.get(&format!("/v1/instances/{id}")).await.expect(200)
    }

    /// Asks for an instance to start, stop or reboot.
    pub async fn ask(&self, id: &str, what: &str) -> Answer {
        let path = format!("/v1/instances/{id}/{what}");
        self.request(Method::POST, &path, None).await
    }

    /// Deletes an instance.
    pub async fn delete_instance(&self, id: &str) -> Answer {
        self.delete(&format!("/v1/instances/{id}")).await
    }

    /// An instance's view once `so` holds of it, by long poll.
    ///
    /// # Panics
    ///
    /// It never does.
    pub async fn wait(&self, id: &str, so: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut view = self.instance_view(id).await;
        while !so(&view) {
            assert!(began.elapsed() < DEADLINE, "never: {view:#}");
            let seen = view["view_gen"].as_u64().unwrap();
            // Short, for what changes without a change of the view: silence.
            let path = format!(
                "/v1/instances/{id}?wait_for_change={seen}&wait_seconds=2"
            );
            view = self.get(&path).await.expect(200);
        }
        view
    }

    /// An instance's start attempts, newest first.
    pub async fn attempts(&self, id: &str) -> Vec<Value> {
        let path = format!("/v1/instances/{id}/start-attempts");
        let page = self.get(&path).await.expect(200);
        page["items"].as_array().unwrap().clone()
    }
}

pub(crate) fn http() -> reqwest::Client {
    builder().timeout(DEADLINE).build().unwrap()
}

/// Nobody who goes where it is sent: a test looks where that is.
fn builder() -> reqwest::ClientBuilder {
    let stay = reqwest::redirect::Policy::none();
    reqwest::Client::builder().no_proxy().redirect(stay)
}
