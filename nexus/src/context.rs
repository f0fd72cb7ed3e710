//! Who asks.

use db_model::{SiloId, SiloUserId};

/// The authenticated caller of a request. App methods take it first, and look
/// nothing up outside its silo.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct OpContext {
    pub user_id: SiloUserId,
    pub silo_id: SiloId,
    /// May see and change what is the fleet's.
    pub fleet_admin: bool,
}
