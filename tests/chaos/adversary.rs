//! The adversary: a task for each thing that can be hurt, which waits, hurts
//! it for a while, and heals it. Each by its own stream of chance.

use crate::postgres::Postgres;
use crate::record::Record;
use crate::world::World;
use fastrand::Rng;
use harness::{Agent, Client, Link, NexusProcess, Weather};
use reqwest::Method;
use serde_json::json;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, spawn_local};

/// What a Nexus exits with that found its lease taken, or a saga adopted.
const ZOMBIE: Option<i32> = Some(3);

/// How long a Nexus may take from SIGTERM to its exit, and then some.
const CLOSES: Duration = Duration::from_secs(45);

/// Between two looks at whether a process is still there.
const LOOK: Duration = Duration::from_millis(100);

/// Added to a sled's number for the one that takes its place.
const ANOTHER: usize = 100;

/// As many calls as none of these faults outlasts.
const MANY: u32 = 1_000_000;

/// All that goes on, until it is called back.
pub(crate) struct Adversary {
    world: World,
    nexuses: Vec<JoinHandle<NexusProcess>>,
    agents: Vec<JoinHandle<Agent>>,
    links: Vec<JoinHandle<()>>,
    postgres: JoinHandle<()>,
}

/// What each of its tasks has.
struct Torment {
    chance: Rng,
    stop: watch::Receiver<bool>,
    record: Arc<Record>,
}

impl Torment {
    /// How long a sled is out of reach: mostly for seconds; at times for so long
    /// that what is on it is given up.
    fn silence(&mut self) -> Range<u64> {
        if self.chance.u8(0..4) == 0 { 8_000..25_000 } else { 100..6_000 }
    }

    /// Waits for a time from `range`, in milliseconds; less if it is over.
    async fn wait(&mut self, range: Range<u64>) {
        let time = Duration::from_millis(self.chance.u64(range));
        let mut stop = self.stop.clone();
        let _ =
            tokio::time::timeout(time, stop.wait_for(|stopped| *stopped)).await;
    }

    fn goes_on(&self) -> bool {
        !*self.stop.borrow()
    }
}

/// Begins to hurt all of the world. On one thread, as what waits for processes
/// in the harness is not made to change it.
pub(crate) fn unleash(
    mut world: World,
    postgres: Postgres,
    record: &Arc<Record>,
    stop: watch::Receiver<bool>,
) -> Adversary {
    let torment = |whom: &str| Torment {
        chance: record.chance(whom),
        stop: stop.clone(),
        record: Arc::clone(record),
    };
    let operator = Operator::of(&world.nexuses);
    let mut links = Vec::new();
    for (name, link) in &world.links {
        let (torment, link) = (torment(name), Arc::clone(link));
        links.push(spawn_local(hurt_link(kind(name), link, torment)));
    }
    for (n, link) in world.sled_links.iter().enumerate() {
        let torment = torment(&format!("nexus-sled-{n}"));
        let link = Arc::clone(link);
        let kind = "nexus-sled".to_string();
        links.push(spawn_local(hurt_link(kind, link, torment)));
    }
    let nexuses = std::mem::take(&mut world.nexuses)
        .into_iter()
        .enumerate()
        .map(|(n, nexus)| {
            let torment = torment(&format!("nexus-{n}"));
            spawn_local(hurt_nexus(nexus, torment))
        })
        .collect();
    let agents = std::mem::take(&mut world.agents)
        .into_iter()
        .zip(&world.sled_links)
        .enumerate()
        .map(|(n, (agent, link))| {
            let ours = format!("sled-{n}-");
            let to_nexus = world.links.iter();
            let to_nexus = to_nexus.filter(|(name, _)| name.starts_with(&ours));
            let sled = Sled {
                n,
                agent,
                link: Arc::clone(link),
                to_nexus: to_nexus.map(|(_, way)| Arc::clone(way)).collect(),
                operator: operator.clone(),
            };
            spawn_local(hurt_sled(sled, torment(&format!("sled-{n}"))))
        })
        .collect();
    let postgres = spawn_local(hurt_postgres(postgres, torment("postgres")));
    Adversary { world, nexuses, agents, links, postgres }
}

impl Adversary {
    /// Waits until all is healed, once it was told to stop.
    ///
    /// # Errors
    ///
    /// What cannot be healed.
    pub(crate) async fn retreat(mut self) -> Result<World, JoinError> {
        self.postgres.await?;
        for link in self.links {
            link.await?;
        }
        for agent in self.agents {
            self.world.agents.push(agent.await?);
        }
        for nexus in self.nexuses {
            self.world.nexuses.push(nexus.await?);
        }
        Ok(self.world)
    }
}

/// Who takes lost hosts out of the fleet.
#[derive(Clone)]
struct Operator(Vec<Client>);

impl Operator {
    fn of(nexuses: &[NexusProcess]) -> Operator {
        Operator(nexuses.iter().map(NexusProcess::internal_client).collect())
    }

    /// Asks one Nexus after the other until it is done.
    async fn expunge(&self, sled: &str) {
        let path = format!("/sleds/{sled}/expunge");
        for nexus in self.0.iter().cycle() {
            let answer = nexus.try_request(Method::POST, &path, None);
            if answer.await.is_ok_and(|answer| answer.status == 204) {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Between what is it? As the names of links have it, without the numbers.
fn kind(link: &str) -> String {
    let words = link.split('-').filter(|word| word.parse::<u8>().is_err());
    words.collect::<Vec<_>>().join("-")
}

async fn hurt_nexus(mut nexus: NexusProcess, mut t: Torment) -> NexusProcess {
    while t.goes_on() {
        keep_alive(&mut nexus, &mut t, 3_000..15_000).await;
        match t.chance.u8(0..10) {
            0..=3 => {
                t.record.fault("nexus killed");
                nexus.child.kill().await;
                t.wait(0..6_000).await;
                nexus.restart().await;
            }
            4..=7 => {
                // Up to well past its lease.
                t.record.fault("nexus paused");
                nexus.child.pause();
                t.wait(100..6_000).await;
                nexus.child.resume();
            }
            _ => {
                t.record.fault("nexus ended in order");
                let closed =
                    tokio::time::timeout(CLOSES, nexus.child.terminate()).await;
                match closed {
                    Ok(Some(0) | ZOMBIE) => (),
                    other => t.record.violation(format!(
                        "a Nexus that was to end in order did not: {other:?}"
                    )),
                }
                t.wait(0..3_000).await;
                nexus.restart().await;
            }
        }
    }
    // Long enough for one that was paused to find that it is a zombie.
    t.stop = watch::channel(false).1;
    keep_alive(&mut nexus, &mut t, 5_000..5_001).await;
    nexus
}

/// For a time from `range`, starts the Nexus again when it has exited, which
/// it may for one reason alone.
async fn keep_alive(
    nexus: &mut NexusProcess,
    t: &mut Torment,
    range: Range<u64>,
) {
    let mut left = Duration::from_millis(t.chance.u64(range));
    while !left.is_zero() && t.goes_on() {
        if let Some(code) = nexus.child.has_exited() {
            if code == ZOMBIE {
                t.record.fault("nexus exited as a zombie");
            } else {
                t.record.violation(format!("a Nexus exited with {code:?}"));
            }
            nexus.restart().await;
        }
        tokio::time::sleep(LOOK.min(left)).await;
        left = left.saturating_sub(LOOK);
    }
}

/// A sled, and what it takes to have another one in its place.
struct Sled {
    n: usize,
    agent: Agent,
    /// The way to it.
    link: Arc<Link>,
    /// The ways from it to each Nexus.
    to_nexus: Vec<Arc<Link>>,
    operator: Operator,
}

impl Sled {
    /// Its host is lost for good, which an operator says some time later.
    async fn is_lost(&mut self, t: &mut Torment) {
        t.record.fault("host lost");
        self.agent.lose_host().await;
        t.wait(0..6_000).await;
        self.operator.expunge(&self.agent.id).await;
        self.n += ANOTHER;
        self.agent.replace(self.n).await;
        self.link.lead_to(&self.agent);
    }

    /// It is alone for longer than its guests may run alone; or, at times, is
    /// heard and hears nothing.
    async fn is_cut_off(&mut self, t: &mut Torment) {
        let (what, there, back) = match t.chance.u8(0..4) {
            0 => ("hears nothing", Weather::Clear, Weather::AnswersLost),
            1 => ("is not heard", Weather::Clear, Weather::Cut),
            2 => ("is left waiting", Weather::Silent, Weather::Silent),
            _ => ("is cut off", Weather::Cut, Weather::Cut),
        };
        t.record.fault(&format!("sled {what}"));
        // Others change the weather on these ways, too.
        for _ in 0..t.chance.u32(120..300) {
            if !t.goes_on() {
                break;
            }
            self.link.set(there);
            self.to_nexus.iter().for_each(|way| way.set(back));
            t.wait(100..101).await;
        }
        self.link.set(Weather::Clear);
        self.to_nexus.iter().for_each(|way| way.set(Weather::Clear));
    }
}

async fn hurt_sled(mut sled: Sled, mut t: Torment) -> Agent {
    while t.goes_on() {
        t.wait(1_000..8_000).await;
        if t.chance.u8(0..25) == 0 {
            sled.is_lost(&mut t).await;
        }
        if t.chance.u8(0..8) == 0 {
            sled.is_cut_off(&mut t).await;
        }
        let agent = &mut sled.agent;
        match t.chance.u8(0..14) {
            0..=1 => {
                t.record.fault("agent killed");
                let silence = t.silence();
                agent.kill().await;
                t.wait(silence).await;
                agent.restart().await;
            }
            2..=3 => {
                t.record.fault("agent paused");
                let silence = t.silence();
                agent.child.pause();
                t.wait(silence).await;
                agent.child.resume();
            }
            4 => break_calls(agent, &mut t, json!({ "error": 500 })).await,
            5 => {
                let lost = json!({ "drop_answer_after_effect": true });
                break_calls(agent, &mut t, lost).await;
            }
            6 => {
                let late = json!({ "delay_ms": t.chance.u64(200..4_000) });
                break_calls(agent, &mut t, late).await;
            }
            7 => {
                t.record.fault("boots fail");
                agent.set(json!({ "failure_share": 0.5 })).await;
                t.wait(500..4_000).await;
                agent.set(json!({ "failure_share": 0.0 })).await;
            }
            8 => {
                // Some of them past the boot deadline.
                t.record.fault("boots are slow");
                let boot_ms = t.chance.u64(1_000..9_000);
                agent.set(json!({ "boot_ms": boot_ms })).await;
                t.wait(500..4_000).await;
                agent.set(json!({ "boot_ms": 5 })).await;
            }
            9..=10 => pause_at_boot(agent, &mut t).await,
            _ => strike_guest(agent, &mut t).await,
        }
    }
    sled.agent
}

async fn break_calls(
    agent: &Agent,
    t: &mut Torment,
    effect: serde_json::Value,
) {
    let operations = ["register", "unregister", "state", "get", "list", "any"];
    let operation = operations[t.chance.usize(..operations.len())];
    let kind = effect.as_object().and_then(|o| o.keys().next()).unwrap();
    t.record.fault(&format!("agent's {operation}: {kind}"));
    agent.fault(operation, MANY, effect).await;
    t.wait(500..5_000).await;
    agent.clear_faults().await;
}

/// The agent is paused while a guest boots, which is up before anybody can
/// say so.
async fn pause_at_boot(agent: &Agent, t: &mut Torment) {
    agent.set(json!({ "boot_ms": 400 })).await;
    for _ in 0..100 {
        let vmms = agent.vmms().await;
        if vmms.iter().any(|v| v["state"] == "starting") {
            t.record.fault("agent paused at a boot");
            let silence = t.silence();
            agent.child.pause();
            t.wait(silence).await;
            agent.child.resume();
            break;
        }
        t.wait(30..31).await;
    }
    agent.set(json!({ "boot_ms": 5 })).await;
}

async fn strike_guest(agent: &Agent, t: &mut Torment) {
    let vmms = agent.vmms().await;
    let running: Vec<&str> = vmms
        .iter()
        .filter(|v| v["state"] == "running")
        .filter_map(|v| v["vmm_id"].as_str())
        .collect();
    if running.is_empty() {
        return;
    }
    let vmm = running[t.chance.usize(..running.len())];
    let events = ["panic", "shutdown", "hypervisor_died", "forget"];
    let event = events[t.chance.usize(..events.len())];
    if agent.try_guest(vmm, event).await {
        t.record.fault(&format!("guest: {event}"));
    }
}

async fn hurt_link(kind: String, link: Arc<Link>, mut t: Torment) {
    while t.goes_on() {
        t.wait(5_000..60_000).await;
        if !t.goes_on() {
            break;
        }
        let (what, weather) = match t.chance.u8(0..5) {
            0 => ("cut", Weather::Cut),
            1 => ("silent", Weather::Silent),
            2 => {
                let by = Duration::from_millis(t.chance.u64(20..1_500));
                ("slow", Weather::Slow(by))
            }
            3 => ("answers lost", Weather::AnswersLost),
            _ => {
                let later = Duration::from_millis(t.chance.u64(50..5_000));
                ("sent again", Weather::Again(later))
            }
        };
        // What a sled is asked and what it tells may arrive twice. A user's
        // request that is sent again is another request, and a statement over
        // a connection without a session is none.
        if !kind.contains("sled") && matches!(weather, Weather::Again(_)) {
            continue;
        }
        t.record.fault(&format!("link {kind}: {what}"));
        let lasts = match kind.as_str() {
            "nexus-sled" => t.silence(),
            _ => 200..5_000,
        };
        link.set(weather);
        t.wait(lasts).await;
        link.set(Weather::Clear);
    }
}

async fn hurt_postgres(postgres: Postgres, mut t: Torment) {
    while t.goes_on() {
        t.wait(10_000..40_000).await;
        if !t.goes_on() {
            break;
        }
        if t.chance.bool() {
            if postgres.kill() {
                t.record.fault("postgres killed");
            }
        } else {
            t.record.fault("postgres paused");
            let paused = postgres.pause();
            t.wait(100..5_000).await;
            postgres.resume(&paused);
        }
    }
}
