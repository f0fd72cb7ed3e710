//! Users: each has one instance at a time, asks one thing after the other of
//! any Nexus, and remembers what it may rely on.

use crate::record::Record;
use crate::world::World;
use chrono::{DateTime, Utc};
use fastrand::Rng;
use harness::{Answer, Client, GIB, PROJECT};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Asks for nothing, not even who asks.
const PING: &str = "/v1/ping";

/// Whoever does not answer that by then is passed over.
const PATIENCE_WITH_PING: Duration = Duration::from_millis(500);

/// What users must never read: what is on the inside.
const INTERNALS: &[&str] =
    &["127.0.0.1", "SELECT ", "UPDATE ", "test-", "postgres"];

/// What an instance is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    Run,
    Stop,
    Gone,
}

/// A request, for its history.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    what: &'static str,
    nexus: usize,
    pub(crate) sent: DateTime<Utc>,
    pub(crate) answered: DateTime<Utc>,
    outcome: String,
}

impl Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked { what, nexus, sent, answered, outcome } = self;
        let took = (*answered - *sent).num_milliseconds();
        let sent = sent.format("%H:%M:%S%.3f");
        write!(f, "{sent} {what} at Nexus {nexus}: {outcome} ({took} ms)")
    }
}

/// An instance, as its user knows it.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) id: String,
    /// The last wish that was certainly taken.
    pub(crate) taken: Wish,
    /// Wishes of which nobody knows whether and when they were, or will be.
    pub(crate) unclear: BTreeSet<Wish>,
    /// Starts that were certainly taken.
    pub(crate) starts: Vec<Asked>,
    /// When it was certainly not to run: from the answer to a stop to the next
    /// request to start.
    pub(crate) at_rest: Vec<(DateTime<Utc>, Option<DateTime<Utc>>)>,
    pub(crate) asked: Vec<Asked>,
    ncpus: u64,
}

impl Owned {
    fn new(id: String, start: bool, ncpus: u64) -> Owned {
        Owned {
            id,
            taken: if start { Wish::Run } else { Wish::Stop },
            unclear: BTreeSet::new(),
            starts: Vec::new(),
            at_rest: Vec::new(),
            asked: Vec::new(),
            ncpus,
        }
    }

    /// May this be what it is meant to be, at the end of all that was asked?
    pub(crate) fn may_be_meant_to(&self, wish: Wish) -> bool {
        self.taken == wish || self.unclear.contains(&wish)
    }

    fn wakes(&mut self) {
        if let Some((_, until @ None)) = self.at_rest.last_mut() {
            *until = Some(Utc::now());
        }
    }

    fn rests(&mut self, since: DateTime<Utc>) {
        let rests =
            self.at_rest.last().is_some_and(|(_, until)| until.is_none());
        if !rests && !self.unclear.contains(&Wish::Run) {
            self.at_rest.push((since, None));
        }
    }
}

/// See the module.
pub(crate) struct User {
    n: u16,
    chance: Rng,
    nexuses: Vec<Client>,
    record: Arc<Record>,
    internals: Vec<String>,
    made: u32,
    /// One whose creation was not answered: its name.
    unclear_create: Option<(String, bool)>,
    pub(crate) owned: Option<Owned>,
    /// Instances that it has done with.
    pub(crate) past: Vec<Owned>,
    /// Attempts that have ended, as they were read, by where they are found.
    pub(crate) ends: BTreeMap<String, Value>,
}

impl User {
    pub(crate) fn new(n: u16, world: &World, record: &Arc<Record>) -> User {
        let sleds = world.agents.iter().map(|a| a.id.clone());
        let internals = INTERNALS.iter().map(|s| (*s).to_string());
        User {
            n,
            chance: record.chance(&format!("user-{n}")),
            nexuses: world.clients.clone(),
            record: Arc::clone(record),
            internals: internals.chain(sleds).collect(),
            made: 0,
            unclear_create: None,
            owned: None,
            past: Vec::new(),
            ends: BTreeMap::new(),
        }
    }

    /// Asks until `stop`.
    pub(crate) async fn go_on(mut self, stop: watch::Receiver<bool>) -> User {
        while !*stop.borrow() {
            let pause = Duration::from_millis(self.chance.u64(20..900));
            tokio::time::sleep(pause).await;
            self.step().await;
        }
        self
    }

    async fn step(&mut self) {
        let Some(mut owned) = self.owned.take() else {
            return self.create().await;
        };
        match self.chance.u8(0..20) {
            0..=5 => self.start(&mut owned).await,
            6..=9 => self.stop(&mut owned).await,
            10..=11 => self.reboot(&mut owned).await,
            12..=13 => self.delete(&mut owned).await,
            14 => self.change_policy(&mut owned).await,
            15..=17 => self.wait(&mut owned).await,
            _ => self.look_around(&mut owned).await,
        }
        if owned.taken == Wish::Gone {
            self.past.push(owned);
        } else {
            self.owned = Some(owned);
        }
    }

    async fn create(&mut self) {
        let (name, start) = match self.unclear_create.take() {
            Some(unclear) => unclear,
            None => {
                self.made += 1;
                let name = format!("u{}-{}", self.n, self.made);
                (name, self.chance.u8(0..4) > 0)
            }
        };
        let ncpus = self.chance.u64(1..4);
        let mut body = Client::instance(&name, start);
        body["ncpus"] = ncpus.into();
        body["memory"] = (ncpus * GIB).into();
        if self.chance.u8(0..3) == 0 {
            body["disks"] = json!([{
                "type": "create",
                "name": name,
                "description": "",
                "size": GIB,
                "disk_backend": { "type": "local" },
            }]);
        }
        let path = format!("/v1/instances?project={PROJECT}");
        let mut asked = Vec::new();
        let answer =
            self.ask(&mut asked, "create", Method::POST, &path, Some(body));
        match answer.await {
            Some(Answer { status: 201, body, .. }) => {
                let id = body["id"].as_str().unwrap().to_string();
                let mut owned = Owned::new(id, start, ncpus);
                if start {
                    owned.starts.extend(asked.last().cloned());
                } else {
                    owned.rests(Utc::now());
                }
                owned.asked = asked;
                self.owned = Some(owned);
            }
            Some(Answer { status: 400, body, .. })
                if body["error_code"] == "ObjectAlreadyExists" =>
            {
                self.adopt(name, start, ncpus).await;
            }
            Some(Answer { status, body, .. }) => {
                self.unexpected("create", status, &body, &asked);
            }
            None => self.unclear_create = Some((name, start)),
        }
    }

    /// One whose creation was not answered turns out to be there.
    async fn adopt(&mut self, name: String, start: bool, ncpus: u64) {
        let path = format!("/v1/instances/{name}?project={PROJECT}");
        let mut asked = Vec::new();
        match self.ask(&mut asked, "find", Method::GET, &path, None).await {
            Some(Answer { status: 200, body, .. }) => {
                let id = body["id"].as_str().unwrap().to_string();
                let mut owned = Owned::new(id, start, ncpus);
                owned.asked = asked;
                self.owned = Some(owned);
            }
            // Its creation failed after all.
            Some(Answer { status: 404, .. }) => (),
            Some(Answer { status, body, .. }) => {
                self.unexpected("find", status, &body, &asked);
            }
            None => self.unclear_create = Some((name, start)),
        }
    }

    async fn start(&mut self, owned: &mut Owned) {
        owned.wakes();
        let path = format!("/v1/instances/{}/start", owned.id);
        if self.chance.u8(0..4) == 0 {
            // Twice at once, at two Nexuses.
            let (first, second) = (self.any().await, self.any().await);
            let ask = |n: usize| {
                self.nexuses[n].try_request(Method::POST, &path, None)
            };
            let sent = Utc::now();
            let (one, two) = tokio::join!(ask(first), ask(second));
            for (n, answer) in [(first, one), (second, two)] {
                let answer =
                    self.heard(&mut owned.asked, "start", n, sent, answer);
                self.started(owned, answer);
            }
            return;
        }
        let answer = self
            .ask(&mut owned.asked, "start", Method::POST, &path, None)
            .await;
        self.started(owned, answer);
    }

    fn started(&mut self, owned: &mut Owned, answer: Option<Answer>) {
        match answer {
            Some(Answer { status: 202, .. }) => {
                owned.taken = Wish::Run;
                owned.starts.extend(owned.asked.last().cloned());
            }
            Some(Answer { status: 409, .. }) => (),
            Some(Answer { status: 404, .. }) => self.not_found(owned),
            Some(Answer { status, body, .. }) => {
                self.unexpected("start", status, &body, &owned.asked);
            }
            None => {
                owned.unclear.insert(Wish::Run);
            }
        }
    }

    async fn stop(&mut self, owned: &mut Owned) {
        let path = format!("/v1/instances/{}/stop", owned.id);
        let answer =
            self.ask(&mut owned.asked, "stop", Method::POST, &path, None).await;
        match answer {
            Some(Answer { status: 202, body, .. }) => {
                owned.taken = Wish::Stop;
                owned.rests(Utc::now());
                let shown = body["run_state"].as_str().unwrap_or_default();
                if !["stopping", "stopped"].contains(&shown)
                    && !owned.unclear.contains(&Wish::Run)
                {
                    self.wrong(owned, &format!("a stop was taken as {shown}"));
                }
            }
            // It is still being created, by a request that was not answered.
            Some(Answer { status: 400, .. }) => (),
            Some(Answer { status: 404, .. }) => self.not_found(owned),
            Some(Answer { status, body, .. }) => {
                self.unexpected("stop", status, &body, &owned.asked);
            }
            None => {
                owned.unclear.insert(Wish::Stop);
            }
        }
    }

    async fn reboot(&mut self, owned: &mut Owned) {
        let path = format!("/v1/instances/{}/reboot", owned.id);
        let answer = self
            .ask(&mut owned.asked, "reboot", Method::POST, &path, None)
            .await;
        match answer {
            Some(Answer { status: 202 | 400, .. }) | None => (),
            Some(Answer { status: 404, .. }) => self.not_found(owned),
            Some(Answer { status, body, .. }) => {
                self.unexpected("reboot", status, &body, &owned.asked);
            }
        }
    }

    async fn delete(&mut self, owned: &mut Owned) {
        let path = format!("/v1/instances/{}", owned.id);
        let answer = self
            .ask(&mut owned.asked, "delete", Method::DELETE, &path, None)
            .await;
        match answer {
            Some(Answer { status: 204, .. }) => {
                owned.taken = Wish::Gone;
                let view = self.ask(
                    &mut owned.asked,
                    "look",
                    Method::GET,
                    &path,
                    None,
                );
                if let Some(Answer { status: 200, .. }) = view.await {
                    self.wrong(owned, "it was deleted, and is there");
                }
            }
            // It must be stopped first.
            Some(Answer { status: 400, .. }) => (),
            Some(Answer { status: 404, .. }) => self.not_found(owned),
            Some(Answer { status, body, .. }) => {
                self.unexpected("delete", status, &body, &owned.asked);
            }
            None => {
                owned.unclear.insert(Wish::Gone);
            }
        }
    }

    async fn change_policy(&mut self, owned: &mut Owned) {
        let policies = [json!(null), json!("never"), json!("best_effort")];
        let policy = policies[self.chance.usize(..policies.len())].clone();
        let body = json!({
            "ncpus": owned.ncpus,
            "memory": owned.ncpus * GIB,
            "auto_restart_policy": policy,
            "boot_disk": null,
            "cpu_platform": null,
        });
        let path = format!("/v1/instances/{}", owned.id);
        let answer = self
            .ask(&mut owned.asked, "policy", Method::PUT, &path, Some(body))
            .await;
        match answer {
            Some(Answer { status: 200, .. }) | None => (),
            // Made by a request that was not answered, with another size.
            Some(Answer { status: 409, .. }) => (),
            Some(Answer { status: 404, .. }) => self.not_found(owned),
            Some(Answer { status, body, .. }) => {
                self.unexpected("policy", status, &body, &owned.asked);
            }
        }
    }

    async fn wait(&mut self, owned: &mut Owned) {
        let path = format!("/v1/instances/{}", owned.id);
        let Some(view) = self.view(owned, &path).await else { return };
        let seen = &view["view_gen"];
        let path = format!("{path}?wait_for_change={seen}&wait_seconds=2");
        self.view(owned, &path).await;
    }

    /// The instance's view, of which what must hold at any moment is checked.
    async fn view(&mut self, owned: &mut Owned, path: &str) -> Option<Value> {
        let answer =
            self.ask(&mut owned.asked, "look", Method::GET, path, None).await?;
        match answer.status {
            200 => {
                if let Some(what) = contradiction(&answer.body) {
                    self.wrong(owned, &what);
                }
                let meant = meant(&answer.body);
                if !owned.may_be_meant_to(meant) {
                    let what = format!("it is meant to {meant:?}");
                    self.wrong(owned, &what);
                }
                Some(answer.body)
            }
            404 => {
                self.not_found(owned);
                None
            }
            status => {
                self.unexpected("look", status, &answer.body, &owned.asked);
                None
            }
        }
    }

    async fn look_around(&mut self, owned: &mut Owned) {
        let attempts = format!("/v1/instances/{}/start-attempts", owned.id);
        let paths = [
            format!("/v1/instances?project={PROJECT}"),
            format!("/v1/start-failures?project={PROJECT}"),
            attempts,
        ];
        let chosen = self.chance.usize(..paths.len());
        let path = &paths[chosen];
        let mut asked = Vec::new();
        let answer =
            self.ask(&mut asked, "look around", Method::GET, path, None).await;
        match answer {
            Some(Answer { status: 200, body, .. }) if chosen == 2 => {
                self.remember(path, &body);
            }
            Some(Answer { status: 200, .. }) | None => (),
            Some(Answer { status, body, .. }) => {
                self.unexpected("look around", status, &body, &asked);
            }
        }
    }

    /// What an attempt that has ended says of its end is so for ever.
    fn remember(&mut self, attempts: &str, page: &Value) {
        let items = page["items"].as_array().cloned().unwrap_or_default();
        for item in items.into_iter().filter(|a| a["outcome"] != "pending") {
            let id = item["id"].as_str().unwrap();
            self.ends.insert(format!("{attempts}/{id}"), item);
        }
    }

    /// It may have been deleted by a request that was not answered.
    fn not_found(&mut self, owned: &mut Owned) {
        if owned.may_be_meant_to(Wish::Gone) {
            owned.taken = Wish::Gone;
        } else {
            self.wrong(owned, "it is lost: 404");
            owned.taken = Wish::Gone;
        }
    }

    /// Some Nexus that answers, if one does: as whoever stands in front of
    /// several would choose.
    async fn any(&mut self) -> usize {
        let first = self.chance.usize(..self.nexuses.len());
        for turn in 0..self.nexuses.len() {
            let n = (first + turn) % self.nexuses.len();
            let ping = self.nexuses[n].try_request(Method::GET, PING, None);
            let answer = tokio::time::timeout(PATIENCE_WITH_PING, ping).await;
            if answer.is_ok_and(|answer| answer.is_ok()) {
                return n;
            }
        }
        first
    }

    /// A request at some Nexus. `None`: it is unclear what became of it.
    async fn ask(
        &mut self,
        asked: &mut Vec<Asked>,
        what: &'static str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<Answer> {
        let n = self.any().await;
        let sent = Utc::now();
        let answer = self.nexuses[n].try_request(method, path, body).await;
        self.heard(asked, what, n, sent, answer)
    }

    fn heard(
        &mut self,
        asked: &mut Vec<Asked>,
        what: &'static str,
        nexus: usize,
        sent: DateTime<Utc>,
        answer: Result<Answer, reqwest::Error>,
    ) -> Option<Answer> {
        let (outcome, answer) = match answer {
            Ok(answer) => (answer.status.to_string(), Some(answer)),
            Err(error) if error.is_timeout() => ("no answer".into(), None),
            Err(_) => ("hung up".into(), None),
        };
        self.record.answer(format!("{what}: {outcome}"));
        let answered = Utc::now();
        asked.push(Asked { what, nexus, sent, answered, outcome });
        let answer = answer?;
        if let Some(inside) = self.internal(&answer.body) {
            let body = answer.body.to_string();
            let at = body.find(inside.as_str()).unwrap_or_default();
            let around: String = body
                .char_indices()
                .filter(|(i, _)| i.abs_diff(at) < 200)
                .map(|(_, c)| c)
                .collect();
            self.record
                .violation(format!("I6: {what} shows {inside}: …{around}…"));
        }
        if answer.status == 503 {
            if answer.retry_after.is_none() {
                self.record.violation(format!("{what}: 503, no Retry-After"));
            }
            return None;
        }
        Some(answer)
    }

    fn internal(&self, body: &Value) -> Option<&String> {
        let text = body.to_string();
        self.internals.iter().find(|inside| text.contains(inside.as_str()))
    }

    fn unexpected(
        &self,
        what: &str,
        status: u16,
        body: &Value,
        asked: &[Asked],
    ) {
        let asked = history(asked);
        self.record.violation(format!("{what}: {status} {body}\n{asked}"));
    }

    fn wrong(&self, owned: &Owned, what: &str) {
        self.record.violation(format!(
            "instance {}: {what}; taken {:?}, unclear {:?}\n{}",
            owned.id,
            owned.taken,
            owned.unclear,
            history(&owned.asked)
        ));
    }
}

/// What was asked, a line each.
pub(crate) fn history(asked: &[Asked]) -> String {
    let lines: Vec<String> =
        asked.iter().map(|asked| format!("    {asked}")).collect();
    lines.join("\n")
}

/// What a view says that the instance is meant to be.
pub(crate) fn meant(view: &Value) -> Wish {
    match view["intended_state"].as_str().unwrap_or_default() {
        // It was to run, until its guest shut itself down.
        "running" | "guest_shutdown" => Wish::Run,
        "stopped" => Wish::Stop,
        _ => Wish::Gone,
    }
}

/// What of a view contradicts the rest of it, if anything.
pub(crate) fn contradiction(view: &Value) -> Option<String> {
    let state = view["run_state"].as_str().unwrap_or_default();
    let meant = view["intended_state"].as_str().unwrap_or_default();
    let why = &view["start_failure"];
    let last = &view["last_failure"];
    let is_wrong = match state {
        "failed" => meant != "running" || (why.is_null() && last.is_null()),
        "stopped" => meant == "running" || !why.is_null(),
        "running" => !why.is_null() || !last.is_null(),
        "starting" => meant != "running",
        _ => false,
    };
    is_wrong.then(|| format!("its view contradicts itself: {view}"))
}
