//! The proofs that every saga passes, on a real database and a real sled, with
//! no Nexus there to tidy up:
//!
//! - it succeeds;
//! - each action may run twice;
//! - it fails before each of its nodes, and after each of them, and leaves a
//!   clean slate; with each undo run twice, too;
//! - its log is cut after each record, though it went on, and another process
//!   recovers it;
//! - its process is killed after each record, of a run that succeeds and of
//!   runs that fail before or after any node, in the middle of their undoing
//!   too, and another process recovers it. What was done by then stays: so
//!   this is also to die inside an action, with its effect there and no record
//!   of it.
//!
//! A clean slate is one from which it can be done again. So that a leftover
//! shows, the instance fills its sled, and after each failure the saga is run
//! once more, as whoever wanted it done would, and has to succeed.

mod create;
mod delete;
mod finish;
pub(crate) mod fixture;
mod granted;
mod make;
mod slate;
mod start;
mod update;

use db_model::{SagaId, SagaState};
use fixture::GUEST;
use harness::{DEADLINE, Died, SagaBench};
use nexus::saga::blocks_make::BlocksMake;
use nexus::saga::import_finish::ImportFinish;
use nexus::saga::instance_create::InstanceCreate;
use nexus::saga::instance_delete::InstanceDelete;
use nexus::saga::instance_start::InstanceStart;
use nexus::saga::instance_update::InstanceUpdate;
use nexus::saga::{Fault, SAGAS, Saga, SagaFailure, Wrap};
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
    Cut,
    Killed { fail: Option<(&'static str, Fault)> },
}

/// Proves one thing of one saga, in all the ways that its nodes give.
async fn prove_saga<S: Proved>(proof: Proof) {
    let bench = SagaBench::start(GUEST).await;
    match proof {
        Proof::Succeeds => to_the_end::<S>(&bench, Wrap::default()).await,
        Proof::ActionsTwice => {
            let twice = Wrap { actions_twice: true, ..Wrap::default() };
            to_the_end::<S>(&bench, twice).await;
        }
        Proof::Fails { fault, undos_twice } => {
            for node in 0..S::nodes().len() {
                let fail = Some((node, fault));
                let wrap = Wrap { undos_twice, fail, ..Wrap::default() };
                to_the_end::<S>(&bench, wrap).await;
            }
        }
        Proof::Cut => cut::<S>(&bench).await,
        Proof::Killed { fail } => {
            let fail = fail.map(|(name, fault)| (index::<S>(name), fault));
            killed::<S>(&bench, Wrap { fail, ..Wrap::default() }).await;
        }
    }
}

/// Where a node stands in its saga.
fn index<S: Saga>(node: &str) -> usize {
    S::nodes().iter().position(|n| n.name == node).unwrap()
}

/// Runs the saga once, as `wrap` says, and checks what came of it.
async fn to_the_end<S: Proved>(bench: &SagaBench, wrap: Wrap) {
    let params = S::set_up(bench).await;
    let id = run::<S>(bench, wrap, &params).await;
    settle::<S>(bench, wrap, id, params).await;
}

/// Runs the saga, once for each record of its log; cuts the log after that
/// record; and has another process recover it. What it did goes on meanwhile;
/// that must not disturb whoever recovers it.
async fn cut<S: Proved>(bench: &SagaBench) {
    for keep in 0.. {
        let params = S::set_up(bench).await;
        let id = run::<S>(bench, Wrap::default(), &params).await;
        S::check_success(bench, &params).await;
        let last = keep == Log::read::<S>(bench, id).await.0.len();
        cut_log(bench, id, keep);
        recovered_by_another::<S>(bench, Wrap::default()).await;
        settle::<S>(bench, Wrap::default(), id, params).await;
        if last {
            return;
        }
    }
}

/// Runs the saga, once for each record of its log, in a process that is killed
/// right after that record; and has another process recover it.
async fn killed<S: Proved>(bench: &SagaBench, wrap: Wrap) {
    // Records come in bundles, one for each transaction: so not each number of
    // them is one that a process can leave.
    let mut records = 0;
    loop {
        let params = S::set_up(bench).await;
        bench.heartbeat().await;
        let dying = bench.executor(wrap.registry::<S>());
        bench.database.dies_after(dying.sec_id, records);
        let id = dying.sagas.start::<S>(&params).await.unwrap().id;
        let died = bench.database.died(id).await;
        if died == Died::Midway {
            let log = Log::read::<S>(bench, id).await;
            assert!(log.0.len() <= records, "{log:?}");
            recovered_by_another::<S>(bench, wrap).await;
        }
        settle::<S>(bench, wrap, id, params).await;
        if died == Died::TooLate {
            return;
        }
        records += 1;
    }
}

/// Another process, in which the same goes wrong, finishes the one saga that
/// there is.
async fn recovered_by_another<S: Proved>(bench: &SagaBench, wrap: Wrap) {
    let other = bench.executor(wrap.registry::<S>());
    other.takes_over(1).await;
    assert!(other.sagas.close(DEADLINE).await, "it hangs");
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

    fn nodes(&self, event: &str) -> Vec<&str> {
        let hits = self.0.iter().filter(|(n, e)| n != "steno's" && e == event);
        hits.map(|(node, _)| node.as_str()).collect()
    }

    fn check_success<S: Saga>(&self) {
        let nodes: Vec<_> = S::nodes().iter().map(|n| n.name).collect();
        assert_eq!(self.nodes("succeeded"), nodes, "{self:?}");
        assert!(self.nodes("failed").is_empty(), "{self:?}");
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
    ($($name:ident: $saga:ty { $($node:ident),+ }),+ $(,)?) => {
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
                prove_saga::<$saga>(Proof::Cut).await;
            }

            #[tokio::test]
            async fn killed_after_any_record_it_is_finished_by_another() {
                prove_saga::<$saga>(Proof::Killed { fail: None }).await;
            }

            #[test]
            fn each_of_its_nodes_is_proved() {
                let nodes: Vec<_> =
                    <$saga>::nodes().iter().map(|n| n.name).collect();
                assert_eq!(nodes, [$(stringify!($node)),+]);
            }

            mod killed_after_any_record_it_is_undone_by_another {
                use super::*;

                mod failing_before {
                    use super::*;

                    $(#[tokio::test]
                    async fn $node() {
                        let fail = Some((stringify!($node), Fault::Before));
                        prove_saga::<$saga>(Proof::Killed { fail }).await;
                    })+
                }

                mod failing_after {
                    use super::*;

                    $(#[tokio::test]
                    async fn $node() {
                        let fail = Some((stringify!($node), Fault::After));
                        prove_saga::<$saga>(Proof::Killed { fail }).await;
                    })+
                }
            }
        })+

        const PROVED: &[&str] = &[$(<$saga as Saga>::NAME),+];
    };
}

prove! {
    instance_create: InstanceCreate { will_insert, insert, make_blocks, finish },
    instance_start: InstanceStart {
        claim, will_register, place, register, run
    },
    instance_update: InstanceUpdate { unlink, unregister },
    instance_delete: InstanceDelete { destroy },
    blocks_make: BlocksMake { will_insert, insert, ensure, finish },
    import_finish: ImportFinish { will_begin, begin, finish, copy, end },
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
