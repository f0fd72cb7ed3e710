//! Transitions that are asked for at once share a transaction, those of instances
//! that nobody else has locked, and whose locks have an order. Where one of them
//! fails, or is a saga's that is not ours any more, nothing is done, and then each
//! alone; but where nobody knows whether it was committed, all hear that.

use crate::facts::lock_free;
use crate::lifecycle::{Job, Step, carry_out};
use crate::reservation::Taking;
use crate::shared::{Answers, Batch, Queue, Shared};
use crate::{AttemptEnded, DataStore, Error, Work};
use diesel::PgConnection;
use std::collections::HashSet;
use uuid::Uuid;

impl Shared for Job {
    type Answer = Option<AttemptEnded>;

    fn about(&self) -> Uuid {
        self.instance.0
    }

    fn queue(of: &DataStore) -> &Queue<Job> {
        &of.transitions
    }

    /// Its instance is locked by somebody else, or is not there.
    fn may_wait(&self) -> bool {
        self.is_sociable()
    }

    async fn ask_together(
        batch: Batch<Job>,
        datastore: &DataStore,
    ) -> Result<Answers<Job>, Error> {
        datastore
            .together()
            .locked(move |conn| {
                let work = batch.with(|jobs| carry_out_free(conn, jobs))?;
                batch.commits();
                Ok(work)
            })
            .await
    }

    async fn ask_alone(
        self,
        datastore: &DataStore,
    ) -> Result<Option<AttemptEnded>, Error> {
        datastore.carry_out_alone(self).await
    }
}

impl DataStore {
    /// Does a transition, perhaps with others. It is done though the caller's
    /// future is dropped.
    ///
    /// # Errors
    ///
    /// As those of [`DataStore::lifecycle`].
    pub(crate) async fn carry_out(
        &self,
        job: Job,
    ) -> Result<Option<AttemptEnded>, Error> {
        match job.is_sociable() {
            true => self.ask(job).await,
            false => self.carry_out_alone(job).await,
        }
    }

    async fn carry_out_alone(
        &self,
        job: Job,
    ) -> Result<Option<AttemptEnded>, Error> {
        let id = job.instance;
        let mut jobs = [job];
        let steps = self.locked_of(id, move |conn| carry_out(conn, &mut jobs));
        match steps.await.map_err(Taking::refused)?.pop() {
            Some(Step::Done(ended)) => Ok(ended),
            Some(Step::Refused(error)) => Err(error),
            Some(Step::Alone) | None => Err(Error::NotFound),
        }
    }
}

/// Does those whose instances nobody else has locked.
fn carry_out_free(
    conn: &mut PgConnection,
    jobs: &mut [Job],
) -> Result<Work<Answers<Job>>, Error> {
    let ids: Vec<_> = jobs.iter().map(|job| job.instance).collect();
    let locked: HashSet<_> = lock_free(conn, &ids)?.into_iter().collect();
    jobs.sort_by_key(|job| !locked.contains(&job.instance));
    let (ours, _) = jobs.split_at_mut(locked.len());
    let work = carry_out(conn, ours)?;
    Ok(work.map(|steps| {
        let answers =
            ours.iter_mut().zip(steps).map(|(job, step)| match step {
                Step::Done(ended) => Some((job.about(), Ok(ended))),
                Step::Refused(error) => Some((job.about(), Err(error))),
                Step::Alone => {
                    job.is_unsociable = true;
                    None
                }
            });
        answers.flatten().collect()
    }))
}
