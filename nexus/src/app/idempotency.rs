//! Requests that are done once, however often they are made.

use super::App;
use super::changes::TICK;
use super::instance::CREATE_WAIT;
use crate::error::Error;
use db_model::{InstanceState, InstanceView, KeyedRequest};
use serde_json::Value;
use tokio::time::Instant;

/// What came of a request that is done once.
#[derive(Debug)]
pub enum Once<T> {
    /// It is done, and has no answer yet.
    Done(T),
    /// It was done before, and this was the answer.
    Kept(Value),
}

impl App {
    /// What came of this request when it was made before, once that is certain;
    /// `None`: nothing, so it is to be done.
    ///
    /// # Errors
    ///
    /// `Conflict`: its key was used for another request; `Unavailable`: it is
    /// not certain yet.
    pub(super) async fn done_before(
        &self,
        request: Option<&KeyedRequest>,
    ) -> Result<Option<Once<InstanceView>>, Error> {
        let Some(request) = request else { return Ok(None) };
        let mut changes = self.activators.changes();
        let deadline = Instant::now() + CREATE_WAIT;
        loop {
            // Looked for anew each time: what is undone leaves no key.
            let found = self.datastore.idempotency_key(request.clone()).await?;
            let Some(found) = found else { return Ok(None) };
            if found.request_hash != request.request_hash {
                return Err(used());
            }
            if let Some(answer) = found.answer {
                return Ok(Some(Once::Kept(answer)));
            }
            let view = self.view(found.instance_id).await?;
            if view.instance.state != InstanceState::Creating {
                return Ok(Some(Once::Done(view)));
            }
            if Instant::now() >= deadline || self.sagas.closed() {
                return Err(not_certain());
            }
            let look = Instant::now() + TICK;
            // Whichever comes first, the answer is to look.
            let _ = tokio::time::timeout_at(look, changes.changed()).await;
        }
    }

    /// The same for a request whose key turned out to be used while it was
    /// being done. It was not done then.
    ///
    /// # Errors
    ///
    /// As [`App::done_before`]; `Unavailable`: what was done before is undone by
    /// now.
    pub(super) async fn done_meanwhile(
        &self,
        request: Option<&KeyedRequest>,
    ) -> Result<Once<InstanceView>, Error> {
        self.done_before(request).await?.ok_or_else(not_certain)
    }

    /// Keeps the answer to a request, unless there is one; the one that is
    /// kept.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn keep_answer(
        &self,
        request: KeyedRequest,
        answer: Value,
    ) -> Result<Value, Error> {
        Ok(self.datastore.idempotency_answer(request, answer).await?)
    }
}

fn used() -> Error {
    Error::Conflict {
        message:
            "idempotency-key: it was used for another request in the last \
                  24 hours: use another"
                .to_owned(),
    }
}

fn not_certain() -> Error {
    Error::Unavailable {
        message:
            "What became of the first request with this key is not certain \
                  yet. Ask again."
                .to_owned(),
        retry_after_secs: super::RETRY_AFTER_SECS,
        source: None,
    }
}
