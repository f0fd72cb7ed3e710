//! The policies, and Cedar, which decides by them.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName,
    EntityUid, PolicySet, Request, RestrictedExpression, Schema,
    ValidationMode, Validator,
};
use db_model::{RoleName, SiloId, SiloUserId};
use uuid::Uuid;

use super::{Action, Resource};

const SCHEMA: &str = include_str!("nexus.cedarschema");
const POLICIES: &str = include_str!("nexus.cedar");

/// Everything that is parsed once.
struct Parsed {
    policies: PolicySet,
    authorizer: Authorizer,
    types: Types,
}

/// The names of the schema's types.
struct Types {
    action: EntityTypeName,
    fleet: EntityTypeName,
    project: EntityTypeName,
    role: EntityTypeName,
    silo: EntityTypeName,
    user: EntityTypeName,
}

static PARSED: LazyLock<Result<Parsed, String>> = LazyLock::new(parse);

fn parse() -> Result<Parsed, String> {
    let say = |what: &str, error: String| format!("{what}: {error}");
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA)
        .map_err(|e| say("nexus.cedarschema", e.to_string()))?;
    let policies = PolicySet::from_str(POLICIES)
        .map_err(|e| say("nexus.cedar", e.to_string()))?;
    let validator = Validator::new(schema);
    let found = validator.validate(&policies, ValidationMode::Strict);
    let mut wrong: Vec<_> =
        found.validation_errors().map(|e| e.to_string()).collect();
    wrong.extend(found.validation_warnings().map(|w| w.to_string()));
    if !wrong.is_empty() {
        return Err(say("nexus.cedar", wrong.join("; ")));
    }
    let named = |name: &str| {
        EntityTypeName::from_str(name).map_err(|e| say(name, e.to_string()))
    };
    let types = Types {
        action: named("Action")?,
        fleet: named("Fleet")?,
        project: named("Project")?,
        role: named("Role")?,
        silo: named("Silo")?,
        user: named("User")?,
    };
    Ok(Parsed { policies, authorizer: Authorizer::new(), types })
}

/// Are there policies to decide by? Asked at the start of a process, so that
/// none serves without.
///
/// # Errors
///
/// What is wrong with them.
pub fn check() -> Result<(), String> {
    PARSED.as_ref().map(|_| ()).map_err(Clone::clone)
}

/// Who asks, with the roles that matter for what is asked.
pub(super) struct Asker<'a> {
    pub user: SiloUserId,
    pub silo: SiloId,
    pub on_fleet: &'a [RoleName],
    pub on_silo: &'a [RoleName],
    pub on_project: &'a [RoleName],
}

/// Do the policies permit this? Whatever goes wrong means no.
pub(super) fn permit(who: &Asker<'_>, action: Action, on: &Resource) -> bool {
    let Ok(parsed) = PARSED.as_ref() else { return false };
    let Some((request, entities)) = parsed.types.ask(who, action, on) else {
        return false;
    };
    let answer =
        parsed.authorizer.is_authorized(&request, &parsed.policies, &entities);
    // An error in one policy leaves the others standing, a forbidding one
    // would not be heard.
    answer.decision() == Decision::Allow
        && answer.diagnostics().errors().next().is_none()
}

impl Types {
    /// The question as Cedar takes it. `None`: it cannot be put.
    fn ask(
        &self,
        who: &Asker<'_>,
        action: Action,
        on: &Resource,
    ) -> Option<(Request, Entities)> {
        let asker = uid(&self.user, &who.user.0.to_string());
        let mut entities = vec![self.of_silo(&asker, who.silo)?];
        let resource = match on {
            Resource::Fleet => uid(&self.fleet, "fleet"),
            Resource::Silo(id) => uid(&self.silo, &id.0.to_string()),
            Resource::Project { id, silo } => {
                let project = uid(&self.project, &id.to_string());
                entities.push(self.of_silo(&project, *silo)?);
                project
            }
            Resource::User { id, silo } => {
                let user = uid(&self.user, &id.0.to_string());
                if user != asker {
                    entities.push(self.of_silo(&user, *silo)?);
                }
                user
            }
        };
        let roles = |roles: &[RoleName]| {
            RestrictedExpression::new_set(roles.iter().map(|role| {
                let role = uid(&self.role, role.as_str());
                RestrictedExpression::new_entity_uid(role)
            }))
        };
        let context = Context::from_pairs([
            ("fleet".to_owned(), roles(who.on_fleet)),
            ("silo".to_owned(), roles(who.on_silo)),
            ("project".to_owned(), roles(who.on_project)),
        ]);
        let action = uid(&self.action, action.as_str());
        let request =
            Request::new(asker, action, resource, context.ok()?, None);
        let entities = Entities::from_entities(entities, None);
        Some((request.ok()?, entities.ok()?))
    }

    fn of_silo(&self, id: &EntityUid, silo: SiloId) -> Option<Entity> {
        let silo = uid(&self.silo, &silo.0.to_string());
        let silo = RestrictedExpression::new_entity_uid(silo);
        let attributes = HashMap::from([("silo".to_owned(), silo)]);
        Entity::new(id.clone(), attributes, HashSet::new()).ok()
    }
}

fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

/// The roles of `all` that are on this.
pub(super) fn on(
    all: &[(db_model::RoleResource, Uuid, RoleName)],
    resource: db_model::RoleResource,
    id: Uuid,
) -> Vec<RoleName> {
    let these = all.iter().filter(|(on, of, _)| (*on, *of) == (resource, id));
    these.map(|(.., role)| *role).collect()
}
