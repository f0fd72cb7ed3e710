//! The audit log: what changed, and what was refused.

use super::App;
use crate::authz::{Action, Resource};
use crate::context::OpContext;
use crate::error::Error;
use chrono::{DateTime, Utc};
use db_model::{AuditLogActor, AuditLogBegin, AuditLogEnd, AuditLogEntry};
use db_queries::{ByTimeCompleted, Page};
use uuid::Uuid;

/// Entries are listed from so long after their completion on. It covers the
/// time from a completion's being stamped to its being seen.
const SETTLE_MS: u32 = 10_000;

impl App {
    /// What was completed in a time, but for the last ten seconds.
    ///
    /// # Errors
    ///
    /// `Forbidden`.
    pub async fn audit_log_list(
        &self,
        opctx: &OpContext,
        start: DateTime<Utc>,
        end: Option<DateTime<Utc>>,
        page: Page<ByTimeCompleted>,
    ) -> Result<Vec<AuditLogEntry>, Error> {
        opctx.authorize(Action::View, Resource::Fleet, "see the audit log")?;
        Ok(self.datastore.audit_log_list(start, end, SETTLE_MS, page).await?)
    }

    pub(crate) async fn audit_begin(
        &self,
        row: AuditLogBegin,
    ) -> Result<(), Error> {
        Ok(self.datastore.audit_log_begin(row).await?)
    }

    pub(crate) async fn audit_complete(
        &self,
        id: Uuid,
        end: AuditLogEnd,
        actor: Option<AuditLogActor>,
    ) -> Result<(), Error> {
        Ok(self.datastore.audit_log_complete(id, end, actor).await?)
    }

    pub(crate) async fn audit_insert(
        &self,
        row: AuditLogBegin,
        end: AuditLogEnd,
    ) -> Result<(), Error> {
        Ok(self.datastore.audit_log_insert(row, end).await?)
    }
}
