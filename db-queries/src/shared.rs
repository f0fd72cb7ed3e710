//! Those who ask the same of the database at once ask together. While some are on
//! their way, whoever comes meanwhile waits for the next: so one that comes alone
//! waits for nobody (where it hurries), and many cost little more than one.
//!
//! To share is to be faster, and nothing else: where it does not go together, each
//! asks alone.

use crate::{DataStore, Error};
use diesel::PgConnection;
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use uuid::Uuid;

/// How many are on their way at most of one kind, if they get on.
const AT_ONCE: u32 = 1;

/// How many ask together at most.
const MOST: usize = 64;

/// How long those who wait let others take: who is held up (by a lock, by one row
/// that many want) holds up nobody else for longer.
const PATIENCE: Duration = Duration::from_millis(25);

/// How often one is asked together with others, of whose row others hold the lock.
const TRIES: u32 = 4;

/// Something that may be asked together with others.
pub(crate) trait Shared: Send + Sized + 'static {
    /// What is answered.
    type Answer: Send + 'static;

    /// Two about the same are not asked together: each is to see what the one
    /// before it has done.
    fn about(&self) -> Uuid;

    /// Where those like it wait.
    fn queue(of: &DataStore) -> &Queue<Self>;

    /// How long after one batch has been sent off the next one is, at the earliest,
    /// where nobody in it hurries: so more share what each costs.
    const APART: Duration = Duration::ZERO;

    /// Does somebody wait for it, though others of its kind may be
    /// [apart](Self::APART)?
    fn hurries(&self) -> bool {
        false
    }

    /// Is one that comes alone asked as those that come together are, if there is a
    /// connection for it?
    const ONE_AS_MANY: bool = false;

    /// If it is not answered together with others: may it be in some moments, since
    /// somebody else has locked what it is about? Then it is tried again with others,
    /// before it is asked alone.
    fn may_wait(&self) -> bool {
        false
    }

    /// Asks those of the batch, and says what is answered about what; nothing of
    /// those that are to be asked alone, or in some moments. An error is nobody's:
    /// all are asked alone, unless they may be done.
    fn ask_together(
        batch: Batch<Self>,
        datastore: &DataStore,
    ) -> impl Future<Output = Result<Answers<Self>, Error>> + Send;

    /// Asks it alone.
    fn ask_alone(
        self,
        datastore: &DataStore,
    ) -> impl Future<Output = Result<Self::Answer, Error>> + Send;
}

/// What is one statement, or some that need not be of one moment.
pub(crate) trait SharedStatement: Send + Sized + 'static {
    /// See [`Shared`].
    type Answer: Send + 'static;

    /// See [`Shared`].
    fn about(&self) -> Uuid;

    /// See [`Shared`].
    fn queue(of: &DataStore) -> &Queue<Self>;

    /// Is the best plan of it the same for all values?
    const PLANNED_ONCE: bool = true;

    /// Asks them; nothing is answered about those that are to be asked alone, or of
    /// which there is nothing.
    fn ask(
        conn: &mut PgConnection,
        all: &[Self],
    ) -> Result<Answers<Self>, Error>;
}

impl<S: SharedStatement> Shared for S {
    type Answer = <S as SharedStatement>::Answer;

    // So it is planned once, too.
    const ONE_AS_MANY: bool = S::PLANNED_ONCE;

    fn about(&self) -> Uuid {
        SharedStatement::about(self)
    }

    fn queue(of: &DataStore) -> &Queue<S> {
        SharedStatement::queue(of)
    }

    async fn ask_together(
        batch: Batch<S>,
        datastore: &DataStore,
    ) -> Result<Answers<S>, Error> {
        let ask =
            move |conn: &mut PgConnection| batch.with(|all| S::ask(conn, all));
        match S::PLANNED_ONCE {
            true => datastore.together().run(ask).await,
            false => datastore.run(ask).await,
        }
    }

    async fn ask_alone(
        self,
        datastore: &DataStore,
    ) -> Result<<S as Shared>::Answer, Error> {
        let about = Shared::about(&self);
        let all = [self];
        let answers = datastore.run(move |conn| S::ask(conn, &all)).await;
        answers?.remove(&about).unwrap_or(Err(Error::NotFound))
    }
}

/// By what they are about.
pub(crate) type Answers<S> =
    HashMap<Uuid, Result<<S as Shared>::Answer, Error>>;

/// Some that are asked together. Whoever asks them has them while it does.
pub(crate) struct Batch<S>(Arc<Asked<S>>);

struct Asked<S> {
    all: Mutex<Vec<S>>,
    /// They are about to be committed, or may be.
    is_committing: AtomicBool,
}

impl<S> Batch<S> {
    /// They are asked by this.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&mut [S]) -> T) -> T {
        self.0.is_committing.store(false, Ordering::Relaxed);
        let all = self.0.all.lock();
        ask(&mut all.unwrap_or_else(PoisonError::into_inner))
    }

    /// What they have written is about to be committed.
    pub(crate) fn commits(&self) {
        self.0.is_committing.store(true, Ordering::Relaxed);
    }

    /// May this error have come of a commit that was made?
    fn may_be_done(&self, error: &Error) -> bool {
        matches!(error, Error::Unavailable(_))
            && self.0.is_committing.load(Ordering::Relaxed)
    }

    /// Those that can still be asked: none while a thread waits for an answer.
    fn left(&self) -> Vec<S> {
        let left = self.0.all.try_lock();
        left.map(|mut all| std::mem::take(&mut *all)).unwrap_or_default()
    }
}

/// Those who wait to ask. Cheap to clone.
pub(crate) struct Queue<S: Shared>(Arc<Mutex<Waiting<S>>>);

struct Waiting<S: Shared> {
    asking: VecDeque<Asking<S>>,
    /// How many are on their way.
    at_once: u32,
    /// How many have been sent off.
    begun: u64,
    /// When that was last.
    sent: Option<Instant>,
    /// The next are sent off when it is their time.
    is_timed: bool,
    /// Somebody sees to it that they get on.
    is_watched: bool,
}

struct Asking<S: Shared> {
    one: S,
    tell: Tell<S>,
    /// How often it was asked.
    tries: u32,
}

type Tell<S> = oneshot::Sender<Result<<S as Shared>::Answer, Error>>;

impl<S: Shared> Default for Queue<S> {
    fn default() -> Queue<S> {
        Queue(Arc::new(Mutex::new(Waiting {
            asking: VecDeque::new(),
            at_once: 0,
            begun: 0,
            sent: None,
            is_timed: false,
            is_watched: false,
        })))
    }
}

impl<S: Shared> Clone for Queue<S> {
    fn clone(&self) -> Queue<S> {
        Queue(Arc::clone(&self.0))
    }
}

impl<S: Shared> std::fmt::Debug for Queue<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl<S: Shared> Queue<S> {
    fn lock(&self) -> MutexGuard<'_, Waiting<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Shared> Waiting<S> {
    /// The next that are to be sent off together.
    fn next(&mut self) -> Vec<Asking<S>> {
        self.begun += 1;
        self.at_once += 1;
        self.sent = Some(Instant::now());
        let mut about = HashSet::new();
        let (some, left): (VecDeque<_>, _) =
            self.asking.drain(..).partition(|asking| {
                about.len() < MOST && about.insert(asking.one.about())
            });
        self.asking = left;
        some.into()
    }
}

impl DataStore {
    /// Asks, perhaps with others. It goes on though the caller's future is dropped.
    ///
    /// # Errors
    ///
    /// As those of asking alone.
    pub(crate) async fn ask<S: Shared>(
        &self,
        one: S,
    ) -> Result<S::Answer, Error> {
        let (tell, told) = oneshot::channel();
        let asking = Asking { one, tell, tries: 0 };
        S::queue(self).lock().asking.push_back(asking);
        self.send_off::<S>(AT_ONCE);
        // One that is not told has met a panic.
        told.await.unwrap_or_else(|e| Err(Error::Unavailable(Box::new(e))))
    }

    /// Sends off those who wait, unless so many are on their way.
    fn send_off<S: Shared>(&self, at_once: u32) {
        // Else those whom the watch sends off would wait for their time, too.
        const { assert!(S::APART.as_millis() < PATIENCE.as_millis()) };
        let mut waiting = S::queue(self).lock();
        if waiting.asking.is_empty() {
            return;
        }
        // One whose row was locked would else use up its tries at once.
        let hurries = waiting
            .asking
            .iter()
            .any(|asking| asking.tries == 0 && asking.one.hurries());
        let apart = if hurries { Duration::ZERO } else { S::APART };
        let early =
            waiting.sent.map(|sent| apart.saturating_sub(sent.elapsed()));
        let early = early.unwrap_or_default();
        if waiting.at_once >= at_once {
            if !std::mem::replace(&mut waiting.is_watched, true) {
                tokio::spawn(self.clone().watch::<S>(waiting.begun));
            }
        } else if early.is_zero() {
            let some = waiting.next();
            let on_its_way = OnItsWay::<S>(self.clone(), PhantomData);
            drop(waiting);
            tokio::spawn(on_its_way.ask(some));
        } else if !std::mem::replace(&mut waiting.is_timed, true) {
            let datastore = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(early).await;
                S::queue(&datastore).lock().is_timed = false;
                datastore.send_off::<S>(AT_ONCE);
            });
        }
    }

    async fn watch<S: Shared>(self, mut begun: u64) {
        loop {
            tokio::time::sleep(PATIENCE).await;
            let gets_on = {
                let mut waiting = S::queue(&self).lock();
                waiting.is_watched = !waiting.asking.is_empty();
                if !waiting.is_watched {
                    return;
                }
                std::mem::replace(&mut begun, waiting.begun) != waiting.begun
            };
            if !gets_on {
                self.send_off::<S>(u32::MAX);
                begun = S::queue(&self).lock().begun;
            }
        }
    }
}

/// Some on their way, until it is dropped, which sends off the next.
struct OnItsWay<S: Shared>(DataStore, PhantomData<fn() -> S>);

impl<S: Shared> OnItsWay<S> {
    async fn ask(self, mut some: Vec<Asking<S>>) {
        let OnItsWay(datastore, _) = &self;
        match some.pop() {
            // It may wait for long, which is nothing to those that come.
            Some(asking) if some.is_empty() && asking.tries > 0 => {
                let datastore = datastore.clone();
                tokio::spawn(async move { asking.alone(&datastore).await });
            }
            Some(asking)
                if some.is_empty()
                    && !(S::ONE_AS_MANY && datastore.together().has_room()) =>
            {
                asking.alone(datastore).await;
            }
            last => {
                some.extend(last);
                ask_together(datastore, some).await;
            }
        }
    }
}

impl<S: Shared> Drop for OnItsWay<S> {
    fn drop(&mut self) {
        S::queue(&self.0).lock().at_once -= 1;
        self.0.send_off::<S>(AT_ONCE);
    }
}

impl<S: Shared> Asking<S> {
    async fn alone(self, datastore: &DataStore) {
        // Who asks may have given up.
        let _ = self.tell.send(self.one.ask_alone(datastore).await);
    }
}

async fn ask_together<S: Shared>(datastore: &DataStore, some: Vec<Asking<S>>) {
    let (mut all, mut tells) = (Vec::new(), HashMap::new());
    for Asking { one, tell, tries } in some {
        tells.insert(one.about(), (tell, tries + 1));
        all.push(one);
    }
    let batch = Batch(Arc::new(Asked {
        all: Mutex::new(all),
        is_committing: AtomicBool::new(false),
    }));
    let (theirs, of) = (Batch(Arc::clone(&batch.0)), datastore.clone());
    // On its own, so that a panic is one of them's, and not everybody's.
    let asked = tokio::spawn(async move { S::ask_together(theirs, &of).await });
    let lost = match asked.await {
        Ok(Ok(answers)) => {
            for (about, answer) in answers {
                if let Some((tell, _)) = tells.remove(&about) {
                    let _ = tell.send(answer);
                }
            }
            None
        }
        Ok(Err(error)) => Some(error),
        Err(died) => Some(Error::Unavailable(Box::new(died))),
    };
    let is_undone = lost.as_ref().is_none_or(|e| !batch.may_be_done(e));
    let left = if is_undone { batch.left() } else { Vec::new() };
    for one in left {
        let Some((tell, tries)) = tells.remove(&one.about()) else { continue };
        let asking = Asking { one, tell, tries };
        if lost.is_none() && asking.one.may_wait() && tries < TRIES {
            // Before those that have come since, and may be about the same.
            S::queue(datastore).lock().asking.push_front(asking);
        } else {
            let datastore = datastore.clone();
            tokio::spawn(async move { asking.alone(&datastore).await });
        }
    }
    if let Some(error) = lost.map(Arc::new) {
        for (tell, _) in tells.into_values() {
            let error = Box::new(Arc::clone(&error));
            let _ = tell.send(Err(Error::Unavailable(error)));
        }
    }
}
