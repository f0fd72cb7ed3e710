//! Why there is no sled for an instance, as its user reads it.
//!
//! The kind of the failure is what stands in the way in this sense: the silo's
//! quota; else what contradicts itself (groups, disks) and would on any fleet;
//! else that no sled takes instances; else the first of these without which it
//! would start now: its hard anti-affinity groups, its hard affinity groups,
//! its CPU platform, its local disks. If it would not start without any one of
//! them, it is the first of them that no open sled satisfies; and if there is
//! none, it is room.

use super::{
    Amounts, Ask, Cause, Group, OwnInstance, Remedy, SledRoom, causes,
    remedies, starts,
};
use crate::{
    AffinityGroupId, AffinityGroupKind, ByteCount, DiskId, InstanceCpuPlatform,
    Name, SledPolicy, StartFailure, StartFailureDetails, StartFailureKind,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many sleds each cause excluded. A sled is counted once, under the first
/// that holds, in this order.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[serde(default)]
pub struct Excluded {
    /// Out of service for good.
    pub not_in_service: u32,
    /// Closed to new instances by an operator.
    pub not_provisionable: u32,
    /// Silent for longer than its heartbeat allows.
    pub unreachable: u32,
    /// Its CPU is not of the platform that is asked for.
    pub cpu_platform: u32,
    /// One of the instance's local disks is on another.
    pub local_disk: u32,
    /// An affinity group keeps the instance with its members, elsewhere.
    pub affinity: u32,
    /// An anti-affinity group keeps the instance from its members, there.
    pub anti_affinity: u32,
    /// Too few free vCPUs, whatever its memory.
    pub vcpus: u32,
    /// Enough free vCPUs, too little free memory.
    pub memory: u32,
    /// Enough of both, too little free storage for new local disks.
    pub storage: u32,
}

impl Excluded {
    fn count(&mut self, cause: Cause) {
        let counted = match cause {
            Cause::NotInService => &mut self.not_in_service,
            Cause::NotProvisionable => &mut self.not_provisionable,
            Cause::Unreachable => &mut self.unreachable,
            Cause::CpuPlatform => &mut self.cpu_platform,
            Cause::LocalDisk => &mut self.local_disk,
            Cause::Affinity => &mut self.affinity,
            Cause::AntiAffinity => &mut self.anti_affinity,
            Cause::Vcpus => &mut self.vcpus,
            Cause::Memory => &mut self.memory,
            Cause::Storage => &mut self.storage,
        };
        *counted += 1;
    }
}

/// What is missing on the sled that comes nearest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BestSled {
    /// vCPUs that are free there.
    pub free_vcpus: u32,
    /// Memory that is free there, in bytes.
    pub free_memory: ByteCount,
    /// Storage that is free there, in bytes.
    #[serde(default)]
    pub free_storage: ByteCount,
    /// vCPUs that are missing there.
    pub short_vcpus: u32,
    /// Memory that is missing there, in bytes.
    pub short_memory: ByteCount,
    /// Storage that is missing there, in bytes.
    #[serde(default)]
    pub short_storage: ByteCount,
}

/// A group that keeps the instance from sleds on which it could be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupInTheWay {
    /// The group.
    pub id: AffinityGroupId,
    /// Its name.
    pub name: Name,
    /// Does it keep its members together, or apart?
    pub kind: AffinityGroupKind,
    /// The names of its other members that are placed.
    pub members: Vec<Name>,
}

/// A local disk that keeps the instance from sleds on which it could be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskInTheWay {
    /// The disk.
    pub id: DiskId,
    /// Its name.
    pub name: Name,
    /// Its size, in bytes.
    pub size: ByteCount,
    /// Is it on a host already, so that the instance can run nowhere else?
    pub allocated: bool,
}

/// Of a quota: what there may be, what there is, and what was asked for.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
pub struct QuotaUse {
    /// The limit.
    pub limit: u64,
    /// How much of it is used.
    pub used: u64,
    /// How much more was asked for.
    pub requested: u64,
}

/// The parts of the silo's quota that do not suffice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuotaShort {
    /// vCPUs, if they do not.
    pub vcpus: Option<QuotaUse>,
    /// Bytes of memory, if they do not.
    pub memory: Option<QuotaUse>,
    /// Bytes of storage, if they do not.
    pub storage: Option<QuotaUse>,
}

/// The account of a placement that found no sled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// vCPUs that were asked for.
    pub requested_vcpus: u32,
    /// Memory that was asked for, in bytes.
    pub requested_memory: ByteCount,
    /// Storage that was asked for, for local disks that are nowhere yet, in
    /// bytes.
    #[serde(default)]
    pub requested_storage: ByteCount,
    /// The CPU platform that was asked for.
    #[serde(default)]
    pub requested_cpu_platform: Option<InstanceCpuPlatform>,
    /// How many sleds were looked at. Null if the operator keeps it to himself.
    pub sleds_considered: Option<u32>,
    /// What excluded how many of them. Null if the operator keeps it to himself.
    pub excluded: Option<Excluded>,
    /// Of the sleds that only lack room, the one that comes nearest.
    pub best_sled: Option<BestSled>,
    /// Would it fit on one of the sleds in service, were it open, reachable and
    /// empty, with its groups and disks as they are?
    pub fits_an_empty_sled: bool,
    /// The groups in the way.
    #[serde(default)]
    pub groups: Vec<GroupInTheWay>,
    /// The local disks in the way.
    #[serde(default)]
    pub disks: Vec<DiskInTheWay>,
    /// The parts of the silo's quota that do not suffice. Null if they all do.
    #[serde(default)]
    pub quota: Option<QuotaShort>,
    /// What would let it start now, each tried on the fleet as it was; and what
    /// to wait for. In each, all changes are needed.
    #[serde(default)]
    pub remedies: Vec<Remedy>,
}

impl Account {
    /// Does who has read this one know what `later` says, but for how much room
    /// there is?
    pub(crate) fn tells_as_much_as(&self, later: &Account) -> bool {
        let told = |a: &Account| {
            (
                (a.requested_vcpus, a.requested_memory),
                (a.requested_storage, a.requested_cpu_platform),
                a.groups.iter().map(|g| g.id).collect::<Vec<_>>(),
                a.disks.iter().map(|d| d.id).collect::<Vec<_>>(),
            )
        };
        told(self) == told(later)
    }

    /// Without what a silo's users are not to see, where the operator wills so.
    pub fn without_counts(self) -> Account {
        Account { sleds_considered: None, excluded: None, ..self }
    }
}

/// The account of why the instance does not start, and what would help; `None`
/// if it would start. `own` are the instances of its project that are on sleds,
/// but for itself: those that its user might stop.
pub fn explain(
    ask: &Ask,
    sleds: &[SledRoom],
    own: &[OwnInstance],
) -> Option<StartFailure> {
    if starts(ask, sleds) {
        return None;
    }
    let case = Case { ask, sleds };
    let obstacle = case.obstacle();
    let may_pass = case.may_pass();
    let transient = match obstacle {
        Obstacle::NoSled => true,
        Obstacle::Quota => false,
        Obstacle::Contradiction
        | Obstacle::AntiAffinity
        | Obstacle::Affinity
        | Obstacle::Cpu
        | Obstacle::Storage
        | Obstacle::Room => may_pass,
    };
    let mut account = case.account(obstacle, may_pass);
    account.remedies = remedies::solve(ask, sleds, own, transient);
    Some(StartFailure {
        kind: obstacle.kind(),
        message: case.message(obstacle, &account, transient),
        transient,
        details: StartFailureDetails::Placement(Box::new(account)),
    })
}

/// What stands in the way: see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    Quota,
    Contradiction,
    NoSled,
    AntiAffinity,
    Affinity,
    Cpu,
    Storage,
    Room,
}

impl Obstacle {
    fn kind(self) -> StartFailureKind {
        match self {
            Obstacle::Quota => StartFailureKind::QuotaExceeded,
            Obstacle::Contradiction => StartFailureKind::AffinityConflict,
            Obstacle::NoSled => StartFailureKind::NoSledInService,
            Obstacle::AntiAffinity => StartFailureKind::AntiAffinity,
            Obstacle::Affinity => StartFailureKind::Affinity,
            Obstacle::Cpu => StartFailureKind::CpuPlatform,
            Obstacle::Storage => StartFailureKind::LocalStorage,
            Obstacle::Room => StartFailureKind::InsufficientCapacity,
        }
    }
}

/// An instance that does not start, and the fleet on which it does not.
struct Case<'a> {
    ask: &'a Ask,
    sleds: &'a [SledRoom],
}

impl Case<'_> {
    fn obstacle(&self) -> Obstacle {
        if self.ask.beyond_quota() != Amounts::default() {
            return Obstacle::Quota;
        }
        if self.groups_contradict() {
            return Obstacle::Contradiction;
        }
        if self.disks_contradict() {
            return Obstacle::Storage;
        }
        if !self.sleds.iter().any(SledRoom::takes_instances) {
            return Obstacle::NoSled;
        }
        let without = [
            (
                Obstacle::AntiAffinity,
                self.ask.without(AffinityGroupKind::AntiAffinity),
            ),
            (Obstacle::Affinity, self.ask.without(AffinityGroupKind::Affinity)),
            (Obstacle::Cpu, self.ask.on_any_cpu()),
            (Obstacle::Storage, self.ask.without_disks()),
        ];
        let alone = without.iter().find(|(_, ask)| starts(ask, self.sleds));
        let stages = [
            (Obstacle::Cpu, Cause::CpuPlatform),
            (Obstacle::Storage, Cause::LocalDisk),
            (Obstacle::Affinity, Cause::Affinity),
            (Obstacle::AntiAffinity, Cause::AntiAffinity),
        ];
        let none_gets_past = |cause: Cause| {
            self.open().all(|sled| {
                causes(self.ask, sled).next().is_some_and(|c| c <= cause)
            })
        };
        match alone {
            Some((kind, _)) => *kind,
            None => stages
                .into_iter()
                .find(|(_, cause)| none_gets_past(*cause))
                .map_or(Obstacle::Room, |(kind, _)| kind),
        }
    }

    /// The sleds that take instances.
    fn open(&self) -> impl Iterator<Item = &SledRoom> {
        self.sleds.iter().filter(|s| s.takes_instances())
    }

    /// Is there no sled, however many there were, that its hard groups allow?
    fn groups_contradict(&self) -> bool {
        let affine = self.ask.hard(AffinityGroupKind::Affinity);
        let mut wanted = affine.flat_map(|g| &g.placed).map(|m| m.sled);
        let Some(first) = wanted.next() else { return false };
        wanted.any(|sled| sled != first)
            || self
                .ask
                .hard(AffinityGroupKind::AntiAffinity)
                .any(|g| g.keeps_from(first))
    }

    /// Are its disks on different sleds, on one that its hard groups forbid, or
    /// on one that is gone?
    fn disks_contradict(&self) -> bool {
        let mut at = self.ask.disks.iter().filter_map(|d| d.sled);
        let Some(first) = at.next() else { return false };
        let gone =
            |s: &SledRoom| s.id == first && s.policy == SledPolicy::Expunged;
        at.any(|sled| sled != first)
            || self.sleds.iter().any(gone)
            || self.ask.all_hard().any(|g| {
                g.kind == AffinityGroupKind::Affinity && g.keeps_from(first)
            })
    }

    /// May it start without its user's doing, once others give back room, or a
    /// sled is opened or heard of again?
    fn may_pass(&self) -> bool {
        self.sleds.iter().any(|sled| {
            sled.total.cover(self.ask.size())
                && causes(self.ask, sled).all(|c| {
                    c.is_room()
                        || matches!(
                            c,
                            Cause::NotProvisionable | Cause::Unreachable
                        )
                })
        })
    }

    fn account(&self, obstacle: Obstacle, may_pass: bool) -> Account {
        let ask = self.ask;
        let mut excluded = Excluded::default();
        for sled in self.sleds {
            if let Some(first) = causes(ask, sled).next() {
                excluded.count(first);
            }
        }
        Account {
            requested_vcpus: count(ask.vcpus),
            requested_memory: ask.memory,
            requested_storage: bytes(ask.size().storage),
            requested_cpu_platform: ask.cpu_platform,
            sleds_considered: u32::try_from(self.sleds.len()).ok(),
            excluded: Some(excluded),
            best_sled: self.best_sled(),
            fits_an_empty_sled: may_pass,
            groups: self.groups_in_the_way(),
            disks: self.disks_in_the_way(obstacle),
            quota: self.quota_short(),
            remedies: Vec::new(),
        }
    }

    /// The sled that lacks least of those that lack nothing but room. One on
    /// which the instance never fits is near only in numbers.
    fn best_sled(&self) -> Option<BestSled> {
        let size = self.ask.size();
        let missing = |s: &SledRoom| {
            let lacks = s.free().lacking(size);
            ppm(lacks.vcpus, size.vcpus)
                .max(ppm(lacks.memory, size.memory))
                .max(ppm(lacks.storage, size.storage))
        };
        self.open()
            .filter(|s| causes(self.ask, s).all(Cause::is_room))
            .min_by_key(|s| (!s.total.cover(size), missing(s), s.id))
            .map(|s| {
                let (free, short) = (s.free(), s.free().lacking(size));
                BestSled {
                    free_vcpus: count(free.vcpus),
                    free_memory: bytes(free.memory),
                    free_storage: bytes(free.storage),
                    short_vcpus: count(short.vcpus),
                    short_memory: bytes(short.memory),
                    short_storage: bytes(short.storage),
                }
            })
    }

    /// Its hard groups that keep it from a sled that takes instances.
    fn groups_in_the_way(&self) -> Vec<GroupInTheWay> {
        self.ask
            .all_hard()
            .filter(|g| self.open().any(|sled| g.keeps_from(sled.id)))
            .map(|g| GroupInTheWay {
                id: g.id,
                name: g.name.clone(),
                kind: g.kind,
                members: members(g),
            })
            .collect()
    }

    /// Its disks that are on a sled; and the others, if it is them that no sled
    /// has room for.
    fn disks_in_the_way(&self, obstacle: Obstacle) -> Vec<DiskInTheWay> {
        let too_large = obstacle == Obstacle::Storage;
        self.ask
            .disks
            .iter()
            .filter(|d| d.sled.is_some() || too_large)
            .map(|d| DiskInTheWay {
                id: d.id,
                name: d.name.clone(),
                size: d.size,
                allocated: d.sled.is_some(),
            })
            .collect()
    }

    fn quota_short(&self) -> Option<QuotaShort> {
        let short = self.ask.beyond_quota();
        if short == Amounts::default() {
            return None;
        }
        let (limit, used) = (self.ask.quota.limit, self.ask.quota.used);
        let asked = self.ask.size();
        let part = |short: i64, limit: i64, used: i64, asked: i64| {
            let whole = |n: i64| u64::try_from(n).unwrap_or(0);
            (short > 0).then(|| QuotaUse {
                limit: whole(limit),
                used: whole(used),
                requested: whole(asked),
            })
        };
        Some(QuotaShort {
            vcpus: part(short.vcpus, limit.vcpus, used.vcpus, asked.vcpus),
            memory: part(short.memory, limit.memory, used.memory, asked.memory),
            storage: part(
                short.storage,
                limit.storage,
                used.storage,
                asked.storage,
            ),
        })
    }

    /// The sentence that a user reads.
    fn message(
        &self,
        obstacle: Obstacle,
        account: &Account,
        transient: bool,
    ) -> String {
        match obstacle {
            Obstacle::Quota => beyond_quota(account.quota.as_ref()),
            Obstacle::Contradiction => self.conflict(),
            Obstacle::NoSled => self.none_in_service().to_string(),
            Obstacle::AntiAffinity => format!(
                "Each host with room for it already runs a member of {}. {}",
                self.named(AffinityGroupKind::AntiAffinity),
                prospect(transient),
            ),
            Obstacle::Affinity => format!(
                "It must run where the members of {} run, and that host {}. {}",
                self.named(AffinityGroupKind::Affinity),
                self.trouble_there(Cause::Affinity),
                prospect(transient),
            ),
            Obstacle::Cpu => format!(
                "No host that has the CPU platform {} has room for it or takes \
                 new instances. {}",
                self.ask.cpu_platform.map_or("", InstanceCpuPlatform::as_str),
                prospect(transient),
            ),
            Obstacle::Storage => {
                format!("{} {}", self.storage(account), prospect(transient))
            }
            Obstacle::Room => self.no_room(account, transient),
        }
    }

    fn none_in_service(&self) -> &'static str {
        let unreachable = self
            .sleds
            .iter()
            .any(|s| causes(self.ask, s).next() == Some(Cause::Unreachable));
        if unreachable {
            "No host that takes new instances can be reached."
        } else {
            "There is no host in service that takes new instances."
        }
    }

    fn no_room(&self, account: &Account, transient: bool) -> String {
        let picky = account.excluded.as_ref().is_some_and(|e| {
            e.cpu_platform + e.local_disk + e.affinity + e.anti_affinity > 0
        });
        let which = if picky { " that it may run on" } else { "" };
        let short = account
            .best_sled
            .as_ref()
            .map(|best| format!(": the best one is short of {}", lacks(best)))
            .unwrap_or_default();
        let end = match (transient, picky) {
            (true, _) => "It will start when room appears.",
            (false, false) => {
                "No host is large enough for it, even an empty one."
            }
            (false, true) => {
                "None of these is large enough for it, even empty."
            }
        };
        format!(
            "No host{which} has room for {}{short}. {end}",
            requested(account)
        )
    }

    /// What is wrong with the one sled to which something holds the instance:
    /// the one that `keeper` does not exclude.
    fn trouble_there(&self, keeper: Cause) -> &'static str {
        let there = self.sleds.iter().find(|s| !keeper.holds(self.ask, s));
        match there.and_then(|s| causes(self.ask, s).next()) {
            None | Some(Cause::NotInService) => "is gone for good",
            Some(Cause::NotProvisionable) => {
                "takes no new instances at the moment"
            }
            Some(Cause::Unreachable) => "cannot be reached",
            Some(Cause::CpuPlatform) => {
                "has not the CPU platform that it asks for"
            }
            Some(Cause::LocalDisk) => "is not the one that has its local disk",
            Some(Cause::Affinity | Cause::AntiAffinity) => {
                "is forbidden by its groups"
            }
            Some(Cause::Vcpus | Cause::Memory | Cause::Storage) => {
                "has no room for it"
            }
        }
    }

    fn storage(&self, account: &Account) -> String {
        let on_sleds: Vec<_> =
            self.ask.disks.iter().filter(|d| d.sled.is_some()).collect();
        let Some(first) = on_sleds.first() else {
            let short = account
                .best_sled
                .as_ref()
                .map(|best| {
                    format!(": the best one is short of {}", lacks(best))
                })
                .unwrap_or_default();
            return format!(
                "No host that has room for it has {} of storage for its local \
                 disks{short}.",
                account.requested_storage,
            );
        };
        if let Some(other) = on_sleds.iter().find(|d| d.sled != first.sled) {
            return format!(
                "Its local disks \"{}\" and \"{}\" are on different hosts.",
                first.name, other.name,
            );
        }
        format!(
            "Its local disk \"{}\" is on a host that {}.",
            first.name,
            self.trouble_there(Cause::LocalDisk),
        )
    }

    /// What its hard groups want that cannot be.
    fn conflict(&self) -> String {
        let affine = || self.ask.hard(AffinityGroupKind::Affinity);
        let placed =
            || affine().flat_map(|g| g.placed.iter().map(move |m| (g, m)));
        let Some((group, member)) = placed().next() else {
            return "Its groups contradict each other.".to_string();
        };
        let here = member.sled;
        if let Some((other, there)) = placed().find(|(_, m)| m.sled != here) {
            if other.id == group.id {
                return format!(
                    "The members of its affinity group \"{}\" are on \
                     different hosts already (\"{}\" and \"{}\").",
                    group.name, member.name, there.name,
                );
            }
            return format!(
                "Its affinity group \"{}\" wants it on the host of \"{}\", \
                 and its affinity group \"{}\" on that of \"{}\", which is \
                 another.",
                group.name, member.name, other.name, there.name,
            );
        }
        let apart = self
            .ask
            .hard(AffinityGroupKind::AntiAffinity)
            .flat_map(|g| g.placed.iter().map(move |m| (g, m)))
            .find(|(_, m)| m.sled == here);
        match apart {
            Some((other, there)) => format!(
                "Its affinity group \"{}\" wants it on the host of \"{}\", \
                 from which its anti-affinity group \"{}\" keeps it, since \
                 \"{}\" runs there.",
                group.name, member.name, other.name, there.name,
            ),
            None => "Its groups contradict each other.".to_string(),
        }
    }

    /// Its hard groups of a kind that are in the way, with their members. Not
    /// all of many: the details have them.
    fn named(&self, kind: AffinityGroupKind) -> String {
        let quoted = |name: &Name| format!("\"{name}\"");
        let groups: Vec<String> = self
            .groups_in_the_way()
            .into_iter()
            .filter(|g| g.kind == kind)
            .map(|g| {
                let members = g.members.iter().map(quoted).collect();
                format!("\"{}\" ({})", g.name, some(members, "others"))
            })
            .collect();
        let noun = kind.noun();
        let plural = if groups.len() > 1 { "s" } else { "" };
        format!("its {noun}{plural} {}", some(groups, "others"))
    }
}

impl Ask {
    /// The same without its hard groups of a kind.
    pub(super) fn without(&self, kind: AffinityGroupKind) -> Ask {
        let mut ask = self.clone();
        ask.groups.retain(|g| {
            g.kind != kind || g.policy == crate::AffinityPolicy::Allow
        });
        ask
    }

    /// The same, content with any CPU.
    pub(super) fn on_any_cpu(&self) -> Ask {
        Ask { cpu_platform: None, ..self.clone() }
    }

    fn without_disks(&self) -> Ask {
        Ask { disks: Vec::new(), ..self.clone() }
    }

    /// Its groups whose policy is to fail.
    pub(super) fn all_hard(&self) -> impl Iterator<Item = &Group> {
        self.hard(AffinityGroupKind::Affinity)
            .chain(self.hard(AffinityGroupKind::AntiAffinity))
    }
}

fn members(group: &Group) -> Vec<Name> {
    let mut names: Vec<_> =
        group.placed.iter().map(|m| m.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn prospect(transient: bool) -> &'static str {
    if transient {
        "It will start when that passes."
    } else {
        "It will not start before something of this is changed."
    }
}

fn beyond_quota(short: Option<&QuotaShort>) -> String {
    let Some(short) = short else { return String::new() };
    let size = |n: u64| ByteCount::try_from(n).unwrap_or(ByteCount::ZERO);
    let mut parts = Vec::new();
    if let Some(q) = &short.vcpus {
        parts.push(format!(
            "{} ({} of {} are in use)",
            vcpus(q.requested),
            q.used,
            q.limit
        ));
    }
    for (what, part) in [("memory", &short.memory), ("storage", &short.storage)]
    {
        if let Some(q) = part {
            parts.push(format!(
                "{} of {what} ({} of {} are in use)",
                size(q.requested),
                size(q.used),
                size(q.limit),
            ));
        }
    }
    format!(
        "The silo's quota leaves no room for {}. It will start when the quota \
         is raised, or when enough of it is given back.",
        parts.join(" and for "),
    )
}

fn requested(account: &Account) -> String {
    let mut parts = vec![
        vcpus(u64::from(account.requested_vcpus)),
        format!("{} of memory", account.requested_memory),
    ];
    if account.requested_storage > ByteCount::ZERO {
        parts.push(format!("{} of storage", account.requested_storage));
    }
    and(&parts)
}

fn lacks(best: &BestSled) -> String {
    let mut short = Vec::new();
    if best.short_vcpus > 0 {
        short.push(vcpus(u64::from(best.short_vcpus)));
    }
    if best.short_memory > ByteCount::ZERO {
        short.push(format!("{} of memory", best.short_memory));
    }
    if best.short_storage > ByteCount::ZERO {
        short.push(format!("{} of storage", best.short_storage));
    }
    and(&short)
}

/// As in "1 vCPU" and "2 vCPUs".
pub(super) fn vcpus(n: u64) -> String {
    if n == 1 { "1 vCPU".to_string() } else { format!("{n} vCPUs") }
}

/// How many names a sentence holds: it must be read, and kept in 1024
/// characters.
const NAMED_AT_MOST: usize = 3;

/// As in "a, b, c and 5 others".
fn some(mut names: Vec<String>, others: &str) -> String {
    let more = names.len().saturating_sub(NAMED_AT_MOST);
    if more > 0 {
        names.truncate(NAMED_AT_MOST);
        names.push(format!("{more} {others}"));
    }
    and(&names)
}

/// As in "a, b and c".
pub(super) fn and(parts: &[String]) -> String {
    match parts.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// A part of a whole, in millionths.
fn ppm(part: i64, whole: i64) -> i64 {
    let ppm = i128::from(part) * 1_000_000 / i128::from(whole.max(1));
    i64::try_from(ppm).unwrap_or(i64::MAX)
}

pub(super) fn count(n: i64) -> u32 {
    u32::try_from(n.max(0)).unwrap_or(u32::MAX)
}

pub(super) fn bytes(n: i64) -> ByteCount {
    ByteCount::try_from(n.max(0)).unwrap_or(ByteCount::ZERO)
}
