//! Requests that are done once: the keys by which repeats of them are known.
//!
//! A key is claimed in the transaction that does what the request asks for. So
//! a key that is there stands for something that was done, whoever died since,
//! and one that is not there for nothing at all.

use crate::sql::{sql, statement};
use crate::{DataStore, Error};
use db_model::schema::idempotency_key;
use db_model::{IdempotencyKey, InstanceId, KeyedRequest};
use diesel::sql_types::{Bool, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl,
    QueryableByName, RunQueryDsl, SelectableHelper,
};
use serde_json::Value;
use uuid::Uuid;

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Nullable<Jsonb>)]
    answer: Option<Value>,
}

/// Claims a request's key for what it does to this instance.
///
/// # Errors
///
/// `KeyUsed`, in the last 24 hours.
pub(crate) fn claim(
    conn: &mut PgConnection,
    request: &KeyedRequest,
    instance: InstanceId,
) -> Result<(), Error> {
    let claimed = statement(
        "INSERT INTO idempotency_key (id, silo_user_id, key_hash, \
             request_hash, instance_id, answer, time_created) \
         VALUES ($1, $2, $3, $4, $5, NULL, now()) \
         ON CONFLICT (silo_user_id, key_hash) DO UPDATE \
         SET request_hash = excluded.request_hash, \
             instance_id = excluded.instance_id, \
             answer = NULL, \
             time_created = excluded.time_created \
         WHERE idempotency_key.time_created < now() - INTERVAL '24 hours'",
    )
    .bind::<SqlUuid, _>(Uuid::new_v4())
    .bind::<SqlUuid, _>(request.silo_user_id)
    .bind::<Text, _>(&request.key_hash)
    .bind::<Text, _>(&request.request_hash)
    .bind::<SqlUuid, _>(instance)
    .execute(conn)?;
    if claimed == 0 { Err(Error::KeyUsed) } else { Ok(()) }
}

/// What a request did is undone: it may be made again.
pub(crate) fn release(
    conn: &mut PgConnection,
    request: &KeyedRequest,
    instance: InstanceId,
) -> Result<(), Error> {
    diesel::delete(
        idempotency_key::table
            .filter(idempotency_key::silo_user_id.eq(request.silo_user_id))
            .filter(idempotency_key::key_hash.eq(&request.key_hash))
            .filter(idempotency_key::instance_id.eq(instance)),
    )
    .execute(conn)?;
    Ok(())
}

impl DataStore {
    /// What the request with this one's key did, in the last 24 hours. It may
    /// be another request.
    pub async fn idempotency_key(
        &self,
        request: KeyedRequest,
    ) -> Result<Option<IdempotencyKey>, Error> {
        self.run(move |conn| {
            Ok(idempotency_key::table
                .filter(idempotency_key::silo_user_id.eq(request.silo_user_id))
                .filter(idempotency_key::key_hash.eq(&request.key_hash))
                .filter(sql::<Bool>(
                    "time_created >= now() - INTERVAL '24 hours'",
                ))
                .select(IdempotencyKey::as_select())
                .first(conn)
                .optional()?)
        })
        .await
    }

    /// Keeps what a request was answered, unless an answer is kept already;
    /// the one that is kept, or this one if the key is gone.
    pub async fn idempotency_answer(
        &self,
        request: KeyedRequest,
        answer: Value,
    ) -> Result<Value, Error> {
        self.run(move |conn| {
            let kept: Option<Answer> = statement(
                "UPDATE idempotency_key SET answer = COALESCE(answer, $4) \
                 WHERE silo_user_id = $1 AND key_hash = $2 \
                   AND request_hash = $3 \
                 RETURNING answer",
            )
            .bind::<SqlUuid, _>(request.silo_user_id)
            .bind::<Text, _>(&request.key_hash)
            .bind::<Text, _>(&request.request_hash)
            .bind::<Jsonb, _>(&answer)
            .get_result(conn)
            .optional()?;
            Ok(kept.and_then(|kept| kept.answer).unwrap_or(answer.clone()))
        })
        .await
    }
}
