//! API tokens of users.

use crate::{ById, DataStore, Error, Page};
use db_model::schema::api_token;
use db_model::{ApiToken, ApiTokenId, SiloUserId};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, NullableExpressionMethods,
    QueryDsl, RunQueryDsl, SelectableHelper,
};

impl DataStore {
    /// A user's tokens that have not expired, by id.
    pub async fn api_token_list(
        &self,
        user: SiloUserId,
        page: Page<ById>,
    ) -> Result<Vec<ApiToken>, Error> {
        self.run(move |conn| {
            let query = api_token::table
                .filter(api_token::silo_user_id.eq(user))
                .filter(
                    api_token::time_expires.is_null().or(
                        api_token::time_expires
                            .assume_not_null()
                            .gt(diesel::dsl::now),
                    ),
                )
                .order(api_token::id.asc())
                .limit(page.limit)
                .select(ApiToken::as_select())
                .into_boxed();
            let query = match page.by.after {
                Some(after) => {
                    query.filter(api_token::id.gt(ApiTokenId(after)))
                }
                None => query,
            };
            Ok(query.load(conn)?)
        })
        .await
    }

    /// Deletes a user's token. From here on it is good for nothing.
    ///
    /// # Errors
    ///
    /// `NotFound`, for another user's too.
    pub async fn api_token_delete(
        &self,
        user: SiloUserId,
        id: ApiTokenId,
    ) -> Result<(), Error> {
        self.run(move |conn| {
            let deleted = diesel::delete(api_token::table.find(id))
                .filter(api_token::silo_user_id.eq(user))
                .execute(conn)?;
            if deleted == 1 { Ok(()) } else { Err(Error::NotFound) }
        })
        .await
    }
}
