//! Joining the fleet: tokens, and what a sled may be given a certificate for.

use crate::sql::{Keep, clock_timestamp, sql, statement};
use crate::{ById, DataStore, Error, Page};
use chrono::TimeDelta;
use db_model::schema::{sled, sled_join_token};
use db_model::{SledId, SledJoinToken, SledJoinTokenId, SledPolicy};
use diesel::sql_types::{BigInt, Nullable, Timestamptz};
use diesel::{
    ExpressionMethods, OptionalExtension, PgConnection, QueryDsl, RunQueryDsl,
    SelectableHelper,
};

/// Tokens that are forgotten at a time.
const BATCH: i64 = 500;

/// What comes of showing a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Who shows it is this sled from now on.
    As(SledId),
    /// There is no such token, or no more.
    Unknown,
    /// Another key came with it before.
    Used,
    /// It is for this sled, and the one that shows it is another.
    OtherSled(SledId),
    /// It is for this sled, which was removed for good.
    Expunged(SledId),
}

impl DataStore {
    /// A new token, for a new sled or, so that it can join again, for one that
    /// is there. Only its hash comes here.
    ///
    /// # Errors
    ///
    /// `NotFound`: there is no such sled, or it was removed.
    pub async fn sled_join_token_insert(
        &self,
        token_hash: String,
        again: Option<SledId>,
        life: TimeDelta,
    ) -> Result<SledJoinToken, Error> {
        self.transaction(move |conn| {
            let sled_id = match again {
                None => SledId::new_v4(),
                Some(id) => sled::table
                    .find(id)
                    .filter(sled::policy.ne(SledPolicy::Expunged))
                    .select(sled::id)
                    .first(conn)?,
            };
            let now = diesel::select(clock_timestamp()).get_result(conn)?;
            let row = SledJoinToken {
                id: SledJoinTokenId::new_v4(),
                token_hash: token_hash.clone(),
                time_created: now,
                time_expires: now + life,
                sled_id,
                key_hash: None,
                time_used: None,
            };
            diesel::insert_into(sled_join_token::table)
                .values(&row)
                .kept()
                .execute(conn)?;
            Ok(row)
        })
        .await
    }

    /// The tokens that have not expired, by id.
    pub async fn sled_join_token_list(
        &self,
        page: Page<ById>,
    ) -> Result<Vec<SledJoinToken>, Error> {
        self.run(move |conn| {
            let query = sled_join_token::table
                .filter(sled_join_token::time_expires.gt(diesel::dsl::now))
                .order(sled_join_token::id.asc())
                .limit(page.limit)
                .select(SledJoinToken::as_select())
                .into_boxed();
            let query = match page.by.after {
                Some(after) => {
                    query.filter(sled_join_token::id.gt(SledJoinTokenId(after)))
                }
                None => query,
            };
            Ok(query.load(conn)?)
        })
        .await
    }

    /// A token is shown, with a key, by who says that it is `claimed` already,
    /// if it is anybody. The first key to come with a token is its only one.
    ///
    /// *Idempotency*: the same token and key are answered in the same way until
    /// the token expires.
    pub async fn sled_join(
        &self,
        token_hash: String,
        key_hash: String,
        claimed: Option<SledId>,
    ) -> Result<Join, Error> {
        self.transaction(move |conn| {
            let token = sled_join_token::table
                .filter(sled_join_token::token_hash.eq(&token_hash))
                .filter(sled_join_token::time_expires.gt(clock_timestamp()))
                .select(SledJoinToken::as_select())
                .for_update()
                .first(conn)
                .optional()?;
            let Some(token) = token else { return Ok(Join::Unknown) };
            if token.key_hash.as_ref().is_some_and(|key| *key != key_hash) {
                return Ok(Join::Used);
            }
            let sled_id = token.sled_id;
            if claimed.is_some_and(|claimed| claimed != sled_id) {
                return Ok(Join::OtherSled(sled_id));
            }
            if is_expunged(conn, sled_id)? {
                return Ok(Join::Expunged(sled_id));
            }
            if token.key_hash.is_none() {
                diesel::update(sled_join_token::table.find(token.id))
                    .set((
                        sled_join_token::key_hash.eq(&key_hash),
                        sled_join_token::time_used.eq(sql::<
                            Nullable<Timestamptz>,
                        >(
                            "now()"
                        )),
                    ))
                    .kept()
                    .execute(conn)?;
            }
            Ok(Join::As(sled_id))
        })
        .await
    }

    /// Was this sled removed for good? Who has joined and not registered yet
    /// was not.
    pub async fn sled_is_expunged(&self, id: SledId) -> Result<bool, Error> {
        self.run(move |conn| is_expunged(conn, id)).await
    }

    /// Forgets some tokens that have expired; how many, and whether there may
    /// be more.
    pub async fn sled_join_tokens_prune(&self) -> Result<(usize, bool), Error> {
        self.run(move |conn| {
            let deleted = statement(
                "DELETE FROM sled_join_token WHERE id IN ( \
                     SELECT id FROM sled_join_token \
                     WHERE time_expires < now() - INTERVAL '1 day' \
                     ORDER BY time_expires LIMIT $1)",
            )
            .bind::<BigInt, _>(BATCH)
            .execute(conn)?;
            let full = i64::try_from(deleted).is_ok_and(|n| n >= BATCH);
            Ok((deleted, full))
        })
        .await
    }
}

fn is_expunged(conn: &mut PgConnection, id: SledId) -> Result<bool, Error> {
    let policy = sled::table.find(id).select(sled::policy).first(conn);
    let policy: Option<SledPolicy> = policy.optional()?;
    Ok(policy == Some(SledPolicy::Expunged))
}
