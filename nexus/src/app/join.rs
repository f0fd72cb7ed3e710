//! Sleds that join the fleet, and that stay in it.

use super::{App, Token};
use crate::error::Error;
use crate::fleet::PublicKey;
use db_model::SledId;
use db_queries::Join;
use sled_agent_client::{
    CertificateIssued, CertificateRequest, JoinRequest, Joined,
};
use slog::info;

impl App {
    /// A sled joins, by a token.
    ///
    /// *Idempotency*: with the same key it is answered as well each time, until
    /// the token expires.
    ///
    /// # Errors
    ///
    /// `Unauthenticated`: there is no such token, or no more; `InvalidValue`;
    /// `Conflict`: the token is not good for this one.
    pub async fn sled_join(
        &self,
        token: &str,
        request: JoinRequest,
    ) -> Result<Joined, Error> {
        // What is no key must not use the token up.
        let key = PublicKey::read(&request.public_key)?;
        let token = Token::shown(token);
        let claimed = request.sled_id.map(SledId);
        let join =
            self.datastore.sled_join(token.hash(), key.hash(), claimed).await?;
        let conflict = |message| Err(Error::Conflict { message });
        let sled_id = match join {
            Join::As(sled_id) => sled_id,
            Join::Unknown => return Err(Error::Unauthenticated),
            Join::Used => {
                return conflict(
                    "the token was used, with another key: a token lets one \
                     sled join. Issue another one"
                        .to_owned(),
                );
            }
            Join::OtherSled(other) => {
                return conflict(format!(
                    "the token is for sled \"{other}\": one that was a sled \
                     already joins again by a token for that sled (\
                     nexus-admin sled token issue --sled ID), or begins anew \
                     in an empty directory"
                ));
            }
            Join::Expunged(id) => return Err(expunged(id)),
        };
        let issued = self.fleet.issue(sled_id, &key)?;
        info!(self.log, "a sled joins"; "sled" => %sled_id);
        let secret = self.fleet.secret().of_sled(sled_id.0);
        Ok(Joined {
            sled_id: sled_id.0,
            secret: secret.expose().to_owned(),
            issued,
        })
    }

    /// A sled wants another certificate.
    ///
    /// # Errors
    ///
    /// `InvalidValue`; `Conflict`: it was removed.
    pub async fn sled_certificate(
        &self,
        id: SledId,
        request: &CertificateRequest,
    ) -> Result<CertificateIssued, Error> {
        let key = PublicKey::read(&request.public_key)?;
        if self.datastore.sled_is_expunged(id).await? {
            return Err(expunged(id));
        }
        let issued = self.fleet.issue(id, &key)?;
        info!(self.log, "a sled has another certificate"; "sled" => %id);
        Ok(issued)
    }

    /// Is this the secret of this sled?
    pub fn is_sled(&self, id: SledId, given: &str) -> bool {
        self.fleet.secret().of_sled(id.0).matches(given)
    }

    /// Is this the secret that operators have?
    pub fn is_operator(&self, given: &str) -> bool {
        self.fleet.secret().matches(given)
    }

    /// Is this a secret by which metrics may be read?
    pub fn may_read_metrics(&self, given: &str) -> bool {
        self.fleet.secret().of_metrics().matches(given)
            || self.is_operator(given)
    }
}

fn expunged(id: SledId) -> Error {
    let message = format!(
        "sled \"{id}\" is expunged, and gets no certificate again; its host \
         may join as a new sled, by another token and with an empty directory"
    );
    Error::Conflict { message }
}
