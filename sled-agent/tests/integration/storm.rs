//! Many VMMs at once, on an agent that is killed again and again.

use crate::agent::{Agent, GIB, vmm};
use crate::boot_sector;
use crate::eventually::eventually;
use crate::guests::{self, Kind};
use crate::nexus::Nexus;
use sled_agent_client::{
    Client, EndReason, Error, RequestedState, VmmDisk, VmmRegister, VmmReport,
    VmmState,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;
use uuid::Uuid;

/// How many VMMs there are at once: not more than fit; how many one after the
/// other; and how often the agent is killed. Real guests take their time.
const SIMULATED: Size = Size { at_once: 8, lives: 3, kills: 30 };
const REAL: Size = Size { at_once: 4, lives: 2, kills: 12 };

#[derive(Clone, Copy)]
struct Size {
    at_once: usize,
    lives: usize,
    kills: usize,
}

/// How many answers there are between two kills: not a multiple of anything,
/// so that it is another moment each time.
const ANSWERS: usize = 7;

#[tokio::test]
async fn an_agent_killed_at_any_moment_loses_nothing_and_never_lies() {
    let storm = storm(Kind::Simulated, SIMULATED);
    tokio::task::LocalSet::new().run_until(storm).await;
}

#[tokio::test]
async fn nor_does_one_with_real_guests() {
    if Kind::Qemu.is_possible() {
        let storm = storm(Kind::Qemu, REAL);
        tokio::task::LocalSet::new().run_until(storm).await;
    }
}

async fn storm(kind: Kind, size: Size) {
    let nexus = Nexus::start();
    let mut agent = Agent::start_on(kind, vec![nexus.url()], &[]).await;
    // Told to stop before it listens, it may not hear, and is killed in time.
    let disks = match kind {
        Kind::Simulated => Vec::new(),
        Kind::Qemu => {
            let sector = boot_sector::obedient();
            let disk = guests::disk(agent.dir(), &sector);
            vec![VmmDisk { read_only: true, ..disk }]
        }
    };
    let clients = watch::Sender::new(agent.client.clone());
    let answers = Arc::new(AtomicUsize::new(0));
    let lives = (0..size.at_once).map(|_| {
        let asker = Asker {
            client: clients.subscribe(),
            answers: Arc::clone(&answers),
        };
        tokio::task::spawn_local(asker.life(size.lives, disks.clone()))
    });
    let lives: Vec<_> = lives.collect();
    for kill in 1..=size.kills {
        eventually("more answers", async || {
            let enough = answers.load(Ordering::SeqCst) >= kill * ANSWERS;
            (enough || lives.iter().all(|life| life.is_finished()))
                .then_some(())
        })
        .await;
        agent.kill();
        let quick = ["--boot-ms", "1", "--stop-ms", "1", "--grace-ms", "2000"];
        agent.start_again(&quick).await;
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
    // All may have ended before the last kill.
    agent.recovered().await;
    assert_eq!(agent.client.vmm_list().await.unwrap().vmms, []);
    assert!(agent.nothing_is_left());
}

struct Asker {
    client: watch::Receiver<Client>,
    answers: Arc<AtomicUsize>,
}

impl Asker {
    /// Takes VMMs through their lives, one after the other, and returns their
    /// ends.
    async fn life(
        mut self,
        lives: usize,
        disks: Vec<VmmDisk>,
    ) -> Vec<VmmReport> {
        let mut ends = Vec::new();
        for _ in 0..lives {
            let vmm_id = Uuid::new_v4();
            let spec = VmmRegister { disks: disks.clone(), ..vmm(1, GIB) };
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
