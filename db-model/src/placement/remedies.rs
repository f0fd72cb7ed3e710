//! What would let an instance start that does not: found by solving.
//!
//! Each kind of change is asked for the least of it that would do: the largest
//! size that fits, the fewest groups to leave, the fewest and smallest of the
//! user's own instances to stop, and so on. Only if no kind would do by itself,
//! kinds are put together, and what is not needed of that is taken away again.
//! Nothing is offered but what [`starts`](super::starts) says yes to once the
//! changes are made to the snapshot.

use super::account::{and, bytes, count, vcpus};
use super::{Amounts, Ask, Cause, Group, SledRoom, causes, fits, starts};
use crate::{
    AffinityGroupId, AffinityGroupKind, ByteCount, DiskId, InstanceId, Name,
    SledId, SledPolicy,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many remedies are offered: a reader chooses, and does not study.
const OFFERED_AT_MOST: usize = 8;

/// Up to so many of a user's instances on a sled, pairs of them are tried;
/// beyond, they are gathered one by one.
const PAIRED_AT_MOST: usize = 24;

/// Memory is given in steps of this.
const MEMORY_STEP: i64 = 1 << 30;

/// A part of a silo's quota.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum QuotaResource {
    /// vCPUs.
    Vcpus,
    /// Bytes of memory.
    Memory,
    /// Bytes of storage.
    Storage,
}

/// What is to be waited for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// That others give back room on a host.
    Room,
    /// That a host is opened to new instances, or can be reached again.
    HostBack,
    /// That there is a host that takes new instances.
    AnyHost,
}

/// A change that somebody might make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Change {
    /// Make the instance smaller.
    Resize {
        /// vCPUs: the most that would do.
        ncpus: u32,
        /// Memory in bytes: the most that would do.
        memory: ByteCount,
    },
    /// Let it run on any CPU.
    AnyCpuPlatform,
    /// Take it out of a group.
    LeaveGroup {
        /// Which.
        id: AffinityGroupId,
        /// Its name.
        name: Name,
        /// An affinity group, or an anti-affinity group?
        kind: AffinityGroupKind,
    },
    /// Detach a local disk from it.
    DetachDisk {
        /// Which.
        id: DiskId,
        /// Its name.
        name: Name,
    },
    /// Stop another instance of its project.
    StopInstance {
        /// Which.
        id: InstanceId,
        /// Its name.
        name: Name,
    },
    /// Have the silo's quota raised.
    RaiseQuota {
        /// Which part of it.
        resource: QuotaResource,
        /// By how much at least.
        by: u64,
        /// To how much, then.
        to: u64,
    },
    /// Wait: it may pass without anybody's doing anything about it.
    Wait {
        /// For what.
        until: WaitFor,
    },
}

/// Changes that together would let the instance start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remedy {
    /// The changes in a sentence.
    pub message: String,
    /// All of them are needed.
    pub changes: Vec<Change>,
}

/// An instance of the same project that holds a place on a sled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct OwnInstance {
    pub id: InstanceId,
    pub name: Name,
    pub sled: SledId,
    /// What its stop gives back: no storage, since disks stay.
    pub size: Amounts,
}

/// All remedies for an instance that does not start, those that need least of
/// others first. `transient`: it may pass.
pub(super) fn solve(
    ask: &Ask,
    sleds: &[SledRoom],
    own: &[OwnInstance],
    transient: bool,
) -> Vec<Remedy> {
    // Where nobody answers, a stop would not come to its end.
    let answers =
        |o: &&OwnInstance| sleds.iter().any(|s| s.id == o.sled && !s.silent);
    let at_work: Vec<OwnInstance> =
        own.iter().filter(answers).cloned().collect();
    let problem =
        Problem { ask: ask.clone(), sleds: sleds.to_vec(), own: at_work };
    let mut offers = problem.simple();
    if offers.is_empty() {
        offers = problem.combined();
    }
    offers.truncate(OFFERED_AT_MOST);
    if transient {
        offers.push(vec![Change::Wait { until: problem.wait() }]);
    }
    offers.into_iter().map(|c| remedy(ask, c)).collect()
}

/// An instance that does not start, as things are or as they would be.
#[derive(Clone)]
struct Problem {
    ask: Ask,
    sleds: Vec<SledRoom>,
    own: Vec<OwnInstance>,
}

impl Problem {
    fn solved(&self) -> bool {
        starts(&self.ask, &self.sleds)
    }

    fn after(&self, changes: &[Change]) -> Problem {
        let mut problem = self.clone();
        for change in changes {
            problem.apply(change);
        }
        problem
    }

    fn apply(&mut self, change: &Change) {
        let ask = &mut self.ask;
        match change {
            Change::Resize { ncpus, memory } => {
                ask.vcpus = i64::from(*ncpus);
                ask.memory = *memory;
            }
            Change::AnyCpuPlatform => ask.cpu_platform = None,
            Change::LeaveGroup { id, .. } => {
                ask.groups.retain(|g| g.id != *id);
            }
            Change::DetachDisk { id, .. } => {
                ask.disks.retain(|d| d.id != *id);
            }
            Change::RaiseQuota { resource, to, .. } => {
                let limit = &mut ask.quota.limit;
                let part = match resource {
                    QuotaResource::Vcpus => &mut limit.vcpus,
                    QuotaResource::Memory => &mut limit.memory,
                    QuotaResource::Storage => &mut limit.storage,
                };
                *part = i64::try_from(*to).unwrap_or(i64::MAX);
            }
            Change::StopInstance { id, .. } => self.stop(*id),
            Change::Wait { .. } => (),
        }
    }

    fn stop(&mut self, id: InstanceId) {
        let Some(at) = self.own.iter().position(|o| o.id == id) else {
            return;
        };
        let stopped = self.own.swap_remove(at);
        for sled in self.sleds.iter_mut().filter(|s| s.id == stopped.sled) {
            sled.reserved = sled.reserved - stopped.size;
        }
        self.ask.quota.used = self.ask.quota.used - stopped.size;
        for group in &mut self.ask.groups {
            group.placed.retain(|m| m.id != id);
        }
    }

    /// What would do by itself, of one kind each.
    fn simple(&self) -> Vec<Vec<Change>> {
        let kinds = [
            self.raise_quota(),
            self.leave_groups(),
            self.any_cpu(),
            self.detach_disks(),
        ];
        let mut offers: Vec<Vec<Change>> =
            kinds.into_iter().chain(self.resizes()).collect();
        offers.push(self.stop_instances());
        offers.retain(|changes| {
            !changes.is_empty() && self.after(changes).solved()
        });
        offers.dedup();
        offers
    }

    /// Two kinds together; or, if that does not do, all. What is not needed is
    /// taken away.
    fn combined(&self) -> Vec<Vec<Change>> {
        let given_up = [
            self.raise_quota(),
            self.leave(|_| true),
            self.any_cpu(),
            self.detach(|_| true),
        ];
        let mut offers: Vec<Vec<Change>> = Vec::new();
        for first in given_up.iter().filter(|c| !c.is_empty()) {
            for then in self.after(first).simple() {
                let both = [first.clone(), then].concat();
                offers.extend(self.needed(both));
            }
        }
        if offers.is_empty() {
            let most: Vec<Change> = given_up.concat();
            let relaxed = self.after(&most);
            let rest = relaxed.raise_quota();
            let smaller = relaxed.after(&rest).resizes();
            for last in smaller.into_iter().chain([Vec::new()]) {
                let all = [most.clone(), rest.clone(), last].concat();
                offers.extend(self.needed(all));
            }
        }
        let mut distinct: Vec<Vec<Change>> = Vec::new();
        for offer in offers {
            if !distinct.contains(&offer) {
                distinct.push(offer);
            }
        }
        distinct.sort_by_key(Vec::len);
        distinct
    }

    /// Of these changes, if they would do, as few as would do.
    fn needed(&self, mut changes: Vec<Change>) -> Option<Vec<Change>> {
        if !self.after(&changes).solved() {
            return None;
        }
        let mut at = 0;
        while at < changes.len() {
            let mut fewer = changes.clone();
            fewer.remove(at);
            if self.after(&fewer).solved() {
                changes = fewer;
            } else {
                at += 1;
            }
        }
        Some(changes)
    }

    /// As much more of each part of the quota as is lacking.
    fn raise_quota(&self) -> Vec<Change> {
        let lacks = self.ask.beyond_quota();
        let limit = self.ask.quota.limit;
        let unsigned = |n: i64| u64::try_from(n).unwrap_or(0);
        [
            (QuotaResource::Vcpus, lacks.vcpus, limit.vcpus),
            (QuotaResource::Memory, lacks.memory, limit.memory),
            (QuotaResource::Storage, lacks.storage, limit.storage),
        ]
        .into_iter()
        .filter(|(_, by, _)| *by > 0)
        .map(|(resource, by, limit)| Change::RaiseQuota {
            resource,
            by: unsigned(by),
            to: unsigned(limit.saturating_add(by)),
        })
        .collect()
    }

    /// The fewest groups without which some sled would do.
    fn leave_groups(&self) -> Vec<Change> {
        let about_groups =
            |c: Cause| matches!(c, Cause::Affinity | Cause::AntiAffinity);
        let fewest = self
            .sleds
            .iter()
            .filter(|sled| causes(&self.ask, sled).all(about_groups))
            .map(|sled| {
                self.ask
                    .all_hard()
                    .filter(|g| g.keeps_from(sled.id))
                    .map(|g| g.id)
                    .collect::<Vec<_>>()
            })
            .min_by_key(Vec::len)
            .unwrap_or_default();
        self.leave(|g| fewest.contains(&g.id))
    }

    fn leave(&self, which: impl Fn(&Group) -> bool) -> Vec<Change> {
        self.ask
            .all_hard()
            .filter(|g| which(g))
            .map(|g| Change::LeaveGroup {
                id: g.id,
                name: g.name.clone(),
                kind: g.kind,
            })
            .collect()
    }

    fn any_cpu(&self) -> Vec<Change> {
        self.ask
            .cpu_platform
            .map(|_| Change::AnyCpuPlatform)
            .into_iter()
            .collect()
    }

    /// The disks that are on another sled than the one to which most are tied;
    /// or the largest of those that are nowhere yet, until the others fit.
    fn detach_disks(&self) -> Vec<Change> {
        let fewest_elsewhere = self
            .sleds
            .iter()
            .filter(|sled| {
                causes(&self.ask, sled).all(|c| c == Cause::LocalDisk)
            })
            .map(|sled| {
                let elsewhere =
                    self.ask.disks.iter().filter(|d| d.elsewhere(sled.id));
                elsewhere.map(|d| d.id).collect::<Vec<_>>()
            })
            .min_by_key(Vec::len);
        if let Some(elsewhere) = fewest_elsewhere {
            return self.detach(|id| elsewhere.contains(&id));
        }
        let mut nowhere: Vec<_> =
            self.ask.disks.iter().filter(|d| d.sled.is_none()).collect();
        // One suffices if one does: the smallest such; else the largest first.
        nowhere.sort_by_key(|d| (d.size, d.id));
        let one = nowhere
            .iter()
            .map(|d| self.detach(|id| id == d.id))
            .find(|change| self.after(change).solved());
        if let Some(one) = one {
            return one;
        }
        for kept in (0..nowhere.len()).rev() {
            let gone: Vec<DiskId> =
                nowhere.iter().skip(kept).map(|d| d.id).collect();
            let changes = self.detach(|id| gone.contains(&id));
            if self.after(&changes).solved() {
                return changes;
            }
        }
        Vec::new()
    }

    fn detach(&self, which: impl Fn(DiskId) -> bool) -> Vec<Change> {
        self.ask
            .disks
            .iter()
            .filter(|d| which(d.id))
            .map(|d| Change::DetachDisk { id: d.id, name: d.name.clone() })
            .collect()
    }

    /// The largest sizes that would fit: with as much memory as asked for, and
    /// with as many vCPUs; if neither, the one that keeps most of both.
    fn resizes(&self) -> Vec<Vec<Change>> {
        let asked = self.ask.size();
        let left = self.ask.quota.limit - self.ask.quota.used;
        if left.lacking(asked).storage > 0 {
            return Vec::new();
        }
        let roomy = |sled: &SledRoom| {
            let free = sled.free();
            let vcpus = asked.vcpus.min(free.vcpus).min(left.vcpus);
            let memory = asked.memory.min(free.memory).min(left.memory);
            (vcpus, memory / MEMORY_STEP * MEMORY_STEP)
        };
        let sizes: Vec<(i64, i64)> = self
            .sleds
            .iter()
            .filter(|sled| {
                causes(&self.ask, sled)
                    .all(|c| matches!(c, Cause::Vcpus | Cause::Memory))
            })
            .map(roomy)
            .filter(|(vcpus, memory)| *vcpus > 0 && *memory > 0)
            .collect();
        let with_memory =
            sizes.iter().filter(|s| s.1 >= asked.memory).max_by_key(|s| s.0);
        let with_vcpus =
            sizes.iter().filter(|s| s.0 >= asked.vcpus).max_by_key(|s| s.1);
        let mut best: Vec<(i64, i64)> =
            with_memory.into_iter().chain(with_vcpus).copied().collect();
        if best.is_empty() {
            let kept = |(vcpus, memory): &(i64, i64)| {
                let share = |part: i64, whole: i64| {
                    i128::from(part) * 1_000_000 / i128::from(whole.max(1))
                };
                share(*vcpus, asked.vcpus).min(share(*memory, asked.memory))
            };
            best.extend(sizes.iter().max_by_key(|size| kept(size)));
        }
        best.into_iter()
            .map(|(vcpus, memory)| {
                vec![Change::Resize {
                    ncpus: count(vcpus),
                    memory: bytes(memory),
                }]
            })
            .collect()
    }

    /// The smallest of the user's instances whose end would do; if none does,
    /// two on one sled, or as many as it takes there.
    fn stop_instances(&self) -> Vec<Change> {
        let mut own: Vec<&OwnInstance> = self.own.iter().collect();
        own.sort_by_key(|o| (o.size.vcpus, o.size.memory, o.id));
        let one = own.iter().find(|o| self.starts_without(&[**o]));
        if let Some(one) = one {
            return vec![stop(one)];
        }
        let mut fewest: Vec<&OwnInstance> = Vec::new();
        for sled in &self.sleds {
            if !causes(&self.ask, sled)
                .all(|c| c.is_room() || c == Cause::AntiAffinity)
            {
                continue;
            }
            let here: Vec<&OwnInstance> =
                own.iter().filter(|o| o.sled == sled.id).copied().collect();
            let gone = self.few_of(&here);
            if !gone.is_empty()
                && (fewest.is_empty() || gone.len() < fewest.len())
            {
                fewest = gone;
            }
        }
        fewest.into_iter().map(stop).collect()
    }

    /// Few of these, all on one sled, whose end would do; none if it would not.
    fn few_of<'a>(&self, here: &[&'a OwnInstance]) -> Vec<&'a OwnInstance> {
        if here.len() < 2 || !self.starts_without(here) {
            return Vec::new();
        }
        if here.len() <= PAIRED_AT_MOST {
            let pairs = here.iter().enumerate().flat_map(|(at, first)| {
                here.iter().skip(at + 1).map(move |then| [*first, *then])
            });
            let two = pairs.into_iter().find(|two| self.starts_without(two));
            if let Some(two) = two {
                return two.to_vec();
            }
        }
        // The largest first, and then without those that were too much.
        let mut gone: Vec<&OwnInstance> = Vec::new();
        for next in here.iter().rev() {
            gone.push(next);
            if self.starts_without(&gone) {
                break;
            }
        }
        let mut at = 0;
        while at < gone.len() {
            let mut fewer = gone.clone();
            fewer.remove(at);
            if self.starts_without(&fewer) {
                gone = fewer;
            } else {
                at += 1;
            }
        }
        gone
    }

    /// Would it start without these? Looks only where something changes, which
    /// may be anywhere if one of them is of its groups or the quota lacks.
    fn starts_without(&self, gone: &[&OwnInstance]) -> bool {
        let mut ask = self.ask.clone();
        let is_gone = |id: InstanceId| gone.iter().any(|o| o.id == id);
        for group in &mut ask.groups {
            group.placed.retain(|m| !is_gone(m.id));
        }
        for o in gone {
            ask.quota.used = ask.quota.used - o.size;
        }
        if ask.beyond_quota() != Amounts::default() {
            return false;
        }
        let elsewhere_too = ask.groups != self.ask.groups
            || self.ask.beyond_quota() != Amounts::default();
        self.sleds.iter().any(|sled| {
            let freed = gone
                .iter()
                .filter(|o| o.sled == sled.id)
                .fold(Amounts::default(), |sum, o| sum + o.size);
            if freed == Amounts::default() {
                return elsewhere_too && fits(&ask, sled);
            }
            let reserved = sled.reserved - freed;
            fits(&ask, &SledRoom { reserved, ..sled.clone() })
        })
    }

    /// What is to be waited for, if anything.
    fn wait(&self) -> WaitFor {
        let size = self.ask.size();
        let only_full = |sled: &SledRoom| {
            sled.total.cover(size)
                && causes(&self.ask, sled).all(Cause::is_room)
        };
        let any_in_service =
            self.sleds.iter().any(|s| s.policy == SledPolicy::InService);
        if self.sleds.iter().any(only_full) {
            WaitFor::Room
        } else if any_in_service {
            WaitFor::HostBack
        } else {
            WaitFor::AnyHost
        }
    }
}

fn stop(instance: &OwnInstance) -> Change {
    Change::StopInstance { id: instance.id, name: instance.name.clone() }
}

fn remedy(ask: &Ask, changes: Vec<Change>) -> Remedy {
    let said: Vec<String> = changes.iter().map(|c| said(ask, c)).collect();
    let mut message = and(&said);
    if let Some(first) = message.get(..1) {
        let capital = first.to_uppercase();
        message.replace_range(..1, &capital);
    }
    message.push('.');
    Remedy { message, changes }
}

fn said(ask: &Ask, change: &Change) -> String {
    match change {
        Change::Resize { ncpus, memory } => {
            let fewer = i64::from(*ncpus) < ask.vcpus;
            let ncpus = vcpus(u64::from(*ncpus));
            match (fewer, *memory < ask.memory) {
                (true, false) => format!("shrink it to {ncpus}"),
                (false, true) => format!("shrink it to {memory} of memory"),
                (true, true) | (false, false) => {
                    format!("shrink it to {ncpus} and {memory} of memory")
                }
            }
        }
        Change::AnyCpuPlatform => "let it run on any CPU platform".to_string(),
        Change::LeaveGroup { name, kind, .. } => {
            format!("take it out of the {} \"{name}\"", kind.noun())
        }
        Change::DetachDisk { name, .. } => {
            format!("detach the disk \"{name}\" from it")
        }
        Change::StopInstance { name, .. } => {
            format!("stop the instance \"{name}\"")
        }
        Change::RaiseQuota { resource, by, to } => {
            let amount = |n: u64| match resource {
                QuotaResource::Vcpus => vcpus(n),
                QuotaResource::Memory | QuotaResource::Storage => {
                    ByteCount::try_from(n)
                        .unwrap_or(ByteCount::ZERO)
                        .to_string()
                }
            };
            let what = match resource {
                QuotaResource::Vcpus => "",
                QuotaResource::Memory => " of memory",
                QuotaResource::Storage => " of storage",
            };
            format!(
                "have the silo's quota{what} raised by {}, to {}",
                amount(*by),
                amount(*to),
            )
        }
        Change::Wait { until } => match until {
            WaitFor::Room => "wait until a host has room for it",
            WaitFor::HostBack => {
                "wait until a host that could take it is open or can be \
                 reached again"
            }
            WaitFor::AnyHost => "wait until there is a host",
        }
        .to_string(),
    }
}
