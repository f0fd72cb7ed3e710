//! steno's store, over the database: every write fenced.

use crate::saga::{NewSaga, Record};
use crate::{DataStore, Error, FenceError};
use async_trait::async_trait;
use db_model::{Fence, InstanceId, SagaId, SagaState, SecId, StartAttemptId};
use newtype_uuid::GenericUuid;
use slog::{Logger, error, warn};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use steno::{SagaCachedState, SagaCreateParams, SagaNodeEventType, SecStore};
use tokio::sync::watch;

/// Between two tries to write a record while the database is away.
const RETRY_PERIOD: Duration = Duration::from_millis(250);

/// Tells the process that one of its sagas was adopted by another: it is a
/// zombie, and must exit.
#[derive(Clone, Debug)]
pub struct Zombie(Arc<watch::Sender<bool>>);

impl Default for Zombie {
    fn default() -> Zombie {
        Zombie(Arc::new(watch::Sender::new(false)))
    }
}

impl Zombie {
    /// This process is one.
    pub fn declare(&self) {
        self.0.send_replace(true);
    }

    /// Answers when this process has become one.
    pub async fn declared(&self) {
        let mut seen = self.0.subscribe();
        // The sender is in `self`, so waiting cannot fail.
        let _ = seen.wait_for(|zombie| *zombie).await;
    }
}

/// A [`SecStore`] for the sagas of one process. It must be told of each saga
/// before steno is: whose it is, and under which fence it runs.
#[derive(Debug)]
pub struct SagaStore {
    datastore: DataStore,
    sec_id: SecId,
    zombie: Zombie,
    log: Logger,
    known: Mutex<HashMap<SagaId, Known>>,
    /// Those that are done and have left their instance at rest.
    at_rest: Mutex<HashSet<SagaId>>,
}

/// What steno does not know of a saga.
#[derive(Clone, Copy, Debug)]
struct Known {
    instance: InstanceId,
    /// The attempt that it takes as it is written down.
    attempt: Option<StartAttemptId>,
    /// It is written down before steno hears of it.
    is_written: bool,
    fence: Fence,
}

impl SagaStore {
    /// A store for the process `sec_id`.
    pub fn new(
        datastore: DataStore,
        sec_id: SecId,
        zombie: Zombie,
        log: Logger,
    ) -> SagaStore {
        SagaStore {
            datastore,
            sec_id,
            zombie,
            log,
            known: Mutex::default(),
            at_rest: Mutex::default(),
        }
    }

    /// Announces a saga that steno is about to create, and which takes this
    /// attempt. The fence is what all its transactions check.
    pub fn announce(
        &self,
        id: SagaId,
        instance: InstanceId,
        attempt: Option<StartAttemptId>,
    ) -> Fence {
        let fence = self.first_fence(id);
        self.add(Known { instance, attempt, is_written: false, fence });
        fence
    }

    /// The same of one that will have been written down by then.
    pub fn announce_written(&self, id: SagaId, instance: InstanceId) -> Fence {
        let fence = self.first_fence(id);
        let attempt = None;
        self.add(Known { instance, attempt, is_written: true, fence });
        fence
    }

    fn first_fence(&self, saga_id: SagaId) -> Fence {
        Fence { saga_id, sec_id: self.sec_id, adopt_generation: 1 }
    }

    /// The process whose sagas they are.
    pub fn sec_id(&self) -> SecId {
        self.sec_id
    }

    /// Announces a saga that steno is about to resume.
    pub fn announce_adopted(&self, instance: InstanceId, fence: Fence) {
        let (attempt, is_written) = (None, true);
        self.add(Known { instance, attempt, is_written, fence });
    }

    fn add(&self, known: Known) {
        let id = known.fence.saga_id;
        self.forget(id);
        self.lock().insert(id, known);
    }

    /// A saga that never began, or is over.
    pub fn forget(&self, id: SagaId) {
        if let Some(known) = self.lock().remove(&id) {
            self.datastore.owed.forget(known.fence);
        }
    }

    /// Has this saga, which is done, left its instance at rest? Then nobody need
    /// look at that. To be asked once.
    pub fn take_at_rest(&self, id: SagaId) -> bool {
        self.lock_at_rest().remove(&id)
    }

    fn lock_at_rest(&self) -> MutexGuard<'_, HashSet<SagaId>> {
        self.at_rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does this process run it?
    pub fn knows(&self, id: SagaId) -> bool {
        self.lock().contains_key(&id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SagaId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fence(&self, id: SagaId) -> Option<Fence> {
        self.lock().get(&id).map(|known| known.fence)
    }

    /// Goes no further with a saga that is nobody's here. Never returns.
    async fn never_announced(&self, id: SagaId) {
        error!(self.log, "steno wrote of an unknown saga"; "saga" => %id);
        std::future::pending().await
    }

    /// Writes until it is written. A saga that is not this process's any more
    /// goes no further: that never returns.
    async fn persist(&self, id: SagaId, state: SagaState) {
        let Some(fence) = self.fence(id) else {
            return self.never_announced(id).await;
        };
        loop {
            let set = match state {
                SagaState::Done => self.datastore.saga_end(fence).await,
                SagaState::Running
                | SagaState::Unwinding
                | SagaState::Abandoned => {
                    let set = self.datastore.saga_set_state(fence, state);
                    set.await.map(|()| true)
                }
            };
            match set {
                Ok(stamped) => {
                    if !stamped {
                        self.lock_at_rest().insert(id);
                    }
                    return;
                }
                Err(Error::Fenced(FenceError::Parked)) => {
                    warn!(self.log, "an operator gave the saga up: parked";
                        "saga" => %id);
                    return std::future::pending().await;
                }
                Err(Error::Fenced(FenceError::Adopted)) => {
                    self.zombie.declare();
                    return std::future::pending().await;
                }
                Err(error) => {
                    warn!(self.log, "cannot write how far a saga is yet";
                        "saga" => %id, "error" => ?error);
                    tokio::time::sleep(RETRY_PERIOD).await;
                }
            }
        }
    }
}

#[async_trait]
impl SecStore for SagaStore {
    async fn saga_create(
        &self,
        params: SagaCreateParams,
    ) -> Result<(), anyhow::Error> {
        let id = SagaId(params.id.into_untyped_uuid());
        let Some(known) = self.lock().get(&id).copied() else {
            anyhow::bail!("saga {id} was not announced");
        };
        if known.is_written {
            return Ok(());
        }
        let new = NewSaga {
            id,
            name: params.name.to_string(),
            instance_id: known.instance,
            sec: self.sec_id,
            dag: params.dag,
        };
        self.datastore
            .saga_insert(new, known.attempt)
            .await
            .map_err(anyhow::Error::new)
    }

    /// It is written with the next transaction of the saga, or before the saga
    /// asks a sled. To lose it is to have died before what it records, of which
    /// nothing is there then; and what had ended runs again, as it may.
    async fn record_event(&self, event: steno::SagaNodeEvent) {
        let id = SagaId(event.saga_id.into_untyped_uuid());
        let Some(fence) = self.fence(id) else {
            return self.never_announced(id).await;
        };
        let node_id = i64::from(u32::from(event.node_id));
        let (event_type, data) = split(&event.event_type);
        self.datastore.owed.add(fence, Record { node_id, event_type, data });
    }

    async fn saga_update(&self, id: steno::SagaId, update: SagaCachedState) {
        let id = SagaId(id.into_untyped_uuid());
        let state = match update {
            SagaCachedState::Running => SagaState::Running,
            SagaCachedState::Unwinding => SagaState::Unwinding,
            SagaCachedState::Done => SagaState::Done,
        };
        self.persist(id, state).await;
        if state == SagaState::Done {
            self.forget(id);
        }
    }
}

/// A record's name and data, as they are kept.
fn split(
    event: &SagaNodeEventType,
) -> (&'static str, Option<serde_json::Value>) {
    let data = match event {
        SagaNodeEventType::Succeeded(output) => Some((**output).clone()),
        SagaNodeEventType::Failed(error) => serde_json::to_value(error).ok(),
        SagaNodeEventType::UndoFailed(error) => {
            serde_json::to_value(error).ok()
        }
        SagaNodeEventType::Started
        | SagaNodeEventType::UndoStarted
        | SagaNodeEventType::UndoFinished => None,
    };
    (event.label(), data)
}

/// A kept record, as steno wants it back.
///
/// # Errors
///
/// The record is none that this code writes.
pub fn to_steno(
    event: &db_model::SagaNodeEvent,
) -> Result<steno::SagaNodeEvent, anyhow::Error> {
    let data = event.data.clone().unwrap_or(serde_json::Value::Null);
    let event_type = match event.event_type.as_str() {
        "started" => SagaNodeEventType::Started,
        "succeeded" => SagaNodeEventType::Succeeded(Arc::new(data)),
        "failed" => SagaNodeEventType::Failed(serde_json::from_value(data)?),
        "undo_started" => SagaNodeEventType::UndoStarted,
        "undo_finished" => SagaNodeEventType::UndoFinished,
        "undo_failed" => {
            SagaNodeEventType::UndoFailed(serde_json::from_value(data)?)
        }
        other => anyhow::bail!("unknown saga record {other:?}"),
    };
    Ok(steno::SagaNodeEvent {
        saga_id: steno::SagaId::from_untyped_uuid(event.saga_id.0),
        node_id: u32::try_from(event.node_id)?.into(),
        event_type,
    })
}
