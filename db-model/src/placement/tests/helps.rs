//! What would let it start: true, and no more than is needed.

use super::fleets::*;
use crate::placement::{
    Ask, Change, OwnInstance, QuotaResource, Remedy, SledRoom, WaitFor,
    explain, starts,
};
use crate::{InstanceCpuPlatform, StartFailureDetails};
use proptest::prelude::*;

fn remedies(ask: &Ask, sleds: &[SledRoom], own: &[OwnInstance]) -> Vec<Remedy> {
    let Some(failure) = explain(ask, sleds, own) else { return Vec::new() };
    match failure.details {
        StartFailureDetails::Placement(account) => account.remedies,
        other @ (StartFailureDetails::None
        | StartFailureDetails::Host { .. }
        | StartFailureDetails::Incident { .. }) => panic!("{other:?}"),
    }
}

fn messages(ask: &Ask, sleds: &[SledRoom], own: &[OwnInstance]) -> Vec<String> {
    remedies(ask, sleds, own).into_iter().map(|r| r.message).collect()
}

/// Makes a change, in words of its own.
fn make(case: &mut Case, change: &Change) {
    let ask = &mut case.ask;
    match change {
        Change::Resize { ncpus, memory } => {
            (ask.vcpus, ask.memory) = (i64::from(*ncpus), *memory);
        }
        Change::AnyCpuPlatform => ask.cpu_platform = None,
        Change::LeaveGroup { id, .. } => {
            let there = ask.groups.iter().position(|g| g.id == *id);
            ask.groups.remove(there.expect("one of its groups"));
        }
        Change::DetachDisk { id, .. } => {
            let there = ask.disks.iter().position(|d| d.id == *id);
            ask.disks.remove(there.expect("one of its disks"));
        }
        Change::StopInstance { id, .. } => {
            let there = case.own.iter().position(|o| o.id == *id);
            let own = case.own.remove(there.expect("one of the user's"));
            let sled = case.sleds.iter_mut().find(|s| s.id == own.sled);
            let sled = sled.expect("a sled");
            sled.reserved = sled.reserved - own.size;
            ask.quota.used = ask.quota.used - own.size;
            for group in &mut ask.groups {
                group.placed.retain(|m| m.id != *id);
            }
        }
        Change::RaiseQuota { resource, by, to } => {
            let limit = match resource {
                QuotaResource::Vcpus => &mut ask.quota.limit.vcpus,
                QuotaResource::Memory => &mut ask.quota.limit.memory,
                QuotaResource::Storage => &mut ask.quota.limit.storage,
            };
            *limit += i64::try_from(*by).unwrap();
            assert_eq!(u64::try_from(*limit).unwrap(), *to);
        }
        Change::Wait { .. } => panic!("nothing to make"),
    }
}

fn is_to_wait(remedy: &Remedy) -> bool {
    matches!(&remedy.changes[..], [Change::Wait { .. }])
}

proptest! {
    #[test]
    fn each_remedy_lets_it_start_and_needs_all_that_it_names(
        case in any_case(),
    ) {
        for remedy in remedies(&case.ask, &case.sleds, &case.own) {
            if is_to_wait(&remedy) {
                continue;
            }
            let mut mended = case.clone();
            for change in &remedy.changes {
                make(&mut mended, change);
            }
            prop_assert!(starts(&mended.ask, &mended.sleds), "{remedy:?}");
            for left_out in 0..remedy.changes.len() {
                let mut less = case.clone();
                for (n, change) in remedy.changes.iter().enumerate() {
                    if n != left_out {
                        make(&mut less, change);
                    }
                }
                prop_assert!(!starts(&less.ask, &less.sleds), "{remedy:?}");
            }
        }
    }

    /// No larger size of the one that is offered would do.
    #[test]
    fn a_smaller_size_that_is_offered_is_the_largest_that_would_do(
        case in any_case(),
    ) {
        for remedy in remedies(&case.ask, &case.sleds, &case.own) {
            let [Change::Resize { ncpus, memory }] = &remedy.changes[..] else {
                continue;
            };
            let (vcpus, gib) = (i64::from(*ncpus), memory.to_i64() / GIB);
            let asked = (case.ask.vcpus, case.ask.memory.to_i64() / GIB);
            for (more_vcpus, more_gib) in [(vcpus + 1, gib), (vcpus, gib + 1)] {
                if more_vcpus > asked.0 || more_gib > asked.1 {
                    continue;
                }
                let mut larger = case.ask.clone();
                larger.vcpus = more_vcpus;
                larger.memory = crate::ByteCount::from_gib(
                    u32::try_from(more_gib).unwrap(),
                );
                // Where both shrink, another sled may give more of one.
                let both = vcpus < asked.0 && gib < asked.1;
                prop_assert!(both || !starts(&larger, &case.sleds));
            }
        }
    }

    /// Whatever the fewest of one kind would do, no fewer are named.
    #[test]
    fn of_groups_and_of_instances_the_fewest_are_named(case in any_case()) {
        if starts(&case.ask, &case.sleds) {
            return Ok(());
        }
        let offered = remedies(&case.ask, &case.sleds, &case.own);
        let without_group = case.ask.groups.iter().any(|g| {
            let mut ask = case.ask.clone();
            ask.groups.retain(|other| other.id != g.id);
            starts(&ask, &case.sleds)
        });
        // Where nobody answers, a stop would not come to its end.
        let answers = |o: &&OwnInstance| {
            case.sleds.iter().any(|s| s.id == o.sled && !s.silent)
        };
        let without_own = case.own.iter().filter(answers).any(|o| {
            let mut less = case.clone();
            let (id, name) = (o.id, o.name.clone());
            make(&mut less, &Change::StopInstance { id, name });
            starts(&less.ask, &less.sleds)
        });
        let one = |is: fn(&Change) -> bool| {
            offered.iter().any(|r| r.changes.len() == 1 && is(&r.changes[0]))
        };
        let leaves = |c: &Change| matches!(c, Change::LeaveGroup { .. });
        let stops = |c: &Change| matches!(c, Change::StopInstance { .. });
        if without_group {
            prop_assert!(one(leaves), "{offered:?}");
        }
        if without_own {
            prop_assert!(one(stops), "{offered:?}");
        }
    }

    /// It is told to wait exactly if it may pass; and if there is a sled that
    /// takes instances and a smallest instance would start there without groups,
    /// disks, CPU or quota, something can be done, and is said.
    #[test]
    fn whatever_can_be_done_about_it_something_is_said(case in any_case()) {
        let Some(failure) = explain(&case.ask, &case.sleds, &case.own) else {
            return Ok(());
        };
        let offered = remedies(&case.ask, &case.sleds, &case.own);
        prop_assert_eq!(offered.iter().any(is_to_wait), failure.transient);
        let mut least = ask(1, 1);
        least.quota.limit = amounts(1000, 1000, 1000);
        if starts(&least, &case.sleds) {
            prop_assert!(
                offered.iter().any(|r| !is_to_wait(r)),
                "{:?}: {:?}", case, offered
            );
        }
    }
}

#[test]
fn each_remedy_is_told_in_a_sentence() {
    let full = [sled(1, 12, 40)];
    let own = [own(1, 1, 4, 8), own(2, 1, 2, 8)];
    assert_eq!(
        messages(&ask(6, 4), &full, &own),
        [
            "Shrink it to 4 vCPUs.",
            "Stop the instance \"own-2\".",
            "Wait until a host has room for it.",
        ],
    );
    assert_eq!(
        messages(&ask(4, 32), &full, &own)[0],
        "Shrink it to 24 GiB of memory."
    );
    assert_eq!(
        messages(&ask(5, 32), &full, &[])[0],
        "Shrink it to 4 vCPUs and 24 GiB of memory."
    );
}

#[test]
fn several_of_the_users_instances_are_named_only_if_no_one_would_do() {
    let full = [sled(1, 16, 0)];
    let own = [own(1, 1, 2, 1), own(2, 1, 3, 1), own(3, 1, 4, 1)];
    assert_eq!(
        messages(&ask(4, 1), &full, &own)[0],
        "Stop the instance \"own-3\"."
    );
    assert_eq!(
        messages(&ask(7, 1), &full, &own)[0],
        "Stop the instance \"own-2\" and stop the instance \"own-3\"."
    );
    let all = &messages(&ask(8, 1), &full, &own)[0];
    assert_eq!(all.matches("stop").count() + all.matches("Stop").count(), 3);
}

#[test]
fn groups_platforms_disks_and_quotas_are_named_with_what_to_do_about_them() {
    let free = [sled(1, 0, 0)];
    let mut asked = ask(1, 1);
    asked.groups = vec![apart("web", &[1]), apart("db", &[])];
    assert_eq!(
        messages(&asked, &free, &[]),
        ["Take it out of the anti-affinity group \"web\"."]
    );
    let mut asked = ask(1, 1);
    asked.cpu_platform = Some(InstanceCpuPlatform::AmdMilan);
    assert_eq!(
        messages(&asked, &free, &[]),
        ["Let it run on any CPU platform."]
    );
    let mut asked = ask(1, 1);
    asked.disks = vec![disk("d", 90, None), disk("e", 20, None)];
    assert_eq!(
        messages(&asked, &free, &[]),
        ["Detach the disk \"e\" from it."]
    );
    let mut asked = ask(4, 8);
    asked.quota.limit = amounts(8, 10, 0);
    asked.quota.used = amounts(6, 8, 0);
    assert_eq!(
        messages(&asked, &free, &[]),
        [
            "Have the silo's quota raised by 2 vCPUs, to 8 vCPUs and have the \
             silo's quota of memory raised by 6 GiB, to 16 GiB."
                .replace("to 8 vCPUs", "to 10 vCPUs"),
            "Shrink it to 2 vCPUs and 2 GiB of memory.".to_string(),
        ]
    );
}

#[test]
fn kinds_are_put_together_only_if_no_one_would_do() {
    let mut asked = ask(8, 4);
    asked.groups = vec![apart("web", &[1])];
    let offered = messages(&asked, &[sled(1, 12, 0)], &[]);
    assert_eq!(
        offered,
        ["Take it out of the anti-affinity group \"web\" and shrink it to 4 \
          vCPUs."]
    );
}

#[test]
fn it_is_said_what_to_wait_for() {
    let until = |sleds: &[SledRoom]| {
        let all = remedies(&ask(8, 4), sleds, &[]);
        match all.last().map(|r| &r.changes[..]) {
            Some([Change::Wait { until }]) => Some(*until),
            _ => None,
        }
    };
    let silent = SledRoom { silent: true, ..sled(2, 0, 0) };
    assert_eq!(until(&[sled(1, 12, 0), silent.clone()]), Some(WaitFor::Room));
    let small = SledRoom { total: amounts(4, 4, 4), ..sled(1, 0, 0) };
    assert_eq!(until(&[small, silent]), Some(WaitFor::HostBack));
    assert_eq!(until(&[]), Some(WaitFor::AnyHost));
}
