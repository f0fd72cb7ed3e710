//! Why an instance goes nowhere.

use super::fleets::*;
use crate::placement::{Account, Ask, SledRoom, explain, matrix, starts};
use crate::{
    ByteCount, InstanceCpuPlatform, SledPolicy, SledProvisionPolicy,
    StartFailure, StartFailureDetails, StartFailureKind as Kind,
};
use proptest::prelude::*;

fn failure(ask: &Ask, sleds: &[SledRoom]) -> StartFailure {
    explain(ask, sleds, &[]).expect("it does not start")
}

fn account(failure: StartFailure) -> Account {
    match failure.details {
        StartFailureDetails::Placement(account) => *account,
        other @ (StartFailureDetails::None
        | StartFailureDetails::Host { .. }
        | StartFailureDetails::Incident { .. }) => panic!("{other:?}"),
    }
}

fn closed(n: usize) -> SledRoom {
    SledRoom {
        provision_policy: SledProvisionPolicy::NonProvisionable,
        ..sled(n, 0, 0)
    }
}

fn silent(n: usize) -> SledRoom {
    SledRoom { silent: true, ..sled(n, 0, 0) }
}

fn gone(n: usize) -> SledRoom {
    SledRoom { policy: SledPolicy::Expunged, ..sled(n, 0, 0) }
}

/// What is asked, of which fleet, and what its user reads: kind, whether it may
/// pass, and the sentence.
type Row = (Ask, Vec<SledRoom>, Kind, bool, &'static str);

fn with(asked: Ask, change: impl FnOnce(&mut Ask)) -> Ask {
    let mut asked = asked;
    change(&mut asked);
    asked
}

fn rows() -> Vec<Row> {
    let one = || ask(1, 1);
    let grouped = |groups| with(one(), |a| a.groups = groups);
    let with_disks = |disks| with(one(), |a| a.disks = disks);
    vec![
        (
            ask(8, 4),
            vec![sled(1, 10, 0), sled(2, 12, 0)],
            Kind::InsufficientCapacity,
            true,
            "No host has room for 8 vCPUs and 4 GiB of memory: the best one \
             is short of 2 vCPUs. It will start when room appears.",
        ),
        (
            ask(8, 4),
            vec![sled(1, 10, 62)],
            Kind::InsufficientCapacity,
            true,
            "No host has room for 8 vCPUs and 4 GiB of memory: the best one \
             is short of 2 vCPUs and 2 GiB of memory. It will start when room \
             appears.",
        ),
        (
            ask(17, 4),
            vec![sled(1, 0, 0)],
            Kind::InsufficientCapacity,
            false,
            "No host has room for 17 vCPUs and 4 GiB of memory: the best one \
             is short of 1 vCPU. No host is large enough for it, even an \
             empty one.",
        ),
        (
            with(ask(17, 4), |a| a.groups = vec![apart("web", &[2])]),
            vec![sled(1, 0, 0), sled(2, 0, 0)],
            Kind::InsufficientCapacity,
            false,
            "No host that it may run on has room for 17 vCPUs and 4 GiB of \
             memory: the best one is short of 1 vCPU. None of these is large \
             enough for it, even empty.",
        ),
        (
            one(),
            vec![closed(1), gone(2)],
            Kind::NoSledInService,
            true,
            "There is no host in service that takes new instances.",
        ),
        (
            one(),
            vec![silent(1), closed(2)],
            Kind::NoSledInService,
            true,
            "No host that takes new instances can be reached.",
        ),
        (
            grouped(vec![apart("web", &[1, 2])]),
            vec![sled(1, 0, 0), sled(2, 0, 0)],
            Kind::AntiAffinity,
            false,
            "Each host with room for it already runs a member of its \
             anti-affinity group \"web\" (\"web-0\" and \"web-1\"). It will \
             not start before something of this is changed.",
        ),
        (
            grouped(vec![apart("web", &[1, 1, 1, 1, 1]), apart("db", &[2])]),
            vec![sled(1, 0, 0), sled(2, 0, 0), sled(3, 16, 0)],
            Kind::AntiAffinity,
            true,
            "Each host with room for it already runs a member of its \
             anti-affinity groups \"web\" (\"web-0\", \"web-1\", \"web-2\" and \
             2 others) and \"db\" (\"db-0\"). It will start when that passes.",
        ),
        (
            grouped(vec![together("db", &[1])]),
            vec![sled(1, 16, 0), sled(2, 0, 0)],
            Kind::Affinity,
            true,
            "It must run where the members of its affinity group \"db\" \
             (\"db-0\") run, and that host has no room for it. It will start \
             when that passes.",
        ),
        (
            grouped(vec![together("db", &[1])]),
            vec![closed(1), sled(2, 0, 0)],
            Kind::Affinity,
            true,
            "It must run where the members of its affinity group \"db\" \
             (\"db-0\") run, and that host takes no new instances at the \
             moment. It will start when that passes.",
        ),
        (
            grouped(vec![together("db", &[1]), apart("web", &[1])]),
            vec![sled(1, 0, 0), sled(2, 0, 0)],
            Kind::AffinityConflict,
            false,
            "Its affinity group \"db\" wants it on the host of \"db-0\", from \
             which its anti-affinity group \"web\" keeps it, since \"web-0\" \
             runs there.",
        ),
        (
            grouped(vec![together("db", &[1]), together("web", &[2])]),
            vec![sled(1, 0, 0), sled(2, 0, 0)],
            Kind::AffinityConflict,
            false,
            "Its affinity group \"db\" wants it on the host of \"db-0\", and \
             its affinity group \"web\" on that of \"web-0\", which is \
             another.",
        ),
        (
            grouped(vec![together("db", &[1, 2])]),
            vec![sled(1, 0, 0), sled(2, 0, 0)],
            Kind::AffinityConflict,
            false,
            "The members of its affinity group \"db\" are on different hosts \
             already (\"db-0\" and \"db-1\").",
        ),
        (
            with(one(), |a| {
                a.cpu_platform = Some(InstanceCpuPlatform::AmdTurin);
            }),
            vec![sled(1, 0, 0)],
            Kind::CpuPlatform,
            false,
            "No host that has the CPU platform amd_turin has room for it or \
             takes new instances. It will not start before something of this \
             is changed.",
        ),
        (
            with_disks(vec![disk("data", 120, None)]),
            vec![sled(1, 0, 0)],
            Kind::LocalStorage,
            false,
            "No host that has room for it has 120 GiB of storage for its local \
             disks: the best one is short of 20 GiB of storage. It will not \
             start before something of this is changed.",
        ),
        (
            with_disks(vec![disk("data", 1, Some(1))]),
            vec![sled(1, 16, 0), sled(2, 0, 0)],
            Kind::LocalStorage,
            true,
            "Its local disk \"data\" is on a host that has no room for it. It \
             will start when that passes.",
        ),
        (
            with_disks(vec![disk("data", 1, Some(1))]),
            vec![gone(1), sled(2, 0, 0)],
            Kind::LocalStorage,
            false,
            "Its local disk \"data\" is on a host that is gone for good. It \
             will not start before something of this is changed.",
        ),
        (
            with_disks(vec![disk("d", 1, Some(1)), disk("e", 1, Some(2))]),
            vec![sled(1, 0, 0), sled(2, 0, 0)],
            Kind::LocalStorage,
            false,
            "Its local disks \"d\" and \"e\" are on different hosts. It will \
             not start before something of this is changed.",
        ),
        (
            with(ask(8, 4), |a| {
                a.quota.limit = amounts(32, 4, 0);
                a.quota.used = amounts(28, 1, 0);
            }),
            vec![sled(1, 0, 0)],
            Kind::QuotaExceeded,
            false,
            "The silo's quota leaves no room for 8 vCPUs (28 of 32 are in \
             use) and for 4 GiB of memory (1 GiB of 4 GiB are in use). It \
             will start when the quota is raised, or when enough of it is \
             given back.",
        ),
    ]
}

#[test]
fn each_kind_of_refusal_says_in_a_sentence_what_is_in_the_way() {
    for (ask, sleds, kind, transient, message) in rows() {
        let failure = failure(&ask, &sleds);
        assert_eq!(failure.message, message);
        assert_eq!(failure.kind, kind, "{message}");
        assert_eq!(failure.transient, transient, "{message}");
    }
}

#[test]
fn what_is_in_the_way_is_named_in_the_details() {
    let mut asked = ask(1, 1);
    asked.groups = vec![apart("web", &[1]), together("db", &[2])];
    asked.disks = vec![disk("data", 1, Some(2))];
    let account = account(failure(&asked, &[sled(1, 0, 0), closed(2)]));
    let groups: Vec<String> =
        account.groups.iter().map(|g| g.name.to_string()).collect();
    // Sled 2 takes no instances, so "web" alone is in the way of none there.
    assert_eq!(groups, ["db", "web"]);
    assert_eq!(account.groups[0].members, [name("db-0")]);
    assert_eq!(account.disks.len(), 1);
    assert!(account.disks[0].allocated);
}

#[test]
fn a_quota_that_does_not_suffice_is_told_by_limit_use_and_request() {
    let mut asked = ask(8, 4);
    asked.quota.limit.vcpus = 10;
    asked.quota.used.vcpus = 9;
    let quota = account(failure(&asked, &[sled(1, 0, 0)])).quota.unwrap();
    let vcpus = quota.vcpus.unwrap();
    assert_eq!((vcpus.limit, vcpus.used, vcpus.requested), (10, 9, 8));
    assert_eq!((quota.memory, quota.storage), (None, None));
}

#[test]
fn what_an_operator_keeps_to_himself_is_not_in_the_account() {
    let told = account(failure(&ask(17, 1), &[sled(1, 0, 0)]));
    assert_eq!(told.sleds_considered, Some(1));
    let less = told.without_counts();
    assert_eq!((less.sleds_considered, less.excluded), (None, None));
    assert!(less.best_sled.is_some());
}

#[test]
fn an_account_of_before_there_were_groups_is_still_read() {
    let kept = serde_json::json!({
        "type": "placement",
        "requested_vcpus": 2,
        "requested_memory": 1 << 30,
        "sleds_considered": 2,
        "excluded": {
            "not_in_service": 0,
            "not_provisionable": 0,
            "unreachable": 0,
            "vcpus": 2,
            "memory": 0,
        },
        "best_sled": {
            "free_vcpus": 1,
            "free_memory": 1 << 30,
            "short_vcpus": 1,
            "short_memory": 0,
        },
        "fits_an_empty_sled": true,
    });
    let read: StartFailureDetails = serde_json::from_value(kept).unwrap();
    let StartFailureDetails::Placement(account) = read else {
        panic!("{read:?}");
    };
    assert_eq!(account.excluded.unwrap().vcpus, 2);
}

proptest! {
    #[test]
    fn it_is_explained_exactly_if_it_does_not_start(case in any_case()) {
        let failure = explain(&case.ask, &case.sleds, &case.own);
        prop_assert_eq!(failure.is_none(), starts(&case.ask, &case.sleds));
    }

    #[test]
    fn each_sled_is_counted_once_under_its_first_cause(case in any_case()) {
        let Some(failure) = explain(&case.ask, &case.sleds, &case.own) else {
            return Ok(());
        };
        let account = account(failure);
        let excluded = serde_json::to_value(account.excluded).unwrap();
        for (cause, counted) in excluded.as_object().unwrap() {
            let first = matrix(&case.ask, &case.sleds)
                .into_iter()
                .filter_map(|(_, causes)| causes.first().copied())
                .filter(|c| serde_json::to_value(c).unwrap() == **cause)
                .count();
            prop_assert_eq!(counted, &serde_json::json!(first), "{}", cause);
        }
        prop_assert_eq!(
            account.sleds_considered,
            u32::try_from(case.sleds.len()).ok()
        );
    }

    /// The sentence is kept in 1024 characters, and has no sled in it.
    #[test]
    fn the_sentence_is_short_and_gives_nothing_away(case in any_case()) {
        let Some(failure) = explain(&case.ask, &case.sleds, &case.own) else {
            return Ok(());
        };
        prop_assert!(failure.message.len() < 800);
        prop_assert!(failure.message.ends_with('.'));
        let all = serde_json::to_string(&failure).unwrap();
        for sled in &case.sleds {
            prop_assert!(!all.contains(&sled.id.to_string()) || sled.id == id(0));
        }
    }

    /// The sled that comes nearest would take the instance if it had just what
    /// is said to be missing, and not with less.
    #[test]
    fn what_is_said_to_be_missing_is_what_is_missing(case in any_case()) {
        let Some(failure) = explain(&case.ask, &case.sleds, &case.own) else {
            return Ok(());
        };
        let Some(best) = account(failure).best_sled else { return Ok(()) };
        let mut alone = ask(case.ask.vcpus, 1);
        alone.memory = case.ask.memory;
        let storage = case.ask.size().storage;
        if storage > 0 {
            alone.disks = vec![disk("d", 1, None)];
            alone.disks[0].size = ByteCount::try_from(storage).unwrap();
        }
        let free = [
            i64::from(best.free_vcpus),
            best.free_memory.to_i64(),
            best.free_storage.to_i64(),
        ];
        let short = [
            i64::from(best.short_vcpus),
            best.short_memory.to_i64(),
            best.short_storage.to_i64(),
        ];
        let with = |more: [i64; 3]| {
            let mut room = sled(1, 0, 0);
            room.total.vcpus = free[0] + more[0];
            room.total.memory = free[1] + more[1];
            room.total.storage = free[2] + more[2];
            starts(&alone, &[room])
        };
        prop_assert!(with(short));
        for n in 0..3 {
            let mut less = short;
            less[n] -= 1;
            prop_assert!(short[n] == 0 || !with(less));
        }
    }

    /// It is transient if and only if it would start were every sled that is
    /// in service open, heard of and empty, its groups and disks as they are;
    /// that there is no sled at all always passes, and a quota never does.
    #[test]
    fn it_may_pass_if_the_fleet_alone_could_let_it(case in any_case()) {
        let Some(failure) = explain(&case.ask, &case.sleds, &case.own) else {
            return Ok(());
        };
        let mut empty = case.sleds.clone();
        for sled in &mut empty {
            sled.provision_policy = SledProvisionPolicy::Provisionable;
            sled.silent = false;
            sled.reserved = amounts(0, 0, 0);
        }
        let always = failure.kind == Kind::NoSledInService;
        let never = failure.kind == Kind::QuotaExceeded;
        let could = always || (!never && starts(&case.ask, &empty));
        prop_assert_eq!(failure.transient, could, "{}", failure.message);
    }
}
