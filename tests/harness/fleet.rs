//! What a test does to its sleds as a fleet.

use crate::{Answer, Client, TestNexus, eventually};
use serde_json::Value;

impl TestNexus {
    /// On every sled: see [`crate::Agent::hold`].
    pub async fn hold_all(&self, what: Value) {
        for agent in &self.agents {
            agent.hold(what.clone()).await;
        }
    }

    /// On every sled: see [`crate::Agent::set`].
    pub async fn set_all(&self, settings: Value) {
        for agent in &self.agents {
            agent.set(settings.clone()).await;
        }
    }

    /// On every sled: see [`crate::Agent::fault`].
    pub async fn fault_all(&self, operation: &str, count: u32, effect: Value) {
        for agent in &self.agents {
            agent.fault(operation, count, effect.clone()).await;
        }
    }

    /// On every sled: see [`crate::Agent::clear_faults`].
    pub async fn clear_all_faults(&self) {
        for agent in &self.agents {
            agent.clear_faults().await;
        }
    }

    /// How often this operation was called, on all sleds together.
    pub async fn calls(&self, operation: &str) -> u64 {
        let mut calls = 0;
        for agent in &self.agents {
            calls += agent.calls(operation).await;
        }
        calls
    }

    /// Returns once this sled was heard so many times more.
    pub async fn heard(&self, sled: &str, times: usize) {
        let last = || {
            self.database.count(&format!(
                "SELECT (1000 * EXTRACT(EPOCH FROM time_last_heartbeat))::INT8 \
                 FROM sled WHERE id = '{sled}'"
            ))
        };
        for _ in 0..times {
            let before = last();
            eventually("the sled is heard", async || {
                (last() > before).then_some(())
            })
            .await;
        }
    }

    /// Sets a sled's provision policy: `provisionable` or `non_provisionable`.
    pub async fn set_provision_policy(&self, sled: &str, policy: &str) {
        let path = format!("/v1/system/hardware/sleds/{sled}/provision-policy");
        let body = serde_json::json!({ "state": policy });
        self.put(&path, body).await.expect(200);
    }

    /// Expunges a sled, as an operator does.
    pub async fn expunge(&self, sled: &str) -> Answer {
        let path = format!("/sleds/{sled}/expunge");
        let operator = self.process.internal_client();
        operator.request(reqwest::Method::POST, &path, None).await
    }

    /// Has a sled, whose agent must be down, be one that has been silent for a
    /// minute in which Nexus listened.
    pub fn silent_for_a_minute(&self, sled: &str) {
        self.sql(&format!(
            "UPDATE nexus_lease \
                 SET steady_since = steady_since - INTERVAL '1 minute'; \
             UPDATE sled SET time_last_heartbeat = now() - INTERVAL '1 minute' \
                 WHERE id = '{sled}'"
        ));
    }

    /// A user of the admin's own silo who may not see what is the fleet's.
    pub async fn plain_user(&self) -> Client {
        let token = self.process.bootstrap("main", "plain", false).await;
        Client::new(self.process.external(), &token)
    }
}
