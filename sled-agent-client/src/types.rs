//! What Nexus and a sled say to each other about VMMs.

use crate::blocks::BlocksPlace;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a sled must know to take a VMM in.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VmmRegister {
    /// The instance that this VMM is to run.
    pub instance_id: Uuid,
    /// The name that the guest sees as its own.
    pub hostname: String,
    /// How many virtual CPUs the guest gets.
    pub vcpus: u32,
    /// How much memory the guest gets.
    pub memory_bytes: u64,
    /// Its disks, in the order in which it tries to boot from them.
    #[serde(default)]
    pub disks: Vec<VmmDisk>,
    /// What it is connected to.
    #[serde(default)]
    pub network: VmmNetwork,
    /// What its cloud-init is given, in base64; as the user gave it.
    #[serde(default)]
    pub user_data: String,
    /// Who may log in, as lines of `authorized_keys`.
    #[serde(default)]
    pub ssh_public_keys: Vec<String>,
}

/// A disk of a guest.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VmmDisk {
    /// The blocks that it is made of.
    pub blocks_id: Uuid,
    /// Where they are.
    pub place: BlocksPlace,
    /// How large it is.
    pub size_bytes: u64,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Local blocks that come about with this VMM, blank, and are given back
    /// with it if it never runs. Other blocks must be there.
    pub allocate: bool,
}

/// What a guest is connected to.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    JsonSchema,
    PartialEq,
    Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum VmmNetwork {
    /// Nothing.
    #[default]
    None,
    /// A network of its own: it gets out, nothing gets in.
    User,
}

/// A VMM as its sled sees it.
///
/// Of two reports about one VMM the one with the higher generation is newer;
/// the same generation is the same report.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VmmReport {
    /// The VMM that this is about.
    pub vmm_id: Uuid,
    /// The instance that it runs.
    pub instance_id: Uuid,
    /// Starts at 1 and rises with each change of what follows.
    pub generation: u64,
    /// What it is doing.
    pub state: VmmState,
    /// Whether it was ever `running`, though no report may have shown that.
    pub ever_ran: bool,
    /// What went wrong; there if and only if the state is `failed`.
    pub failure: Option<VmmFailure>,
    /// Why it ended; there if and only if the state is `failed` or
    /// `destroyed`.
    pub end_reason: Option<EndReason>,
    /// When this generation came about, by the sled's clock.
    pub time_updated: DateTime<Utc>,
}

/// What a VMM is doing.
///
/// `failed` and `destroyed` are ends: the guest is halted and nothing brings
/// it back. An orderly end goes `stopping`, `stopped`, `destroyed`.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum VmmState {
    /// Known to the sled, and no process exists yet.
    Creating,
    /// Told to run, and not up yet.
    Starting,
    /// The guest is up.
    Running,
    /// Told to stop, or shutting itself down, and not halted yet.
    Stopping,
    /// Halted in order; what it held on the host is being given back.
    Stopped,
    /// Told to reboot, and not up again yet.
    Rebooting,
    /// On its way from or to another sled.
    Migrating,
    /// An end: it should have run and could not.
    Failed,
    /// An end: it was stopped, and nothing of it is left.
    Destroyed,
}

impl VmmState {
    /// Whether this is an end: halted, and never to come back.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Failed | Self::Destroyed => true,
            Self::Creating
            | Self::Starting
            | Self::Running
            | Self::Stopping
            | Self::Stopped
            | Self::Rebooting
            | Self::Migrating => false,
        }
    }
}

/// Why a VMM is `failed`, for programs and for people.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VmmFailure {
    /// The kind of failure.
    pub reason: FailureReason,
    /// One sentence that the instance's user can read.
    pub message: String,
}

/// The kinds of failure of a VMM.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The guest never came up.
    BootFailed,
    /// The guest's kernel gave up.
    Panic,
    /// The hypervisor ended under the guest.
    HypervisorDied,
}

/// Why a VMM ended.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The guest shut itself down.
    GuestShutdown,
    /// Nexus asked for it, by an order to stop or by unregistering.
    Requested,
    /// The guest never came up.
    BootFailed,
    /// The guest's kernel gave up.
    Panic,
    /// The hypervisor ended under the guest.
    HypervisorDied,
    /// The sled stopped what it ran: it is no longer of the fleet, or was cut
    /// off for longer than it had promised to run guests.
    Fenced,
}

/// An order to a VMM.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VmmStateRequested {
    /// What it shall do.
    pub state: RequestedState,
}

/// What a VMM may be told to do.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RequestedState {
    /// Boot the guest, unless it was booted already.
    Running,
    /// Shut the guest down, by force once its grace is over.
    Stopped,
    /// Reset the running guest.
    Reboot,
}

/// The answer to unregistering.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VmmUnregistered {
    /// The last state of the VMM, always an end; none if this sled never knew
    /// it.
    pub report: Option<VmmReport>,
}

/// Every VMM that a sled knows, ended ones too, unregistered ones not.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct VmmList {
    /// The sled that answers.
    pub sled_id: Uuid,
    /// Its VMMs, by id.
    pub vmms: Vec<VmmReport>,
}
