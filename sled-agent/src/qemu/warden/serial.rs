//! The serial line of a guest: what it prints is kept, what is typed it gets.
//!
//! The guest never waits for a reader: the ring takes all, over the oldest.
//! Who types waits for the guest, and for nobody else.

use crate::console::{RING_BYTES, Ring};
use camino::Utf8Path;
use slog::{Logger, warn};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How much is read or typed at once.
const CHUNK: usize = 4096;

/// How many chunks wait to be typed.
const TYPED_AHEAD: usize = 4;

/// Has the line tended for as long as this process lives. What it returns
/// ends once all that was printed is kept, and the line closed.
///
/// *Errors*: it cannot be; that the ring cannot be written is none.
pub(super) fn tend(
    line: std::os::unix::net::UnixStream,
    console: &Utf8Path,
    input: std::os::unix::net::UnixListener,
    log: &Logger,
) -> io::Result<JoinHandle<()>> {
    line.set_nonblocking(true)?;
    input.set_nonblocking(true)?;
    let input = UnixListener::from_std(input)?;
    let (printed, keyboard) = UnixStream::from_std(line)?.into_split();
    let ring = match Ring::open(console, RING_BYTES) {
        Ok(ring) => Some(ring),
        Err(error) => {
            warn!(log, "the console cannot be kept"; "error" => %error);
            None
        }
    };
    let (typed, to_type) = mpsc::channel(TYPED_AHEAD);
    tokio::spawn(type_in(to_type, keyboard));
    tokio::spawn(listen(input, typed));
    Ok(tokio::spawn(keep(printed, ring, log.clone())))
}

async fn keep(mut printed: OwnedReadHalf, mut ring: Option<Ring>, log: Logger) {
    let mut chunk = vec![0; CHUNK];
    let mut is_kept = true;
    while let Ok(count @ 1..) = printed.read(&mut chunk).await {
        let Some(ring) = &mut ring else { continue };
        let kept = chunk.get(..count).map_or(Ok(()), |new| ring.append(new));
        if let Err(error) = &kept
            && is_kept
        {
            warn!(log, "the console is not kept"; "error" => %error);
        }
        is_kept = kept.is_ok();
    }
}

async fn type_in(mut typed: mpsc::Receiver<Vec<u8>>, mut to: OwnedWriteHalf) {
    while let Some(bytes) = typed.recv().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn listen(input: UnixListener, typed: mpsc::Sender<Vec<u8>>) {
    loop {
        match input.accept().await {
            Ok((connection, _)) => {
                tokio::spawn(read(connection, typed.clone()));
            }
            // Out of files, it may be.
            Err(_) => {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn read(mut from: UnixStream, typed: mpsc::Sender<Vec<u8>>) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let bytes = chunk.iter().take(count).copied().collect();
        if typed.send(bytes).await.is_err() {
            return;
        }
    }
}
