//! Being told when a file changes: one inotify instance for all who wait, and one
//! thread that waits for the kernel, made when the first of them comes (a kernel
//! allows a user few instances).

use camino::Utf8Path;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// As many events as are read at once fit in here.
const BUFFER_BYTES: usize = 4096;

/// Files that somebody waits for.
#[derive(Default)]
pub(super) struct Changes(Mutex<Option<Arc<Instance>>>);

/// Changes whenever the file has. Waits for nothing once it is dropped.
pub(super) struct Changed {
    seen: watch::Receiver<()>,
    wd: i32,
    instance: Arc<Instance>,
}

struct Instance {
    fd: OwnedFd,
    /// By watch descriptor: a file has the same one each time.
    watched: Mutex<HashMap<i32, Watched>>,
}

struct Watched {
    tell: watch::Sender<()>,
    by: usize,
}

impl Changes {
    /// Watches a file. What changes from the return on is seen.
    ///
    /// *Errors*: it is not there; or the kernel watches no more.
    pub(super) fn of(&self, path: &Utf8Path) -> io::Result<Changed> {
        let instance = self.instance()?;
        let mut watched = instance.lock();
        let flags = WatchFlags::MODIFY;
        let wd = inotify::add_watch(&instance.fd, path.as_str(), flags)?;
        let file = watched
            .entry(wd)
            .or_insert_with(|| Watched { tell: watch::Sender::new(()), by: 0 });
        file.by += 1;
        let seen = file.tell.subscribe();
        drop(watched);
        Ok(Changed { seen, wd, instance })
    }

    fn instance(&self) -> io::Result<Arc<Instance>> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = &*made {
            return Ok(Arc::clone(instance));
        }
        let fd = inotify::init(CreateFlags::CLOEXEC)?;
        let instance = Arc::new(Instance { fd, watched: Mutex::default() });
        let passing_on = Arc::clone(&instance);
        std::thread::Builder::new()
            .name("changes".to_string())
            .spawn(move || pass_on(&passing_on))?;
        *made = Some(Arc::clone(&instance));
        Ok(instance)
    }
}

impl Changed {
    /// Waits for a change since the last that was waited for.
    pub(super) async fn again(&mut self) {
        if self.seen.changed().await.is_err() {
            // Its sender is kept for as long as this is.
            std::future::pending().await
        }
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        let mut watched = self.instance.lock();
        let Some(file) = watched.get_mut(&self.wd) else { return };
        file.by -= 1;
        if file.by == 0 {
            watched.remove(&self.wd);
            // A file that was removed is not watched any more.
            let _ = inotify::remove_watch(&self.instance.fd, self.wd);
        }
    }
}

impl Instance {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, wd: i32, flags: ReadFlags) {
        let watched = self.lock();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            for file in watched.values() {
                file.tell.send_replace(());
            }
        } else if let Some(file) = watched.get(&wd) {
            file.tell.send_replace(());
        }
    }
}

/// Passes changes on, for as long as the process lives.
fn pass_on(instance: &Instance) {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut events = Reader::new(&instance.fd, &mut buffer);
    loop {
        match events.next() {
            Ok(event) => instance.tell(event.wd(), event.events()),
            Err(Errno::INTR) => {}
            // The kernel has no other, of an instance that is open.
            Err(_) => return,
        }
    }
}
