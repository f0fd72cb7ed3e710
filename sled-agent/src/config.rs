//! The command line.

use camino::Utf8PathBuf;
use clap::{Parser, ValueEnum};
use serde::Deserialize;
use serde::de::value::{Error as UnknownValue, StrDeserializer};
use sled_agent_client::nexus_types::SledCpu;
use std::net::SocketAddr;

/// As much as Nexus takes: 30 days.
const FENCE_AFTER_MAX: i64 = 30 * 24 * 60 * 60;

/// The host's side of Nexus: runs instances as VMMs.
#[derive(Clone, Debug, Parser)]
#[command(name = "sled-agent", version)]
pub struct Config {
    /// Where everything is kept that must outlive this process
    #[arg(long, value_name = "DIR")]
    pub data_dir: Utf8PathBuf,

    /// Where to listen for Nexus; port 0 is any, and `DIR/address.json` tells
    /// which
    #[arg(long, value_name = "IP:PORT")]
    pub listen: SocketAddr,

    /// Where Nexus finds this agent, if not where it listens
    #[arg(long, value_name = "IP:PORT")]
    pub advertise: Option<SocketAddr>,

    /// The internal API of a Nexus (`https://IP:PORT`); given several times,
    /// one after the other is tried
    #[arg(long, required = true, value_name = "URL", value_parser = https)]
    pub nexus: Vec<String>,

    /// Where a Nexus lets sleds join (`https://IP:PORT`); given several times,
    /// one after the other is tried. Needed once: what the sled is given then
    /// is kept in DIR/membership.json
    #[arg(
        long,
        value_name = "URL",
        value_parser = https,
        requires = "join_token_file",
        requires = "ca_file"
    )]
    pub join: Vec<String>,

    /// The file with the token to join by, from `nexus-admin sled token issue`
    #[arg(long, value_name = "FILE", requires = "join")]
    pub join_token_file: Option<Utf8PathBuf>,

    /// The fleet's CA certificate, by which Nexus is known when the sled joins
    #[arg(long, value_name = "FILE", requires = "join")]
    pub ca_file: Option<Utf8PathBuf>,

    /// How many virtual CPUs the guests may have in all
    #[arg(long)]
    pub vcpus: u32,

    /// How much memory the guests may have in all
    #[arg(long)]
    pub memory_gib: u32,

    /// How much local storage the guests may have in all
    #[arg(long, default_value_t = 0)]
    pub storage_gib: u32,

    /// The directory of disks that all sleds have; by default one that this
    /// sled has for itself
    #[arg(long, value_name = "DIR")]
    pub disk_store: Option<Utf8PathBuf>,

    /// The serial number of the host; by default made of the sled's id
    #[arg(long)]
    pub serial: Option<String>,

    /// What CPU to say that the host has, for trials and tests: `unknown`,
    /// `amd_milan` or `amd_turin`; by default what it has
    #[arg(long, value_parser = cpu)]
    pub cpu: Option<SledCpu>,

    /// What runs the guests
    #[arg(long, value_enum, default_value_t = HypervisorKind::Simulated)]
    pub hypervisor: HypervisorKind,

    /// Take limits that are above what the host has; without this, real guests
    /// are not promised what is not there
    #[arg(long)]
    pub overcommit: bool,

    /// The QEMU that runs real guests
    #[arg(long, value_name = "PROGRAM", default_value = "qemu-system-x86_64")]
    pub qemu: String,

    /// Whom real guests' QEMUs run as when the agent is root: a name, a uid,
    /// or `UID:GID`
    #[arg(long, value_name = "USER", default_value = "nobody")]
    pub guest_user: String,

    /// How long a simulated boot takes
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub boot_ms: u64,

    /// How long a simulated shutdown takes
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub stop_ms: u64,

    /// How long a guest has to shut down before it is killed
    #[arg(long, value_name = "MS", default_value_t = 60_000)]
    pub grace_ms: u64,

    /// How many of the simulated boots fail, from 0.0 to 1.0
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub failure_share: f64,

    /// How often to tell Nexus that this sled is there; by default as often as
    /// Nexus wants
    #[arg(long, value_name = "MS")]
    pub heartbeat_ms: Option<u64>,

    /// Stop all guests when Nexus was not heard for so long, so that it may
    /// start them elsewhere; 0: never
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 600,
        value_parser = clap::value_parser!(u32).range(..=FENCE_AFTER_MAX)
    )]
    pub fence_after_secs: u32,

    /// Where to listen for tests that break things; asks for no secret
    #[arg(long, value_name = "IP:PORT")]
    pub test_control: Option<SocketAddr>,

    /// Stay at recovering until a test lets go
    #[arg(long, requires = "test_control")]
    pub hold_recovery: bool,

    /// What to log
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

/// What runs the guests.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum HypervisorKind {
    /// No guests, but facts about them.
    Simulated,
    /// One QEMU for each guest.
    Qemu,
}

/// The least severe that is logged.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// Between machines nothing goes in the clear.
fn https(text: &str) -> Result<String, String> {
    match text.starts_with("https://") {
        true => Ok(text.to_string()),
        false => Err("a Nexus is reached at https://IP:PORT alone".to_string()),
    }
}

/// As Nexus is told it.
fn cpu(text: &str) -> Result<SledCpu, UnknownValue> {
    SledCpu::deserialize(StrDeserializer::new(text))
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) | Err(_) => Err("not a number from 0.0 to 1.0".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_is_named_as_it_is_told() {
        assert_eq!(cpu("unknown"), Ok(SledCpu::Unknown));
        assert_eq!(cpu("amd_milan"), Ok(SledCpu::AmdMilan));
        assert_eq!(cpu("amd_turin"), Ok(SledCpu::AmdTurin));
        let error = cpu("amd-milan").unwrap_err().to_string();
        assert!(error.contains("expected one of `unknown`"), "{error}");
    }
}
