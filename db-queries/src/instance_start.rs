//! A user asks for an instance to run: the intent, the attempt, and nearly always
//! the saga that carries it out, all in one transaction.

use crate::lifecycle::Decided;
use crate::reconcile::claim_with;
use crate::saga::{NewSaga, UnfinishedSaga};
use crate::{Claimed, DataStore, Error, idempotency};
use chrono::TimeDelta;
use db_model::lifecycle::{Facts, Refusal, requests};
use db_model::{
    Instance, InstanceId, InstanceState, InstanceView, KeyedRequest,
    SiloUserId, StartAttemptId,
};

/// The saga that would carry the attempt out, and what it was made from.
#[derive(Clone, Debug)]
pub struct StartSaga {
    /// It.
    pub saga: NewSaga,
    /// The instance as it was then.
    pub seen: InstanceView,
}

/// What came of asking for an instance to run.
#[derive(Clone, Debug)]
pub enum Started {
    /// Nothing is to be done that is not under way, or is not this process's.
    Nothing,
    /// It is to be looked at, by whom it was claimed for.
    Claimed(Claimed),
    /// The saga is written down, and the process that made it is to run it. How the
    /// instance looks with that.
    Saga(Box<InstanceView>),
}

impl DataStore {
    /// A user asks for it to run. The attempt is taken by `saga`, if one may
    /// begin at once. If not, with `visibility`, the instance is claimed with
    /// that, as by [`DataStore::reconcile_claim`].
    ///
    /// # Errors
    ///
    /// `KeyUsed`; `NotFound`; `Refused`: see [`requests::start`].
    pub async fn instance_start(
        &self,
        id: InstanceId,
        attempt: StartAttemptId,
        user: SiloUserId,
        request: Option<KeyedRequest>,
        visibility: Option<TimeDelta>,
        saga: Option<StartSaga>,
    ) -> Result<Started, Error> {
        let ask = |saga: Option<StartSaga>| {
            let request = request.clone();
            self.ask_to_start(id, attempt, user, request, visibility, saga)
        };
        match ask(saga).await {
            // Another has begun since the facts were read: not all that begin
            // lock the instance.
            Err(Error::SagaUnfinished) => ask(None).await,
            started => started,
        }
    }

    async fn ask_to_start(
        &self,
        id: InstanceId,
        attempt: StartAttemptId,
        user: SiloUserId,
        request: Option<KeyedRequest>,
        visibility: Option<TimeDelta>,
        saga: Option<StartSaga>,
    ) -> Result<Started, Error> {
        let claims_key = request.is_some();
        self.change(None, id, claims_key, move |conn, facts, unfinished| {
            if let Some(request) = &request {
                idempotency::claim(conn, request, id)?;
            }
            let mut changes = match requests::start(facts, attempt, user) {
                Ok(changes) => changes,
                Err(Refusal::Deleted) => return Err(Error::NotFound),
                Err(refusal) => return Err(Error::Refused(refusal)),
            };
            let claimed = visibility
                .and_then(|time| claim_with(&mut changes, facts.now + time));
            let saga =
                saga.as_ref().filter(|new| new.may_begin(facts, unfinished));
            let (saga, started) = match (saga, &mut changes.new_attempt) {
                (Some(StartSaga { saga, seen }), Some(attempt)) => {
                    attempt.saga_id = Some(saga.id);
                    // It has no VMM.
                    let view = InstanceView {
                        instance: changes
                            .instance
                            .as_ref()
                            .unwrap_or(&facts.instance)
                            .clone(),
                        silo_id: seen.silo_id,
                        vmm: None,
                        latest_attempt: Some(attempt.clone()),
                        sled_last_seen: None,
                        now: facts.now,
                    };
                    (Some(saga.clone()), Started::Saga(Box::new(view)))
                }
                (_, _) => {
                    (None, claimed.map_or(Started::Nothing, Started::Claimed))
                }
            };
            Ok((Decided { changes, saga }, started))
        })
        .await
    }
}

impl StartSaga {
    /// Would a look at the instance begin just this saga, and do nothing else?
    fn may_begin(
        &self,
        facts: &Facts,
        unfinished: Option<&UnfinishedSaga>,
    ) -> bool {
        let of = |i: &Instance| (i.hostname.clone(), i.ncpus, i.memory_bytes);
        unfinished.is_none()
            && facts.instance.state != InstanceState::Creating
            && facts.vmms.is_empty()
            && facts.instance.reconcile_errors == 0
            && of(&facts.instance) == of(&self.seen.instance)
    }
}
