//! The door of the external API, and of the port where sleds join: every
//! connection of a client comes through here, and is passed on, byte by byte, to
//! the server within, which listens on the loopback alone.
//!
//! It is here since that server has no bound of its own on how many connections
//! there are, on how long a TLS handshake or a first line takes, and on a client
//! that does not take its answer. What is passed it does not look at, so it is
//! the same with TLS and without.
//!
//! The server within sees an address of the loopback; whose it is, [`Peers`]
//! knows.

use crate::config::Limits;
use prometheus_client::metrics::counter::Counter;
use slog::{Logger, debug, info, warn};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// How much is passed on at a time. Requests are small, and there may be
/// thousands of connections.
const UP_BYTES: usize = 4 << 10;
const DOWN_BYTES: usize = 16 << 10;

/// How long what a client still sends is read and thrown away, after the last
/// byte for it: if it were cut off at once, it might not see its answer.
const LINGER: Duration = Duration::from_secs(2);

/// Between two tries to accept, if there are no file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// File descriptors that one connection takes: the client's, and both ends of
/// the one within.
const DESCRIPTORS: u64 = 3;

/// File descriptors that are left to all else: the database, sleds, consoles,
/// sleds that join.
const DESCRIPTORS_LEFT: u64 = 1_400;

/// With fewer connections than these, one browser keeps all others out: such a
/// Nexus is better not begun.
const CONNECTIONS_MIN: u32 = 64;

/// Why a connection was ended by the door, or did not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turned {
    /// There are too many, in all or of one address.
    TooMany,
    /// It did not send a request.
    NoRequest,
    /// It did not take its answer.
    Stuck,
    /// Nothing was sent either way.
    Idle,
}

/// Who is connected. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    table: Arc<Mutex<Table>>,
    trusted_proxies: Arc<[IpAddr]>,
    limits: Limits,
    turned_away: Counter,
}

#[derive(Debug, Default)]
struct Table {
    /// By the address that the server within sees.
    by_inner: HashMap<SocketAddr, Arc<Peer>>,
    by_source: HashMap<IpAddr, u32>,
    all: u32,
}

#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    asked: AtomicBool,
}

/// A connection that is counted, until it is dropped.
struct Guest {
    peers: Peers,
    peer: Arc<Peer>,
    inner: Option<SocketAddr>,
}

/// A door that lets clients in.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Peers {
    /// Nobody yet.
    pub fn new(limits: Limits, trusted_proxies: &[IpAddr]) -> Peers {
        Peers {
            table: Arc::default(),
            trusted_proxies: trusted_proxies.into(),
            limits,
            turned_away: Counter::default(),
        }
    }

    /// Who asks, of whom the server within sees `inner`. It is known from here
    /// on that it has asked something. Who came by another way is who it is
    /// seen to be.
    pub fn who_asks(&self, inner: SocketAddr) -> SocketAddr {
        match self.table().by_inner.get(&inner) {
            Some(peer) => {
                peer.asked.store(true, Ordering::Relaxed);
                peer.address
            }
            None => inner,
        }
    }

    /// Connections that are open.
    pub fn connections(&self) -> u32 {
        self.table().all
    }

    /// Connections that were turned away, or cut off.
    pub fn turned_away(&self) -> &Counter {
        &self.turned_away
    }

    /// Counts one more, unless there are too many.
    fn enter(&self, address: SocketAddr) -> Option<Guest> {
        let source = source(address);
        let bound = match self.trusted_proxies.contains(&source) {
            true => self.limits.connections,
            false => self.limits.connections_per_source,
        };
        let mut table = self.table();
        let of_source = table.by_source.get(&source).copied().unwrap_or(0);
        if table.all >= self.limits.connections || of_source >= bound {
            return None;
        }
        table.all += 1;
        table.by_source.insert(source, of_source + 1);
        let peer = Arc::new(Peer { address, asked: AtomicBool::new(false) });
        Some(Guest { peers: self.clone(), peer, inner: None })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As it is counted: who has one IPv6 address has its whole network's.
pub(crate) fn source(address: SocketAddr) -> IpAddr {
    subscriber(address.ip())
}

/// The address for which somebody answers: of IPv6, the /64 that each of them
/// has at least.
pub(crate) fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::from(
            (address.to_bits() & !u128::from(u64::MAX)).to_be_bytes(),
        ),
        address @ IpAddr::V4(_) => address,
    }
}

impl Guest {
    /// From here on it is known who asks as `inner`.
    fn is_seen_as(&mut self, inner: SocketAddr) {
        let mut table = self.peers.table();
        table.by_inner.insert(inner, Arc::clone(&self.peer));
        self.inner = Some(inner);
    }

    fn has_asked(&self) -> bool {
        self.peer.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let source = source(self.peer.address);
        let mut table = self.peers.table();
        if let Some(inner) = self.inner {
            table.by_inner.remove(&inner);
        }
        table.all -= 1;
        let left = table.by_source.get(&source).copied().unwrap_or(1) - 1;
        match left {
            0 => table.by_source.remove(&source),
            left => table.by_source.insert(source, left),
        };
    }
}

impl Door {
    /// Lets clients in at `address`, to the server at `inside`.
    ///
    /// # Errors
    ///
    /// It cannot listen there.
    pub fn open(
        address: SocketAddr,
        inside: SocketAddr,
        peers: Peers,
        log: Logger,
    ) -> io::Result<Door> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let (closing, closed) = watch::channel(false);
        let task = tokio::spawn(let_in(listener, inside, peers, closed, log));
        Ok(Door { address, closing, task })
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nobody in any more. Who is inside stays.
    pub fn shut(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until all have gone, once it is shut, or the time is over.
    pub async fn emptied(self, within: Duration) {
        let stop = self.task.abort_handle();
        if timeout(within, self.task).await.is_err() {
            stop.abort();
        }
    }
}

async fn let_in(
    listener: TcpListener,
    inside: SocketAddr,
    peers: Peers,
    mut closed: watch::Receiver<bool>,
    log: Logger,
) {
    let mut guests = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = guests.join_next() => continue,
            // An error says that the process ends, too.
            _ = closed.wait_for(|closed| *closed) => break,
        };
        let (client, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(log, "cannot accept a connection"; "error" => %error);
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        match peers.enter(address) {
            Some(guest) => {
                guests.spawn(host(guest, client, inside, log.clone()));
            }
            None => {
                peers.turned_away.inc();
                info!(log, "turned a connection away";
                    "why" => ?Turned::TooMany, "peer" => %address);
            }
        }
    }
    drop(listener);
    while guests.join_next().await.is_some() {}
}

/// One connection, to its end.
async fn host(
    mut guest: Guest,
    client: TcpStream,
    inside: SocketAddr,
    log: Logger,
) {
    let connected = match timeout(LINGER, way_in(&mut guest, inside)).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => {
            warn!(log, "cannot let a connection in"; "error" => %error);
            return;
        }
        Err(_) => return,
    };
    // Each says at once what it has: neither waits to fill a packet.
    let _ = client.set_nodelay(true);
    let _ = connected.set_nodelay(true);
    let address = guest.peer.address;
    debug!(log, "a connection"; "peer" => %address, "seen_as" => ?guest.inner);
    if let Err(why) = pass(&guest, client, connected).await {
        guest.peers.turned_away.inc();
        info!(log, "cut a connection off";
            "why" => ?why, "peer" => %address);
    }
}

/// A connection to the server within, of which it is known beforehand what the
/// server will see.
async fn way_in(
    guest: &mut Guest,
    inside: SocketAddr,
) -> io::Result<TcpStream> {
    /// One address of the loopback has ports for some 28,000, of those that were
    /// closed a minute ago, too: so all of a network are used in turn.
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let host = NEXT.fetch_add(1, Ordering::Relaxed);
    let from = Ipv4Addr::new(127, 0, 1, host.clamp(1, 254));
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.into(), 0))?;
    guest.is_seen_as(socket.local_addr()?);
    socket.connect(inside).await
}

/// When a byte was last sent, either way.
#[derive(Debug)]
struct LastSent(Mutex<Instant>);

impl LastSent {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn when(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes on, both ways, until the server within has said its last.
async fn pass(
    guest: &Guest,
    client: TcpStream,
    inside: TcpStream,
) -> Result<(), Turned> {
    let limits = guest.peers.limits;
    let sent = LastSent(Mutex::new(Instant::now()));
    let (mut from_client, mut to_client) = client.into_split();
    let (from_inside, to_inside) = inside.into_split();
    let up = async {
        pass_up(&mut from_client, to_inside, &sent).await;
        // What it asked for is answered, though it asks for no more.
        std::future::pending::<()>().await;
    };
    let down = pass_down(from_inside, &mut to_client, &sent, limits.stuck());
    let passed = tokio::select! {
        passed = down => passed,
        () = up => Ok(()),
        turned = watch_over(guest, &sent, &limits) => Err(turned),
    };
    if passed.is_err() {
        // What it has not taken is not kept for it.
        let _ = to_client.as_ref().set_zero_linger();
        return passed;
    }
    let _ = to_client.shutdown().await;
    let _ = timeout(LINGER, throw_away(&mut from_client)).await;
    Ok(())
}

async fn pass_up(
    from: &mut OwnedReadHalf,
    mut to: OwnedWriteHalf,
    sent: &LastSent,
) {
    let mut chunk = vec![0; UP_BYTES];
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        sent.now();
        let Some(bytes) = chunk.get(..n) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn pass_down(
    mut from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    sent: &LastSent,
    stuck: Duration,
) -> Result<(), Turned> {
    let mut chunk = vec![0; DOWN_BYTES];
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        let Some(bytes) = chunk.get(..n) else { return Ok(()) };
        match timeout(stuck, to.write_all(bytes)).await {
            Ok(Ok(())) => sent.now(),
            // It is gone.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Turned::Stuck),
        }
    }
    Ok(())
}

async fn throw_away(from: &mut OwnedReadHalf) {
    let mut chunk = vec![0; UP_BYTES];
    while let Ok(1..) = from.read(&mut chunk).await {}
}

/// Returns when it is time to cut the connection off.
async fn watch_over(guest: &Guest, sent: &LastSent, limits: &Limits) -> Turned {
    tokio::time::sleep(limits.first_request()).await;
    if !guest.has_asked() {
        return Turned::NoRequest;
    }
    loop {
        let until = sent.when() + limits.idle();
        if until <= Instant::now() {
            return Turned::Idle;
        }
        sleep_until(until).await;
    }
}

/// The process may have too few files open to serve users.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {files} files open, which is too few: it takes at \
     least {least}, for {CONNECTIONS_MIN} connections of users and all else. \
     Raise the hard limit (LimitNOFILE of systemd, ulimit -Hn of a shell) to \
     65536, say"
)]
pub struct TooFewFiles {
    files: u64,
    least: u64,
}

/// How many connections there may be, with the file descriptors that this
/// process may have; it takes as many as it is allowed to.
///
/// # Errors
///
/// Those are too few.
pub fn allowed(limits: Limits, log: &Logger) -> Result<Limits, TooFewFiles> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        warn!(log, "cannot have more files open"; "error" => %error);
        files = getrlimit(Resource::Nofile);
    }
    let Some(files) = files.current else { return Ok(limits) };
    let allowed = with_files(limits, files)?;
    if allowed.connections < limits.connections {
        warn!(log, "fewer connections than configured: raise the limit of open \
            files"; "connections" => allowed.connections, "files" => files);
    }
    Ok(allowed)
}

fn with_files(limits: Limits, files: u64) -> Result<Limits, TooFewFiles> {
    let room = files.saturating_sub(DESCRIPTORS_LEFT) / DESCRIPTORS;
    let room = u32::try_from(room).unwrap_or(u32::MAX);
    if room < CONNECTIONS_MIN {
        let least = DESCRIPTORS_LEFT + DESCRIPTORS * u64::from(CONNECTIONS_MIN);
        return Err(TooFewFiles { files, least });
    }
    Ok(Limits { connections: limits.connections.min(room), ..limits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(connections: u32, connections_per_source: u32) -> Peers {
        let limits =
            Limits { connections, connections_per_source, ..Limits::default() };
        Peers::new(limits, &["10.0.0.9".parse().expect("an address")])
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn with_few_files_there_are_few_connections_and_with_too_few_none() {
        let limits = Limits { connections: 1000, ..Limits::default() };
        for (files, connections) in [
            (0, None),
            (1_591, None),
            (1_592, Some(64)),
            (2_000, Some(200)),
            (4_400, Some(1000)),
            (u64::MAX, Some(1000)),
        ] {
            let allowed = with_files(limits, files).ok();
            assert_eq!(
                allowed.map(|it| it.connections),
                connections,
                "{files}"
            );
        }
        let refusal = with_files(limits, 1_024).expect_err("too few");
        let refusal = refusal.to_string();
        assert!(refusal.contains("1024 files open"), "{refusal}");
        assert!(refusal.contains("at least 1592"), "{refusal}");
    }

    #[test]
    fn connections_are_counted_in_all_and_by_who_answers_for_them() {
        let peers = peers(4, 2);
        let one = peers.enter(at("10.0.0.1:1")).expect("the first");
        let _two = peers.enter(at("10.0.0.1:2")).expect("the second");
        assert!(peers.enter(at("[::ffff:10.0.0.1]:3")).is_none(), "the same");
        let _net = peers.enter(at("[2001:db8::1]:1")).expect("another");
        let net = peers.enter(at("[2001:db8::2]:1")).expect("its second");
        assert!(peers.enter(at("10.0.0.3:1")).is_none(), "there are four");
        drop(one);
        assert!(peers.enter(at("[2001:db8::3]:1")).is_none(), "of one /64");
        drop(net);
        for port in 1..=2 {
            let address = SocketAddr::new(at("10.0.0.9:1").ip(), port);
            assert!(peers.enter(address).is_some());
        }
        assert_eq!(peers.connections(), 2);
    }

    #[test]
    fn a_trusted_proxy_has_as_many_as_there_are() {
        let peers = peers(4, 1);
        let all: Vec<_> = (1..=4)
            .map(|n| peers.enter(at(&format!("10.0.0.9:{n}"))))
            .collect();
        assert!(all.iter().all(Option::is_some));
        assert!(peers.enter(at("10.0.0.9:5")).is_none());
    }

    #[test]
    fn who_asks_is_known_by_what_is_seen_within_and_forgotten_when_it_goes() {
        let peers = peers(4, 4);
        let (client, inner) = (at("10.0.0.1:1"), at("127.0.1.7:5"));
        assert_eq!(peers.who_asks(inner), inner, "nobody of ours");
        let mut guest = peers.enter(client).expect("the first");
        guest.is_seen_as(inner);
        assert!(!guest.has_asked());
        assert_eq!(peers.who_asks(inner), client);
        assert!(guest.has_asked());
        drop(guest);
        assert_eq!(peers.who_asks(inner), inner);
        assert_eq!(peers.connections(), 0);
    }
}
