//! `sled token issue` and `sled token list`: how hosts come into the fleet.

use crate::database::Database;
use crate::failure::{Failure, missing};
use crate::report::Report;
use crate::table::Table;
use crate::words::span;
use chrono::{DateTime, TimeDelta, Utc};
use db_model::{SledId, SledJoinToken, SledJoinTokenId};
use db_queries::{ById, Page};
use nexus::app::Token;
use nexus::error::chain;
use serde::Serialize;

/// Tokens of a page.
const PAGE: i64 = 100;

/// A token, to be shown once. Without `Debug`, so that it is in no log.
#[derive(Serialize)]
pub(crate) struct Issued {
    id: SledJoinTokenId,
    sled_id: SledId,
    token: String,
    time_expires: DateTime<Utc>,
}

/// Tokens that have not expired.
#[derive(Serialize)]
pub(crate) struct Tokens {
    time: DateTime<Utc>,
    tokens: Vec<Listed>,
}

/// One of them.
#[derive(Serialize)]
struct Listed {
    id: SledJoinTokenId,
    sled_id: SledId,
    time_created: DateTime<Utc>,
    time_expires: DateTime<Utc>,
    time_used: Option<DateTime<Utc>>,
}

/// Makes a token for a new sled, or for one that is to join again.
pub(crate) async fn issue(
    database: &Database,
    sled: Option<SledId>,
    ttl_secs: u32,
) -> Result<Issued, Failure> {
    let token = Token::sled_join().map_err(|e| Failure::failed(chain(&e)))?;
    let life = TimeDelta::seconds(i64::from(ttl_secs));
    let row =
        database.datastore.sled_join_token_insert(token.hash(), sled, life);
    let row = row.await.map_err(missing(
        "no such sled may join again: `nexus-admin sled list` shows those that \
         there are, and an expunged one is out for good",
    ))?;
    Ok(Issued {
        id: row.id,
        sled_id: row.sled_id,
        token: token.expose().to_owned(),
        time_expires: row.time_expires,
    })
}

/// All tokens that have not expired.
pub(crate) async fn list(database: &Database) -> Result<Tokens, Failure> {
    let time = database.datastore.database_time().await?;
    let mut tokens: Vec<Listed> = Vec::new();
    loop {
        let after = tokens.last().map(|token| token.id.0);
        let page = Page { by: ById { after }, limit: PAGE };
        let more = database.datastore.sled_join_token_list(page).await?;
        if more.is_empty() {
            return Ok(Tokens { time, tokens });
        }
        tokens.extend(more.into_iter().map(Listed::from));
    }
}

impl From<SledJoinToken> for Listed {
    fn from(token: SledJoinToken) -> Listed {
        Listed {
            id: token.id,
            sled_id: token.sled_id,
            time_created: token.time_created,
            time_expires: token.time_expires,
            time_used: token.time_used,
        }
    }
}

impl Report for Issued {
    fn text(&self) -> String {
        format!("{}\n", self.token)
    }
}

impl Report for Tokens {
    fn text(&self) -> String {
        if self.tokens.is_empty() {
            return "No sled may join at the moment.\n".to_string();
        }
        let mut table = Table::new(&["TOKEN", "SLED", "USED", "EXPIRES IN"]);
        for token in &self.tokens {
            let used = token.time_used.map(|time| span(self.time - time));
            table.row([
                token.id.to_string(),
                token.sled_id.to_string(),
                used.map_or("no".to_string(), |ago| format!("{ago} ago")),
                span(token.time_expires - self.time),
            ]);
        }
        table.to_string()
    }
}
