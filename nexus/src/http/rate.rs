//! How often a client may ask: so many requests a second of one token or
//! session, and so many of one address without one.
//!
//! It is decided before the database is asked anything. So it is not known of a
//! credential that is new to this process whether it is valid, and until it has
//! proved to be, its requests count for the address that they come from: who
//! tries one token after the other gets no further for it. What is kept of a
//! credential is its SHA-256.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::door::subscriber;
use crate::error::Error;

/// So many credentials, and so many addresses, are remembered at most: those
/// of the last while. Each takes a hundred bytes.
const REMEMBERED: usize = 32_768;

/// Operations of whom nobody is yet: they count for their address, whatever
/// credentials they show besides.
const OF_NOBODY: [&str; 4] = [
    "device_access_token",
    "device_auth_request",
    "login_local",
    "login_local_form",
];

/// By which a token or session is known.
pub(super) type Credential = [u8; 32];

/// Who has asked how often. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rates {
    of_credential: Rate,
    of_source: Rate,
    asked: Arc<Mutex<Asked>>,
}

#[derive(Debug, Default)]
struct Asked {
    by_credential: Recent<Credential>,
    by_source: Recent<IpAddr>,
}

/// So many a second, and so many at once.
#[derive(Clone, Copy, Debug)]
struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

/// How many requests may still come now.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// Buckets of those who came lately: when the young ones are half of what may
/// be, the old ones are forgotten, and begin full if they come again.
#[derive(Debug)]
struct Recent<K> {
    young: HashMap<K, Bucket>,
    old: HashMap<K, Bucket>,
}

impl Rates {
    /// Nobody has asked yet.
    pub fn new(limits: &Limits) -> Rates {
        Rates {
            of_credential: Rate {
                per_second: limits.credential_per_second,
                burst: limits.credential_burst,
            },
            of_source: Rate {
                per_second: limits.source_per_second,
                burst: limits.source_burst,
            },
            asked: Arc::default(),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    ///
    /// `TooManyRequests`: it was not counted, and is not to be served.
    pub(super) fn count(
        &self,
        operation: &str,
        credential: Option<&Credential>,
        source: IpAddr,
        now: Instant,
    ) -> Result<(), Error> {
        self.ask(operation, credential, source, now, true)
    }

    /// Whether a request would be counted, so that nothing more need be read of
    /// one that would not.
    ///
    /// # Errors
    ///
    /// `TooManyRequests`: it would not.
    pub(super) fn look(
        &self,
        operation: &str,
        credential: Option<&Credential>,
        source: IpAddr,
        now: Instant,
    ) -> Result<(), Error> {
        self.ask(operation, credential, source, now, false)
    }

    fn ask(
        &self,
        operation: &str,
        credential: Option<&Credential>,
        source: IpAddr,
        now: Instant,
        counts: bool,
    ) -> Result<(), Error> {
        let source = subscriber(source);
        let credential = credential.filter(|_| !OF_NOBODY.contains(&operation));
        let mut asked = self.asked();
        let known =
            credential.and_then(|it| Some((*it, asked.by_credential.get(it)?)));
        let (rate, of_whom, waits) = match known {
            Some((credential, mut bucket)) => {
                let waits = self.of_credential.take(&mut bucket, now);
                if counts {
                    asked.by_credential.put(credential, bucket);
                }
                (self.of_credential, "with this token or session", waits)
            }
            None => {
                let bucket = asked.by_source.get(&source);
                let mut bucket = bucket.unwrap_or(self.of_source.full(now));
                let waits = self.of_source.take(&mut bucket, now);
                if counts {
                    asked.by_source.put(source, bucket);
                }
                (self.of_source, "from this address", waits)
            }
        };
        drop(asked);
        waits.map_err(|wait| rate.refusal(of_whom, wait))
    }

    /// A credential has proved to be valid, or not to be.
    pub(super) fn proved(
        &self,
        credential: Credential,
        valid: bool,
        now: Instant,
    ) {
        let mut asked = self.asked();
        let known = asked.by_credential.get(&credential).is_some();
        if valid && !known {
            let full = self.of_credential.full(now);
            asked.by_credential.put(credential, full);
        } else if !valid && known {
            asked.by_credential.remove(&credential);
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rate {
    fn full(self, now: Instant) -> Bucket {
        Bucket { left: self.burst.get().into(), at: now }
    }

    /// Takes one, or says when there is one.
    fn take(self, bucket: &mut Bucket, now: Instant) -> Result<(), Duration> {
        let per_second = f64::from(self.per_second.get());
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * per_second)
            .min(f64::from(self.burst.get()));
        bucket.at = bucket.at.max(now);
        if bucket.left < 1.0 {
            let secs = (1.0 - bucket.left) / per_second;
            return Err(Duration::from_secs_f64(secs));
        }
        bucket.left -= 1.0;
        Ok(())
    }

    fn refusal(self, of_whom: &str, wait: Duration) -> Error {
        let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let secs = u32::try_from(whole).unwrap_or(u32::MAX).max(1);
        Error::TooManyRequests {
            message: format!(
                "too many requests {of_whom}: {} a second are taken, and after \
                 a pause {} at once. Nothing was done. Ask again in {secs} s.",
                self.per_second, self.burst,
            ),
            retry_after_secs: secs,
        }
    }
}

impl<K> Default for Recent<K> {
    fn default() -> Recent<K> {
        Recent { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash> Recent<K> {
    fn get(&self, key: &K) -> Option<Bucket> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    fn put(&mut self, key: K, bucket: Bucket) {
        if self.young.len() >= REMEMBERED / 2 && !self.young.contains_key(&key)
        {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, bucket);
    }

    fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOMEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn rates(credential: (u32, u32), source: (u32, u32)) -> Rates {
        let of = |n| NonZeroU32::new(n).expect("not zero");
        Rates::new(&Limits {
            credential_per_second: of(credential.0),
            credential_burst: of(credential.1),
            source_per_second: of(source.0),
            source_burst: of(source.1),
            ..Limits::default()
        })
    }

    fn refused(counted: Result<(), Error>) -> u32 {
        match counted {
            Err(Error::TooManyRequests { retry_after_secs, .. }) => {
                retry_after_secs
            }
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn who_asks_too_often_is_refused_until_it_was_said_to_come_again() {
        let (rates, now) = (rates((1, 3), (1, 1)), Instant::now());
        rates.proved([1; 32], true, now);
        rates.proved([2; 32], true, now);
        let count =
            |who: u8, now| rates.count("me", Some(&[who; 32]), SOMEWHERE, now);
        for _ in 0..3 {
            count(1, now).expect("a burst");
            rates
                .look("me", Some(&[2; 32]), SOMEWHERE, now)
                .expect("to look counts for nothing");
        }
        assert_eq!(refused(count(1, now)), 1);
        refused(rates.look("me", Some(&[1; 32]), SOMEWHERE, now));
        count(2, now).expect("another is not affected");
        let later = now + Duration::from_secs(1);
        count(1, later).expect("it has waited");
        assert_eq!(refused(count(1, later)), 1);
        count(1, now + Duration::from_secs(99)).expect("it has waited");
        let full = now + Duration::from_secs(99);
        let burst = (0..9).filter(|_| count(1, full).is_ok()).count();
        assert_eq!(burst, 2, "and gets no more for having waited longer");
    }

    #[test]
    fn a_credential_counts_for_its_address_until_it_has_proved_valid() {
        let (rates, now) = (rates((1, 5), (1, 2)), Instant::now());
        let count =
            |who: u8| rates.count("me", Some(&[who; 32]), SOMEWHERE, now);
        count(1).expect("the first");
        count(2).expect("the second");
        refused(count(3));
        refused(rates.count("me", None, SOMEWHERE, now));
        rates.proved([1; 32], true, now);
        count(1).expect("it is known");
        let login = rates.count("login_local", Some(&[1; 32]), SOMEWHERE, now);
        refused(login);
        rates.proved([1; 32], false, now);
        refused(count(1));
    }

    #[test]
    fn no_more_are_remembered_than_may_be_and_those_of_late_are() {
        let now = Instant::now();
        let mut recent = Recent::default();
        let bucket = Bucket { left: 0.0, at: now };
        for n in 0..REMEMBERED * 3 {
            recent.put(n, bucket);
            assert!(recent.young.len() + recent.old.len() <= REMEMBERED);
        }
        let last = REMEMBERED * 3 - 1;
        assert!(recent.get(&last).is_some());
        assert!(recent.get(&(last - REMEMBERED / 2)).is_some());
        assert!(recent.get(&0).is_none());
    }

    #[test]
    fn who_waits_is_told_whole_seconds() {
        let rate = rates((1, 1), (1, 1)).of_source;
        for (wait, secs) in [(1, 1), (999, 1), (1_000, 1), (1_001, 2)] {
            let refusal = rate.refusal("x", Duration::from_millis(wait));
            assert_eq!(refused(Err(refusal)), secs, "{wait} ms");
        }
    }
}
