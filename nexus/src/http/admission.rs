//! The queue in front of the external API: users' requests take turns, so that
//! however many there are, the database serves some of them in good time, and
//! what Nexus does by itself, always.
//!
//! A request takes its place before it asks the database anything, who its user
//! is included. Sleds do not queue here: what they report is how things get
//! better.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::config::{Limits, count};
use crate::error::Error;

/// Who is refused is told to come back after a second, or some more by chance,
/// so that those who were refused together do not come back together.
const RETRY_AFTER_SECS: std::ops::Range<u32> = 1..5;

/// The queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    line: Arc<Semaphore>,
    aside: Arc<Semaphore>,
    /// A permit is a byte.
    bodies: Arc<Semaphore>,
    /// How many places there are, and how many may wait for one.
    size: (usize, usize),
    limits: Limits,
    refused: Counter,
}

/// A place, until it is dropped.
pub(super) type Place = OwnedSemaphorePermit;

/// Room for bytes of a body, until it is dropped.
pub(super) type Room = OwnedSemaphorePermit;

impl Admission {
    /// A queue for a Nexus with so many connections to its database.
    pub fn new(database_connections: u32, limits: Limits) -> Admission {
        let places = database_connections / limits.connections_per_request;
        let places = count(places).max(1);
        let line = places.saturating_mul(count(limits.waiting_per_request));
        Admission {
            places: Arc::new(Semaphore::new(places)),
            line: Arc::new(Semaphore::new(line)),
            aside: Arc::new(Semaphore::new(count(limits.waiting_for_change))),
            bodies: Arc::new(Semaphore::new(count(limits.bodies_bytes))),
            size: (places, line),
            limits,
            refused: Counter::default(),
        }
    }

    /// A place among those at work: at once, or when all who came before have
    /// had theirs.
    ///
    /// # Errors
    ///
    /// `Unavailable`: too many wait already, or for too long.
    pub(super) async fn place(&self) -> Result<Place, Error> {
        let place = || Arc::clone(&self.places);
        if let Ok(place) = place().try_acquire_owned() {
            return Ok(place);
        }
        let Ok(_in_line) = self.line.try_acquire() else {
            return Err(self.refuse("has more requests than it can take"));
        };
        let turn = tokio::time::timeout(
            self.limits.waiting(),
            place().acquire_owned(),
        );
        // The semaphore is never closed, so only the time can be over.
        turn.await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| self.refuse("is too slow at the moment"))
    }

    /// A place among those at work, if one is free and nobody waits for it.
    pub(super) fn place_at_once(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place among those who wait for a change, which keeps nobody else from
    /// work.
    ///
    /// # Errors
    ///
    /// `Unavailable`: too many wait already.
    pub(super) fn place_aside(&self) -> Result<Place, Error> {
        Arc::clone(&self.aside).try_acquire_owned().map_err(|_| {
            self.refuse("has more requests that wait for a change than it can")
        })
    }

    /// Room for so many more bytes of a body.
    ///
    /// # Errors
    ///
    /// `Unavailable`: there is none.
    pub(super) fn room(&self, bytes: usize) -> Result<Room, Error> {
        u32::try_from(bytes)
            .ok()
            .and_then(|n| {
                Arc::clone(&self.bodies).try_acquire_many_owned(n).ok()
            })
            .ok_or_else(|| {
                self.refuse("holds as many bodies of requests as it can")
            })
    }

    /// Requests that are at work.
    pub fn at_work(&self) -> usize {
        self.size.0.saturating_sub(self.places.available_permits())
    }

    /// Requests that wait for a place.
    pub fn waiting(&self) -> usize {
        self.size.1.saturating_sub(self.line.available_permits())
    }

    /// Requests that wait for a change.
    pub fn aside(&self) -> usize {
        count(self.limits.waiting_for_change)
            .saturating_sub(self.aside.available_permits())
    }

    /// Requests that were refused.
    pub fn refused(&self) -> &Counter {
        &self.refused
    }

    fn refuse(&self, why: &str) -> Error {
        self.refused.inc();
        let chance = Uuid::new_v4().as_fields().0;
        let spread = RETRY_AFTER_SECS.end - RETRY_AFTER_SECS.start;
        Error::Unavailable {
            message: format!(
                "This server {why}. Nothing was done. Ask again in a few \
                 seconds."
            ),
            retry_after_secs: RETRY_AFTER_SECS.start + chance % spread,
            source: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITING: u32 = 16;
    const ASIDE: u32 = 100;

    /// With one place.
    fn of_one(waiting_per_request: u32) -> Admission {
        let limits = Limits {
            waiting_per_request,
            waiting_for_change: ASIDE,
            ..Limits::default()
        };
        Admission::new(2, limits)
    }

    fn refused(place: Result<Place, Error>) -> u32 {
        match place {
            Err(Error::Unavailable { retry_after_secs, .. }) => {
                retry_after_secs
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn half_of_the_connections_and_one_at_least_are_for_requests() {
        for (connections, places) in
            [(0, 1), (1, 1), (2, 1), (3, 1), (16, 8), (32, 16)]
        {
            let admission = Admission::new(connections, Limits::default());
            assert_eq!(admission.size, (places, places * count(WAITING)));
        }
    }

    #[tokio::test]
    async fn places_are_given_in_turn_and_who_is_too_many_is_refused() {
        let admission = of_one(WAITING);
        let held = admission.place().await.expect("the only place");
        let line: Vec<_> = (0..count(WAITING))
            .map(|_| {
                let admission = admission.clone();
                tokio::spawn(async move { admission.place().await.is_ok() })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(admission.at_work(), 1);
        assert_eq!(admission.waiting(), count(WAITING));

        let secs = refused(admission.place().await);
        assert!(RETRY_AFTER_SECS.contains(&secs));
        assert_eq!(admission.refused().get(), 1);

        drop(held);
        for waiting in line {
            assert!(waiting.await.expect("no panic"));
        }
        assert_eq!((admission.at_work(), admission.waiting()), (0, 0));
        assert_eq!(admission.refused().get(), 1);
    }

    #[tokio::test]
    async fn who_waits_for_too_long_is_refused_and_leaves_the_line() {
        let mut admission = of_one(WAITING);
        admission.limits.waiting_secs = 0;
        let held = admission.place().await.expect("the only place");
        refused(admission.place().await);
        assert_eq!((admission.at_work(), admission.waiting()), (1, 0));
        drop(held);
        drop(admission.place().await.expect("a place"));
    }

    #[tokio::test]
    async fn who_stands_aside_takes_no_place_and_is_counted() {
        let admission = of_one(WAITING);
        let aside: Vec<_> = (0..count(ASIDE))
            .map(|_| admission.place_aside().expect("a place aside"))
            .collect();
        assert_eq!(admission.aside(), count(ASIDE));
        assert_eq!((admission.at_work(), admission.waiting()), (0, 0));
        refused(admission.place_aside());
        drop(admission.place().await.expect("a place"));
        drop(aside);
        assert_eq!(admission.aside(), 0);
    }
}
