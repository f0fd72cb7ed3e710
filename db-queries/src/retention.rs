//! How long records are kept. Each call looks at one page of a table, by id, so
//! that no statement is long, and says where the next page begins.

use crate::password::GUESSES_COUNT_FOR;
use crate::sql::statement;
use crate::{DataStore, Error, SessionLife};
use chrono::TimeDelta;
use diesel::sql_types::{BigInt, Nullable, Uuid as SqlUuid};
use diesel::{OptionalExtension, PgConnection, QueryableByName, RunQueryDsl};
use uuid::Uuid;

/// Rows of a page.
const PAGE: i64 = 500;

/// What came of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Records that are gone.
    pub deleted: usize,
    /// The last id of the page; `None`: it was the last page.
    pub last: Option<Uuid>,
}

#[derive(QueryableByName)]
struct Last {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

impl DataStore {
    /// Start attempts are kept 90 days, but of automatic ones the last 100 of
    /// an instance; the last 20 of any kind are kept for ever, and pending
    /// ones of course. `after` is an instance's id.
    pub async fn start_attempts_prune(
        &self,
        after: Option<Uuid>,
    ) -> Result<Pruned, Error> {
        self.prune(
            "SELECT id FROM instance",
            &["DELETE FROM start_attempt WHERE id IN ( \
                   SELECT id FROM ( \
                       SELECT id, outcome, reason, time_started, \
                           row_number() OVER ( \
                               PARTITION BY instance_id \
                               ORDER BY time_started DESC, id DESC) AS nth, \
                           row_number() OVER ( \
                               PARTITION BY instance_id, reason \
                               ORDER BY time_started DESC, id DESC) \
                               AS nth_of_reason \
                       FROM start_attempt \
                       WHERE instance_id >= $1 AND instance_id <= $2) ranked \
                   WHERE outcome <> 'pending' AND nth > 20 \
                     AND (time_started < now() - INTERVAL '90 days' \
                          OR (reason = 'auto_restart' \
                              AND nth_of_reason > 100)))"],
            after,
        )
        .await
    }

    /// Finished sagas are kept, with their logs, for 14 days.
    pub async fn sagas_prune(
        &self,
        after: Option<Uuid>,
    ) -> Result<Pruned, Error> {
        self.prune(
            "SELECT id FROM saga",
            &[
                "DELETE FROM saga_node_event WHERE saga_id IN ( \
                     SELECT id FROM saga \
                     WHERE id >= $1 AND id <= $2 \
                       AND time_ended < now() - INTERVAL '14 days')",
                "DELETE FROM saga \
                 WHERE id >= $1 AND id <= $2 \
                   AND time_ended < now() - INTERVAL '14 days'",
            ],
            after,
        )
        .await
    }

    /// VMMs that ended are kept 90 days, like the attempts that made them.
    pub async fn vmms_prune(
        &self,
        after: Option<Uuid>,
    ) -> Result<Pruned, Error> {
        self.prune(
            "SELECT id FROM vmm",
            &["DELETE FROM vmm \
               WHERE id >= $1 AND id <= $2 \
                 AND time_ended < now() - INTERVAL '90 days' \
                 AND NOT EXISTS (SELECT 1 FROM sled_reservation r \
                                 WHERE r.vmm_id = vmm.id) \
                 AND NOT EXISTS (SELECT 1 FROM instance i \
                                 WHERE i.id = vmm.instance_id \
                                   AND i.active_vmm_id = vmm.id)"],
            after,
        )
        .await
    }

    /// The keys of requests count for 24 hours.
    pub async fn idempotency_keys_prune(
        &self,
        after: Option<Uuid>,
    ) -> Result<Pruned, Error> {
        self.prune(
            "SELECT id FROM idempotency_key",
            &["DELETE FROM idempotency_key \
               WHERE id >= $1 AND id <= $2 \
                 AND time_created < now() - INTERVAL '24 hours'"],
            after,
        )
        .await
    }

    /// Deletes a batch of tokens that have ended; how many, and whether there
    /// may be more.
    pub async fn api_tokens_prune(&self) -> Result<(usize, bool), Error> {
        self.prune_batch(
            "DELETE FROM api_token WHERE id = ANY(ARRAY( \
                 SELECT id FROM api_token \
                 WHERE time_expires < now() - $1 * INTERVAL '1 second' \
                 ORDER BY time_expires LIMIT $2))",
            TimeDelta::zero(),
        )
        .await
    }

    /// The same of sessions, which are good for so long.
    pub async fn sessions_prune(
        &self,
        life: SessionLife,
    ) -> Result<(usize, bool), Error> {
        self.prune_batch(
            "DELETE FROM console_session WHERE id = ANY(ARRAY( \
                 SELECT id FROM console_session \
                 WHERE time_created < now() - $1 * INTERVAL '1 second' \
                 ORDER BY time_created LIMIT $2))",
            life.absolute,
        )
        .await
    }

    /// The same of guesses at passwords, which do not count any more.
    pub async fn login_guesses_prune(&self) -> Result<(usize, bool), Error> {
        self.prune_batch(
            "DELETE FROM login_guess WHERE name_hash = ANY(ARRAY( \
                 SELECT name_hash FROM login_guess \
                 WHERE time_last < now() - $1 * INTERVAL '1 second' \
                 ORDER BY time_last LIMIT $2)) \
                 AND time_last < now() - $1 * INTERVAL '1 second'",
            GUESSES_COUNT_FOR,
        )
        .await
    }

    /// The same of devices that have wanted to log in. For an hour they are
    /// told that they are too late, and then that nobody knows them.
    pub async fn device_requests_prune(&self) -> Result<(usize, bool), Error> {
        self.prune_batch(
            "DELETE FROM device_auth_request WHERE id = ANY(ARRAY( \
                 SELECT id FROM device_auth_request \
                 WHERE time_expires < now() - $1 * INTERVAL '1 second' \
                 ORDER BY time_expires LIMIT $2))",
            TimeDelta::hours(1),
        )
        .await
    }

    /// Deletes by a statement that is given a time in seconds, and how many at
    /// most. It looks for ids, and then for each: one that would join the two
    /// might scan the table.
    async fn prune_batch(
        &self,
        delete: &'static str,
        kept: TimeDelta,
    ) -> Result<(usize, bool), Error> {
        self.run(move |conn| {
            let deleted = statement(delete)
                .bind::<BigInt, _>(kept.num_seconds())
                .bind::<BigInt, _>(PAGE)
                .execute(conn)?;
            let full = i64::try_from(deleted).is_ok_and(|n| n >= PAGE);
            Ok((deleted, full))
        })
        .await
    }

    /// Deletes within the page of `rows` that begins after `after`, by
    /// statements that are given its first and last id.
    async fn prune(
        &self,
        rows: &'static str,
        deletes: &'static [&'static str],
        after: Option<Uuid>,
    ) -> Result<Pruned, Error> {
        self.transaction(move |conn: &mut PgConnection| {
            let end: Option<Last> = statement(format!(
                "SELECT id FROM ( \
                     {rows} WHERE $1::UUID IS NULL OR id > $1 \
                     ORDER BY id LIMIT $2) page \
                 ORDER BY id DESC LIMIT 1",
            ))
            .bind::<Nullable<SqlUuid>, _>(after)
            .bind::<BigInt, _>(PAGE)
            .get_result(conn)
            .optional()?;
            let Some(Last { id: last }) = end else {
                return Ok(Pruned { deleted: 0, last: None });
            };
            let mut deleted = 0;
            for delete in deletes {
                deleted = statement(*delete)
                    .bind::<SqlUuid, _>(after.unwrap_or(Uuid::nil()))
                    .bind::<SqlUuid, _>(last)
                    .execute(conn)?;
            }
            Ok(Pruned { deleted, last: Some(last) })
        })
        .await
    }
}
