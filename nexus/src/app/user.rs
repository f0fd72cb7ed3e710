//! Who asks.

use super::{App, Password, Token, about};
use crate::authz::{Action, Resource};
use crate::context::OpContext;
use crate::error::Error;
use db_model::{
    ApiToken, ApiTokenId, AuthMethod, ConsoleSession, NameOrId, Silo, SiloId,
    SiloUser, SiloUserId, UserName,
};
use db_queries::{ById, Page};

impl App {
    /// Whom a token speaks for.
    ///
    /// # Errors
    ///
    /// `Unauthenticated`.
    pub async fn authenticate(&self, token: &str) -> Result<OpContext, Error> {
        let method = AuthMethod::AccessToken;
        let look = || {
            let hash = Token::shown(token).hash();
            self.datastore.authenticate(hash)
        };
        self.known.who(method, token, look).await
    }

    /// The users of the caller's silo: one must see whom to give a role.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn user_list(
        &self,
        opctx: &OpContext,
        page: Page<ById>,
    ) -> Result<Vec<SiloUser>, Error> {
        let what = "list the silo's users";
        opctx.authorize(Action::View, opctx.own_silo(), what)?;
        Ok(self.datastore.user_list(Some(opctx.silo_id), page).await?)
    }

    /// A user of the caller's silo.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn user_view(
        &self,
        opctx: &OpContext,
        id: SiloUserId,
    ) -> Result<SiloUser, Error> {
        let what = "see the silo's users";
        opctx.authorize(Action::View, opctx.own_silo(), what)?;
        self.user_of(opctx.silo_id, id).await
    }

    /// The users of a silo, or of all.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such silo; `Forbidden`.
    pub async fn silo_user_list(
        &self,
        opctx: &OpContext,
        silo: Option<&NameOrId>,
        page: Page<ById>,
    ) -> Result<Vec<SiloUser>, Error> {
        let of = match silo {
            Some(which) => Some(self.silo_view(opctx, which).await?.id),
            None => {
                let what = "list the users of all silos: name one by \"silo\"";
                opctx.authorize(Action::View, Resource::Fleet, what)?;
                None
            }
        };
        Ok(self.datastore.user_list(of, page).await?)
    }

    /// A user of a silo.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn silo_user_view(
        &self,
        opctx: &OpContext,
        silo: &NameOrId,
        id: SiloUserId,
    ) -> Result<SiloUser, Error> {
        let silo = self.silo_view(opctx, silo).await?;
        self.user_of(silo.id, id).await
    }

    /// Makes a user, who has no role yet.
    ///
    /// # Errors
    ///
    /// `NotFound`: no such silo; `Forbidden`; `AlreadyExists`.
    pub async fn local_user_create(
        &self,
        opctx: &OpContext,
        silo: &NameOrId,
        name: UserName,
        password: Option<Password>,
    ) -> Result<SiloUser, Error> {
        let silo = self.silo_view(opctx, silo).await?;
        let on = Resource::Silo(silo.id);
        opctx.authorize(Action::Create, on, "create users of the silo")?;
        let hash = self.hash(password).await?;
        let text = name.to_string();
        let made = self.datastore.user_create(silo.id, name, hash).await;
        made.map_err(|error| {
            let db_queries::Error::AlreadyExists = error else {
                return about("silo", &NameOrId::Id(silo.id.0))(error);
            };
            Error::AlreadyExists { kind: "user", name: text }
        })
    }

    /// Deletes a user, with its tokens and sessions. What it made stays.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`; `InvalidRequest`: the fleet would have no
    /// admin any more.
    pub async fn local_user_delete(
        &self,
        opctx: &OpContext,
        silo: &NameOrId,
        id: SiloUserId,
    ) -> Result<(), Error> {
        let user = self.silo_user_view(opctx, silo, id).await?;
        let on = Resource::Silo(user.silo_id);
        opctx.authorize(Action::Change, on, "delete users of the silo")?;
        self.may_be(opctx, id).await?;
        let deleted = self.datastore.user_delete(id).await;
        self.known.forget();
        deleted.map_err(|error| {
            let db_queries::Error::InUse = error else {
                return about("user", &NameOrId::Id(id.0))(error);
            };
            Error::InvalidRequest {
                message: format!(
                    "user \"{}\" is the fleet's last admin: give that role to \
                     another user first",
                    user.external_id
                ),
            }
        })
    }

    /// Sets a user's password, or takes it away. Ends its sessions.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`.
    pub async fn local_user_set_password(
        &self,
        opctx: &OpContext,
        silo: &NameOrId,
        id: SiloUserId,
        password: Option<Password>,
    ) -> Result<(), Error> {
        let user = self.silo_user_view(opctx, silo, id).await?;
        let on = Resource::User { id, silo: user.silo_id };
        opctx.authorize(Action::Change, on, "set the user's password")?;
        self.may_be(opctx, id).await?;
        if opctx.credential.method == AuthMethod::AccessToken {
            // Else a token that ends soon, or leaked, would be worth as much as
            // the password.
            let on = Resource::Silo(user.silo_id);
            let what = "set a password by a token: log in, and set it then";
            opctx.authorize(Action::Change, on, what)?;
        }
        let hash = self.hash(password).await?;
        let set = self.datastore.password_set(id, hash).await;
        self.known.forget();
        set.map_err(about("user", &NameOrId::Id(id.0)))
    }

    /// A user's tokens.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`.
    pub async fn token_list(
        &self,
        opctx: &OpContext,
        user: SiloUserId,
        page: Page<ById>,
    ) -> Result<Vec<ApiToken>, Error> {
        self.may_with(opctx, Action::View, user, "list the user's tokens")
            .await?;
        Ok(self.datastore.api_token_list(user, page).await?)
    }

    /// Deletes a token of the caller's.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub async fn token_delete(
        &self,
        opctx: &OpContext,
        id: ApiTokenId,
    ) -> Result<(), Error> {
        let user = opctx.user_id;
        self.may_with(opctx, Action::Change, user, "delete the token").await?;
        let deleted = self.datastore.api_token_delete(user, id).await;
        self.known.forget();
        deleted.map_err(about("access token", &NameOrId::Id(id.0)))
    }

    /// A user's console sessions.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`.
    pub async fn session_list(
        &self,
        opctx: &OpContext,
        user: SiloUserId,
        page: Page<ById>,
    ) -> Result<Vec<ConsoleSession>, Error> {
        self.may_with(opctx, Action::View, user, "list the user's sessions")
            .await?;
        let life = self.session.life();
        Ok(self.datastore.session_list(user, life, page).await?)
    }

    /// Ends a user's sessions, and deletes its tokens.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Forbidden`.
    pub async fn user_logout(
        &self,
        opctx: &OpContext,
        user: SiloUserId,
    ) -> Result<(), Error> {
        self.may_with(opctx, Action::Change, user, "log the user out").await?;
        self.may_be(opctx, user).await?;
        let out = self.datastore.user_logout(user).await;
        self.known.forget();
        Ok(out?)
    }

    /// May the caller become this user, as whoever sets its password can? One
    /// who has a role on the fleet is more than its silo's.
    async fn may_be(
        &self,
        opctx: &OpContext,
        id: SiloUserId,
    ) -> Result<(), Error> {
        if id == opctx.user_id || !self.datastore.user_is_of_fleet(id).await? {
            return Ok(());
        }
        let what = "change users who have a role on the fleet";
        opctx.authorize(Action::ChangePolicy, Resource::Fleet, what)
    }

    /// May the caller do this with a user of its silo?
    async fn may_with(
        &self,
        opctx: &OpContext,
        action: Action,
        id: SiloUserId,
        what: &'static str,
    ) -> Result<(), Error> {
        let silo = self.user_of(opctx.silo_id, id).await?.silo_id;
        opctx.authorize(action, Resource::User { id, silo }, what)
    }

    async fn user_of(
        &self,
        silo: SiloId,
        id: SiloUserId,
    ) -> Result<SiloUser, Error> {
        let user = self.datastore.user_view(silo, id).await;
        user.map_err(about("user", &NameOrId::Id(id.0)))
    }

    async fn hash(
        &self,
        password: Option<Password>,
    ) -> Result<Option<String>, Error> {
        match password {
            Some(password) => Ok(Some(self.hasher.hash(password).await?)),
            None => Ok(None),
        }
    }

    /// The caller and its silo.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn current_user(
        &self,
        opctx: &OpContext,
    ) -> Result<(SiloUser, Silo), Error> {
        opctx.authorize(Action::View, opctx.oneself(), "see who one is")?;
        Ok(self.datastore.silo_user_view(opctx.user_id).await?)
    }
}
