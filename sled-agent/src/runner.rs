//! What runs the guests of this agent, as its command line says.

use crate::blocks::Places;
use crate::capacity::Limits;
use crate::config::{Config, HypervisorKind};
use crate::counters::Counters;
use crate::cpu;
use crate::hypervisor::{GuestEvents, Hypervisor};
use crate::lease::Lease;
use crate::qemu::{self, Qemu};
use crate::simulated::{self, Settings, Simulated};
use camino::Utf8Path;
use sled_agent_client::nexus_types::SledCpu;
use slog::Logger;
use std::sync::Arc;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A hypervisor, and what it makes of this sled.
pub(crate) struct Runner {
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    /// The same, if its guests are simulated.
    pub(crate) simulated: Option<Simulated>,
    /// The same, if they are real.
    pub(crate) qemu: Option<Qemu>,
    /// The part number of a sled that runs guests so.
    pub(crate) part: &'static str,
    /// What the serial number of a sled that has none begins with.
    pub(crate) serial_prefix: &'static str,
    /// The CPU that guests see.
    pub(crate) cpu: SledCpu,
}

impl Runner {
    /// *Errors*: guests cannot be run so, or another hypervisor has guests
    /// here, which may be alive.
    pub(crate) async fn open(
        config: &Config,
        places: &Places,
        limits: &Limits,
        counters: Arc<Counters>,
        lease: Arc<Lease>,
        events: GuestEvents,
        log: Logger,
    ) -> Result<Self, Error> {
        let dir = &config.data_dir;
        match config.hypervisor {
            HypervisorKind::Simulated => {
                refuse_others(dir, qemu::has_guests(dir)?)?;
                let simulated = Simulated::open(
                    dir,
                    &settings(config),
                    counters,
                    lease,
                    events,
                )
                .await?;
                Ok(Self {
                    hypervisor: Arc::new(simulated.clone()),
                    simulated: Some(simulated),
                    qemu: None,
                    part: "simulated-sled",
                    serial_prefix: "sim",
                    cpu: cpu::of_host().await,
                })
            }
            HypervisorKind::Qemu => {
                refuse_others(dir, simulated::has_guests(dir).await?)?;
                if !config.overcommit {
                    qemu::check_host(limits)?;
                }
                let options = options(config, places);
                let qemu =
                    Qemu::open(options, counters, lease, events, log).await?;
                let (part, cpu) = match qemu.has_kvm() {
                    true => ("qemu-kvm", cpu::of_host().await),
                    // The translator's CPU is nobody's product.
                    false => ("qemu-tcg", SledCpu::Unknown),
                };
                Ok(Self {
                    hypervisor: Arc::new(qemu.clone()),
                    simulated: None,
                    qemu: Some(qemu),
                    part,
                    serial_prefix: "qemu",
                    cpu,
                })
            }
        }
    }
}

/// Guests that this hypervisor does not know would be taken for lost, and
/// started again somewhere, while they run.
fn refuse_others(dir: &Utf8Path, are_there: bool) -> Result<(), String> {
    if !are_there {
        return Ok(());
    }
    Err(format!(
        "{dir} holds guests of another --hypervisor; start the agent with that, \
         until they have ended"
    ))
}

fn settings(config: &Config) -> Settings {
    Settings {
        boot_ms: Some(config.boot_ms),
        stop_ms: Some(config.stop_ms),
        grace_ms: Some(config.grace_ms),
        failure_share: Some(config.failure_share),
    }
}

fn options(config: &Config, places: &Places) -> qemu::Options {
    qemu::Options {
        data_dir: config.data_dir.clone(),
        places: places.clone(),
        qemu: config.qemu.clone(),
        guest_user: config.guest_user.clone(),
    }
}
