//! Small fleets, and what is asked of them.

use crate::placement::{
    Amounts, Ask, AskedDisk, Group, OwnInstance, PlacedMember, Quota, SledRoom,
};
use crate::{
    AffinityGroupId, AffinityGroupKind, AffinityPolicy, ByteCount, DiskId,
    InstanceCpuPlatform, InstanceId, Name, SledCpu, SledId, SledPolicy,
    SledProvisionPolicy,
};
use proptest::prelude::*;
use uuid::Uuid;

pub(super) const GIB: i64 = 1 << 30;

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn uuid(base: u128, n: usize) -> Uuid {
    Uuid::from_u128(base + u128::try_from(n).unwrap())
}

pub(super) fn id(n: usize) -> SledId {
    SledId(uuid(0, n))
}

/// vCPUs, and GiB of memory and of storage.
pub(super) fn amounts(vcpus: i64, memory: i64, storage: i64) -> Amounts {
    Amounts { vcpus, memory: memory * GIB, storage: storage * GIB }
}

/// A sled that takes instances, of 16 vCPUs, 64 GiB of memory and 100 GiB of
/// storage, of which so many vCPUs and GiB are given away.
pub(super) fn sled(n: usize, vcpus: i64, memory: i64) -> SledRoom {
    SledRoom {
        id: id(n),
        policy: SledPolicy::InService,
        provision_policy: SledProvisionPolicy::Provisionable,
        silent: false,
        cpu: SledCpu::Unknown,
        total: amounts(16, 64, 100),
        reserved: amounts(vcpus, memory, 0),
    }
}

pub(super) fn ask(vcpus: i64, memory: u32) -> Ask {
    Ask {
        vcpus,
        memory: ByteCount::from_gib(memory),
        cpu_platform: None,
        groups: Vec::new(),
        disks: Vec::new(),
        quota: Quota {
            limit: amounts(1000, 1000, 1000),
            used: Amounts::default(),
        },
    }
}

/// A group with a member on each of these sleds; the names of the members begin
/// with the group's.
pub(super) fn group(
    called: &str,
    kind: AffinityGroupKind,
    policy: AffinityPolicy,
    at: &[usize],
) -> Group {
    let key = called.bytes().fold(0u128, |key, b| key * 256 + u128::from(b));
    Group {
        id: AffinityGroupId(Uuid::from_u128(key)),
        name: name(called),
        kind,
        policy,
        placed: at
            .iter()
            .enumerate()
            .map(|(n, at)| PlacedMember {
                id: InstanceId(uuid(key * 256, n)),
                name: name(&format!("{called}-{n}")),
                sled: id(*at),
            })
            .collect(),
    }
}

pub(super) fn together(called: &str, at: &[usize]) -> Group {
    group(called, AffinityGroupKind::Affinity, AffinityPolicy::Fail, at)
}

pub(super) fn apart(called: &str, at: &[usize]) -> Group {
    group(called, AffinityGroupKind::AntiAffinity, AffinityPolicy::Fail, at)
}

pub(super) fn disk(called: &str, gib: u32, at: Option<usize>) -> AskedDisk {
    let key = called.bytes().fold(0u128, |key, b| key * 256 + u128::from(b));
    AskedDisk {
        id: DiskId(Uuid::from_u128(key)),
        name: name(called),
        size: ByteCount::from_gib(gib),
        sled: at.map(id),
    }
}

/// Another instance of the project: its number, its sled, and its size in vCPUs
/// and GiB.
pub(super) fn own(n: usize, at: usize, vcpus: i64, memory: i64) -> OwnInstance {
    OwnInstance {
        id: InstanceId(uuid(0xabc000, n)),
        name: name(&format!("own-{n}")),
        sled: id(at),
        size: amounts(vcpus, memory, 0),
    }
}

/// A fleet, what is asked of it, and the project's other instances there, which
/// are part of what is given away, and some of which are in the groups.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) ask: Ask,
    pub(super) sleds: Vec<SledRoom>,
    pub(super) own: Vec<OwnInstance>,
}

fn any_sled() -> impl Strategy<Value = SledRoom> {
    let free = (0..=8i64, 0..=8i64, 0..=8i64);
    let given = (0..=4i64, 0..=4i64, 0..=4i64);
    let cpu = prop::sample::select(SledCpu::ALL);
    (free, given, 0..12u8, cpu).prop_map(|(free, given, luck, cpu)| {
        let mut sled = sled(0, 0, 0);
        sled.reserved = amounts(given.0, given.1, given.2);
        sled.total = sled.reserved + amounts(free.0, free.1, free.2);
        sled.cpu = cpu;
        match luck {
            0 => sled.policy = SledPolicy::Expunged,
            1 => {
                sled.provision_policy = SledProvisionPolicy::NonProvisionable;
            }
            2 => sled.silent = true,
            _ => (),
        }
        sled
    })
}

fn any_group(
    called: &'static str,
    sleds: usize,
) -> impl Strategy<Value = Group> {
    let kind = prop::sample::select(AffinityGroupKind::ALL);
    let policy = prop::sample::select(AffinityPolicy::ALL);
    let at = prop::collection::vec(0..sleds, 0..3);
    (kind, policy, at)
        .prop_map(|(kind, policy, at)| group(called, kind, policy, &at))
}

/// Anything that can be, on up to six sleds.
pub(super) fn any_case() -> impl Strategy<Value = Case> {
    let sleds = prop::collection::vec(any_sled(), 1..6);
    sleds.prop_flat_map(|mut sleds| {
        for (n, sled) in sleds.iter_mut().enumerate() {
            sled.id = id(n);
        }
        let count = sleds.len();
        let platforms = [
            None,
            None,
            None,
            Some(InstanceCpuPlatform::AmdMilan),
            Some(InstanceCpuPlatform::AmdTurin),
        ];
        let groups = (
            prop::option::weighted(0.5, any_group("a", count)),
            prop::option::weighted(0.5, any_group("b", count)),
        );
        let disks = (
            prop::option::weighted(0.3, (1..6u32, Just(None))),
            prop::option::weighted(0.3, (1..6u32, prop::option::of(0..count))),
        );
        let own = prop::collection::vec((0..count, 1..=4i64, 1..=4i64), 0..4);
        (
            (1..=8i64, 1..=8u32, prop::sample::select(platforms.to_vec())),
            groups,
            disks,
            own,
            (0..=12i64, 0..=12i64, 0..=12i64),
            (0..=6i64, 0..=6i64, 0..=6i64),
        )
            .prop_map(
                move |(size, groups, disks, mine, limit, used)| {
                    case(sleds.clone(), size, groups, disks, &mine, limit, used)
                },
            )
    })
}

type AnyDisk = Option<(u32, Option<usize>)>;

fn case(
    mut sleds: Vec<SledRoom>,
    size: (i64, u32, Option<InstanceCpuPlatform>),
    groups: (Option<Group>, Option<Group>),
    disks: (AnyDisk, AnyDisk),
    mine: &[(usize, i64, i64)],
    limit: (i64, i64, i64),
    used: (i64, i64, i64),
) -> Case {
    let mut ask = ask(size.0, size.1);
    ask.cpu_platform = size.2;
    ask.groups.extend(groups.0);
    ask.groups.extend(groups.1);
    let named = [("d", disks.0), ("e", disks.1)];
    ask.disks = named
        .into_iter()
        .filter_map(|(called, d)| d.map(|(gib, at)| disk(called, gib, at)))
        .collect();
    let mut owns: Vec<OwnInstance> = Vec::new();
    for (n, (at, vcpus, memory)) in mine.iter().enumerate() {
        let one = own(n, *at, *vcpus, *memory);
        sleds[*at].total = sleds[*at].total + one.size;
        sleds[*at].reserved = sleds[*at].reserved + one.size;
        owns.push(one);
    }
    let held = owns.iter().fold(Amounts::default(), |sum, o| sum + o.size);
    ask.quota.used = amounts(used.0, used.1, used.2) + held;
    ask.quota.limit = amounts(limit.0, limit.1, limit.2) + held;
    // The first of the user's instances is the first group's first member.
    let first = owns.first().cloned();
    let member = ask.groups.first_mut().and_then(|g| g.placed.first_mut());
    if let (Some(one), Some(member)) = (first, member) {
        *member = PlacedMember { id: one.id, name: one.name, sled: one.sled };
    }
    Case { ask, sleds, own: owns }
}
