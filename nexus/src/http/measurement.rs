//! What was measured: nothing yet, so tables and pages are empty.

use dropshot::{HttpError, HttpResponseOk};

use super::extract::{Path, Query, TypedBody};
use super::handler::{Admitted, of_user};
use super::nothing::{Empty, empty};
use super::pagination::{Everything, Listing, PagesById};
use super::types::{
    Measurement, MetricPath, OxqlQueryResult, OxqlTable, ProjectSelector,
    SiloMetricSelector, SystemMetricSelector, TimeseriesQuery,
    TimeseriesSchema,
};
use crate::authz::{Action, Resource};
use crate::error::Error;

const FLEET: &str = "see what the fleet has";

pub(super) async fn query(
    rqctx: Admitted,
    query: Query<ProjectSelector>,
    body: TypedBody<TimeseriesQuery>,
) -> Result<HttpResponseOk<OxqlQueryResult>, HttpError> {
    let (app, opctx) = of_user(&rqctx).await?;
    app.project_view(&opctx, &query.into_inner().project).await?;
    let name = asked_for(&body.into_inner().query)?;
    let table = OxqlTable { name, timeseries: Vec::new() };
    Ok(HttpResponseOk(OxqlQueryResult { tables: vec![table] }))
}

pub(super) async fn of_silo(
    rqctx: Admitted,
    _: Path<MetricPath>,
    query: PagesById<SiloMetricSelector>,
) -> Empty<Measurement> {
    let (app, opctx) = of_user(&rqctx).await?;
    opctx.authorize(Action::View, opctx.own_silo(), "see the silo")?;
    let list = Listing::new(&rqctx, query)?;
    if let Some(project) = &list.within.project {
        app.project_view(&opctx, project).await?;
    }
    empty(list)
}

pub(super) async fn of_fleet(
    rqctx: Admitted,
    _: Path<MetricPath>,
    query: PagesById<SystemMetricSelector>,
) -> Empty<Measurement> {
    let (app, opctx) = of_user(&rqctx).await?;
    opctx.authorize(Action::View, Resource::Fleet, FLEET)?;
    let list = Listing::new(&rqctx, query)?;
    if let Some(silo) = &list.within.silo {
        app.silo_quota_view(&opctx, silo).await?;
    }
    empty(list)
}

pub(super) async fn schema_list(
    rqctx: Admitted,
    query: PagesById<Everything>,
) -> Empty<TimeseriesSchema> {
    let (_, opctx) = of_user(&rqctx).await?;
    opctx.authorize(Action::View, Resource::Fleet, FLEET)?;
    empty(Listing::new(&rqctx, query)?)
}

/// What a query gets first.
fn asked_for(query: &str) -> Result<String, Error> {
    let separates = |c: char| c.is_whitespace() || "{}|;".contains(c);
    let mut words = query.split(separates).filter(|word| !word.is_empty());
    let name = (words.next() == Some("get")).then(|| words.next()).flatten();
    name.map(str::to_owned).ok_or_else(|| {
        Error::invalid_value(
            "query",
            "it must begin with \"get\" and the name of what was measured",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_gets_what_it_names_first() {
        for (query, name) in [
            ("get virtual_machine:vcpu_usage", "virtual_machine:vcpu_usage"),
            ("get a:b | filter x == 1", "a:b"),
            ("{ get a:b; get c:d } | join", "a:b"),
            ("get a:b|last 5", "a:b"),
        ] {
            assert_eq!(asked_for(query).expect("a name"), name);
        }
        for query in ["", "get", "get |", "filter a == 1", "gets a:b"] {
            let message = asked_for(query).expect_err(query).to_string();
            assert!(message.starts_with("query: "), "{message}");
        }
    }
}
