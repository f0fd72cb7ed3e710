//! Every change of an instance: its row is locked, its facts are read, a pure
//! function decides, what that says is written. The server is asked once for each,
//! and once to commit; and those that are asked for at once share all four
//! ([`crate::group_commit`]).

use crate::changes::{Write, write};
use crate::facts::{read, read_all};
use crate::fence::{self, Owes};
use crate::saga::{NewSaga, UnfinishedSaga};
use crate::{AttemptEnded, DataStore, Error, Work, reservation};
use db_model::lifecycle::{Changes, Facts, steps};
use db_model::{Fence, InstanceId, StartAttemptId};
use diesel::PgConnection;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// What a transition is decided to write.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub(crate) changes: Changes,
    pub(crate) saga: Option<NewSaga>,
}

type Decide = dyn FnMut(
        &mut PgConnection,
        &Facts,
        Option<&UnfinishedSaga>,
    ) -> Result<Decided, Error>
    + Send;

/// A transition that somebody asks for.
pub(crate) struct Job {
    pub(crate) instance: InstanceId,
    /// Whose it is, if a saga's.
    owes: Option<Owes>,
    decide: Box<Decide>,
    /// `decide` may write of its own accord.
    writes: bool,
    /// It was found to be one that must be done alone.
    pub(crate) is_unsociable: bool,
}

/// What came of one.
#[derive(Debug)]
pub(crate) enum Step {
    /// It is done, whereby an attempt may have ended.
    Done(Option<AttemptEnded>),
    /// It may not be.
    Refused(Error),
    /// It is to be done alone.
    Alone,
}

impl DataStore {
    /// One transaction: the instance is locked, `decide` is given its facts
    /// and says what is written. A saga's transaction writes, or is refused, only
    /// if the saga is still this process's. `decide` may write, too.
    ///
    /// # Errors
    ///
    /// `NotFound`; what `decide` returns; `NoRoom` when a new VMM's sled has
    /// none any more; `Fenced`. Nothing is written then.
    pub(crate) async fn lifecycle<T, F>(
        &self,
        fence: Option<Fence>,
        id: InstanceId,
        mut decide: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&mut PgConnection, &Facts) -> Result<(Changes, T), Error>
            + Send
            + 'static,
    {
        let decide = move |conn: &mut PgConnection,
                           facts: &Facts,
                           _: Option<&UnfinishedSaga>| {
            let (changes, answer) = decide(conn, facts)?;
            Ok((Decided { changes, saga: None }, answer))
        };
        self.change(fence, id, true, decide).await
    }

    /// The same of what writes nothing but what is decided, and nothing at all if
    /// that is nothing. It may be done together with others.
    ///
    /// # Errors
    ///
    /// As those of `lifecycle`.
    pub(crate) async fn transition<T, F>(
        &self,
        fence: Option<Fence>,
        id: InstanceId,
        mut decide: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(&Facts) -> Result<(Changes, T), Error> + Send + 'static,
    {
        let decide = move |_: &mut PgConnection,
                           facts: &Facts,
                           _: Option<&UnfinishedSaga>| {
            let (changes, answer) = decide(facts)?;
            Ok((Decided { changes, saga: None }, answer))
        };
        self.change(fence, id, false, decide).await
    }

    /// The same, where `decide` may read, is told which saga is at work on the
    /// instance, and may say which is to be from here on.
    ///
    /// # Errors
    ///
    /// As those of `lifecycle`.
    pub(crate) async fn transition_beside<T, F>(
        &self,
        fence: Option<Fence>,
        id: InstanceId,
        decide: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(
                &mut PgConnection,
                &Facts,
                Option<&UnfinishedSaga>,
            ) -> Result<(Decided, T), Error>
            + Send
            + 'static,
    {
        self.change(fence, id, false, decide).await
    }

    /// The same of one of which is said whether it `writes` of its own accord, too.
    ///
    /// # Errors
    ///
    /// As those of `lifecycle`.
    pub(crate) async fn change<T, F>(
        &self,
        fence: Option<Fence>,
        instance: InstanceId,
        writes: bool,
        mut decide: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnMut(
                &mut PgConnection,
                &Facts,
                Option<&UnfinishedSaga>,
            ) -> Result<(Decided, T), Error>
            + Send
            + 'static,
    {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        let decide = Box::new(
            move |conn: &mut PgConnection,
                  facts: &Facts,
                  saga: Option<&UnfinishedSaga>| {
                let (decided, answer) = decide(conn, facts, saga)?;
                *slot.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(answer);
                Ok(decided)
            },
        );
        let owes = fence.map(|fence| self.owed.of(fence));
        let count = owes.as_ref().map(|owes| (owes.fence, owes.records.len()));
        let ended = self
            .carry_out(Job {
                instance,
                owes,
                decide,
                writes,
                is_unsociable: false,
            })
            .await?;
        if let Some((fence, count)) = count {
            self.owed.paid(fence, count);
        }
        // Only a pending attempt is ever written, so it ended just now.
        if let Some(ended) = ended {
            self.attempts_ended().get_or_create(&ended).inc();
        }
        let answer =
            answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        answer.ok_or(Error::NotFound)
    }

    /// A new saga of an instance that is there, which takes the attempt, all or
    /// nothing. Idempotent by id.
    ///
    /// # Errors
    ///
    /// `SagaUnfinished`: another is at work on the instance; `Refused`: see
    /// [`steps::claim`].
    pub(crate) async fn saga_insert_with(
        &self,
        new: NewSaga,
        attempt: StartAttemptId,
    ) -> Result<(), Error> {
        let id = new.instance_id;
        let decide =
            move |_: &mut PgConnection,
                  facts: &Facts,
                  unfinished: Option<&UnfinishedSaga>| {
                match unfinished {
                    Some(there) if there.id == new.id => {
                        return Ok((Decided::default(), ()));
                    }
                    Some(_) => return Err(Error::SagaUnfinished),
                    None => (),
                }
                let changes = steps::claim(facts, attempt, new.id)?;
                Ok((Decided { changes, saga: Some(new.clone()) }, ()))
            };
        self.transition_beside(None, id, decide).await
    }
}

impl Job {
    /// May it be done together with others?
    pub(crate) fn is_sociable(&self) -> bool {
        !self.writes && !self.is_unsociable
    }

    /// What a saga is refused that is not ours any more, it is not to hear. (After
    /// an error of the server nothing can be asked, and nothing was refused.)
    fn refused(
        &self,
        conn: &mut PgConnection,
        error: Error,
    ) -> Result<Error, Error> {
        if let Error::Internal(_) | Error::Unavailable(_) = error {
            return Err(error);
        }
        if let Some(owes) = &self.owes {
            fence::check(conn, &owes.fence)?;
        }
        Ok(error)
    }
}

/// Does these transitions, of different instances, whose rows are locked: but not
/// those that are to be done alone, where there are others.
///
/// # Errors
///
/// One of them met it. Then none is done.
pub(crate) fn carry_out(
    conn: &mut PgConnection,
    jobs: &mut [Job],
) -> Result<Work<Vec<Step>>, Error> {
    let is_alone = jobs.len() == 1;
    let known = match jobs {
        [job] => HashMap::from([(job.instance, read(conn, job.instance)?)]),
        _ => {
            let ids: Vec<_> = jobs.iter().map(|job| job.instance).collect();
            read_all(conn, &ids)?
        }
    };
    let mut decided = Vec::new();
    for job in &mut *jobs {
        let (facts, saga) = known.get(&job.instance).ok_or(Error::NotFound)?;
        decided.push(match (job.decide)(conn, facts, saga.as_ref()) {
            Ok(made) => Ok(made),
            Err(error) => Err(job.refused(conn, error)?),
        });
    }
    let placing = jobs.iter().zip(&decided).filter_map(|(job, made)| {
        let placed = &made.as_ref().ok()?.changes.new_vmm;
        placed.as_ref().map(|_| job.instance)
    });
    let places = reservation::places(conn, &placing.collect::<Vec<_>>())?;
    let (mut writes, mut alone) = (Vec::new(), HashSet::new());
    for (job, made) in jobs.iter().zip(&decided) {
        let Ok(made) = made else { continue };
        let owes = job.owes.as_ref();
        if made.changes.is_empty() && made.saga.is_none() && !job.writes {
            match owes {
                None => continue,
                Some(Owes { fence, records }) if records.is_empty() => {
                    fence::check(conn, fence)?;
                    continue;
                }
                Some(_) => (),
            }
        }
        let (facts, _) = known.get(&job.instance).ok_or(Error::NotFound)?;
        let place = places.get(&job.instance).copied();
        if made.changes.new_vmm.is_some() && place.is_none() {
            return Err(Error::NotFound);
        }
        let write = Write {
            was: &facts.instance,
            changes: &made.changes,
            saga: made.saga.as_ref(),
            owes,
            place,
        };
        match write.is_alone() && !is_alone {
            true => _ = alone.insert(job.instance),
            false => writes.push(write),
        }
    }
    let work = match writes.is_empty() {
        true => Work::Nothing(()),
        false => write(conn, &writes)?,
    };
    drop(writes);
    let steps = jobs.iter().zip(decided).map(|(job, made)| match made {
        Err(error) => Step::Refused(error),
        Ok(_) if alone.contains(&job.instance) => Step::Alone,
        Ok(made) => {
            let attempt = made.changes.attempt.as_ref();
            Step::Done(attempt.and_then(AttemptEnded::of))
        }
    });
    let steps = steps.collect();
    Ok(work.map(|()| steps))
}
