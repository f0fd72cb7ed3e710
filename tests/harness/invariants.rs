//! What must hold in any test once all is done: the record and the sleds agree,
//! and nothing outlives its cause.

use crate::{
    Agent, DEADLINE, Database, TestNexus, blocks_in_store, eventually,
};
use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl, sql_query};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

/// Between two looks at what is not settled yet.
const LOOK: Duration = Duration::from_millis(50);

/// What is said of an instance that runs twice.
const RUNS_TWICE: &str = "runs as";

/// What is wrong in the database, each as a query of one `TEXT`. `{down}` is
/// the list of sleds whose agents are not there to answer.
const WRONG_ROWS: &[&str] = &[
    // Unsettled: somebody is at work, or means to be soon. A failed start may
    // wait for its retry or for a change, and a VMM may be abandoned while its
    // sled is silent.
    "SELECT 'unfinished saga ' || name || ' of instance ' || instance_id \
     FROM saga WHERE time_ended IS NULL",
    "SELECT 'unsettled instance ' || i.id || ', ' || i.state || ', meant to \
         be ' || i.intended_state || COALESCE(': ' || reconcile_last_error, '')
     FROM instance i \
     WHERE reconcile_at IS NOT NULL \
       AND NOT (state = 'failed' AND reconcile_at > now() \
           AND reconcile_at >= COALESCE(next_retry_at, \
               now() + INTERVAL '1 minute')) \
       AND NOT EXISTS (SELECT 1 FROM vmm v WHERE v.instance_id = i.id \
           AND v.state = 'abandoned' AND v.sled_id::TEXT IN ({down}))",
    // Attempts.
    "SELECT 'attempt ' || a.id || ' is pending, and not its instance''s' \
     FROM start_attempt a LEFT JOIN instance i \
         ON i.pending_start_attempt_id = a.id \
     WHERE a.outcome = 'pending' AND i.id IS NULL",
    "SELECT 'instance ' || i.id || ' waits for an attempt that has ended' \
     FROM instance i JOIN start_attempt a ON i.pending_start_attempt_id = a.id \
     WHERE a.outcome <> 'pending'",
    "SELECT 'nobody means to look at pending attempt ' || a.id \
     FROM start_attempt a JOIN instance i ON i.id = a.instance_id \
     WHERE a.outcome = 'pending' AND i.reconcile_at IS NULL",
    // Rest.
    "SELECT 'nobody knows why instance ' || i.id || ' has failed' \
     FROM instance i \
     LEFT JOIN start_attempt a ON a.id = i.latest_start_attempt_id \
     WHERE i.state = 'failed' AND i.last_failure_kind IS NULL \
       AND a.outcome IS DISTINCT FROM 'failed'",
    "SELECT 'nobody means to retry instance ' || i.id \
     FROM instance i \
     JOIN start_attempt a ON a.id = i.latest_start_attempt_id \
     WHERE i.state = 'failed' AND a.failure_transient \
       AND COALESCE(i.auto_restart_policy, 'best_effort') = 'best_effort' \
       AND (i.next_retry_at IS NULL OR i.reconcile_at IS NULL)",
    // Disks. Those of what is deleted and may run are kept from others.
    "SELECT 'disk ' || d.id || ' is attached to a deleted instance' \
     FROM disk d JOIN instance i ON i.id = d.instance_id \
     WHERE i.time_deleted IS NOT NULL \
       AND NOT EXISTS (SELECT 1 FROM vmm v WHERE v.instance_id = i.id \
           AND v.time_ended IS NULL AND v.may_run)",
    // VMMs and what they hold.
    "SELECT 'VMM ' || v.id || ' lives, and is neither linked nor abandoned' \
     FROM vmm v LEFT JOIN instance i \
         ON v.id IN (i.active_vmm_id, i.target_vmm_id) \
     WHERE v.time_ended IS NULL AND v.state <> 'abandoned' AND i.id IS NULL",
    "SELECT 'instance ' || i.id || ' is linked to a VMM that has ended' \
     FROM instance i JOIN vmm v ON v.id = i.active_vmm_id \
     WHERE v.time_ended IS NOT NULL",
    "SELECT 'VMM ' || v.id || ' lives, and holds nothing of its sled' \
     FROM vmm v LEFT JOIN sled_reservation r \
         ON r.vmm_id = v.id AND r.sled_id = v.sled_id \
         AND (r.role = 'abandoned') = (v.state = 'abandoned') \
     WHERE v.time_ended IS NULL AND r.vmm_id IS NULL",
    "SELECT 'VMM ' || r.vmm_id || ' has ended, and holds part of its sled' \
     FROM sled_reservation r JOIN vmm v ON v.id = r.vmm_id \
     WHERE v.time_ended IS NOT NULL",
    "SELECT 'VMM ' || r.vmm_id || ' holds more or less than it has' \
     FROM sled_reservation r JOIN instance i ON i.id = r.instance_id \
     WHERE r.role <> 'abandoned' \
       AND (r.vcpus <> i.ncpus OR r.memory_bytes <> i.memory_bytes)",
    "SELECT 'sled ' || s.id || ' does not add up: ' || s.reserved_vcpus \
         || ' vCPUs of ' || COALESCE(sum(r.vcpus), 0) \
     FROM sled s LEFT JOIN sled_reservation r ON r.sled_id = s.id \
     GROUP BY s.id \
     HAVING s.reserved_vcpus <> COALESCE(sum(r.vcpus), 0) \
         OR s.reserved_memory_bytes <> COALESCE(sum(r.memory_bytes), 0)",
    // What is counted is what there is.
    "SELECT 'sled ' || s.id || ' does not add up: ' \
         || s.reserved_storage_bytes || ' bytes of storage of ' \
         || COALESCE(sum(d.size_bytes), 0) \
     FROM sled s LEFT JOIN ( \
         SELECT sled_id, size_bytes FROM disk \
         UNION ALL SELECT sled_id, size_bytes FROM blocks_gone) d \
         ON d.sled_id = s.id \
     GROUP BY s.id \
     HAVING s.reserved_storage_bytes <> COALESCE(sum(d.size_bytes), 0)",
    "SELECT 'the quota of silo ' || q.silo_id || ' does not add up: ' \
         || q.used_vcpus || ' vCPUs of ' || COALESCE(sum(r.vcpus), 0) \
     FROM silo_quota q LEFT JOIN sled_reservation r ON r.silo_id = q.silo_id \
     GROUP BY q.silo_id \
     HAVING q.used_vcpus <> COALESCE(sum(r.vcpus), 0) \
         OR q.used_memory_bytes <> COALESCE(sum(r.memory_bytes), 0)",
    "SELECT 'the quota of silo ' || q.silo_id || ' does not add up: ' \
         || q.used_storage_bytes || ' bytes of storage of ' \
         || COALESCE(sum(d.size_bytes), 0) \
     FROM silo_quota q \
     LEFT JOIN ( \
         SELECT p.silo_id, d.size_bytes \
         FROM disk d JOIN project p ON p.id = d.project_id \
         WHERE d.sled_id IS NOT NULL \
             OR (d.backend = 'distributed' AND d.time_deleted IS NULL) \
         UNION ALL SELECT p.silo_id, s.size_bytes \
         FROM snapshot s JOIN project p ON p.id = s.project_id \
         WHERE s.time_deleted IS NULL \
         UNION ALL SELECT silo_id, size_bytes FROM image \
         WHERE time_deleted IS NULL) d ON d.silo_id = q.silo_id \
     GROUP BY q.silo_id \
     HAVING q.used_storage_bytes <> COALESCE(sum(d.size_bytes), 0)",
    "SELECT 'VMM ' || v.id || ' may run, and is not where disk ' || d.id \
     FROM vmm v JOIN disk d ON d.instance_id = v.instance_id \
     WHERE v.time_ended IS NULL AND v.may_run AND d.backend = 'local' \
       AND d.sled_id IS DISTINCT FROM v.sled_id",
    "SELECT 'disk ' || d.id || ' is not there, and a VMM may run with it' \
     FROM vmm v JOIN disk d ON d.instance_id = v.instance_id \
     WHERE v.time_ended IS NULL AND v.may_run AND d.state <> 'ready'",
    // Nothing is begun and left so, and what is deleted goes.
    "SELECT 'disk ' || d.id || ' is ' || d.state || ', and nobody sees to it' \
     FROM disk d WHERE d.state IN ('creating', 'finalizing') \
       AND d.time_deleted IS NULL \
       AND NOT EXISTS (SELECT 1 FROM saga s WHERE s.time_ended IS NULL \
           AND s.instance_id IN (d.id, d.instance_id))",
    "SELECT 'snapshot ' || n.id || ' is not made, and nobody sees to it' \
     FROM snapshot n WHERE NOT n.made AND n.time_deleted IS NULL \
       AND NOT EXISTS (SELECT 1 FROM saga s WHERE s.time_ended IS NULL \
           AND s.instance_id IN (n.id, n.disk_id))",
    "SELECT 'image ' || i.id || ' is not made, and nobody sees to it' \
     FROM image i WHERE NOT i.made AND i.time_deleted IS NULL \
       AND NOT EXISTS (SELECT 1 FROM saga s WHERE s.time_ended IS NULL \
           AND s.instance_id = i.id)",
    "SELECT 'blocks ' || g.id || ' are not gone yet' FROM blocks_gone g \
     WHERE (g.sled_id IS NULL OR g.sled_id::TEXT NOT IN ({down})) \
       AND EXISTS (SELECT 1 FROM sled s WHERE s.id::TEXT NOT IN ({down}))",
    "SELECT 'disk ' || d.id || ' is kept for a VMM that never ran' \
     FROM disk d JOIN vmm v ON v.id = d.allocated_by \
     WHERE v.time_ended IS NOT NULL AND NOT v.ever_ran \
       AND NOT (v.may_run AND v.end_reason IN ('gone', 'fenced'))",
    // Groups.
    "SELECT 'VMM ' || r.vmm_id || ' may run, and group ' || m.group_id \
         || ' does not know' \
     FROM sled_reservation r JOIN vmm v ON v.id = r.vmm_id \
     JOIN affinity_group_member m ON m.instance_id = r.instance_id \
     LEFT JOIN affinity_claim c \
         ON c.vmm_id = r.vmm_id AND c.group_id = m.group_id \
     WHERE (v.may_run OR r.role <> 'abandoned') \
       AND c.sled_id IS DISTINCT FROM r.sled_id",
    "SELECT 'instance ' || c.instance_id || ' is on a sled for group ' \
         || c.group_id || ', and is no member' \
     FROM affinity_claim c JOIN instance i ON i.id = c.instance_id \
     LEFT JOIN affinity_group_member m \
         ON m.group_id = c.group_id AND m.instance_id = c.instance_id \
     WHERE m.group_id IS NULL AND i.time_deleted IS NULL",
    "SELECT 'members of affinity group ' || g.id || ' are on several sleds' \
     FROM affinity_group g JOIN affinity_claim c ON c.group_id = g.id \
     WHERE g.kind = 'affinity' AND g.policy = 'fail' \
     GROUP BY g.id HAVING count(DISTINCT c.sled_id) > 1",
];

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Text)]
    text: String,
}

impl Database {
    /// What a query of one `TEXT` answers.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        let rows: Vec<TextRow> =
            sql_query(format!("SELECT q.t AS text FROM ({sql}) AS q (t)"))
                .load(&mut self.connect())
                .unwrap();
        rows.into_iter().map(|row| row.text).collect()
    }
}

impl TestNexus {
    /// Waits until all is settled, and checks that then the database is at one
    /// with itself and with what the sleds run: for the end of any test. Sleds
    /// whose agents are down are not asked. What is held must have been let go
    /// of.
    ///
    /// # Panics
    ///
    /// Something is wrong and stays so, or an instance runs twice, if only for
    /// a moment.
    pub async fn check_invariants(&self) {
        let began = Instant::now();
        loop {
            let wrong = self.what_is_wrong().await;
            if wrong.is_empty() {
                return;
            }
            assert!(began.elapsed() < DEADLINE, "wrong: {wrong:#?}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// See [`what_is_wrong`].
    ///
    /// # Panics
    ///
    /// An instance runs twice.
    pub async fn what_is_wrong(&self) -> Vec<String> {
        let mut wrong = what_is_wrong(&self.database, &self.agents).await;
        if wrong.is_empty() && self.agents.iter().any(Agent::is_up) {
            wrong = self.wrong_store();
        }
        let twice = wrong.iter().find(|what| what.contains(RUNS_TWICE));
        assert!(twice.is_none(), "{twice:?}");
        wrong
    }

    /// What is in the store and of nothing, and what has nothing there.
    fn wrong_store(&self) -> Vec<String> {
        let live = self.database.texts(
            "SELECT id::TEXT FROM disk \
             WHERE backend = 'distributed' AND time_deleted IS NULL \
             UNION SELECT id::TEXT FROM snapshot WHERE time_deleted IS NULL \
             UNION SELECT id::TEXT FROM image WHERE time_deleted IS NULL",
        );
        let live: BTreeSet<String> = live.into_iter().collect();
        let there = blocks_in_store(self.dir.path());
        live.symmetric_difference(&there)
            .map(|id| format!("{id} is in the store alone, or not there"))
            .collect()
    }

    /// Waits until the instance rests in `failed`, with no retry planned, and
    /// whatever the system had to do about it is done.
    pub async fn rests_failed(&self, instance: &str) {
        let rests = format!(
            "SELECT count(*) FROM instance \
             WHERE id = '{instance}' AND state = 'failed' \
               AND next_retry_at IS NULL \
               AND (reconcile_at IS NULL \
                   OR reconcile_at > now() + INTERVAL '1 minute')"
        );
        eventually("the instance rests in failed", async || {
            (self.database.count(&rests) == 1).then_some(())
        })
        .await;
    }

    /// Checks that no instance runs twice at this moment.
    ///
    /// # Panics
    ///
    /// One does.
    pub async fn check_nothing_runs_twice(&self) {
        let twice = runs_twice(&up(&self.agents)).await;
        assert!(twice.is_empty(), "{twice:?}");
    }
}

/// What of the invariants does not hold at this moment, in words. While
/// something is under way, much does not. Sleds whose agents are down are not
/// asked.
pub async fn what_is_wrong(
    database: &Database,
    agents: &[Agent],
) -> Vec<String> {
    let up = up(agents);
    let twice = runs_twice(&up).await;
    if !twice.is_empty() {
        return twice;
    }
    let wrong = wrong_rows(database, agents);
    if wrong.is_empty() { wrong_vmms(database, &up).await } else { wrong }
}

fn up(agents: &[Agent]) -> Vec<&Agent> {
    agents.iter().filter(|a| a.is_up()).collect()
}

/// The instances that run twice at this moment.
async fn runs_twice(up: &[&Agent]) -> Vec<String> {
    // The sleds are asked one after the other. Two VMMs that are both there
    // in two rounds were there together between them.
    let first = listed(up).await;
    let second = listed(up).await;
    let mut runs: HashMap<String, HashSet<&String>> = HashMap::new();
    for (vmm, there) in &first {
        if second.get(vmm).is_some_and(|t| t.alive) {
            runs.entry(there.instance.clone()).or_default().insert(vmm);
        }
    }
    runs.into_iter()
        .filter(|(_, vmms)| vmms.len() > 1)
        .map(|(instance, vmms)| {
            format!("instance {instance} {RUNS_TWICE} {vmms:?}")
        })
        .collect()
}

fn wrong_rows(database: &Database, agents: &[Agent]) -> Vec<String> {
    let down: Vec<String> = agents
        .iter()
        .filter(|a| !a.is_up())
        .map(|a| format!("'{}'", a.id))
        .chain(["''".to_string()])
        .collect();
    WRONG_ROWS
        .iter()
        .map(|sql| sql.replace("{down}", &down.join(",")))
        .flat_map(|sql| database.texts(&sql))
        .collect()
}

async fn wrong_vmms(database: &Database, up: &[&Agent]) -> Vec<String> {
    let there = listed(up).await;
    let rows: HashMap<String, String> = database
        .texts(
            "SELECT id || ' ' || sled_id FROM vmm \
             WHERE time_ended IS NULL AND state <> 'abandoned'",
        )
        .iter()
        .filter_map(|row| row.split_once(' '))
        .map(|(vmm, sled)| (vmm.to_string(), sled.to_string()))
        .collect();
    // Nobody asks an expunged sled to forget what it has stopped.
    let expunged =
        database.texts("SELECT id::TEXT FROM sled WHERE policy = 'expunged'");
    let astray = there
        .iter()
        .filter(|(vmm, there)| rows.get(*vmm) != Some(&there.sled))
        .filter(|(_, t)| t.alive || !expunged.contains(&t.sled))
        .map(|(vmm, _)| format!("VMM {vmm} is on a sled, without a row"));
    let lost = rows
        .iter()
        .filter(|(vmm, sled)| {
            up.iter().any(|a| a.id == **sled) && !there.contains_key(*vmm)
        })
        .map(|(vmm, _)| format!("VMM {vmm} has a row, and is on no sled"));
    astray.chain(lost).collect()
}

struct There {
    instance: String,
    sled: String,
    alive: bool,
}

/// The VMMs on these sleds.
async fn listed(agents: &[&Agent]) -> HashMap<String, There> {
    let mut listed = HashMap::new();
    for agent in agents {
        for vmm in agent.vmms().await {
            let text = |v: &Value| v.as_str().unwrap().to_string();
            let there = There {
                instance: text(&vmm["instance_id"]),
                sled: agent.id.clone(),
                alive: vmm["state"] != "failed" && vmm["state"] != "destroyed",
            };
            listed.insert(text(&vmm["vmm_id"]), there);
        }
    }
    listed
}
