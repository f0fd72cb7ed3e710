//! Many VMMs at once, on an agent that is killed again and again.

use crate::agent::{Agent, GIB, vmm};
use crate::eventually::eventually;
use crate::nexus::Nexus;
use sled_agent_client::{
    Client, EndReason, Error, RequestedState, VmmReport, VmmState,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;
use uuid::Uuid;

/// Not more than fit.
const VMMS: usize = 8;
/// How often the agent is killed.
const KILLS: usize = 30;
/// How many answers there are between two kills: not a multiple of anything,
/// so that it is another moment each time.
const ANSWERS: usize = 7;

#[tokio::test]
async fn an_agent_killed_at_any_moment_loses_nothing_and_never_lies() {
    tokio::task::LocalSet::new().run_until(storm()).await;
}

async fn storm() {
    let nexus = Nexus::start();
    let mut agent = Agent::start(&nexus).await;
    let clients = watch::Sender::new(agent.client.clone());
    let answers = Arc::new(AtomicUsize::new(0));
    let lives = (0..VMMS).map(|_| {
        let asker = Asker {
            client: clients.subscribe(),
            answers: Arc::clone(&answers),
        };
        tokio::task::spawn_local(asker.life())
    });
    let lives: Vec<_> = lives.collect();
    for kill in 1..=KILLS {
        eventually("more answers", async || {
            let enough = answers.load(Ordering::SeqCst) >= kill * ANSWERS;
            (enough || lives.iter().all(|life| life.is_finished()))
                .then_some(())
        })
        .await;
        agent.kill();
        agent.start_again(&["--boot-ms", "1", "--stop-ms", "1"]).await;
        clients.send_replace(agent.client.clone());
    }
    let mut ends = HashMap::new();
    for life in lives {
        for end in life.await.unwrap() {
            ends.insert(end.vmm_id, end);
        }
    }

    // What was answered is what Nexus comes to know.
    let state = nexus
        .until("all ends", |state| {
            ends.iter().all(|(id, end)| state.last(*id) == Some(end))
        })
        .await;
    let mut told: HashMap<(Uuid, u64), &VmmReport> = HashMap::new();
    for report in &state.taken {
        let key = (report.vmm_id, report.generation);
        let before = told.entry(key).or_insert(report);
        assert_eq!(*before, report, "one generation, two stories");
    }
    assert_eq!(agent.client.vmm_list().await.unwrap().vmms, []);
    assert_eq!(std::fs::read_dir(agent.guests()).unwrap().count(), 0);
}

struct Asker {
    client: watch::Receiver<Client>,
    answers: Arc<AtomicUsize>,
}

impl Asker {
    /// Takes VMMs through their lives, one after the other, and returns their
    /// ends.
    async fn life(mut self) -> Vec<VmmReport> {
        let mut ends = Vec::new();
        for _ in 0..3 {
            let (vmm_id, spec) = (Uuid::new_v4(), vmm(1, GIB));
            self.insist(async |client| {
                client.vmm_register(vmm_id, &spec).await
            })
            .await;
            for (order, state) in [
                (RequestedState::Running, VmmState::Running),
                (RequestedState::Stopped, VmmState::Destroyed),
            ] {
                self.insist(async |client| {
                    client.vmm_put_state(vmm_id, order).await
                })
                .await;
                while self
                    .insist(async |client| client.vmm_view(vmm_id).await)
                    .await
                    .state
                    != state
                {}
            }
            let end = self
                .insist(async |client| client.vmm_unregister(vmm_id).await)
                .await
                .report
                .unwrap();
            assert_eq!(end.end_reason, Some(EndReason::Requested));
            assert!(end.ever_ran);
            ends.push(end);
        }
        ends
    }

    /// Asks until there is an answer, whichever agent gives it.
    async fn insist<T>(
        &mut self,
        ask: impl AsyncFn(Client) -> Result<T, Error>,
    ) -> T {
        loop {
            let client = self.client.borrow_and_update().clone();
            match ask(client).await {
                Ok(answer) => {
                    self.answers.fetch_add(1, Ordering::SeqCst);
                    return answer;
                }
                Err(Error::Unreachable(_)) => tokio::task::yield_now().await,
                Err(definite) => panic!("refused: {definite}"),
            }
        }
    }
}
