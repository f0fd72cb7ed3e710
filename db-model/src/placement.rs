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
            // One on which it never fits is near only in numbers.
            .min_by_key(|s| {
                (!fits_when_empty(demand, s), missing_ppm(demand, s), s.id)
            })
            .map(|s| BestSled {
                free_vcpus: count(free_vcpus(s)),
                free_memory: bytes(free_memory(s)),
                short_vcpus: count(demand.vcpus - free_vcpus(s)),
                short_memory: bytes(demand.memory.to_i64() - free_memory(s)),
            }),
        fits_an_empty_sled: sleds.iter().any(|s| {
            s.policy == SledPolicy::InService && fits_when_empty(demand, s)
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

fn fits_when_empty(demand: Demand, sled: &Sled) -> bool {
    sled.vcpus >= demand.vcpus && sled.memory_bytes >= demand.memory
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
                message: if self.excluded.unreachable > 0 {
                    "No host that takes new instances can be reached."
                } else {
                    "There is no host in service that takes new instances."
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn now() -> DateTime<Utc> {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    fn gib(n: u32) -> ByteCount {
        ByteCount::from_gib(n)
    }

    fn demand(vcpus: i64, memory_gib: u32) -> Demand {
        Demand { vcpus, memory: gib(memory_gib) }
    }

    /// A sled that takes instances: its size and what is reserved of it, in
    /// vCPUs and GiB.
    fn sled(n: u128, vcpus: (i64, i64), memory: (u32, u32)) -> Sled {
        Sled {
            id: SledId(Uuid::from_u128(n)),
            address: "127.0.0.1:1".to_string(),
            serial: "s".to_string(),
            part: "p".to_string(),
            revision: 0,
            policy: SledPolicy::InService,
            provision_policy: SledProvisionPolicy::Provisionable,
            incarnation: Uuid::nil(),
            vcpus: vcpus.0,
            memory_bytes: gib(memory.0),
            storage_bytes: ByteCount::ZERO,
            reserved_vcpus: vcpus.1,
            reserved_memory_bytes: gib(memory.1),
            time_last_heartbeat: now(),
            time_created: now(),
            time_modified: now(),
            cpu: crate::SledCpu::Unknown,
            reserved_storage_bytes: ByteCount::ZERO,
        }
    }

    fn expunged(mut sled: Sled) -> Sled {
        sled.policy = SledPolicy::Expunged;
        sled
    }

    fn closed(mut sled: Sled) -> Sled {
        sled.provision_policy = SledProvisionPolicy::NonProvisionable;
        sled
    }

    fn silent(mut sled: Sled) -> Sled {
        sled.time_last_heartbeat = now()
            - crate::HEARTBEAT_ALLOWANCE
            - chrono::TimeDelta::microseconds(1);
        sled
    }

    fn failure(demand: Demand, sleds: &[Sled]) -> StartFailure {
        choose(demand, sleds, now()).unwrap_err().into_failure()
    }

    #[test]
    fn load_goes_where_the_scarcer_resource_is_least_full_afterwards() {
        let busy = sled(1, (16, 8), (64, 0));
        let idle = sled(2, (16, 0), (64, 16));
        assert_eq!(
            choose(demand(2, 2), &[busy, idle.clone()], now()),
            Ok(idle.id)
        );
    }

    #[test]
    fn of_two_alike_the_lower_id_is_chosen() {
        let (a, b) = (sled(1, (8, 0), (16, 0)), sled(2, (8, 0), (16, 0)));
        let chosen = choose(demand(1, 1), &[b, a.clone()], now());
        assert_eq!(chosen, Ok(a.id));
    }

    #[test]
    fn a_sled_is_filled_to_the_brim_and_no_further() {
        let full_but_two = [sled(1, (8, 6), (16, 14))];
        assert!(choose(demand(2, 2), &full_but_two, now()).is_ok());
        assert!(choose(demand(3, 2), &full_but_two, now()).is_err());
        assert!(choose(demand(2, 3), &full_but_two, now()).is_err());
    }

    #[test]
    fn a_sled_that_is_gone_closed_or_silent_is_never_chosen() {
        let whole = || sled(1, (8, 0), (16, 0));
        let sleds = [expunged(whole()), closed(whole()), silent(whole())];
        let account = choose(demand(1, 1), &sleds, now()).unwrap_err();
        let expected = Excluded {
            not_in_service: 1,
            not_provisionable: 1,
            unreachable: 1,
            ..Excluded::default()
        };
        assert_eq!(account.excluded, expected);
        assert_eq!(account.best_sled, None);
    }

    #[test]
    fn a_shortfall_says_what_was_short_and_by_how_much_on_the_best_sled() {
        let sleds = [sled(1, (8, 6), (16, 15)), sled(2, (8, 8), (16, 16))];
        for (asked, short) in [
            (
                demand(3, 1),
                "3 vCPUs and 1 GiB of memory: the best one is \
                            short of 1 vCPUs.",
            ),
            (
                demand(2, 2),
                "2 vCPUs and 2 GiB of memory: the best one is \
                            short of 1 GiB of memory.",
            ),
            (
                demand(4, 3),
                "4 vCPUs and 3 GiB of memory: the best one is \
                            short of 2 vCPUs and 2 GiB of memory.",
            ),
        ] {
            let failure = failure(asked, &sleds);
            assert_eq!(failure.kind, StartFailureKind::InsufficientCapacity);
            assert_eq!(
                failure.message,
                format!(
                    "No host has room for {short} It will start when room \
                     appears."
                )
            );
            assert!(failure.transient);
        }
    }

    #[test]
    fn one_that_no_host_could_take_even_empty_is_told_so_and_not_retried() {
        let failure = failure(demand(9, 1), &[sled(1, (8, 0), (16, 0))]);
        assert_eq!(
            failure.message,
            "No host has room for 9 vCPUs and 1 GiB of memory: the best one \
             is short of 1 vCPUs. No host is large enough for it, even an \
             empty one."
        );
        assert!(!failure.transient);
    }

    #[test]
    fn a_large_host_that_is_closed_for_now_may_take_it_later() {
        let small = sled(1, (8, 0), (16, 0));
        for later in [closed, silent] {
            let large = later(sled(2, (64, 0), (256, 0)));
            assert!(failure(demand(9, 1), &[small.clone(), large]).transient);
        }
        let gone = expunged(sled(2, (64, 0), (256, 0)));
        assert!(!failure(demand(9, 1), &[small, gone]).transient);
    }

    #[test]
    fn without_a_host_that_takes_instances_that_is_what_is_said() {
        let closed = closed(sled(1, (8, 0), (16, 0)));
        for sleds in [vec![], vec![closed]] {
            let failure = failure(demand(1, 1), &sleds);
            assert_eq!(failure.kind, StartFailureKind::NoSledInService);
            assert_eq!(
                failure.message,
                "There is no host in service that takes new instances."
            );
            assert!(failure.transient);
        }
    }

    fn any_sled() -> impl Strategy<Value = Sled> {
        let size = (0..=16i64, 0..=16i64, 0..=32u32, 0..=32u32);
        (size, 0..10u8).prop_map(|((vcpus, used, memory, held), luck)| {
            let (used, held) = (used.min(vcpus), held.min(memory));
            let sled = sled(0, (vcpus, used), (memory, held));
            match luck {
                0 => expunged(sled),
                1 => closed(sled),
                2 => silent(sled),
                _ => sled,
            }
        })
    }

    /// Sleds with an id each.
    fn any_sleds() -> impl Strategy<Value = Vec<Sled>> {
        prop::collection::vec(any_sled(), 0..8).prop_map(|mut sleds| {
            for (n, sled) in (1..).zip(&mut sleds) {
                sled.id = SledId(Uuid::from_u128(n));
            }
            sleds
        })
    }

    fn any_demand() -> impl Strategy<Value = Demand> {
        (1..=16i64, 1..=32u32).prop_map(|(vcpus, gib)| demand(vcpus, gib))
    }

    fn takes_instances(sled: &Sled) -> bool {
        sled.policy == SledPolicy::InService
            && sled.provision_policy == SledProvisionPolicy::Provisionable
            && now() - sled.time_last_heartbeat <= crate::HEARTBEAT_ALLOWANCE
    }

    fn has_room(demand: Demand, sled: &Sled) -> bool {
        sled.reserved_vcpus + demand.vcpus <= sled.vcpus
            && sled.reserved_memory_bytes.to_i64() + demand.memory.to_i64()
                <= sled.memory_bytes.to_i64()
    }

    /// How full a sled would be by its scarcer resource, as a fraction.
    fn fullness(demand: Demand, sled: &Sled) -> (i128, i128) {
        let vcpus = (
            i128::from(sled.reserved_vcpus + demand.vcpus),
            i128::from(sled.vcpus),
        );
        let memory = (
            i128::from(
                sled.reserved_memory_bytes.to_i64() + demand.memory.to_i64(),
            ),
            i128::from(sled.memory_bytes.to_i64()),
        );
        if vcpus.0 * memory.1 >= memory.0 * vcpus.1 { vcpus } else { memory }
    }

    proptest! {
        #[test]
        fn a_sled_is_found_iff_there_is_one_with_room(
            demand in any_demand(),
            sleds in any_sleds(),
        ) {
            let found = choose(demand, &sleds, now());
            let will_do: Vec<&Sled> = sleds
                .iter()
                .filter(|s| takes_instances(s) && has_room(demand, s))
                .collect();
            prop_assert_eq!(found.is_ok(), !will_do.is_empty());
            let Ok(found) = found else { return Ok(()) };
            let chosen = will_do.iter().find(|s| s.id == found);
            prop_assert!(chosen.is_some(), "{found} has no room");
            let (part, whole) = fullness(demand, chosen.unwrap());
            for other in will_do {
                let (other_part, other_whole) = fullness(demand, other);
                // No fuller than any other, to a millionth.
                prop_assert!(
                    part * other_whole * 1_000_000
                        <= other_part * whole * 1_000_000 + whole * other_whole,
                    "{} would be less full", other.id
                );
            }
        }

        #[test]
        fn the_account_of_a_shortfall_adds_up(
            demand in any_demand(),
            sleds in any_sleds(),
        ) {
            let Err(account) = choose(demand, &sleds, now()) else {
                return Ok(());
            };
            let count = |so: &dyn Fn(&Sled) -> bool| {
                u32::try_from(sleds.iter().filter(|s| so(s)).count()).unwrap()
            };
            let lacks_vcpus =
                |s: &Sled| s.vcpus - s.reserved_vcpus < demand.vcpus;
            let excluded = Excluded {
                not_in_service: count(&|s| s.policy == SledPolicy::Expunged),
                not_provisionable: count(&|s| {
                    s.policy != SledPolicy::Expunged
                        && s.provision_policy
                            == SledProvisionPolicy::NonProvisionable
                }),
                unreachable: count(&|s| {
                    !takes_instances(s)
                        && s.policy != SledPolicy::Expunged
                        && s.provision_policy
                            == SledProvisionPolicy::Provisionable
                }),
                vcpus: count(&|s| takes_instances(s) && lacks_vcpus(s)),
                memory: count(&|s| takes_instances(s) && !lacks_vcpus(s)),
            };
            prop_assert_eq!(&account.excluded, &excluded);
            prop_assert_eq!(account.sleds_considered, count(&|_| true));
            prop_assert_eq!(
                account.best_sled.is_some(),
                sleds.iter().any(takes_instances)
            );
            let fits_empty = sleds.iter().any(|s| {
                let mut empty = s.clone();
                empty.reserved_vcpus = 0;
                empty.reserved_memory_bytes = ByteCount::ZERO;
                s.policy == SledPolicy::InService && has_room(demand, &empty)
            });
            prop_assert_eq!(account.fits_an_empty_sled, fits_empty);
        }

        /// The sled that comes nearest would take the instance if it had just
        /// what is said to be missing, and not with less.
        #[test]
        fn what_is_said_to_be_missing_is_what_is_missing(
            demand in any_demand(),
            sleds in any_sleds(),
        ) {
            let Err(account) = choose(demand, &sleds, now()) else {
                return Ok(());
            };
            let Some(best) = account.best_sled else { return Ok(()) };
            let vcpus = i64::from(best.free_vcpus);
            let memory = best.free_memory.to_i64();
            let more = |vcpus: i64, memory: i64| {
                let mut sled = sled(1, (vcpus, 0), (0, 0));
                sled.memory_bytes = memory.try_into().unwrap();
                choose(demand, &[sled], now()).is_ok()
            };
            let short_vcpus = i64::from(best.short_vcpus);
            let short_memory = best.short_memory.to_i64();
            prop_assert!(short_vcpus + short_memory > 0);
            prop_assert!(more(vcpus + short_vcpus, memory + short_memory));
            if short_vcpus > 0 {
                prop_assert!(!more(
                    vcpus + short_vcpus - 1,
                    memory + short_memory
                ));
            }
            if short_memory > 0 {
                prop_assert!(!more(
                    vcpus + short_vcpus,
                    memory + short_memory - 1
                ));
            }
            // No sled that takes instances comes nearer, of those on which it
            // fits when they are empty, if there are any.
            let open = |s: &&Sled| takes_instances(s);
            let large = |s: &Sled| fits_when_empty(demand, s);
            let any_large = sleds.iter().filter(open).any(large);
            let near = |s: &&Sled| open(s) && (large(s) || !any_large);
            let missing = |vcpus: i64, memory: i64| {
                let vcpus = (i128::from(vcpus), i128::from(demand.vcpus));
                let memory =
                    (i128::from(memory), i128::from(demand.memory.to_i64()));
                if vcpus.0 * memory.1 >= memory.0 * vcpus.1 {
                    vcpus
                } else {
                    memory
                }
            };
            let (part, whole) = missing(short_vcpus, short_memory);
            for other in sleds.iter().filter(near) {
                let lacks = (demand.vcpus - other.vcpus + other.reserved_vcpus)
                    .max(0);
                let lacks_memory = (demand.memory.to_i64()
                    - other.memory_bytes.to_i64()
                    + other.reserved_memory_bytes.to_i64())
                .max(0);
                let (other_part, other_whole) = missing(lacks, lacks_memory);
                prop_assert!(
                    part * other_whole * 1_000_000
                        <= other_part * whole * 1_000_000 + whole * other_whole
                );
            }
        }

        #[test]
        fn the_order_in_which_sleds_are_listed_does_not_matter(
            demand in any_demand(),
            (sleds, shuffled) in any_sleds().prop_flat_map(|sleds| {
                (Just(sleds.clone()), Just(sleds).prop_shuffle())
            }),
        ) {
            prop_assert_eq!(
                choose(demand, &sleds, now()),
                choose(demand, &shuffled, now())
            );
        }
    }
}
