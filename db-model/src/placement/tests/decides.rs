//! Where an instance goes.

use super::fleets::*;
use crate::placement::{Ask, Cause, Nowhere, SledRoom, choose, matrix, starts};
use crate::{
    AffinityGroupKind, AffinityPolicy, InstanceCpuPlatform, SledCpu, SledId,
    SledPolicy, SledProvisionPolicy,
};
use proptest::prelude::*;
use std::collections::HashSet;

/// Where it can go: all places that any ticket leads to.
fn anywhere(ask: &Ask, sleds: &[SledRoom]) -> HashSet<SledId> {
    (0..64).filter_map(|t| choose(ask, sleds, sleds.len(), t).ok()).collect()
}

/// The oracle: in words of its own.
fn may_go(ask: &Ask, sled: &SledRoom) -> bool {
    let open = sled.policy == SledPolicy::InService
        && sled.provision_policy == SledProvisionPolicy::Provisionable
        && !sled.silent;
    let cpu = match (ask.cpu_platform, sled.cpu) {
        (None, _) => true,
        (Some(_), SledCpu::Unknown) => false,
        (Some(InstanceCpuPlatform::AmdMilan), _) => true,
        (Some(_), cpu) => cpu == SledCpu::AmdTurin,
    };
    let mut new_storage = 0;
    let mut pinned_elsewhere = false;
    for disk in &ask.disks {
        match disk.sled {
            None => new_storage += disk.size.to_i64(),
            Some(at) => pinned_elsewhere |= at != sled.id,
        }
    }
    let room = sled.reserved.vcpus + ask.vcpus <= sled.total.vcpus
        && sled.reserved.memory + ask.memory.to_i64() <= sled.total.memory
        && sled.reserved.storage + new_storage <= sled.total.storage;
    let mut groups = true;
    for group in &ask.groups {
        let here = group.placed.iter().filter(|m| m.sled == sled.id).count();
        if group.policy == AffinityPolicy::Fail {
            groups &= match group.kind {
                AffinityGroupKind::Affinity => here == group.placed.len(),
                AffinityGroupKind::AntiAffinity => here == 0,
            };
        }
    }
    open && cpu && !pinned_elsewhere && room && groups
}

fn within_quota(ask: &Ask) -> bool {
    let (q, size) = (&ask.quota, ask.size());
    let fits =
        |asked: i64, used: i64, limit: i64| asked == 0 || used + asked <= limit;
    fits(size.vcpus, q.used.vcpus, q.limit.vcpus)
        && fits(size.memory, q.used.memory, q.limit.memory)
        && fits(size.storage, q.used.storage, q.limit.storage)
}

/// Wishes of soft groups that a sled leaves unfulfilled.
fn unfulfilled(ask: &Ask, sled: &SledRoom) -> usize {
    let soft = ask.groups.iter().filter(|g| g.policy == AffinityPolicy::Allow);
    soft.map(|group| {
        let with = group.placed.iter().filter(|m| m.sled == sled.id).count();
        match group.kind {
            AffinityGroupKind::Affinity => group.placed.len() - with,
            AffinityGroupKind::AntiAffinity => with,
        }
    })
    .sum()
}

proptest! {
    #[test]
    fn it_goes_exactly_where_nothing_speaks_against_it(case in any_case()) {
        let may: Vec<&SledRoom> = case
            .sleds
            .iter()
            .filter(|s| within_quota(&case.ask) && may_go(&case.ask, s))
            .collect();
        prop_assert_eq!(starts(&case.ask, &case.sleds), !may.is_empty());
        // Of those, where its soft groups are most content.
        let least = may.iter().map(|s| unfulfilled(&case.ask, s)).min();
        let best: HashSet<SledId> = may
            .iter()
            .filter(|s| Some(unfulfilled(&case.ask, s)) == least)
            .map(|s| s.id)
            .collect();
        prop_assert_eq!(anywhere(&case.ask, &case.sleds), best);
    }

    #[test]
    fn the_order_in_which_sleds_are_read_does_not_matter(
        (case, shuffled) in any_case().prop_flat_map(|case| {
            let sleds = case.sleds.clone();
            (Just(case), Just(sleds).prop_shuffle())
        }),
        spread in 1..6usize,
        ticket: u64,
    ) {
        prop_assert_eq!(
            choose(&case.ask, &case.sleds, spread, ticket),
            choose(&case.ask, &shuffled, spread, ticket)
        );
    }

    /// A sled is out of the question by the matrix exactly if it is by `choose`.
    #[test]
    fn the_matrix_says_of_each_sled_what_the_decision_went_by(
        case in any_case(),
    ) {
        for (sled, causes) in matrix(&case.ask, &case.sleds) {
            let room = case.sleds.iter().find(|s| s.id == sled).unwrap();
            prop_assert_eq!(causes.is_empty(), may_go(&case.ask, room));
            prop_assert!(causes.is_sorted());
        }
    }
}

#[test]
fn a_sled_is_filled_to_the_brim_and_no_further() {
    let two_left = [sled(1, 14, 62)];
    assert!(starts(&ask(2, 2), &two_left));
    assert!(!starts(&ask(3, 2), &two_left));
    assert!(!starts(&ask(2, 3), &two_left));
}

#[test]
fn those_who_choose_at_once_scatter_as_far_as_they_are_told() {
    let sleds: Vec<SledRoom> = (0..10).map(|n| sled(n, 0, 0)).collect();
    let chosen = |spread| {
        (0..100)
            .map(|ticket| choose(&ask(1, 1), &sleds, spread, ticket).unwrap())
            .collect::<HashSet<_>>()
            .len()
    };
    assert_eq!([chosen(0), chosen(1), chosen(4), chosen(99)], [1, 1, 4, 10]);
}

#[test]
fn a_soft_wish_is_never_given_up_to_scatter() {
    let sleds: Vec<SledRoom> =
        (0..4).zip(0..).map(|(n, vcpus)| sled(n, vcpus, 0)).collect();
    let mut asked = ask(1, 1);
    asked.groups = vec![group(
        "web",
        AffinityGroupKind::AntiAffinity,
        AffinityPolicy::Allow,
        &[0, 1, 3],
    )];
    assert_eq!(anywhere(&asked, &sleds), HashSet::from([id(2)]));
    asked.groups = vec![group(
        "web",
        AffinityGroupKind::Affinity,
        AffinityPolicy::Allow,
        &[0, 3, 3],
    )];
    assert_eq!(anywhere(&asked, &sleds), HashSet::from([id(3)]));
}

#[test]
fn soft_groups_never_keep_it_from_starting() {
    let full_but_one = [sled(0, 0, 0), sled(1, 16, 0)];
    let mut asked = ask(1, 1);
    for (kind, at) in
        [(AffinityGroupKind::AntiAffinity, 0), (AffinityGroupKind::Affinity, 1)]
    {
        asked.groups = vec![group("web", kind, AffinityPolicy::Allow, &[at])];
        assert_eq!(choose(&asked, &full_but_one, 1, 0), Ok(id(0)));
    }
}

#[test]
fn a_quota_without_enough_left_keeps_it_from_starting() {
    let mut asked = ask(4, 8);
    asked.quota.limit = amounts(8, 16, 0);
    asked.quota.used = amounts(4, 8, 0);
    let sleds = [sled(1, 0, 0)];
    assert!(starts(&asked, &sleds));
    asked.quota.used = amounts(5, 8, 0);
    assert_eq!(choose(&asked, &sleds, 1, 0), Err(Nowhere));
    asked.quota.used = amounts(4, 9, 0);
    assert_eq!(choose(&asked, &sleds, 1, 0), Err(Nowhere));
    // Of what it asks nothing of, there may be less than nothing left.
    asked.quota.used = amounts(4, 8, 50);
    assert!(starts(&asked, &sleds));
    asked.disks = vec![disk("d", 1, None)];
    assert!(!starts(&asked, &sleds));
    // What is allocated is paid for.
    asked.disks = vec![disk("d", 1, Some(1))];
    assert!(starts(&asked, &sleds));
}

#[test]
fn a_sled_is_counted_under_the_first_of_its_causes() {
    let mut closed = sled(1, 16, 64);
    closed.provision_policy = SledProvisionPolicy::NonProvisionable;
    closed.silent = true;
    let mut asked = ask(1, 1);
    asked.cpu_platform = Some(InstanceCpuPlatform::AmdMilan);
    let all = matrix(&asked, &[closed]);
    let expected = vec![
        Cause::NotProvisionable,
        Cause::Unreachable,
        Cause::CpuPlatform,
        Cause::Vcpus,
        Cause::Memory,
    ];
    assert_eq!(all, [(id(1), expected)]);
}
