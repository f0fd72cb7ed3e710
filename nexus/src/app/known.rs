//! Credentials that were looked up just now: who asks often is not looked up
//! each time.

use super::digest;
use crate::authz::{Held, Rights};
use crate::context::{Credential, OpContext};
use crate::error::Error;
use db_model::{AuthMethod, SiloId, SiloUserId};
use db_queries::Authenticated;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how long what was found is taken for true. So long, at most, a credential
/// that was revoked by way of another process is good here, and a role that was
/// given there is not known; what is done by way of this process is
/// [forgotten](Known::forget) at once.
const TRUSTED: Duration = Duration::from_secs(1);

/// How many there are at most: beyond that, each is looked up each time.
const MOST: usize = 10_000;

/// From how many on those that are too old are thrown out, each time that there
/// are twice as many as were left the last time.
const SWEPT: usize = 256;

/// A kind of credential, and the digest of one.
type Key = (AuthMethod, [u8; 32]);

/// Whom credentials spoke for.
#[derive(Debug, Default)]
pub(super) struct Known {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    found: HashMap<Key, Found>,
    /// How many were left when the last were thrown out.
    left: usize,
    /// How often all was forgotten: what was asked before that is not kept.
    forgotten: u64,
}

#[derive(Debug)]
struct Found {
    /// When it was asked.
    since: Instant,
    who: Who,
}

#[derive(Clone, Debug)]
struct Who {
    user_id: SiloUserId,
    silo_id: SiloId,
    credential: Credential,
    held: Arc<Held>,
}

impl Known {
    /// Whom `secret` speaks for: as it was found a moment ago, or as `look`
    /// finds it now.
    ///
    /// # Errors
    ///
    /// `Unauthenticated`: nobody, which is asked each time; those of `look`.
    pub(super) async fn who<L>(
        &self,
        method: AuthMethod,
        secret: &str,
        look: impl FnOnce() -> L,
    ) -> Result<OpContext, Error>
    where
        L: Future<Output = Result<Authenticated, db_queries::Error>>,
    {
        let key = (method, digest(secret));
        let since = Instant::now();
        let forgotten = {
            let table = self.table();
            if let Some(who) = table.fresh(&key, since) {
                return Ok(who.asks());
            }
            table.forgotten
        };
        let found = match look().await {
            Err(db_queries::Error::NotFound) => {
                return Err(Error::Unauthenticated);
            }
            found => found?,
        };
        let who = Who {
            user_id: found.user_id,
            silo_id: found.silo_id,
            credential: Credential { method, id: found.credential_id },
            held: Arc::new(Held::new(found.roles)),
        };
        let asks = who.asks();
        self.table().keep(key, Found { since, who }, forgotten);
        Ok(asks)
    }

    /// Forgets all: a credential has become bad, or a user has other roles.
    pub(super) fn forget(&self) {
        let mut table = self.table();
        table.found.clear();
        table.forgotten += 1;
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn fresh(&self, key: &Key, now: Instant) -> Option<&Who> {
        let found = self.found.get(key)?;
        found.is_fresh(now).then_some(&found.who)
    }

    fn keep(&mut self, key: Key, found: Found, forgotten: u64) {
        if self.forgotten != forgotten {
            return;
        }
        if self.found.len() >= (2 * self.left).clamp(SWEPT, MOST) {
            let now = Instant::now();
            self.found.retain(|_, found| found.is_fresh(now));
            self.left = self.found.len();
        }
        if self.found.len() < MOST {
            self.found.insert(key, found);
        }
    }
}

impl Found {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < TRUSTED
    }
}

impl Who {
    /// In a request of its own.
    fn asks(&self) -> OpContext {
        OpContext {
            user_id: self.user_id,
            silo_id: self.silo_id,
            credential: self.credential,
            rights: Arc::new(Rights::new(Arc::clone(&self.held))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use uuid::Uuid;

    async fn ask(known: &Known, secret: &str, looks: &Cell<u32>) -> OpContext {
        let found = known.who(AuthMethod::AccessToken, secret, || {
            looks.set(looks.get() + 1);
            std::future::ready(Ok(found()))
        });
        found.await.expect("known")
    }

    fn who() -> Who {
        Who {
            user_id: SiloUserId(Uuid::nil()),
            silo_id: SiloId(Uuid::nil()),
            credential: Credential {
                method: AuthMethod::AccessToken,
                id: Uuid::nil(),
            },
            held: Arc::new(Held::new(Vec::new())),
        }
    }

    fn found() -> Authenticated {
        Authenticated {
            user_id: SiloUserId(Uuid::nil()),
            silo_id: SiloId(Uuid::nil()),
            credential_id: Uuid::nil(),
            roles: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_credential_is_looked_up_once_until_all_is_forgotten() {
        let (known, looks) = (Known::default(), Cell::new(0));
        ask(&known, "one", &looks).await;
        ask(&known, "one", &looks).await;
        assert_eq!(looks.get(), 1);
        ask(&known, "another", &looks).await;
        assert_eq!(looks.get(), 2);
        known.forget();
        ask(&known, "one", &looks).await;
        assert_eq!(looks.get(), 3);
    }

    #[tokio::test]
    async fn what_was_asked_before_all_was_forgotten_is_not_kept() {
        let (known, looks) = (Known::default(), Cell::new(0));
        let asked = known.who(AuthMethod::AccessToken, "one", || {
            known.forget();
            std::future::ready(Ok(found()))
        });
        asked.await.expect("known");
        ask(&known, "one", &looks).await;
        assert_eq!(looks.get(), 1);
    }

    #[test]
    fn what_was_found_a_second_ago_is_found_out_again() {
        let since = Instant::now();
        let found = Found { since, who: who() };
        assert!(found.is_fresh(since + Duration::from_millis(999)));
        assert!(!found.is_fresh(since + Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn of_more_than_can_be_kept_the_rest_is_looked_up_each_time() {
        let (known, looks) = (Known::default(), Cell::new(0));
        for n in 0..MOST {
            ask(&known, &n.to_string(), &Cell::new(0)).await;
        }
        ask(&known, "one more", &looks).await;
        ask(&known, "one more", &looks).await;
        let kept = known.table().found.len();
        assert!(looks.get() == 2 || kept < MOST, "{looks:?}, {kept}");
    }

    #[test]
    fn what_is_too_old_does_not_pile_up() {
        let mut table = Table::default();
        let now = Instant::now();
        for n in 0..10 * SWEPT {
            let old = Duration::from_secs(2);
            let since = now.checked_sub(old).expect("a clock that runs");
            let key = (AuthMethod::AccessToken, digest(&n.to_string()));
            table.keep(key, Found { since, who: who() }, 0);
        }
        assert!(table.found.len() <= SWEPT, "{}", table.found.len());
    }
}
