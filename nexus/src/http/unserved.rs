//! What Oxide's API has and we do not: answered by 501, so that a client knows
//! that it asked for the right thing at the wrong server.

use std::collections::BTreeSet;

use dropshot::{
    ApiDescription, ApiEndpoint, ApiEndpointBodyContentType,
    ApiEndpointParameter as Parameter,
    ApiEndpointParameterLocation as Location, ApiEndpointVersions,
    CONTENT_TYPE_JSON, HttpError, HttpResponseUpdatedNoContent,
    SharedExtractor,
};
use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use super::api::external_api_mod;
use super::external::ExternalApiImpl;
use super::handler::{Admitted, ApiContext, Request, admitted, of_user};
use super::pages;
use crate::error::{BoxError, Error};

/// All that Oxide's API has.
const OPERATIONS: &str = include_str!("oxide-operations.txt");

/// The external API as it is served: ours, the refusals of the rest of Oxide's,
/// and the pages for people.
///
/// # Errors
///
/// The API contradicts itself, which tests rule out.
pub fn external_api() -> Result<ApiDescription<ApiContext>, BoxError> {
    let ours = external_api_mod::api_description::<ExternalApiImpl>;
    let served: BTreeSet<(String, String)> = ours()?
        .into_router()
        .endpoints(None)
        .map(|(path, method, _)| (path, method))
        .collect();
    let mut api = ours()?;
    for operation in operations() {
        let (path, method) = (operation.path, operation.method);
        if !served.contains(&(path.to_owned(), method.to_owned())) {
            api.register(operation.endpoint()?)?;
        }
    }
    pages::register(&mut api)?;
    Ok(api)
}

struct Operation {
    id: &'static str,
    method: &'static str,
    path: &'static str,
}

fn operations() -> impl Iterator<Item = Operation> {
    OPERATIONS.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let id = words.next().filter(|word| *word != "#")?;
        Some(Operation { id, method: words.next()?, path: words.next()? })
    })
}

impl Operation {
    fn endpoint(&self) -> Result<ApiEndpoint<ApiContext>, BoxError> {
        let mut endpoint = ApiEndpoint::new(
            self.id.to_owned(),
            refuse,
            Method::from_bytes(self.method.as_bytes())?,
            CONTENT_TYPE_JSON,
            self.path,
            ApiEndpointVersions::All,
        )
        .visible(false);
        // dropshot wants to see the variables of a path consumed.
        endpoint.parameters = variables(self.variables());
        Ok(endpoint)
    }

    fn variables(&self) -> impl Iterator<Item = &'static str> {
        self.path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }
}

/// A variable of a path, which may be anything.
#[derive(Deserialize, JsonSchema)]
struct Anything {
    #[expect(dead_code, reason = "only its schema is of use")]
    variable: String,
}

/// dropshot makes schemas only for what it extracts itself.
fn variables(names: impl Iterator<Item = &'static str>) -> Vec<Parameter> {
    let one = |name: &'static str| {
        let body = ApiEndpointBodyContentType::default();
        let like =
            <dropshot::Path<Anything> as SharedExtractor>::metadata(body);
        like.parameters.into_iter().map(move |like| {
            let (at, name) = (Location::Path, name.to_owned());
            Parameter::new_named(&at, name, None, true, like.schema, Vec::new())
        })
    };
    names.flat_map(one).collect()
}

async fn refuse(
    rqctx: Request,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    admitted(rqctx, refuse_admitted).await
}

async fn refuse_admitted(
    rqctx: Admitted,
) -> Result<HttpResponseUpdatedNoContent, HttpError> {
    of_user(&rqctx).await?;
    let operation = rqctx.endpoint.operation_id.clone();
    Err(Error::NotImplemented { operation }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_of_oxide_s_leads_somewhere() {
        let router = external_api().expect("a sound API").into_router();
        let mut seen = BTreeSet::new();
        for operation in operations() {
            let method = operation.method.parse().expect("a method");
            let path = operation.path.replace(['{', '}'], "");
            let found = router.lookup_route(&method, (&*path).into(), None);
            let id = found.expect("it leads somewhere").endpoint.operation_id;
            assert_eq!(id, operation.id, "ours is called as theirs");
            assert!(seen.insert(id), "twice in the list");
        }
        assert!(seen.len() > 300, "{}", seen.len());
    }
}
