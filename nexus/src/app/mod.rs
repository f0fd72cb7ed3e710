//! What may be asked of Nexus: one method for each verb. Each looks up,
//! authorizes, validates, and then makes one query or starts one saga.

mod affinity_group;
mod audit_log;
mod blocks;
mod changes;
mod device;
mod disk;
mod disk_import;
mod guesses;
mod heard;
mod idempotency;
mod image;
mod instance;
mod join;
mod known;
mod password;
mod placement;
mod policy;
mod project;
mod rack;
mod serial_console;
mod session;
mod silo;
mod silo_quota;
mod sled;
mod snapshot;
mod ssh_key;
mod start_attempt;
mod token;
mod user;
mod views;

pub use affinity_group::AffinityGroupSelector;
pub use device::{DeviceCodes, DeviceGrant, DeviceToken, DeviceWish};
pub use disk::DiskSelector;
pub use idempotency::Once;
pub use image::ImageSelector;
pub use instance::InstanceSelector;
pub use password::{Hasher, Password};
pub use policy::PolicyOf;
pub use serial_console::ConsoleBytes;
pub use snapshot::{SnapshotSelector, SnapshotWish};
pub use token::Token;
pub(crate) use token::digest;
pub(crate) use views::AT_ONCE as VIEWS_AT_ONCE;

use crate::background::Activators;
use crate::background::reconciler::Reconciler;
use crate::config::{SessionConfig, Tuning};
use crate::consoles::Consoles;
use crate::error::Error;
use crate::fleet::Fleet;
use crate::saga::SagaExecutor;
use crate::sleds::Sleds;
use db_model::{NameOrId, SiloUserId};
use db_queries::DataStore;
use slog::Logger;
use std::sync::Arc;
use uuid::Uuid;

/// What a client is told of when to ask again while the database is away.
const RETRY_AFTER_SECS: u32 = 5;

/// The product, without its HTTP.
#[derive(Debug)]
pub struct App {
    datastore: DataStore,
    sleds: Sleds,
    sagas: Arc<SagaExecutor>,
    activators: Activators,
    reconciler: Reconciler,
    tuning: Tuning,
    fleet: Fleet,
    session: SessionConfig,
    hasher: Hasher,
    user_codes: guesses::Guesses<SiloUserId>,
    placement_detail: bool,
    rack_id: Uuid,
    looks: instance::Looks,
    changes: changes::Changes,
    views: views::Views,
    heard: heard::Heard,
    known: known::Known,
    consoles: Consoles,
    log: Logger,
}

impl App {
    /// All that a request may touch.
    #[expect(clippy::too_many_arguments, reason = "built in one line, once")]
    pub fn new(
        datastore: DataStore,
        views: DataStore,
        sleds: Sleds,
        sagas: Arc<SagaExecutor>,
        activators: Activators,
        reconciler: Reconciler,
        tuning: Tuning,
        fleet: Fleet,
        session: SessionConfig,
        placement_detail: bool,
        rack_id: Uuid,
        log: Logger,
    ) -> App {
        let looks = instance::Looks::new(&datastore);
        let changes = changes::Changes::new(
            datastore.clone(),
            activators.clone(),
            log.clone(),
        );
        App {
            views: views::Views::new(views),
            heard: heard::Heard::new(datastore.clone()),
            datastore,
            sleds,
            sagas,
            activators,
            reconciler,
            tuning,
            fleet,
            session,
            hasher: Hasher::default(),
            user_codes: guesses::Guesses::default(),
            placement_detail,
            rack_id,
            looks,
            changes,
            known: known::Known::default(),
            consoles: Consoles::new(tuning.console_streams),
            log,
        }
    }

    /// The rack that all sleds are in.
    pub fn rack_id(&self) -> Uuid {
        self.rack_id
    }
}

/// The database's error, for whoever asked for `kind` by `which`.
fn about(
    kind: &'static str,
    which: &NameOrId,
) -> impl FnOnce(db_queries::Error) -> Error + use<> {
    let not_found = Error::not_found(kind, which);
    move |error| {
        if let db_queries::Error::NotFound = error {
            not_found
        } else {
            error.into()
        }
    }
}

impl From<db_queries::Error> for Error {
    fn from(error: db_queries::Error) -> Error {
        let db_queries::Error::Unavailable(source) = error else {
            return Error::internal(error);
        };
        Error::Unavailable {
            message: "The database cannot be reached at the moment. Ask again."
                .to_string(),
            retry_after_secs: RETRY_AFTER_SECS,
            source: Some(source),
        }
    }
}
