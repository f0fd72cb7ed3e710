//! Quotas: what silos may have at once, and what they have.

use super::{App, about};
use crate::authz::{Action, Resource};
use crate::context::OpContext;
use crate::error::Error;
use db_model::{Name, NameOrId, SiloQuota, SiloQuotaChange};
use db_queries::{ById, ByNameOrId, Page};

const VIEW: &str = "see the silos' quotas and use";

impl App {
    /// The silos' quotas.
    ///
    /// # Errors
    ///
    /// `Forbidden`.
    pub async fn silo_quota_list(
        &self,
        opctx: &OpContext,
        page: Page<ById>,
    ) -> Result<Vec<SiloQuota>, Error> {
        opctx.authorize(Action::View, Resource::Fleet, VIEW)?;
        Ok(self.datastore.silo_quota_list(page).await?)
    }

    /// A silo's quota and use, with its name.
    ///
    /// # Errors
    ///
    /// `Forbidden`; `NotFound`.
    pub async fn silo_quota_view(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
    ) -> Result<(Name, SiloQuota), Error> {
        opctx.authorize(Action::View, Resource::Fleet, VIEW)?;
        self.quota_of(which).await
    }

    /// Changes a silo's quota. What it has stays, whatever it may have.
    ///
    /// # Errors
    ///
    /// `Forbidden`; `NotFound`.
    pub async fn silo_quota_update(
        &self,
        opctx: &OpContext,
        which: &NameOrId,
        change: SiloQuotaChange,
    ) -> Result<SiloQuota, Error> {
        let what = "set a silo's quota";
        opctx.authorize(Action::Change, Resource::Fleet, what)?;
        let (_, quota) = self.quota_of(which).await?;
        let changed =
            self.datastore.silo_quota_change(quota.silo_id, change).await;
        let quota = changed.map_err(about("silo", which))?;
        self.activators.reconcile();
        Ok(quota)
    }

    /// The silos' quotas and use, each with its silo's name.
    ///
    /// # Errors
    ///
    /// `Forbidden`.
    pub async fn silo_utilization_list(
        &self,
        opctx: &OpContext,
        page: Page<ByNameOrId>,
    ) -> Result<Vec<(Name, SiloQuota)>, Error> {
        opctx.authorize(Action::View, Resource::Fleet, VIEW)?;
        Ok(self.datastore.silo_utilization_list(page).await?)
    }

    /// The caller's silo's quota and use.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    pub async fn utilization(
        &self,
        opctx: &OpContext,
    ) -> Result<SiloQuota, Error> {
        opctx.authorize(Action::View, opctx.own_silo(), "see the silo")?;
        let own = NameOrId::Id(opctx.silo_id.0);
        Ok(self.quota_of(&own).await?.1)
    }

    async fn quota_of(
        &self,
        which: &NameOrId,
    ) -> Result<(Name, SiloQuota), Error> {
        self.datastore
            .silo_quota_view(which.clone())
            .await
            .map_err(about("silo", which))
    }
}
