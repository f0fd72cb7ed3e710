//! `user set-password` and `user issue-token`: for when nobody can log in who
//! could do it through a Nexus.

use crate::database::Database;
use crate::failure::{Failure, missing};
use crate::report::Report;
use chrono::{DateTime, TimeDelta, Utc};
use db_model::{
    ApiToken, ApiTokenId, Name, NameOrId, SiloUser, SiloUserId, UserName,
};
use nexus::app::{Hasher, Password, Token};
use nexus::error::chain;
use serde::Serialize;

/// Which user.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// The silo's name
    silo: Name,
    /// The user's name
    user: UserName,
}

/// A password that was set.
#[derive(Serialize)]
pub(crate) struct PasswordSet {
    user_id: SiloUserId,
}

/// A token, to be shown once. Without `Debug`, so that it is in no log.
#[derive(Serialize)]
pub(crate) struct Issued {
    id: ApiTokenId,
    token: String,
    time_expires: Option<DateTime<Utc>>,
}

/// Sets a user's password to the first line of standard input.
pub(crate) async fn set_password(
    database: &Database,
    which: &Which,
) -> Result<PasswordSet, Failure> {
    let user = find(database, which).await?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(Failure::failed)?;
    let text = line.trim_end_matches(['\r', '\n']).to_owned();
    let wrong = |e: nexus::Error| Failure::wrongly_asked(chain(&e));
    let password = Password::new(text).map_err(wrong)?;
    let hash = Hasher::default().hash(password).await.map_err(wrong)?;
    database.datastore.password_set(user.id, Some(hash)).await?;
    Ok(PasswordSet { user_id: user.id })
}

/// Makes a token of a user's, which expires after `ttl`.
pub(crate) async fn issue_token(
    database: &Database,
    which: &Which,
    ttl_secs: Option<u32>,
) -> Result<Issued, Failure> {
    let user = find(database, which).await?;
    let token = Token::generate().map_err(|e| Failure::failed(chain(&e)))?;
    let now = Utc::now();
    let expires =
        ttl_secs.map(|secs| now + TimeDelta::seconds(i64::from(secs)));
    let row = ApiToken {
        id: ApiTokenId::new_v4(),
        silo_user_id: user.id,
        token_hash: token.hash(),
        time_created: now,
        time_expires: expires,
    };
    let issued = Issued {
        id: row.id,
        token: token.expose().to_owned(),
        time_expires: expires,
    };
    database.datastore.api_token_insert(row).await?;
    Ok(issued)
}

async fn find(database: &Database, which: &Which) -> Result<SiloUser, Failure> {
    let Which { silo, user } = which;
    let found = database.datastore.silo_view(NameOrId::Name(silo.clone()));
    let no_silo = missing(format!("there is no silo \"{silo}\""));
    let silo_id = found.await.map_err(no_silo)?.id;
    let found = database.datastore.user_named(silo_id, user.clone());
    let no_user = missing(format!("silo \"{silo}\" has no user \"{user}\""));
    found.await.map_err(no_user)
}

impl Report for PasswordSet {
    fn text(&self) -> String {
        "The password is set. Whoever was logged in by the old one is not any \
         more; tokens stay.\n"
            .to_owned()
    }
}

impl Report for Issued {
    fn text(&self) -> String {
        format!("{}\n", self.token)
    }
}
