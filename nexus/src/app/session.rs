//! Console sessions, and the logins that begin them.

use super::guesses::delay;
use super::password::{Compared, Password, too_many};
use super::{App, Token};
use crate::config::SessionConfig;
use crate::context::OpContext;
use crate::error::Error;
use chrono::TimeDelta;
use db_model::{AuthMethod, Name, UserName};
use db_queries::{ByNameOrId, Guess, Page};

/// That a session is used is written no oftener than this.
const NOTE_EVERY: TimeDelta = TimeDelta::minutes(1);

impl App {
    /// Begins a session for who knows the password: the secret of its cookie,
    /// which is kept nowhere. `aside` is called before the password is hashed,
    /// for which one may have to wait.
    ///
    /// # Errors
    ///
    /// `WrongPassword`: there is no such silo or user, or it is another's
    /// password; `TooManyRequests`: it was guessed too often; `Unavailable`: too
    /// many log in.
    pub async fn login(
        &self,
        silo: Name,
        user: UserName,
        password: Password,
        aside: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Token, Error> {
        let turn = self.hasher.turn()?;
        let guess = self.datastore.password_guess(silo, user, delay).await?;
        if let Guess::Wait(wait) = guess {
            return Err(too_many(wait.to_std().unwrap_or_default()));
        }
        aside()?;
        let Guess::Hash(user, hash) = guess else {
            self.hasher.pretend(turn, password).await?;
            return Err(Error::WrongPassword);
        };
        match self.hasher.compare(turn, password, hash.clone()).await? {
            Compared::Wrong => Err(Error::WrongPassword),
            Compared::Right { rehashed } => {
                let token = Token::session()?;
                let begun = self
                    .datastore
                    .password_right(user, hash, rehashed, token.hash())
                    .await;
                match begun {
                    Err(db_queries::Error::NotFound) => {
                        Err(Error::WrongPassword)
                    }
                    begun => Ok(begun.map(|()| token)?),
                }
            }
        }
    }

    /// Ends the session with this cookie, if there is one.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn logout(&self, cookie: &str) -> Result<(), Error> {
        let hash = Token::shown(cookie).hash();
        let ended = self.datastore.session_end(hash).await;
        self.known.forget();
        Ok(ended?)
    }

    /// Whom a session's cookie speaks for.
    ///
    /// # Errors
    ///
    /// `Unauthenticated`: there is no such session, or not any more.
    pub async fn authenticate_session(
        &self,
        cookie: &str,
    ) -> Result<OpContext, Error> {
        let life = self.session.life();
        let look = || {
            let hash = Token::shown(cookie).hash();
            self.datastore.session_authenticate(hash, life, NOTE_EVERY)
        };
        self.known.who(AuthMethod::SessionCookie, cookie, look).await
    }

    /// The silo to which one logs in, if there is but one.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn login_silo(&self) -> Result<Option<Name>, Error> {
        let by = ByNameOrId::Name { after: None, descending: false };
        let mut silos = self.datastore.silo_list(Page { by, limit: 2 }).await?;
        let only = silos.pop().filter(|silo| silo.discoverable);
        Ok(only.filter(|_| silos.is_empty()).map(|silo| silo.name))
    }

    /// How sessions are.
    pub fn session_config(&self) -> SessionConfig {
        self.session
    }
}
