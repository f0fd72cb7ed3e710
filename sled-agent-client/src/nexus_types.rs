//! What a sled tells Nexus, over Nexus's internal API:
//!
//! - `PUT /sleds/{sled_id}` with [`SledRegistration`], answered by
//!   [`SledStatus`];
//! - `POST /sleds/{sled_id}/heartbeat` likewise, or 404 `SLED_UNKNOWN`;
//! - `PUT /sleds/{sled_id}/vmms/{vmm_id}` with a [`VmmReport`], answered by
//!   204, or 404 `NO_SUCH_VMM`.
//!
//! [`VmmReport`]: crate::VmmReport

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use uuid::Uuid;

/// Where a sled is found.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
pub struct SledPath {
    /// The sled.
    pub sled_id: Uuid,
}

/// Where a VMM of a sled is found.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
pub struct SledVmmPath {
    /// The sled that reports.
    pub sled_id: Uuid,
    /// The VMM that it reports on.
    pub vmm_id: Uuid,
}

/// What a sled is and has.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SledRegistration {
    /// Where its agent listens, as `ip:port`.
    pub address: SocketAddr,
    /// The serial number of the host.
    pub serial: String,
    /// The part number of the host.
    pub part: String,
    /// The revision of that part.
    pub revision: u32,
    /// How many virtual CPUs its guests may have in all.
    pub vcpus: u32,
    /// How much memory its guests may have in all.
    pub memory_bytes: u64,
    /// How much local storage its guests may have in all.
    pub storage_bytes: u64,
    /// What CPU the host has, as far as that matters to guests.
    #[serde(default)]
    pub cpu: SledCpu,
    /// Which disk store it has: all sleds that say the same see the same
    /// disks. None if its agent does not say.
    #[serde(default)]
    pub disk_store: Option<Uuid>,
    /// Another one for each process of the agent, so that a restart shows.
    /// They rise from one process to the next (version 7).
    pub incarnation: Uuid,
    /// The sled stops its guests by itself before it has gone for so long, by
    /// its own clock and from the moment at which it sent this, without an OK to
    /// this or a later one; none: it never does. It goes by a longer time than
    /// it had promised before once this was answered.
    #[serde(default)]
    pub fences_after_ms: Option<u64>,
    /// How many VMMs its agent lists, those that have ended too, until they are
    /// unregistered. None if it does not say.
    #[serde(default)]
    pub vmms: Option<u32>,
}

/// The CPU of a host.
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
pub enum SledCpu {
    /// None of those below, or its agent does not say.
    #[default]
    Unknown,
    /// AMD's Milan.
    AmdMilan,
    /// AMD's Turin.
    AmdTurin,
}

/// What a sled has to know of its standing in the fleet.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SledStatus {
    /// It is no longer of the fleet, for good, and must not run guests.
    pub expunged: bool,
    /// How often Nexus wants to hear from it.
    pub heartbeat_period_ms: u64,
}
