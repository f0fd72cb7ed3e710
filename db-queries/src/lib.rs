//! What may be done to the database. The only crate that speaks SQL: each
//! public method is one statement or one named transaction.
//!
//! How it stays right: every transaction that changes an instance first locks
//! its row, reads the facts, lets a pure function of `db_model::lifecycle`
//! decide, and writes what that says ([`instance`]). Single rows that many
//! share (a sled's sums) are changed by guarded statements under constraints.
//! Both hold at READ COMMITTED, so no transaction here needs more.
//!
//! Locks are taken in one order: instance, affinity groups, saga, attempt, VMM,
//! disks, sled, quota; a request's key after the instance, or before one that
//! is made. A saga's transaction that changes no instance begins with the saga.
//! Several sleds, and several quotas, are locked in the order of their ids. Of
//! several instances, and of sleds to which many write, those are passed over that
//! are locked. What is asked at once shares statements and transactions
//! ([`shared`]).

mod affinity_group;
mod affinity_group_member;
mod attempts_ended;
mod audit_log;
mod blocks;
mod changes;
mod device_request;
mod disk;
mod error;
mod facts;
mod fence;
mod group_commit;
mod idempotency;
mod image;
mod instance;
mod instance_start;
mod lease;
mod lifecycle;
mod migrate;
mod operator;
mod pagination;
mod password;
mod placement;
mod pool;
mod project;
mod rack;
mod reconcile;
mod reservation;
mod retention;
mod role;
mod rows;
mod saga;
mod saga_end;
mod saga_store;
mod session;
mod shared;
mod silo;
mod silo_quota;
mod sled;
mod sled_join;
mod snapshot;
mod sql;
mod ssh_key;
mod start_attempt;
mod together;
mod token;
mod transaction;
mod user;
mod vmm;
mod vmm_register;
mod waiting;

pub(crate) use transaction::{PREPARED, Work};

use prometheus_client::metrics::counter::Counter;

pub use attempts_ended::{AttemptEnded, AttemptsEnded};
pub use audit_log::ByTimeCompleted;
pub use device_request::{
    DeviceConfirmed, DevicePoll, DevicePolling, NewDeviceRequest,
};
pub use error::{Error, Limit};
pub use fence::FenceError;
pub use instance_start::{StartSaga, Started};
pub use migrate::{
    MigrateError, Migrated, migrate, migrations, schema_version,
};
pub use operator::{
    Erring, InstancePath, InstanceRecord, SagaCount, SagaHead, SagaRecord,
    SledLoad, Unsettled,
};
pub use pagination::{ById, ByNameOrId, ByTime, Page};
pub use password::Guess;
pub use placement::{
    BY_CHANCE, FULLEST, Imagined, LOOKED_AT, PlacementCase, PlacementLook,
};
pub use pool::{Connections, PoolSettings};
pub use reconcile::{Claimed, Unfinished};
pub use retention::Pruned;
pub use role::{Assignments, Role};
pub use saga::{NewSaga, UnfinishedSaga};
pub use saga_store::{SagaStore, Zombie, to_steno};
pub use session::SessionLife;
pub use silo::Authenticated;
pub use sled::{HeardFrom, SledFacts};
pub use sled_join::Join;
pub use vmm::{Heard, Observed, SledVmm};
pub use vmm_register::ToRegister;

/// The database, as the rest of the product sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DataStore {
    pool: pool::Pool,
    /// For what is asked together.
    shared_pool: pool::Pool,
    max_connections: u32,
    attempts_ended: AttemptsEnded,
    vmms_cut_off: Counter,
    owed: fence::Owed,
    transitions: shared::Queue<lifecycle::Job>,
    saga_ends: shared::Queue<saga_end::SagaEnd>,
    vmm_reads: shared::Queue<vmm::OfVmm>,
    let_run: vmm::LetRun,
    to_register: shared::Queue<vmm_register::Placed>,
    looks: shared::Queue<placement::Look>,
    audit_begun: shared::Queue<audit_log::Begun>,
    audit_completed: shared::Queue<audit_log::Completed>,
}

impl DataStore {
    /// A datastore over the database at `url`. Connects lazily, so it succeeds
    /// while the database is away.
    pub fn new(url: &str, settings: PoolSettings) -> DataStore {
        DataStore {
            pool: pool::build(url, settings),
            shared_pool: pool::build(url, PoolSettings::for_what_is_shared()),
            max_connections: settings.max_connections,
            attempts_ended: attempts_ended::none_yet(),
            vmms_cut_off: Counter::default(),
            owed: fence::Owed::default(),
            transitions: shared::Queue::default(),
            saga_ends: shared::Queue::default(),
            vmm_reads: shared::Queue::default(),
            let_run: vmm::LetRun::default(),
            to_register: shared::Queue::default(),
            looks: shared::Queue::default(),
            audit_begun: shared::Queue::default(),
            audit_completed: shared::Queue::default(),
        }
    }

    /// The same over the connections for what is asked together.
    fn together(&self) -> DataStore {
        DataStore { pool: self.shared_pool.clone(), ..self.clone() }
    }

    /// How many VMMs were ended through this datastore since their sled was cut
    /// off for so long that it has stopped them.
    pub fn vmms_cut_off(&self) -> &Counter {
        &self.vmms_cut_off
    }

    /// How many start attempts have ended through this datastore, and how.
    pub fn attempts_ended(&self) -> &AttemptsEnded {
        &self.attempts_ended
    }
}
