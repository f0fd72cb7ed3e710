//! Who asks.

use std::sync::Arc;

use db_model::{AuthMethod, SiloId, SiloUserId};
use uuid::Uuid;

use crate::authz::Rights;

/// The authenticated caller of a request. App methods take it first, ask it
/// whether they may ([`OpContext::authorize`]), and look nothing up outside its
/// silo.
#[derive(Clone, Debug)]
pub struct OpContext {
    /// Who asks.
    pub user_id: SiloUserId,
    /// Whose user that is.
    pub silo_id: SiloId,
    /// By what the caller showed who it is.
    pub credential: Credential,
    pub(crate) rights: Arc<Rights>,
}

/// What a caller showed: which one it was, not the secret itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credential {
    /// What kind of credential.
    pub method: AuthMethod,
    /// Of the token or of the session.
    pub id: Uuid,
}
