//! Which sled an instance goes to, and if to none, why not. Pure: a decision
//! over a snapshot of the sleds. The reservation re-checks what it relied on.

use crate::{
    ByteCount, Sled, SledId, SledPolicy, SledProvisionPolicy, StartFailure,
    StartFailureDetails, StartFailureKind,
};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an instance asks of a sled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// vCPUs.
    pub vcpus: i64,
    /// Memory.
    pub memory: ByteCount,
}

/// How many sleds each cause excluded. A sled is counted once, under the first
/// that holds, in this order.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct Excluded {
    /// Out of service for good.
    pub not_in_service: u32,
    /// Closed to new instances by an operator.
    pub not_provisionable: u32,
    /// Silent for longer than its heartbeat allows.
    pub unreachable: u32,
    /// Too few free vCPUs, whatever its memory.
    pub vcpus: u32,
    /// Enough free vCPUs, too little free memory.
    pub memory: u32,
}

/// What is missing on the sled that comes nearest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BestSled {
    /// vCPUs that are free there.
    pub free_vcpus: u32,
    /// Memory that is free there, in bytes.
    pub free_memory: ByteCount,
    /// vCPUs that are missing there.
    pub short_vcpus: u32,
    /// Memory that is missing there, in bytes.
    pub short_memory: ByteCount,
}

/// The account of a placement that found no sled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shortfall {
    /// vCPUs that were asked for.
    pub requested_vcpus: u32,
    /// Memory that was asked for, in bytes.
    pub requested_memory: ByteCount,
    /// How many sleds were looked at.
    pub sleds_considered: u32,
    /// What excluded how many of them.
    pub excluded: Excluded,
    /// Of the sleds that take instances, the one that comes nearest.
    pub best_sled: Option<BestSled>,
    /// Would it fit on one of the sleds in service, were it open, reachable and
    /// empty?
    pub fits_an_empty_sled: bool,
}

enum Verdict {
    Fits,
    NotInService,
    NotProvisionable,
    Unreachable,
    NoVcpus,
    NoMemory,
}

fn judge(demand: Demand, sled: &Sled, now: DateTime<Utc>) -> Verdict {
    if sled.policy == SledPolicy::Expunged {
        Verdict::NotInService
    } else if sled.provision_policy == SledProvisionPolicy::NonProvisionable {
        Verdict::NotProvisionable
    } else if sled.silent(now) {
        Verdict::Unreachable
    } else if free_vcpus(sled) < demand.vcpus {
        Verdict::NoVcpus
    } else if free_memory(sled) < demand.memory.to_i64() {
        Verdict::NoMemory
    } else {
        Verdict::Fits
    }
}

fn free_vcpus(sled: &Sled) -> i64 {
    sled.vcpus - sled.reserved_vcpus
}

fn free_memory(sled: &Sled) -> i64 {
    sled.memory_bytes.to_i64() - sled.reserved_memory_bytes.to_i64()
}

/// Chooses a sled for `demand`: of those with room, the one that is least
/// full afterwards by its scarcer resource, so that load spreads; ties go to
/// the lower id.
///
/// # Errors
///
/// The account of why no sled will do.
pub fn choose(
    demand: Demand,
    sleds: &[Sled],
    now: DateTime<Utc>,
) -> Result<SledId, Box<Shortfall>> {
    let mut excluded = Excluded::default();
    let mut open: Vec<&Sled> = Vec::new();
    let mut fits: Vec<&Sled> = Vec::new();
    for sled in sleds {
        match judge(demand, sled, now) {
            Verdict::Fits => fits.push(sled),
            Verdict::NotInService => excluded.not_in_service += 1,
            Verdict::NotProvisionable => excluded.not_provisionable += 1,
            Verdict::Unreachable => excluded.unreachable += 1,
            Verdict::NoVcpus => {
                excluded.vcpus += 1;
                open.push(sled);
            }
            Verdict::NoMemory => {
                excluded.memory += 1;
                open.push(sled);
            }
        }
    }
    if let Some(best) =
        fits.iter().min_by_key(|s| (fullness_ppm(demand, s), s.id))
    {
        return Ok(best.id);
    }
    Err(Box::new(Shortfall {
        requested_vcpus: count(demand.vcpus),
        requested_memory: demand.memory,
        sleds_considered: u32::try_from(sleds.len()).unwrap_or(u32::MAX),
        excluded,
        best_sled: open
            .iter()
            .min_by_key(|s| (missing_ppm(demand, s), s.id))
            .map(|s| BestSled {
                free_vcpus: count(free_vcpus(s)),
                free_memory: bytes(free_memory(s)),
                short_vcpus: count(demand.vcpus - free_vcpus(s)),
                short_memory: bytes(demand.memory.to_i64() - free_memory(s)),
            }),
        fits_an_empty_sled: sleds.iter().any(|s| {
            s.policy == SledPolicy::InService
                && s.vcpus >= demand.vcpus
                && s.memory_bytes >= demand.memory
        }),
    }))
}

/// The fuller of a sled's two resources once `demand` is on it, in millionths.
fn fullness_ppm(demand: Demand, sled: &Sled) -> i64 {
    ppm(sled.reserved_vcpus + demand.vcpus, sled.vcpus).max(ppm(
        sled.reserved_memory_bytes.to_i64() + demand.memory.to_i64(),
        sled.memory_bytes.to_i64(),
    ))
}

/// The share of `demand` that a sled lacks, by the scarcer resource.
fn missing_ppm(demand: Demand, sled: &Sled) -> i64 {
    ppm((demand.vcpus - free_vcpus(sled)).max(0), demand.vcpus).max(ppm(
        (demand.memory.to_i64() - free_memory(sled)).max(0),
        demand.memory.to_i64(),
    ))
}

fn ppm(part: i64, whole: i64) -> i64 {
    let ppm = i128::from(part) * 1_000_000 / i128::from(whole.max(1));
    i64::try_from(ppm).unwrap_or(i64::MAX)
}

fn count(n: i64) -> u32 {
    u32::try_from(n.max(0)).unwrap_or(u32::MAX)
}

fn bytes(n: i64) -> ByteCount {
    ByteCount::try_from(n.max(0)).unwrap_or(ByteCount::ZERO)
}

impl Shortfall {
    /// The failure that a user reads.
    pub fn into_failure(self) -> StartFailure {
        let Some(best) = self.best_sled.clone() else {
            return StartFailure {
                kind: StartFailureKind::NoSledInService,
                message: "There is no host in service that takes new \
                          instances."
                    .to_string(),
                transient: true,
                details: StartFailureDetails::Placement(self),
            };
        };
        let mut short = Vec::new();
        if best.short_vcpus > 0 {
            short.push(format!("{} vCPUs", best.short_vcpus));
        }
        if best.short_memory > ByteCount::ZERO {
            short.push(format!("{} of memory", best.short_memory));
        }
        let prospect = if self.fits_an_empty_sled {
            "It will start when room appears."
        } else {
            "No host is large enough for it, even an empty one."
        };
        StartFailure {
            kind: StartFailureKind::InsufficientCapacity,
            message: format!(
                "No host has room for {} vCPUs and {} of memory: the best \
                 one is short of {}. {prospect}",
                self.requested_vcpus,
                self.requested_memory,
                short.join(" and "),
            ),
            transient: self.fits_an_empty_sled,
            details: StartFailureDetails::Placement(self),
        }
    }
}
