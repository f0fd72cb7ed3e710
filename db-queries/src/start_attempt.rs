//! Start attempts: read by users, taken and ended by sagas.

use crate::sql::Keep;
use crate::{ByTime, DataStore, Error, Page};
use db_model::lifecycle::{Facts, steps};
use db_model::schema::start_attempt;
use db_model::{
    Fence, InstanceId, StagedFailure, StartAttempt, StartAttemptId,
    StartFailure, StartOutcome,
};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, PgConnection, QueryDsl,
    RunQueryDsl, SelectableHelper,
};

/// The attempt of this id.
pub(crate) fn read(
    conn: &mut PgConnection,
    id: StartAttemptId,
) -> Result<StartAttempt, Error> {
    Ok(start_attempt::table
        .find(id)
        .select(StartAttempt::as_select())
        .first(conn)?)
}

/// Refuses if the attempt is over for this saga.
pub(crate) fn check(
    conn: &mut PgConnection,
    id: StartAttemptId,
    fence: &Fence,
) -> Result<(), Error> {
    Ok(steps::may_go_on(&read(conn, id)?, fence.saga_id)?)
}

/// The same, where the instance's facts are known: the attempt is probably theirs.
pub(crate) fn check_in(
    conn: &mut PgConnection,
    facts: &Facts,
    id: StartAttemptId,
    fence: &Fence,
) -> Result<(), Error> {
    match facts.attempt.as_ref().filter(|pending| pending.id == id) {
        Some(pending) => Ok(steps::may_go_on(pending, fence.saga_id)?),
        None => check(conn, id, fence),
    }
}

impl DataStore {
    /// An instance's attempts, newest first.
    pub async fn start_attempt_list(
        &self,
        instance: InstanceId,
        page: Page<ByTime>,
    ) -> Result<Vec<StartAttempt>, Error> {
        self.run(move |conn| {
            let query = start_attempt::table
                .filter(start_attempt::instance_id.eq(instance))
                .order((
                    start_attempt::time_started.desc(),
                    start_attempt::id.desc(),
                ))
                .limit(page.limit)
                .select(StartAttempt::as_select())
                .into_boxed();
            let query = match page.by.before {
                Some((time, id)) => query.filter(
                    start_attempt::time_started.lt(time).or(
                        start_attempt::time_started
                            .eq(time)
                            .and(start_attempt::id.lt(StartAttemptId(id))),
                    ),
                ),
                None => query,
            };
            Ok(query.load(conn)?)
        })
        .await
    }

    /// An attempt of an instance.
    ///
    /// # Errors
    ///
    /// `NotFound`, for another instance's attempt too.
    pub async fn start_attempt_view(
        &self,
        instance: InstanceId,
        id: StartAttemptId,
    ) -> Result<StartAttempt, Error> {
        self.run(move |conn| {
            Ok(start_attempt::table
                .find(id)
                .filter(start_attempt::instance_id.eq(instance))
                .select(StartAttempt::as_select())
                .first(conn)?)
        })
        .await
    }

    /// Is the attempt still this saga's to go on with?
    ///
    /// # Errors
    ///
    /// `Refused(AttemptOvertaken)`; `Fenced`.
    pub async fn start_attempt_check(
        &self,
        fence: Fence,
        id: StartAttemptId,
    ) -> Result<(), Error> {
        self.fenced_look(fence, move |conn| {
            check(conn, id, &fence)?;
            Ok(())
        })
        .await
    }

    /// Leaves, for the undo that will close the attempt, why it failed. Does
    /// nothing to an attempt that is over or another saga's.
    pub async fn start_attempt_stage(
        &self,
        fence: Fence,
        id: StartAttemptId,
        staged: StagedFailure,
    ) -> Result<(), Error> {
        self.fenced(fence, move |conn| {
            let json = serde_json::to_value(&staged)
                .unwrap_or(serde_json::Value::Null);
            diesel::update(start_attempt::table.find(id))
                .filter(start_attempt::outcome.eq(StartOutcome::Pending))
                .filter(start_attempt::saga_id.eq(fence.saga_id))
                .set(start_attempt::staged_failure.eq(json))
                .kept()
                .execute(conn)?;
            Ok(())
        })
        .await
    }

    /// The undo of the claim: ends the attempt, if it is still pending, with
    /// what was staged.
    pub async fn start_attempt_close_failed(
        &self,
        fence: Fence,
        instance: InstanceId,
        id: StartAttemptId,
    ) -> Result<(), Error> {
        self.transition(Some(fence), instance, move |facts| {
            let staged = facts.attempt.as_ref().and_then(|a| a.staged());
            Ok((steps::close_failed(facts, id, fence.saga_id, staged), ()))
        })
        .await
    }

    /// Ends an attempt that no saga will end. Says whether this call did it.
    pub async fn start_attempt_give_up(
        &self,
        instance: InstanceId,
        id: StartAttemptId,
        failure: StartFailure,
    ) -> Result<bool, Error> {
        self.transition(None, instance, move |facts| {
            let changes = steps::give_up_attempt(facts, id, &failure);
            let ended = changes.attempt.is_some();
            Ok((changes, ended))
        })
        .await
    }

    /// Counts that an attempt had to wait; says how often it has.
    pub async fn start_attempt_held_back(
        &self,
        id: StartAttemptId,
    ) -> Result<i64, Error> {
        self.run(move |conn| {
            Ok(diesel::update(start_attempt::table.find(id))
                .set(start_attempt::held_back.eq(start_attempt::held_back + 1))
                .returning(start_attempt::held_back)
                .kept()
                .get_result(conn)?)
        })
        .await
    }
}
