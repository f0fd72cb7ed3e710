//! Which sled an instance goes to, and if to none, why not, and what would help.
//!
//! Pure: decisions over a snapshot of the fleet. The reservation re-checks all
//! that a decision relied on, since the fleet does not stand still.
//!
//! - [`choose`] says where, or that there is nowhere;
//! - [`explain`] gives the account of that to a user ([`account`]), with the
//!   changes that would let the instance start ([`remedies`]), each of them
//!   tried on the snapshot by the same [`choose`];
//! - [`matrix`] gives an operator every cause on every sled.

mod account;
mod remedies;
mod score;

pub use account::{
    Account, BestSled, DiskInTheWay, Excluded, GroupInTheWay, QuotaShort,
    QuotaUse, explain,
};
pub use remedies::{Change, OwnInstance, QuotaResource, Remedy, WaitFor};

use crate::{
    AffinityGroupId, AffinityGroupKind, AffinityPolicy, ByteCount, DiskId,
    InstanceCpuPlatform, InstanceId, Name, Sled, SledCpu, SledId, SledPolicy,
    SledProvisionPolicy,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::ops::{Add, Sub};

/// An amount of each thing that is given away: vCPUs, and bytes of memory and
/// of storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Amounts {
    pub vcpus: i64,
    pub memory: i64,
    pub storage: i64,
}

impl Amounts {
    /// Is there as much of each as in `other`?
    pub fn cover(self, other: Amounts) -> bool {
        self.vcpus >= other.vcpus
            && self.memory >= other.memory
            && self.storage >= other.storage
    }

    /// What `self` lacks to cover `other`: of what is not asked for, nothing,
    /// though there be less than none.
    pub fn lacking(self, other: Amounts) -> Amounts {
        let lacks = |has: i64, asked: i64| match asked {
            0 => 0,
            asked => (asked - has).max(0),
        };
        Amounts {
            vcpus: lacks(self.vcpus, other.vcpus),
            memory: lacks(self.memory, other.memory),
            storage: lacks(self.storage, other.storage),
        }
    }
}

impl Add for Amounts {
    type Output = Amounts;
    fn add(self, other: Amounts) -> Amounts {
        Amounts {
            vcpus: self.vcpus + other.vcpus,
            memory: self.memory + other.memory,
            storage: self.storage + other.storage,
        }
    }
}

impl Sub for Amounts {
    type Output = Amounts;
    fn sub(self, other: Amounts) -> Amounts {
        Amounts {
            vcpus: self.vcpus - other.vcpus,
            memory: self.memory - other.memory,
            storage: self.storage - other.storage,
        }
    }
}

/// All that an instance asks of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// vCPUs.
    pub vcpus: i64,
    /// Memory.
    pub memory: ByteCount,
    /// What the sled's CPU must have.
    pub cpu_platform: Option<InstanceCpuPlatform>,
    /// The groups that it is in.
    pub groups: Vec<Group>,
    /// The local disks that are attached to it.
    pub disks: Vec<AskedDisk>,
    /// What its silo may have, and has.
    pub quota: Quota,
}

/// A group of the instance, and where its other members are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Group {
    pub id: AffinityGroupId,
    pub name: Name,
    pub kind: AffinityGroupKind,
    pub policy: AffinityPolicy,
    /// The other members that are on a sled.
    pub placed: Vec<PlacedMember>,
}

/// A member of a group that is on a sled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PlacedMember {
    pub id: InstanceId,
    pub name: Name,
    pub sled: SledId,
}

/// A local disk of the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AskedDisk {
    pub id: DiskId,
    pub name: Name,
    pub size: ByteCount,
    /// Where its blocks are, if they are anywhere yet.
    pub sled: Option<SledId>,
}

/// What a silo may have at once, and what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Quota {
    pub limit: Amounts,
    pub used: Amounts,
}

/// A sled, as far as a placement goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SledRoom {
    pub id: SledId,
    pub policy: SledPolicy,
    pub provision_policy: SledProvisionPolicy,
    /// It has been silent for longer than its heartbeat allows.
    pub silent: bool,
    pub cpu: SledCpu,
    pub total: Amounts,
    pub reserved: Amounts,
}

impl SledRoom {
    /// The sled's room at `now`.
    pub fn of(sled: &Sled, now: DateTime<Utc>) -> SledRoom {
        SledRoom {
            id: sled.id,
            policy: sled.policy,
            provision_policy: sled.provision_policy,
            silent: sled.silent(now),
            cpu: sled.cpu,
            total: Amounts {
                vcpus: sled.vcpus,
                memory: sled.memory_bytes.to_i64(),
                storage: sled.storage_bytes.to_i64(),
            },
            reserved: Amounts {
                vcpus: sled.reserved_vcpus,
                memory: sled.reserved_memory_bytes.to_i64(),
                storage: sled.reserved_storage_bytes.to_i64(),
            },
        }
    }

    /// What is not given away.
    pub fn free(&self) -> Amounts {
        self.total - self.reserved
    }

    /// Does it take instances at the moment?
    fn takes_instances(&self) -> bool {
        self.policy == SledPolicy::InService
            && self.provision_policy == SledProvisionPolicy::Provisionable
            && !self.silent
    }
}

/// Why a sled will not do. In this order: of several causes, a sled is counted
/// under the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "&'static str")]
pub enum Cause {
    /// Out of service for good.
    NotInService,
    /// Closed to new instances by an operator.
    NotProvisionable,
    /// Silent for longer than its heartbeat allows.
    Unreachable,
    /// Its CPU has not what is asked for.
    CpuPlatform,
    /// A disk of the instance is on another sled.
    LocalDisk,
    /// A hard affinity group wants the instance on another sled.
    Affinity,
    /// A member of a hard anti-affinity group is there.
    AntiAffinity,
    /// Too few free vCPUs.
    Vcpus,
    /// Too little free memory.
    Memory,
    /// Too little free storage for the disks that are to be allocated.
    Storage,
}

impl Cause {
    /// Every cause, in order.
    pub const ALL: [Cause; 10] = [
        Cause::NotInService,
        Cause::NotProvisionable,
        Cause::Unreachable,
        Cause::CpuPlatform,
        Cause::LocalDisk,
        Cause::Affinity,
        Cause::AntiAffinity,
        Cause::Vcpus,
        Cause::Memory,
        Cause::Storage,
    ];

    /// In one word, as JSON spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::NotInService => "not_in_service",
            Cause::NotProvisionable => "not_provisionable",
            Cause::Unreachable => "unreachable",
            Cause::CpuPlatform => "cpu_platform",
            Cause::LocalDisk => "local_disk",
            Cause::Affinity => "affinity",
            Cause::AntiAffinity => "anti_affinity",
            Cause::Vcpus => "vcpus",
            Cause::Memory => "memory",
            Cause::Storage => "storage",
        }
    }

    /// Does it hold?
    fn holds(self, ask: &Ask, sled: &SledRoom) -> bool {
        match self {
            Cause::NotInService => sled.policy == SledPolicy::Expunged,
            Cause::NotProvisionable => {
                sled.provision_policy == SledProvisionPolicy::NonProvisionable
            }
            Cause::Unreachable => sled.silent,
            Cause::CpuPlatform => ask
                .cpu_platform
                .is_some_and(|asked| !asked.runs_on().contains(&sled.cpu)),
            Cause::LocalDisk => ask.disks.iter().any(|d| d.elsewhere(sled.id)),
            Cause::Affinity => ask
                .hard(AffinityGroupKind::Affinity)
                .any(|g| g.keeps_from(sled.id)),
            Cause::AntiAffinity => ask
                .hard(AffinityGroupKind::AntiAffinity)
                .any(|g| g.keeps_from(sled.id)),
            Cause::Vcpus => sled.free().vcpus < ask.size().vcpus,
            Cause::Memory => sled.free().memory < ask.size().memory,
            Cause::Storage => sled.free().storage < ask.size().storage,
        }
    }

    /// Is it about how much is free, which others may give back?
    fn is_room(self) -> bool {
        matches!(self, Cause::Vcpus | Cause::Memory | Cause::Storage)
    }
}

impl From<Cause> for &'static str {
    fn from(cause: Cause) -> &'static str {
        cause.as_str()
    }
}

impl AskedDisk {
    /// Are its blocks on another sled?
    fn elsewhere(&self, sled: SledId) -> bool {
        self.sled.is_some_and(|at| at != sled)
    }
}

impl Group {
    /// Would it, if it is hard, keep the instance from this sled?
    fn keeps_from(&self, sled: SledId) -> bool {
        let there = |m: &PlacedMember| m.sled == sled;
        match self.kind {
            AffinityGroupKind::Affinity => !self.placed.iter().all(there),
            AffinityGroupKind::AntiAffinity => self.placed.iter().any(there),
        }
    }
}

impl Ask {
    /// What it takes of a sled, and of its silo's quota: of storage, what is
    /// not allocated yet.
    pub fn size(&self) -> Amounts {
        let unallocated = self.disks.iter().filter(|d| d.sled.is_none());
        Amounts {
            vcpus: self.vcpus,
            memory: self.memory.to_i64(),
            storage: unallocated.map(|d| d.size.to_i64()).sum(),
        }
    }

    /// Its groups of this kind whose policy is to fail.
    fn hard(&self, kind: AffinityGroupKind) -> impl Iterator<Item = &Group> {
        self.groups
            .iter()
            .filter(move |g| g.kind == kind)
            .filter(|g| g.policy == AffinityPolicy::Fail)
    }

    /// What the quota lacks for it.
    fn beyond_quota(&self) -> Amounts {
        (self.quota.limit - self.quota.used).lacking(self.size())
    }

    /// The wishes of its soft groups that this sled does not fulfil: members
    /// that it would be with, or without.
    fn unfulfilled(&self, sled: SledId) -> usize {
        let soft = |g: &&Group| g.policy == AffinityPolicy::Allow;
        self.groups
            .iter()
            .filter(soft)
            .map(|g| {
                let there = g.placed.iter().filter(|m| m.sled == sled).count();
                match g.kind {
                    AffinityGroupKind::Affinity => g.placed.len() - there,
                    AffinityGroupKind::AntiAffinity => there,
                }
            })
            .sum()
    }
}

/// All that speaks against a sled, in order.
fn causes(ask: &Ask, sled: &SledRoom) -> impl Iterator<Item = Cause> {
    Cause::ALL.into_iter().filter(|cause| cause.holds(ask, sled))
}

/// Would the sled do?
fn fits(ask: &Ask, sled: &SledRoom) -> bool {
    causes(ask, sled).next().is_none()
}

/// There is no sled for the instance, or its silo may have no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nowhere;

/// Chooses a sled: of those on which nothing speaks against it, one of the
/// `spread` (at least one) that come first in the order of [`score`], by
/// `ticket`. Those who choose at the same time choose the same if they all take
/// the first, and then most of them come too late.
///
/// # Errors
///
/// `Nowhere`.
pub fn choose(
    ask: &Ask,
    sleds: &[SledRoom],
    spread: usize,
    ticket: u64,
) -> Result<SledId, Nowhere> {
    if ask.beyond_quota() != Amounts::default() {
        return Err(Nowhere);
    }
    let mut open: Vec<_> = sleds
        .iter()
        .filter(|sled| fits(ask, sled))
        .map(|sled| (score::of(ask, sled), sled.id))
        .collect();
    open.sort_unstable();
    // A soft group's wish is worth more than to come first.
    let wishes = open.first().ok_or(Nowhere)?.0.unfulfilled;
    let alike = open.partition_point(|(s, _)| s.unfulfilled == wishes);
    let among = u64::try_from(alike.min(spread.max(1))).unwrap_or(1);
    let taken = usize::try_from(ticket % among).unwrap_or(0);
    open.get(taken).map(|(_, id)| *id).ok_or(Nowhere)
}

/// Would the instance start now?
pub fn starts(ask: &Ask, sleds: &[SledRoom]) -> bool {
    ask.beyond_quota() == Amounts::default()
        && sleds.iter().any(|sled| fits(ask, sled))
}

/// Everything that speaks against every sled, in the order of the sleds.
pub fn matrix(ask: &Ask, sleds: &[SledRoom]) -> Vec<(SledId, Vec<Cause>)> {
    let of = |sled: &SledRoom| (sled.id, causes(ask, sled).collect());
    sleds.iter().map(of).collect()
}

#[cfg(test)]
mod tests;
