//! What must hold when all faults have ended.

use crate::record::Record;
use crate::users::{Owned, User, Wish, contradiction, history, meant};
use crate::world::World;
use chrono::{DateTime, Utc};
use harness::{Answer, Client, what_is_wrong};
use reqwest::Method;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// How long it may take until everything is where it is meant to be: the
/// longest backoff that the faults can have brought about, and some lease,
/// look and boot times.
const SETTLES: Duration = Duration::from_secs(120);

/// What a Nexus logs for each VMM that it ends since its sled was silent.
const CUT_OFF: &str = "a sled that is cut off has stopped a VMM";

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until all is settled, and then looks at everything.
pub(crate) async fn judge(world: &World, users: Vec<User>, record: &Record) {
    let began = Instant::now();
    let mut wrong = what_is_wrong(&world.database, &world.agents).await;
    while !wrong.is_empty() && began.elapsed() < SETTLES {
        tokio::time::sleep(LOOK).await;
        wrong = what_is_wrong(&world.database, &world.agents).await;
    }
    for what in wrong {
        record.violation(format!("after {SETTLES:?}: {what}"));
    }
    let settled = began.elapsed().as_secs_f64();
    record.note(format!("Settled {settled:.1} s after the last fault"));
    let mut owned: Vec<Owned> = Vec::new();
    let mut past = Vec::new();
    let mut ends = 0;
    for user in users {
        owned.extend(user.owned);
        past.extend(user.past);
        ends += user.ends.len();
        for (path, end) in user.ends {
            still_reads(world, &path, &end, record).await;
        }
    }
    record.note(format!("Ends of attempts read and read again: {ends}"));
    for instance in &owned {
        look_at(world, instance, record).await;
    }
    let attempts = spans(world, "start_attempt", "time_started");
    let vmms = spans(world, "vmm", "time_created");
    let spans = [&attempts, &vmms];
    for instance in owned.iter().chain(&past) {
        starts_are_accounted_for(world, instance, spans, record);
        rest_was_kept(world, instance, spans, record);
    }
    counts(world, record);
    logs(world, record);
    leave(world, record).await;
}

/// How an attempt ended is read as it was read before, though its instance be
/// deleted and every process that knew of it be dead.
async fn still_reads(world: &World, path: &str, end: &Value, record: &Record) {
    let now = world.clients[0].get(path).await;
    if now.status != 200 || now.body != *end {
        let Answer { status, body, .. } = now;
        record.violation(format!("{path} was {end}, and is {status} {body}"));
    }
}

/// Is it where it was last told to be?
async fn look_at(world: &World, owned: &Owned, record: &Record) {
    let path = format!("/v1/instances/{}", owned.id);
    let answer = world.clients[0].get(&path).await;
    let wrong = match answer.status {
        200 => {
            let view = &answer.body;
            let meant = meant(view);
            let out_of_step = !rests_where_meant(view);
            contradiction(view)
                .or_else(|| {
                    (!owned.may_be_meant_to(meant))
                        .then(|| format!("it is meant to {meant:?}"))
                })
                .or_else(|| out_of_step.then(|| format!("it rests as {view}")))
        }
        404 if owned.may_be_meant_to(Wish::Gone) => None,
        status => Some(format!("{status} {}", answer.body)),
    };
    if let Some(what) = wrong {
        tell(world, owned, record, &what);
    }
}

/// A settled instance runs if it is meant to, or says why it does not.
fn rests_where_meant(view: &Value) -> bool {
    let state = view["run_state"].as_str().unwrap_or_default();
    match view["intended_state"].as_str().unwrap_or_default() {
        "running" => ["running", "failed"].contains(&state),
        "stopped" | "guest_shutdown" => state == "stopped",
        _ => false,
    }
}

/// From when to when something was there, until now if it still is, by its
/// instance.
type Spans = HashMap<String, Vec<(DateTime<Utc>, DateTime<Utc>)>>;

fn spans(world: &World, table: &str, from: &str) -> Spans {
    let micros =
        |time: &str| format!("(EXTRACT(EPOCH FROM {time}) * 1e6)::INT8");
    let rows = world.database.texts(&format!(
        "SELECT instance_id || ' ' || {} || ' ' || {} FROM {table}",
        micros(from),
        micros("COALESCE(time_ended, now())"),
    ));
    let mut spans = Spans::new();
    for row in rows {
        let fields: Vec<&str> = row.split(' ').collect();
        let time = |n: usize| {
            DateTime::from_timestamp_micros(fields[n].parse().unwrap()).unwrap()
        };
        let span = (time(1), time(2));
        spans.entry(fields[0].to_string()).or_default().push(span);
    }
    spans
}

/// I1, I5: each start that was taken has an attempt that was open then and has
/// ended, or a run that went on.
fn starts_are_accounted_for(
    world: &World,
    owned: &Owned,
    [attempts, vmms]: [&Spans; 2],
    record: &Record,
) {
    let spans = [attempts, vmms].map(|all| all.get(&owned.id));
    for start in &owned.starts {
        let mut spans = spans.iter().flatten().copied().flatten();
        if !spans.any(|(from, to)| *from <= start.answered && *to >= start.sent)
        {
            tell(world, owned, record, &format!("I1: nothing came of {start}"));
        }
    }
}

/// I4: the system starts nothing that is to rest.
fn rest_was_kept(
    world: &World,
    owned: &Owned,
    [attempts, vmms]: [&Spans; 2],
    record: &Record,
) {
    let spans = [attempts, vmms].map(|all| all.get(&owned.id));
    for (since, until) in &owned.at_rest {
        let until = until.unwrap_or_else(Utc::now);
        let mut spans = spans.iter().flatten().copied().flatten();
        if spans.any(|(from, _)| from > since && *from < until) {
            let what = format!("I4: started between {since} and {until}");
            tell(world, owned, record, &what);
        }
    }
}

fn counts(world: &World, record: &Record) {
    let attempts = world.database.texts(
        "SELECT count(*) || ' ' || reason || ': ' || outcome \
             || COALESCE(' ' || failure_kind::TEXT, '') \
         FROM start_attempt GROUP BY reason, outcome, failure_kind \
         ORDER BY reason, outcome, failure_kind",
    );
    record.note("Start attempts:".to_string());
    for line in attempts {
        record.note(format!("  {line}"));
    }
    for (what, sql) in [
        ("Sagas", "SELECT count(*) FROM saga"),
        (
            "Sagas adopted",
            "SELECT count(*) FROM saga WHERE adopt_generation > 1",
        ),
        ("Processes of Nexus", "SELECT count(*) FROM nexus_lease"),
        (
            "Leases taken",
            "SELECT count(*) FROM nexus_lease WHERE taken_by <> id",
        ),
    ] {
        record.note(format!("{what}: {}", world.database.count(sql)));
    }
    let logs = world.nexuses.iter().map(|nexus| nexus.child.log());
    let cut_off = |log: String| log.matches(CUT_OFF).count();
    let cut_off: usize = logs.map(cut_off).sum();
    record.note(format!("VMMs ended since their sled was cut off: {cut_off}"));
}

/// No process said that it panicked.
fn logs(world: &World, record: &Record) {
    let logs = world.nexuses.iter().map(|n| n.child.log());
    let logs = logs.chain(world.agents.iter().map(|a| a.child.log()));
    for line in logs.flat_map(|log| {
        let lines = log.lines().filter(|line| line.contains("panicked"));
        lines.map(str::to_string).collect::<Vec<_>>()
    }) {
        record.violation(format!("a process panicked: {line}"));
    }
}

/// All users stop and delete what they have, and of that nothing is left.
async fn leave(world: &World, record: &Record) {
    let client = &world.clients[0];
    let began = Instant::now();
    loop {
        let left = instances(client).await;
        if left.is_empty() {
            break;
        }
        if began.elapsed() > SETTLES {
            record.violation(format!("cannot be deleted: {left:?}"));
            return;
        }
        for id in left {
            let stop = format!("/v1/instances/{id}/stop");
            // Whoever cannot stop or delete it yet asks again.
            let _ = client.try_request(Method::POST, &stop, None).await;
            let path = format!("/v1/instances/{id}");
            let _ = client.try_request(Method::DELETE, &path, None).await;
        }
        tokio::time::sleep(LOOK).await;
    }
    let held = "SELECT count(*) FROM sled_reservation";
    loop {
        let mut wrong = what_is_wrong(&world.database, &world.agents).await;
        if world.database.count(held) > 0 {
            wrong.push("I3: sleds are held by nobody".to_string());
        }
        if wrong.is_empty() {
            return;
        }
        if began.elapsed() > SETTLES {
            wrong.into_iter().for_each(|what| record.violation(what));
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn instances(client: &Client) -> Vec<String> {
    let path = format!("/v1/instances?project={}&limit=1000", harness::PROJECT);
    let Ok(page) = client.try_request(Method::GET, &path, None).await else {
        return vec!["(no answer)".to_string()];
    };
    let items = page.body["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|i| Some(i["id"].as_str()?.to_string())).collect()
}

/// Something is wrong with an instance: what, and all that is known of it.
fn tell(world: &World, owned: &Owned, record: &Record, what: &str) {
    let id = &owned.id;
    let mut text = format!(
        "instance {id}: {what}; taken {:?}, unclear {:?}\n{}",
        owned.taken,
        owned.unclear,
        history(&owned.asked)
    );
    for (table, order) in [
        ("start_attempt", "time_started"),
        ("vmm", "time_created"),
        ("saga", "time_created"),
    ] {
        let columns = match table {
            "saga" => "to_jsonb(r) - 'dag'",
            _ => "to_jsonb(r)",
        };
        for row in world.database.texts(&format!(
            "SELECT ({columns})::TEXT FROM {table} r \
             WHERE instance_id = '{id}' ORDER BY {order}"
        )) {
            let _ = write!(text, "\n    {table} {row}");
        }
    }
    for row in world.database.texts(&format!(
        "SELECT to_jsonb(r)::TEXT FROM instance r WHERE id = '{id}'"
    )) {
        let _ = write!(text, "\n    instance {row}");
    }
    record.violation(text);
}
