//! Ports for processes that are killed and started again.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what the system gives to connections (Linux: from 32768 on), which
/// could otherwise have a port while the process that it belongs to is dead.
const FIRST: u16 = 10_000;
const COUNT: u16 = 22_000;

/// As many as a test may need. Tests are processes of their own, with pids that
/// follow each other: those that run at the same time begin this far apart.
const PER_PROCESS: u32 = 60;

/// An address on this machine that is nobody's now, and that nobody else will
/// be given.
pub(crate) fn lasting() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id().wrapping_mul(PER_PROCESS);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let at = begin.wrapping_add(step) % u32::from(COUNT);
        let port = FIRST + u16::try_from(at).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}
