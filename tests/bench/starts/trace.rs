//! What one start commits, one after the other. Which transactions had written
//! something, if only a lock, the server's write-ahead log says; and what was in
//! them, its log of statements.
//!
//! A line of that log begins as `cargo xtask bench` has the server write it:
//! the time, the process, the virtual transaction, and the transaction, which is
//! 0 before it writes.

use crate::figures::{ms, rounded};
use crate::stage::Stage;
use serde_json::json;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// Where `cargo xtask bench` has the server log.
const LOG: &str = "NEXUS_BENCH_POSTGRES_LOG";

/// What Nexus does at all times, for itself: its lease, and what sleds that are
/// there still say of themselves.
const BACKGROUND: [&str; 2] =
    ["UPDATE nexus_lease", "\"sled\" SET \"time_last_heartbeat\""];

/// As much of a statement as is shown.
const SHOWN_CHARS: usize = 110;

/// The server's settings, and a log that has all.
const ALL: [&str; 2] = [
    "ALTER SYSTEM SET log_min_duration_statement = 0",
    "SELECT pg_reload_conf()",
];

const AS_BEFORE: [&str; 2] = [
    "ALTER SYSTEM RESET log_min_duration_statement",
    "SELECT pg_reload_conf()",
];

/// The server's processes hear of new settings a little later.
const HEARD: Duration = Duration::from_millis(500);

/// A transaction, as the log of statements has it.
#[derive(Default)]
struct Transaction {
    xid: u32,
    /// What was sent, without BEGIN and COMMIT, and what it took.
    statements: Vec<(String, f64)>,
    /// What COMMIT took, if there was one: a statement that is alone commits
    /// with its answer.
    commit_ms: Option<f64>,
}

/// A transaction that had written something.
struct Commit {
    xid: u32,
    /// After the request.
    at: f64,
}

pub(super) async fn run(stage: &Stage) {
    let file = std::env::var(LOG).expect("`cargo xtask bench` says where");
    let id = &stage.instances[0];
    // What is read for the first time, and statements that are prepared.
    for _ in 0..3 {
        stage.started(id).await;
        stage.stopped(&stage.instances[..1]).await;
    }
    stage.settled().await;
    set(stage, ALL).await;
    let from = std::fs::metadata(&file).unwrap().len();
    let end = stage.wal_end();
    let asked = SystemTime::now();
    let took = stage.started(id).await;
    stage.settled().await;
    let commits = commits(stage, &end, asked);
    set(stage, AS_BEFORE).await;
    let log = std::fs::read(&file).unwrap();
    let log = &log[usize::try_from(from).unwrap()..];
    let log = String::from_utf8_lossy(log);
    show(&commits, &transactions(&log), took);
    let sled_ms = stage.sled_ms().await;
    share(&entries(&log), time_of_day(asked), took, sled_ms);
}

/// What a start spends its time with. What goes on beside the way to the running
/// guest is in it, too: the audit log's end, those who wait.
fn share(entries: &[Entry<'_>], asked: Duration, took: Duration, sled_ms: f64) {
    let ours = entries.iter().filter(|entry| {
        let at = entry.at.saturating_sub(asked);
        let known = |known: &str| entry.text.contains(known);
        entry.at >= asked && at <= took && !BACKGROUND.iter().any(|k| known(k))
    });
    let (mut asked_ms, mut commit_ms) = (0.0, 0.0);
    let mut questions = 0;
    for entry in ours {
        // A statement is asked for as it is bound; the first time, it is parsed.
        questions += u32::from(matches!(entry.kind, "bind" | "statement"));
        let commits = entry.text.starts_with("COMMIT")
            || entry.text.ends_with("; COMMIT");
        match commits {
            true => commit_ms += entry.ms,
            false => asked_ms += entry.ms,
        }
    }
    let all = ms(took);
    println!(
        "{}",
        json!({
            "figure": "share_of_one_start",
            "ms": rounded(all),
            "questions": questions,
            "server_ms": rounded(asked_ms),
            "server_commits_ms": rounded(commit_ms),
            "sled_ms": rounded(sled_ms),
            "rest_ms": rounded(all - asked_ms - commit_ms - sled_ms),
            "rest_ms_a_question": rounded(
                (all - asked_ms - commit_ms - sled_ms) / f64::from(questions)
            ),
        })
    );
}

fn time_of_day(time: SystemTime) -> Duration {
    const DAY: u64 = 24 * 60 * 60;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Duration::new(since.as_secs() % DAY, since.subsec_nanos())
}

async fn set(stage: &Stage, statements: [&str; 2]) {
    for sql in statements {
        stage.database.try_sql(sql).unwrap();
    }
    tokio::time::sleep(HEARD).await;
}

fn commits(stage: &Stage, since: &str, asked: SystemTime) -> Vec<Commit> {
    let asked = asked.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let of = "xid::TEXT || ' ' || extract(epoch FROM \
         split_part(description, ';', 1)::TIMESTAMPTZ)";
    let lines = stage.commits(since, of);
    let commit = |line: &String| {
        let (xid, secs) = line.split_once(' ').unwrap();
        let secs: f64 = secs.parse().unwrap();
        let at = (secs - asked.as_secs_f64()) * 1000.0;
        Commit { xid: xid.parse().unwrap(), at }
    };
    lines.iter().map(commit).collect()
}

/// By their ids, those that have one.
fn transactions(log: &str) -> HashMap<u32, Transaction> {
    let mut done = HashMap::new();
    // What each process of the server is at, and its virtual transaction.
    let mut current: HashMap<&str, (&str, Transaction)> = HashMap::new();
    for line in entries(log) {
        let (was, transaction) = current.entry(line.pid).or_default();
        let is_none = line.virtual_id.ends_with("/0");
        if !is_none && *was != line.virtual_id {
            let before = std::mem::take(transaction);
            done.insert(before.xid, before);
            *was = line.virtual_id;
        }
        if line.text.starts_with("COMMIT") {
            transaction.commit_ms = Some(line.ms);
        } else if !is_none {
            transaction.xid = transaction.xid.max(line.xid);
            transaction.add(line.kind, &line.text, line.ms);
        }
    }
    let last = current.into_values().map(|(_, last)| (last.xid, last));
    done.extend(last);
    done
}

impl Transaction {
    /// A statement that is parsed, bound and executed is one.
    fn add(&mut self, kind: &str, text: &str, ms: f64) {
        if text.starts_with("BEGIN") {
            return;
        }
        match self.statements.last_mut() {
            Some((last, took)) if kind != "parse" && last == text => {
                *took += ms;
            }
            _ => self.statements.push((text.to_string(), ms)),
        }
    }

    fn is_background(&self) -> bool {
        let is_known = |(text, _): &(String, f64)| {
            BACKGROUND.iter().any(|known| text.contains(known))
        };
        self.statements.iter().any(is_known)
    }
}

/// An entry of the log.
struct Entry<'a> {
    /// Of the day, when it was over.
    at: Duration,
    pid: &'a str,
    virtual_id: &'a str,
    xid: u32,
    ms: f64,
    /// `statement`, `parse`, `bind` or `execute`.
    kind: &'a str,
    text: String,
}

/// Those that say how long something took. A statement of several lines is
/// indented from the second on.
fn entries(log: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    let mut ours = false;
    for line in log.lines() {
        if let Some(more) = line.strip_prefix('\t') {
            if let Some(last) = entries.last_mut().filter(|_| ours) {
                last.text.push(' ');
                last.text.push_str(more.trim());
            }
            continue;
        }
        let entry = entry(line);
        ours = entry.is_some();
        entries.extend(entry);
    }
    entries
}

fn entry(line: &str) -> Option<Entry<'_>> {
    let (prefix, said) = line.split_once("LOG:  duration: ")?;
    let mut prefix = prefix.split_whitespace().skip(1);
    let at = time(prefix.next()?)?;
    let mut prefix = prefix.skip(1);
    let (took, said) = said.split_once(" ms  ")?;
    let (what, text) = said.split_once(": ")?;
    Some(Entry {
        at,
        pid: prefix.next()?,
        virtual_id: prefix.next()?,
        xid: prefix.next()?.parse().ok()?,
        ms: took.parse().ok()?,
        kind: what.split(' ').next()?,
        text: text.trim().to_string(),
    })
}

/// `12:34:56.789`.
fn time(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let (hours, minutes) = (parts.next()?, parts.next()?);
    let minutes =
        60 * hours.parse::<u64>().ok()? + minutes.parse::<u64>().ok()?;
    let secs: f64 = parts.next()?.parse().ok()?;
    Some(Duration::from_secs(60 * minutes) + Duration::from_secs_f64(secs))
}

fn show(
    commits: &[Commit],
    transactions: &HashMap<u32, Transaction>,
    took: Duration,
) {
    let until = ms(took);
    println!(
        "\nThe request at 0; it runs, as its user sees, at {until:.2} ms."
    );
    let (mut own, mut after, mut background) = (0, 0, 0);
    let mut last = 0.0;
    for commit in commits {
        let known = transactions.get(&commit.xid);
        let which = match known {
            Some(it) if !it.is_background() && commit.at <= until => {
                own += 1;
                format!("{own}")
            }
            Some(it) if !it.is_background() => {
                after += 1;
                "after".to_string()
            }
            Some(_) => {
                background += 1;
                "Nexus itself".to_string()
            }
            // No session's: vacuum's, say.
            None => {
                background += 1;
                "the server itself".to_string()
            }
        };
        let statements = known.map_or(&[][..], |it| &it.statements);
        let server = statements.iter().fold(0.0, |sum, (_, took)| sum + took);
        let commit_ms = known.and_then(|it| it.commit_ms);
        let gap = commit.at - last;
        last = commit.at;
        println!(
            "{}",
            json!({
                "figure": "commit",
                "which": which,
                "at_ms": rounded(commit.at),
                "since_last_ms": rounded(gap),
                "statements": statements.len(),
                "statements_ms": rounded(server),
                "commit_ms": commit_ms.map(rounded),
            })
        );
        for (text, took) in statements {
            let short: String = text.chars().take(SHOWN_CHARS).collect();
            println!("    {took:7.2} ms  {short}");
        }
    }
    println!(
        "{}",
        json!({
            "figure": "durable_commits",
            "until_it_runs": own,
            "goal": 8,
            "after": after,
            "of_others": background,
            "runs_at_ms": rounded(until),
        })
    );
}
