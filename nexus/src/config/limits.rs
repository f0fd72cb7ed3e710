//! What clients of the external API may take, so that one of them, or a
//! thousand, cannot take it from the others.

use serde::Deserialize;
use std::num::NonZeroU32;
use std::time::Duration;

/// The bounds, each with its unit last. The defaults are for production; tests
/// lower them.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Path and query; else 414. The longest that clients need is a page token,
    /// of under one KiB.
    pub uri_max_bytes: u32,
    /// Names and values of all headers; else 431. The longest that clients need
    /// are a console's cookies, and what proxies add, of some KiB.
    pub headers_max_bytes: u32,
    /// The body, else 413: many times that of a large new instance. A chunk of a
    /// disk's import has a bound of its own, of 1 MiB.
    pub body_max_bytes: u32,
    /// The body must be there whole after so long, else 408. The largest takes
    /// a second on a line of 10 Mbit/s.
    pub body_secs: u32,
    /// So many bytes of bodies are held at a time, of requests that are not at
    /// work yet, whoever they are from; else 503. Five hundred of the largest,
    /// or sixty chunks of imports: more than get their turn in a second.
    pub bodies_bytes: u32,
    /// A request is answered after so long, else 503; what it has begun goes on.
    /// Longer than all that it may wait for by itself: its turn (10 s), a
    /// connection to the database (5 s), a slow statement (15 s), a create's
    /// saga (30 s). One that waits for a change may wait as long as it asks to
    /// besides.
    pub request_secs: u32,
    /// One request for so many connections to the database is at work. A request
    /// uses one at a time at most, and one that creates has a saga use it; so
    /// half of them are left to what users do not wait for: the reconciler, its
    /// sagas, sleds' reports.
    pub connections_per_request: NonZeroU32,
    /// So many requests wait for each that is at work; else 503. At a tenth of
    /// a second for a request, which is slow, the last of them gets its turn
    /// after under two seconds.
    pub waiting_per_request: u32,
    /// A request waits so long for its turn, else 503. Whoever waits for longer
    /// waits for something that is broken, and clients and proxies give up from
    /// 15 s on.
    pub waiting_secs: u32,
    /// So many requests wait for a change, which is not their turn; else 503.
    /// Each is a connection and a task, of some ten KiB together.
    pub waiting_for_change: u32,
    /// So many requests a second of one token or session are taken; else 429.
    /// Terraform has ten in flight, of some 50 ms each, which makes 200; a
    /// console asks for thirty at a time, now and then. All together it is under
    /// a tenth of what a Nexus answers.
    pub credential_per_second: NonZeroU32,
    /// So many at once after a pause: a plan of a thousand resources is read
    /// without a refusal.
    pub credential_burst: NonZeroU32,
    /// The same for one address, of requests without a token or session that is
    /// known to be valid, and of logins. Each costs a look into the database at
    /// most. Users of one office share it only until their tokens are known.
    pub source_per_second: NonZeroU32,
    /// So many at once after a pause: an office comes to work, or Nexus is
    /// started again.
    pub source_burst: NonZeroU32,
    /// Connections of clients at a time; who comes then is turned away. Twice as
    /// many as may wait for a change. Each takes three file descriptors and some
    /// 50 KiB.
    pub connections: u32,
    /// Of one address. A trusted proxy has as many as there are.
    pub connections_per_source: u32,
    /// A connection without a request after so long is closed: that sends its
    /// headers byte by byte, or does not get through its TLS handshake. A
    /// browser opens some in advance, and opens new ones when these are gone.
    pub first_request_secs: u32,
    /// A client that takes less than 16 KiB of its answer in so long is cut
    /// off: the slowest line that people use is a hundred times as fast.
    pub stuck_secs: u32,
    /// A connection on which nothing was sent either way for so long is closed:
    /// longer than any request waits. What is left is a forgotten console.
    pub idle_secs: u32,
}

const fn nonzero(n: u32) -> NonZeroU32 {
    match NonZeroU32::new(n) {
        Some(n) => n,
        None => NonZeroU32::MIN,
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            uri_max_bytes: 8 << 10,
            headers_max_bytes: 16 << 10,
            body_max_bytes: 128 << 10,
            body_secs: 30,
            bodies_bytes: 64 << 20,
            request_secs: 90,
            connections_per_request: nonzero(2),
            waiting_per_request: 16,
            waiting_secs: 10,
            waiting_for_change: 4096,
            credential_per_second: nonzero(200),
            credential_burst: nonzero(2000),
            source_per_second: nonzero(100),
            source_burst: nonzero(1000),
            connections: 8192,
            connections_per_source: 2048,
            first_request_secs: 30,
            stuck_secs: 30,
            idle_secs: 3600,
        }
    }
}

impl Limits {
    /// What sleds may take of the port where they join: anybody may connect, and
    /// few do at a time, for a handshake and one request of a KiB, once. Two
    /// racks that are switched on at once find room, half of it is left when one
    /// address takes all that it can, and who says nothing goes soon. A sled
    /// that is turned away asks again.
    pub fn of_joins() -> Limits {
        Limits {
            connections: 64,
            connections_per_source: 32,
            first_request_secs: 5,
            stuck_secs: 5,
            idle_secs: 60,
            ..Limits::default()
        }
    }

    /// See `body_secs`.
    pub fn body(&self) -> Duration {
        Duration::from_secs(self.body_secs.into())
    }

    /// See `request_secs`.
    pub fn request(&self) -> Duration {
        Duration::from_secs(self.request_secs.into())
    }

    /// See `waiting_secs`.
    pub fn waiting(&self) -> Duration {
        Duration::from_secs(self.waiting_secs.into())
    }

    /// See `first_request_secs`.
    pub fn first_request(&self) -> Duration {
        Duration::from_secs(self.first_request_secs.into())
    }

    /// See `stuck_secs`.
    pub fn stuck(&self) -> Duration {
        Duration::from_secs(self.stuck_secs.into())
    }

    /// See `idle_secs`.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_secs.into())
    }
}

/// A bound as a number of things in memory.
pub fn count(bound: u32) -> usize {
    usize::try_from(bound).unwrap_or(usize::MAX)
}
