//! Starts sagas, recovers them, waits for them.

use super::registry::{self, NexusSaga};
use super::{Saga, SagaContext, SagaFailure};
use crate::background::Activators;
use crate::config::Tuning;
use crate::error::chain;
use crate::lease::Lease;
use crate::sleds::Sleds;
use db_model::lifecycle::Refusal;
use db_model::{Fence, InstanceId, SagaId, StartAttemptId};
use db_queries::{DataStore, NewSaga, SagaStore, Zombie, to_steno};
use newtype_uuid::GenericUuid;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use slog::{Drain, Logger, info, o, warn};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use steno::{ActionRegistry, SagaDag, SagaResult, SecClient};
use tokio::sync::watch;

/// steno keeps each finished saga in memory, so its client is replaced after
/// so many and the old one left to drain: a few hundred logs at a time.
const SAGAS_PER_CLIENT: usize = 500;

/// How often a client that was replaced is looked at: it goes when its last
/// caller has let go of it.
const DRAIN_PERIOD: Duration = Duration::from_secs(1);

/// How many sagas are adopted in one transaction.
const ADOPTED_AT_ONCE: i64 = 50;

/// Runs this process's sagas.
#[derive(Debug)]
pub struct SagaExecutor {
    lease: Lease,
    store: Arc<SagaStore>,
    registry: Arc<ActionRegistry<NexusSaga>>,
    current: Mutex<Arc<Counted>>,
    datastore: DataStore,
    sleds: Sleds,
    activators: Activators,
    tuning: Tuning,
    zombie: Zombie,
    log: Logger,
    running: watch::Sender<usize>,
    ended: SagasEnded,
    closed: AtomicBool,
    /// Held by the one recovery at a time: two would resume a saga twice.
    recovering: tokio::sync::Mutex<()>,
}

/// So many sagas ended like this, here.
pub type SagasEnded = Family<SagaEnded, Counter>;

/// How a saga ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SagaEnded {
    /// Its kind.
    pub name: String,
    /// One of [`OUTCOMES`].
    pub outcome: &'static str,
}

/// How a saga can end: done; undone, for a reason that somebody is told; or
/// undone since something went wrong inside.
pub const OUTCOMES: [&str; 3] = ["done", "undone", "internal"];

/// Zero of each: a counter that appears at 1 shows no increase.
fn none_ended() -> SagasEnded {
    let ended = SagasEnded::default();
    for name in registry::SAGAS {
        for outcome in OUTCOMES {
            let name = (*name).to_owned();
            drop(ended.get_or_create(&SagaEnded { name, outcome }));
        }
    }
    ended
}

#[derive(Debug)]
struct Counted {
    client: SecClient,
    sagas: AtomicUsize,
}

/// Why a saga was not started.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Another one is at work on the instance.
    #[error("another saga is at work on the instance")]
    Busy,
    /// What it was to do is not wanted any more, or not of it.
    #[error("the saga was overtaken")]
    Overtaken(#[source] Refusal),
    /// This process takes no sagas, now or any more: it is closing, or its
    /// lease is not live.
    #[error("this process takes no sagas now")]
    Closed,
    /// The database is away. It may have been written down: then it is found,
    /// and run, by the recovery.
    #[error("the database is not there to write the saga down")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It could not be written down or begun, through a fault of ours.
    #[error("the saga could not be created")]
    Create(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A saga under way.
#[derive(Debug)]
pub struct SagaHandle {
    /// Its id.
    pub id: SagaId,
    outcome: tokio::task::JoinHandle<Result<(), SagaFailure>>,
}

impl SagaHandle {
    /// Waits for its end. Dropping this does not end the saga.
    ///
    /// # Errors
    ///
    /// Why it failed and was undone.
    pub async fn wait(self) -> Result<(), SagaFailure> {
        self.outcome
            .await
            .unwrap_or_else(|e| Err(SagaFailure::Internal { chain: chain(&e) }))
    }
}

/// A saga that is yet to be written down. Dropped, it is the recovery's: to be run
/// if it was written down, and else nobody's.
#[derive(Debug)]
pub struct Prepared {
    new: NewSaga,
    dag: Arc<SagaDag>,
    fence: Fence,
    executor: Arc<SagaExecutor>,
    is_run: bool,
}

impl Prepared {
    /// What is to be written down.
    pub fn new_saga(&self) -> &NewSaga {
        &self.new
    }

    /// Runs it, now that it is written down.
    ///
    /// *Cancellation*: as of [`SagaExecutor::start`].
    ///
    /// # Errors
    ///
    /// `Create`: then the recovery runs it.
    pub async fn run(mut self) -> Result<SagaHandle, ExecError> {
        self.is_run = true;
        let run = async move {
            let Prepared { new, dag, fence, executor, .. } = &self;
            let (name, of) = (&new.name, new.instance_id);
            executor.create(name, of, Arc::clone(dag), *fence).await
        };
        tokio::spawn(run)
            .await
            .unwrap_or_else(|e| Err(ExecError::Create(e.into())))
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.is_run {
            self.executor.store.forget(self.new.id);
        }
    }
}

/// What a recovery found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sagas that run here again.
    pub resumed: usize,
    /// Sagas that could not be resumed; the next recovery tries again.
    pub failed: usize,
}

impl SagaExecutor {
    /// An executor for the process whose lease this is.
    #[expect(clippy::too_many_arguments, reason = "all it hands to sagas")]
    pub fn new(
        lease: Lease,
        datastore: DataStore,
        sleds: Sleds,
        activators: Activators,
        tuning: Tuning,
        zombie: Zombie,
        registry: ActionRegistry<NexusSaga>,
        log: Logger,
    ) -> Arc<SagaExecutor> {
        let store = Arc::new(SagaStore::new(
            datastore.clone(),
            lease.id(),
            zombie.clone(),
            log.clone(),
        ));
        let current = Mutex::new(new_client(&log, &store));
        Arc::new(SagaExecutor {
            lease,
            store,
            registry: Arc::new(registry),
            current,
            datastore,
            sleds,
            activators,
            tuning,
            zombie,
            log,
            running: watch::Sender::new(0),
            ended: none_ended(),
            closed: AtomicBool::new(false),
            recovering: tokio::sync::Mutex::new(()),
        })
    }

    /// Writes a saga down and starts it. From the return on it is carried
    /// through, by whoever lives.
    ///
    /// *Cancellation*: dropping this does not stop what has begun. A saga that
    /// was written down and not started would be nobody's to recover.
    ///
    /// # Errors
    ///
    /// See [`ExecError`]. Nothing was done then, as far as is known.
    pub async fn start<S: Saga>(
        self: &Arc<Self>,
        params: &S::Params,
    ) -> Result<SagaHandle, ExecError> {
        if self.closed.load(Ordering::Relaxed) || !self.lease.is_live() {
            return Err(ExecError::Closed);
        }
        let dag = registry::dag::<S>(params)
            .map_err(|e| ExecError::Create(e.into()))?;
        let (me, instance) = (Arc::clone(self), S::instance_id(params));
        let attempt = S::attempt(params);
        tokio::spawn(
            async move { me.begin(S::NAME, instance, attempt, dag).await },
        )
        .await
        .unwrap_or_else(|e| Err(ExecError::Create(e.into())))
    }

    /// A saga that somebody else writes down, in a transaction of theirs, and
    /// that then is to be [run](Prepared::run).
    ///
    /// # Errors
    ///
    /// `Closed`; `Create`.
    pub fn prepare<S: Saga>(
        self: &Arc<Self>,
        params: &S::Params,
    ) -> Result<Prepared, ExecError> {
        if self.closed.load(Ordering::Relaxed) || !self.lease.is_live() {
            return Err(ExecError::Closed);
        }
        let dag = registry::dag::<S>(params)
            .map_err(|e| ExecError::Create(e.into()))?;
        let new = NewSaga {
            id: SagaId::new_v4(),
            name: S::NAME.to_string(),
            instance_id: S::instance_id(params),
            sec: self.store.sec_id(),
            dag: serde_json::to_value(&dag)
                .map_err(|e| ExecError::Create(e.into()))?,
        };
        // From here on the recovery leaves it alone.
        let fence = self.store.announce_written(new.id, new.instance_id);
        let (dag, executor) = (Arc::new(dag), Arc::clone(self));
        Ok(Prepared { new, dag, fence, executor, is_run: false })
    }

    async fn begin(
        self: &Arc<Self>,
        name: &str,
        instance: InstanceId,
        attempt: Option<StartAttemptId>,
        dag: SagaDag,
    ) -> Result<SagaHandle, ExecError> {
        let id = SagaId::new_v4();
        let fence = self.store.announce(id, instance, attempt);
        self.create(name, instance, Arc::new(dag), fence).await
    }

    async fn create(
        self: &Arc<Self>,
        name: &str,
        instance: InstanceId,
        dag: Arc<SagaDag>,
        fence: Fence,
    ) -> Result<SagaHandle, ExecError> {
        let id = fence.saga_id;
        let client = self.client();
        let created = client
            .client
            .saga_create(
                steno::SagaId::from_untyped_uuid(id.0),
                self.context(name, fence),
                dag,
                Arc::clone(&self.registry),
            )
            .await;
        let done = match created {
            Ok(done) => done,
            Err(error) => {
                self.store.forget(id);
                return Err(match error.downcast_ref() {
                    Some(db_queries::Error::SagaUnfinished) => ExecError::Busy,
                    Some(db_queries::Error::Refused(refusal)) => {
                        ExecError::Overtaken(*refusal)
                    }
                    Some(db_queries::Error::Unavailable(_)) => {
                        ExecError::Unavailable(error.into())
                    }
                    _ => ExecError::Create(error.into()),
                });
            }
        };
        self.go(id, name, instance, &client, done).await.map_err(|e| {
            // Written down and not begun: the recovery finds it.
            self.store.forget(id);
            ExecError::Create(e)
        })
    }

    /// Takes over the unfinished sagas of processes that were, and finds those
    /// of this process that were written down though their creation was
    /// reported as failed. What already runs here is left alone.
    ///
    /// # Errors
    ///
    /// The database is away; what was resumed by then runs.
    pub async fn recover(
        self: &Arc<Self>,
    ) -> Result<Recovered, db_queries::Error> {
        let _alone = self.recovering.lock().await;
        let mut recovered = Recovered::default();
        let me = self.lease.id();
        let adopt = || self.datastore.saga_adopt(me, ADOPTED_AT_ONCE);
        while adopt().await? > 0 {}
        for id in self.datastore.saga_unfinished_of(me).await? {
            if self.store.knows(id) {
                continue;
            }
            match self.datastore.saga_take(me, id).await {
                Ok((saga, fence)) => {
                    self.resume_counted(saga, fence, &mut recovered).await;
                }
                Err(db_queries::Error::NotFound) => (),
                Err(error) => return Err(error),
            }
        }
        Ok(recovered)
    }

    async fn resume_counted(
        self: &Arc<Self>,
        saga: db_model::Saga,
        fence: Fence,
        recovered: &mut Recovered,
    ) {
        let id = saga.id;
        match self.resume(saga, fence).await {
            Ok(_) => recovered.resumed += 1,
            Err(error) => {
                // Not known here any more, so the next recovery finds it.
                self.store.forget(id);
                warn!(self.log, "a saga could not be resumed yet";
                    "saga" => %id, "error" => format!("{error:#}"));
                recovered.failed += 1;
            }
        }
    }

    async fn resume(
        self: &Arc<Self>,
        saga: db_model::Saga,
        fence: Fence,
    ) -> Result<SagaHandle, anyhow::Error> {
        self.store.announce_adopted(saga.instance_id, fence);
        let events = self
            .datastore
            .saga_log(saga.id)
            .await?
            .iter()
            .map(to_steno)
            .collect::<Result<Vec<_>, _>>()?;
        info!(self.log, "resuming a saga";
            "saga" => %saga.id, "name" => &saga.name,
            "records" => events.len());
        let client = self.client();
        let done = client
            .client
            .saga_resume(
                steno::SagaId::from_untyped_uuid(saga.id.0),
                self.context(&saga.name, fence),
                saga.dag,
                Arc::clone(&self.registry),
                events,
            )
            .await?;
        self.go(saga.id, &saga.name, saga.instance_id, &client, done)
            .await
            .map_err(|e| anyhow::anyhow!(e))
    }

    async fn go(
        self: &Arc<Self>,
        id: SagaId,
        name: &str,
        instance: InstanceId,
        client: &Counted,
        done: impl Future<Output = SagaResult> + Send + 'static,
    ) -> Result<SagaHandle, Box<dyn std::error::Error + Send + Sync>> {
        client
            .client
            .saga_start(steno::SagaId::from_untyped_uuid(id.0))
            .await?;
        self.running.send_modify(|n| *n += 1);
        let (me, name) = (Arc::clone(self), name.to_owned());
        let outcome = tokio::spawn(async move {
            let outcome = failure(done.await);
            let ended = SagaEnded { name, outcome: label(&outcome) };
            me.ended.get_or_create(&ended).inc();
            me.note(id, instance, &outcome).await;
            me.running.send_modify(|n| *n -= 1);
            let at_rest = me.store.take_at_rest(id);
            match &outcome {
                // Its instance is to be looked at later, or not, or else at once.
                Err(SagaFailure::Internal { .. }) => me.activators.changed(),
                Ok(()) | Err(_) if at_rest => me.activators.seen(),
                Ok(()) | Err(_) => {
                    me.activators.seen();
                    me.activators.saga_ended(instance);
                }
            }
            outcome
        });
        Ok(SagaHandle { id, outcome })
    }

    /// A saga that went wrong inside would do so again if it were started again
    /// at once.
    async fn note(
        &self,
        id: SagaId,
        instance: InstanceId,
        outcome: &Result<(), SagaFailure>,
    ) {
        let Err(failure) = outcome else { return };
        info!(self.log, "a saga was undone"; "saga" => %id,
            "instance" => %instance, "failure" => ?failure);
        let SagaFailure::Internal { chain: why } = failure else { return };
        let noted =
            self.datastore.reconcile_back_off(instance, id, why.clone()).await;
        if let Err(error) = noted {
            warn!(self.log, "cannot note a saga's failure";
                "saga" => %id, "error" => chain(&error));
        }
    }

    /// Takes no more sagas, and waits for those that run: until `bound`, when
    /// what is left is left to whoever adopts it.
    pub async fn close(&self, bound: Duration) -> bool {
        self.closed.store(true, Ordering::Relaxed);
        let mut running = self.running.subscribe();
        let drained = running.wait_for(|n| *n == 0);
        tokio::time::timeout(bound, drained).await.is_ok()
    }

    /// Does this process take no more sagas, since it is shutting down?
    pub fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// How many sagas have ended here, and how.
    pub fn ended(&self) -> &SagasEnded {
        &self.ended
    }

    /// How many sagas run here.
    pub fn running(&self) -> usize {
        *self.running.borrow()
    }

    fn context(&self, name: &str, fence: Fence) -> Arc<SagaContext> {
        Arc::new(SagaContext {
            datastore: self.datastore.clone(),
            sleds: self.sleds.clone(),
            activators: self.activators.clone(),
            tuning: self.tuning,
            log: self.log.new(o!(
                "saga" => fence.saga_id.to_string(),
                "saga_name" => name.to_string(),
            )),
            fence,
            lease: self.lease.clone(),
            zombie: self.zombie.clone(),
        })
    }

    /// The client for one more saga.
    fn client(&self) -> Arc<Counted> {
        let mut current =
            self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.sagas.fetch_add(1, Ordering::Relaxed) >= SAGAS_PER_CLIENT {
            let old = std::mem::replace(
                &mut *current,
                new_client(&self.log, &self.store),
            );
            tokio::spawn(drain(old));
        }
        Arc::clone(&current)
    }
}

fn new_client(log: &Logger, store: &Arc<SagaStore>) -> Arc<Counted> {
    // steno logs each step of each saga at levels that are of no use here.
    let quiet = slog::Logger::root(
        slog::LevelFilter::new(log.clone(), slog::Level::Error).ignore_res(),
        o!(),
    );
    Arc::new(Counted {
        client: steno::sec(quiet, Arc::<SagaStore>::clone(store)),
        sagas: AtomicUsize::new(1),
    })
}

/// Waits for a replaced client's sagas to end, and lets go of it.
async fn drain(mut old: Arc<Counted>) {
    loop {
        match Arc::try_unwrap(old) {
            Ok(counted) => return counted.client.shutdown().await,
            Err(still_used) => {
                old = still_used;
                tokio::time::sleep(DRAIN_PERIOD).await;
            }
        }
    }
}

fn label(outcome: &Result<(), SagaFailure>) -> &'static str {
    let [done, undone, internal] = OUTCOMES;
    match outcome {
        Ok(()) => done,
        Err(SagaFailure::Internal { .. }) => internal,
        Err(
            SagaFailure::AlreadyExists
            | SagaFailure::NotFound
            | SagaFailure::InUse
            | SagaFailure::KeyUsed
            | SagaFailure::TooMany { .. }
            | SagaFailure::DiskState { .. }
            | SagaFailure::BeingCopied
            | SagaFailure::StorageExceeded { .. }
            | SagaFailure::BlocksFailed { .. }
            | SagaFailure::NoAnswer { .. }
            | SagaFailure::Overtaken
            | SagaFailure::Start(_),
        ) => undone,
    }
}

fn failure(result: SagaResult) -> Result<(), SagaFailure> {
    match result.kind {
        Ok(_) => Ok(()),
        Err(error) => Err(error
            .error_source
            .convert::<SagaFailure>()
            .unwrap_or_else(|e| SagaFailure::Internal { chain: chain(&e) })),
    }
}
