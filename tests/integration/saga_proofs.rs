//! The proofs that every saga passes, on a real database and a real sled, with
//! no Nexus there to tidy up:
//!
//! - it succeeds;
//! - each action may run twice;
//! - it fails before each of its nodes, and after each of them, and leaves a
//!   clean slate; with each undo run twice, too;
//! - its log is cut after each record, and another process recovers it.
//!
//! A clean slate is one from which it can be done again. So that a leftover
//! shows, the instance fills its sled, and after each failure the saga is run
//! once more, as whoever wanted it done would, and has to succeed.

mod create;
mod delete;
pub(crate) mod fixture;
mod slate;
mod start;
mod update;

use db_model::{SagaId, SagaState};
use fixture::GUEST;
use harness::{DEADLINE, SagaBench};
use nexus::saga::instance_create::InstanceCreate;
use nexus::saga::instance_delete::InstanceDelete;
use nexus::saga::instance_start::InstanceStart;
use nexus::saga::instance_update::InstanceUpdate;
use nexus::saga::{Fault, Recovered, SAGAS, Saga, SagaFailure, Wrap, registry};
use slate::nothing_is_left;

/// What the proofs must know of a saga.
trait Proved: Saga {
    /// Makes what it is to work on; what it is told.
    async fn set_up(bench: &SagaBench) -> Self::Params;

    /// What only holds once it has succeeded.
    async fn check_success(bench: &SagaBench, params: &Self::Params);

    /// What only holds once it has failed, made to by `fault` at `node`, and
    /// has been undone.
    async fn check_failure(
        bench: &SagaBench,
        params: &Self::Params,
        node: &str,
        fault: Fault,
    );

    /// What it is told when it is run again after a failure.
    async fn again(bench: &SagaBench, failed: &Self::Params) -> Self::Params;

    /// Takes away what a success leaves.
    async fn tear_down(bench: &SagaBench, params: &Self::Params);
}

/// Which of the proofs.
#[derive(Clone, Copy)]
enum Proof {
    Succeeds,
    ActionsTwice,
    Fails { fault: Fault, undos_twice: bool },
    CutWhileItSucceeds,
    CutWhileItIsUndone,
}

/// Proves one thing of one saga, in all the ways that its nodes give.
async fn prove_saga<S: Proved>(proof: Proof) {
    let bench = SagaBench::start(GUEST).await;
    let count = S::nodes().len();
    let nodes = 0..count;
    match proof {
        Proof::Succeeds => to_the_end::<S>(&bench, Wrap::default()).await,
        Proof::ActionsTwice => {
            let twice = Wrap { actions_twice: true, ..Wrap::default() };
            to_the_end::<S>(&bench, twice).await;
        }
        Proof::Fails { fault, undos_twice } => {
            for node in nodes {
                let fail = Some((node, fault));
                let wrap = Wrap { undos_twice, fail, ..Wrap::default() };
                to_the_end::<S>(&bench, wrap).await;
            }
        }
        Proof::CutWhileItSucceeds => {
            cut::<S>(&bench, Wrap::default(), Cuts::All).await;
        }
        Proof::CutWhileItIsUndone => {
            for node in nodes {
                let fail = Some((node, Fault::After));
                let wrap = Wrap { fail, ..Wrap::default() };
                // The last node's undoing holds that of all others.
                let last = node + 1 == count;
                let cuts = if last { Cuts::All } else { Cuts::First };
                cut::<S>(&bench, wrap, cuts).await;
            }
        }
    }
}

/// Runs the saga once, as `wrap` says, and checks what came of it.
async fn to_the_end<S: Proved>(bench: &SagaBench, wrap: Wrap) {
    let params = S::set_up(bench).await;
    let id = run::<S>(bench, wrap, &params).await;
    settle::<S>(bench, wrap, id, params).await;
}

/// After which records of its log a saga is cut.
#[derive(Clone, Copy, PartialEq)]
enum Cuts {
    All,
    First,
}

/// Runs the saga, once for each record of its log; cuts the log after that
/// record, as if the process had died there; and has another process recover
/// it. What is undone is cut only from its failure on: no process dies with
/// things undone and nothing written of why.
async fn cut<S: Proved>(bench: &SagaBench, wrap: Wrap, cuts: Cuts) {
    let mut keep = 0;
    loop {
        let params = S::set_up(bench).await;
        let id = run::<S>(bench, wrap, &params).await;
        if wrap.fail.is_none() {
            // What it did goes on; that must not disturb whoever recovers it.
            S::check_success(bench, &params).await;
        }
        let log = Log::read::<S>(bench, id).await;
        keep = keep.max(log.failure().map_or(0, |i| i + 1));
        let last = keep == log.0.len() || cuts == Cuts::First;
        cut_log(bench, id, keep);
        let other = bench.executor(registry());
        let recovered = other.sagas.recover().await.unwrap();
        assert_eq!(recovered, Recovered { resumed: 1, failed: 0 });
        assert!(other.sagas.close(DEADLINE).await, "cut after {keep}: hangs");
        settle::<S>(bench, wrap, id, params).await;
        if last {
            return;
        }
        keep += 1;
    }
}

/// Runs the saga to its end.
async fn run<S: Proved>(
    bench: &SagaBench,
    wrap: Wrap,
    params: &S::Params,
) -> SagaId {
    bench.heartbeat().await;
    let executor = bench.executor(wrap.registry::<S>());
    let (id, outcome) = executor.run::<S>(params).await;
    let injected = SagaFailure::Internal { chain: "injected".to_string() };
    let expected = wrap.fail.map_or(Ok(()), |_| Err(injected));
    assert_eq!(outcome, expected);
    id
}

/// Checks a saga that is over: that it went as it was made to, what it has
/// left, and, if it failed, that it can be done again.
async fn settle<S: Proved>(
    bench: &SagaBench,
    wrap: Wrap,
    id: SagaId,
    params: S::Params,
) {
    let saga = bench.datastore.saga_view(id).await.unwrap();
    assert_eq!(saga.state, SagaState::Done);
    let log = Log::read::<S>(bench, id).await;
    let Some((failed, fault)) = wrap.fail else {
        log.check_success::<S>();
        S::check_success(bench, &params).await;
        S::tear_down(bench, &params).await;
        return nothing_is_left(bench).await;
    };
    log.check_failure::<S>(failed);
    let name = S::nodes()[failed].name;
    S::check_failure(bench, &params, name, fault).await;
    let params = S::again(bench, &params).await;
    run::<S>(bench, Wrap::default(), &params).await;
    S::check_success(bench, &params).await;
    S::tear_down(bench, &params).await;
    nothing_is_left(bench).await;
}

/// A saga's log: node and event, in order.
#[derive(Debug)]
struct Log(Vec<(String, String)>);

impl Log {
    async fn read<S: Saga>(bench: &SagaBench, id: SagaId) -> Log {
        let nodes = S::nodes();
        let name = |node: i64| {
            let ours = nodes.get(usize::try_from(node).unwrap());
            ours.map_or("steno's", |n| n.name).to_string()
        };
        let events = bench.datastore.saga_log(id).await.unwrap();
        let events =
            events.into_iter().map(|e| (name(e.node_id), e.event_type));
        Log(events.collect())
    }

    /// Where the failure stands.
    fn failure(&self) -> Option<usize> {
        self.0.iter().position(|(_, event)| event == "failed")
    }

    fn nodes(&self, event: &str) -> Vec<&str> {
        let hits = self.0.iter().filter(|(n, e)| n != "steno's" && e == event);
        hits.map(|(node, _)| node.as_str()).collect()
    }

    fn check_success<S: Saga>(&self) {
        let nodes: Vec<_> = S::nodes().iter().map(|n| n.name).collect();
        assert_eq!(self.nodes("succeeded"), nodes, "{self:?}");
        assert_eq!(self.failure(), None, "{self:?}");
    }

    /// The node that failed is that one, and all before it are undone.
    fn check_failure<S: Saga>(&self, failed: usize) {
        let nodes: Vec<_> = S::nodes().iter().map(|n| n.name).collect();
        let undone: Vec<_> = nodes[..failed].iter().rev().copied().collect();
        assert_eq!(self.nodes("failed"), [nodes[failed]], "{self:?}");
        assert_eq!(self.nodes("undo_finished"), undone, "{self:?}");
        assert!(self.nodes("undo_failed").is_empty(), "{self:?}");
    }
}

/// Leaves the first `keep` records of the saga's log, and the saga unfinished.
fn cut_log(bench: &SagaBench, id: SagaId, keep: usize) {
    let sql = format!(
        "DELETE FROM saga_node_event WHERE saga_id = '{id}' \
             AND (node_id, event_type) NOT IN ( \
                 SELECT node_id, event_type FROM saga_node_event \
                 WHERE saga_id = '{id}' ORDER BY event_time LIMIT {keep}); \
         UPDATE saga SET state = 'running', time_ended = NULL \
             WHERE id = '{id}'"
    );
    bench.database.try_sql(&sql).unwrap();
}

/// The tests of each saga, and the list of those that have them.
macro_rules! prove {
    ($($name:ident: $saga:ty),+ $(,)?) => {
        $(mod $name {
            use super::*;

            #[tokio::test]
            async fn it_succeeds() {
                prove_saga::<$saga>(Proof::Succeeds).await;
            }

            #[tokio::test]
            async fn each_action_may_run_twice() {
                prove_saga::<$saga>(Proof::ActionsTwice).await;
            }

            #[tokio::test]
            async fn failing_before_any_node_it_leaves_a_clean_slate() {
                let (fault, undos_twice) = (Fault::Before, false);
                prove_saga::<$saga>(Proof::Fails { fault, undos_twice }).await;
            }

            #[tokio::test]
            async fn failing_before_any_node_each_undo_may_run_twice() {
                let (fault, undos_twice) = (Fault::Before, true);
                prove_saga::<$saga>(Proof::Fails { fault, undos_twice }).await;
            }

            #[tokio::test]
            async fn failing_after_any_node_it_leaves_a_clean_slate() {
                let (fault, undos_twice) = (Fault::After, false);
                prove_saga::<$saga>(Proof::Fails { fault, undos_twice }).await;
            }

            #[tokio::test]
            async fn failing_after_any_node_each_undo_may_run_twice() {
                let (fault, undos_twice) = (Fault::After, true);
                prove_saga::<$saga>(Proof::Fails { fault, undos_twice }).await;
            }

            #[tokio::test]
            async fn cut_after_any_record_it_is_finished_by_another() {
                prove_saga::<$saga>(Proof::CutWhileItSucceeds).await;
            }

            #[tokio::test]
            async fn cut_after_any_record_it_is_undone_by_another() {
                prove_saga::<$saga>(Proof::CutWhileItIsUndone).await;
            }
        })+

        const PROVED: &[&str] = &[$(<$saga as Saga>::NAME),+];
    };
}

prove! {
    instance_create: InstanceCreate,
    instance_start: InstanceStart,
    instance_update: InstanceUpdate,
    instance_delete: InstanceDelete,
}

#[test]
fn every_saga_is_proved() {
    let sorted = |names: &[&'static str]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    assert_eq!(sorted(PROVED), sorted(SAGAS));
}

#[tokio::test]
async fn a_saga_that_goes_wrong_inside_puts_off_the_next_but_no_newer_wish() {
    let bench = SagaBench::start(GUEST).await;
    let params = InstanceDelete::set_up(&bench).await;
    let fail = Some((0, Fault::Before));
    let wrap = Wrap { fail, ..Wrap::default() };
    let id = run::<InstanceDelete>(&bench, wrap, &params).await;
    let look = async || {
        let instance = fixture::view(&bench, params.instance_id).await.instance;
        (instance.reconcile_at.unwrap(), instance.reconcile_last_error)
    };
    let (put_off, error) = look().await;
    let ended = bench.datastore.saga_view(id).await.unwrap().time_ended;
    assert!(put_off > ended.unwrap(), "it would fail again at once");
    assert_eq!(error.as_deref(), Some("injected"));

    bench.database.try_sql("UPDATE instance SET reconcile_at = now()").unwrap();
    let (wished, _) = look().await;
    let again = "again".to_string();
    let noted =
        bench.datastore.reconcile_back_off(params.instance_id, id, again);
    noted.await.unwrap();
    assert_eq!(look().await, (wished, Some("again".to_string())));
}
