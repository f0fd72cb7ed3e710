//! Addresses, networks and interfaces that users could see: there are none
//! yet. What they would be in is looked up first, as if there were some.

use db_model::NameOrId;
use dropshot::{HttpResponseOk, ResultsPage};
use schemars::JsonSchema;
use serde::Serialize;

use super::extract::{Path, Query};
use super::handler::{Admitted, of_user};
use super::nothing::{Empty, Never, empty, no_such};
use super::pagination::{Everything, Listing, PagesByNameOrId};
use super::types::{
    InstanceNetworkInterface, InstancePath, InterfacePath, InterfacesOf,
    OptionalInstanceSelector, OptionalProjectSelector, OptionalVpcSelector,
    PoolPath, PoolsOf, ProjectSelector, SiloIpPool, SiloPath, SubnetPath, Vpc,
    VpcPath, VpcSubnet,
};
use crate::app::{App, InstanceSelector};
use crate::authz::Action;
use crate::context::OpContext;
use crate::error::Error;

const SILO: &str = "see the silo";

/// What an instance has none of.
pub(super) async fn of_instance<T>(
    rqctx: Admitted,
    path: Path<InstancePath>,
    query: Query<OptionalProjectSelector>,
) -> Empty<T>
where
    T: JsonSchema + Serialize + Send + Sync + 'static,
{
    let (app, opctx) = of_user(&rqctx).await?;
    let project = query.into_inner().project;
    let instance = path.into_inner().instance;
    let which = InstanceSelector { project, instance };
    app.instance_view(&opctx, &which).await?;
    Ok(HttpResponseOk(ResultsPage { items: Vec::new(), next_page: None }))
}

pub(super) async fn interface_list(
    rqctx: Admitted,
    query: PagesByNameOrId<InterfacesOf>,
) -> Empty<InstanceNetworkInterface> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    let InterfacesOf { instance, project } = list.within.clone();
    let which = InstanceSelector { project, instance };
    app.instance_view(&opctx, &which).await?;
    empty(list)
}

pub(super) async fn interface_view(
    rqctx: Admitted,
    path: Path<InterfacePath>,
    query: Query<OptionalInstanceSelector>,
) -> Never<InstanceNetworkInterface> {
    let (app, opctx) = of_user(&rqctx).await?;
    let OptionalInstanceSelector { instance, project } = query.into_inner();
    let interface = path.into_inner().interface;
    match instance {
        Some(instance) => {
            let which = InstanceSelector { project, instance };
            app.instance_view(&opctx, &which).await?;
        }
        None => {
            within(&interface, "network interface", "instance", false)?;
        }
    }
    Err(no_such("network interface", &interface))
}

/// What a project has none of.
pub(super) async fn in_project<T>(
    rqctx: Admitted,
    query: PagesByNameOrId<ProjectSelector>,
) -> Empty<T>
where
    T: JsonSchema + Serialize + Send + Sync + 'static,
{
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    app.project_view(&opctx, &list.within.project).await?;
    empty(list)
}

pub(super) async fn pool_list(
    rqctx: Admitted,
    query: PagesByNameOrId<PoolsOf>,
) -> Empty<SiloIpPool> {
    let (_, opctx) = of_user(&rqctx).await?;
    opctx.authorize(Action::View, opctx.own_silo(), SILO)?;
    empty(Listing::new(&rqctx, query)?)
}

pub(super) async fn pool_view(
    rqctx: Admitted,
    path: Path<PoolPath>,
) -> Never<SiloIpPool> {
    let (_, opctx) = of_user(&rqctx).await?;
    opctx.authorize(Action::View, opctx.own_silo(), SILO)?;
    Err(no_such("IP pool", &path.into_inner().pool))
}

pub(super) async fn pools_of_silo(
    rqctx: Admitted,
    path: Path<SiloPath>,
    query: PagesByNameOrId<Everything>,
) -> Empty<SiloIpPool> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    app.silo_quota_view(&opctx, &path.into_inner().silo).await?;
    empty(list)
}

pub(super) async fn vpc_view(
    rqctx: Admitted,
    path: Path<VpcPath>,
    query: Query<OptionalProjectSelector>,
) -> Never<Vpc> {
    let (app, opctx) = of_user(&rqctx).await?;
    let vpc = path.into_inner().vpc;
    look_for_vpc(app, &opctx, &vpc, query.into_inner().project).await?;
    Err(no_such("VPC", &vpc))
}

pub(super) async fn subnet_list(
    rqctx: Admitted,
    query: PagesByNameOrId<OptionalVpcSelector>,
) -> Empty<VpcSubnet> {
    let (app, opctx) = of_user(&rqctx).await?;
    let list = Listing::new(&rqctx, query)?;
    opctx.authorize(Action::View, opctx.own_silo(), SILO)?;
    let OptionalVpcSelector { vpc, project } = list.within.clone();
    if let Some(vpc) = vpc {
        look_for_vpc(app, &opctx, &vpc, project).await?;
        return Err(Error::not_found("VPC", &vpc).into());
    }
    if let Some(project) = project {
        app.project_view(&opctx, &project).await?;
    }
    empty(list)
}

pub(super) async fn subnet_view(
    rqctx: Admitted,
    path: Path<SubnetPath>,
    query: Query<OptionalVpcSelector>,
) -> Never<VpcSubnet> {
    let (app, opctx) = of_user(&rqctx).await?;
    let OptionalVpcSelector { vpc, project } = query.into_inner();
    let subnet = path.into_inner().subnet;
    match vpc {
        Some(vpc) => {
            look_for_vpc(app, &opctx, &vpc, project).await?;
            Err(no_such("VPC", &vpc))
        }
        None => {
            within(&subnet, "subnet", "vpc", false)?;
            Err(no_such("subnet", &subnet))
        }
    }
}

/// As far as a VPC can be looked for.
async fn look_for_vpc(
    app: &App,
    opctx: &OpContext,
    vpc: &NameOrId,
    project: Option<NameOrId>,
) -> Result<(), Error> {
    within(vpc, "VPC", "project", project.is_some())?;
    if let Some(project) = project {
        app.project_view(opctx, &project).await?;
    }
    Ok(())
}

/// A thing that is called by name is looked for in something.
fn within(
    which: &NameOrId,
    kind: &str,
    parent: &str,
    said: bool,
) -> Result<(), Error> {
    if said || matches!(which, NameOrId::Id(_)) {
        return Ok(());
    }
    Err(Error::InvalidRequest {
        message: format!(
            "{kind} \"{which}\" is given by name: name its {parent} with \
             ?{parent}=, or give its id"
        ),
    })
}
