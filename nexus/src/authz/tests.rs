//! The policies, as a table.

use std::sync::Arc;
use std::time::Instant;

use db_model::{
    AuthMethod, FLEET_ID, RoleName, RoleResource, SiloId, SiloUserId,
};
use uuid::Uuid;

use super::{Action, Held, Resource, Rights};
use crate::context::{Credential, OpContext};
use crate::error::Error;

const OWN: SiloId = SiloId(Uuid::from_u128(1));
const OTHER: SiloId = SiloId(Uuid::from_u128(2));
const ME: SiloUserId = SiloUserId(Uuid::from_u128(3));
const COLLEAGUE: SiloUserId = SiloUserId(Uuid::from_u128(4));
const PROJECT: Uuid = Uuid::from_u128(5);
const SIBLING: Uuid = Uuid::from_u128(6);

const ALL: [Action; 10] = [
    Action::View,
    Action::Create,
    Action::Change,
    Action::Delete,
    Action::ViewPolicy,
    Action::ChangePolicy,
    Action::ChangeContents,
    Action::ViewProjects,
    Action::CreateProject,
    Action::ChangeImages,
];

fn with(roles: &[(RoleResource, Uuid, RoleName)]) -> OpContext {
    OpContext {
        user_id: ME,
        silo_id: OWN,
        credential: Credential {
            method: AuthMethod::AccessToken,
            id: Uuid::nil(),
        },
        rights: Arc::new(Rights::new(Arc::new(Held::new(roles.to_vec())))),
    }
}

/// What may be done to it, a letter each: v(iew), c(reate), w(rite: change),
/// d(elete), p(olicy seen), P(olicy changed), i(n it something changed), l(ist
/// projects), n(ew project), m(ake images).
fn may(who: &OpContext, on: Resource) -> String {
    let allowed = ALL.iter().zip("vcwdpPilnm".chars());
    allowed.filter(|(a, _)| who.may(**a, on)).map(|(_, c)| c).collect()
}

#[test]
fn the_policies_agree_with_the_schema() {
    assert_eq!(super::check(), Ok(()));
}

#[test]
fn each_role_gives_what_it_gives_and_no_more() {
    use RoleName::{Admin, Collaborator, LimitedCollaborator, Viewer};
    let project = |id| Resource::Project { id, silo: OWN };
    let on = [
        Resource::Fleet,
        Resource::Silo(OWN),
        Resource::Silo(OTHER),
        project(PROJECT),
        project(SIBLING),
        Resource::Project { id: PROJECT, silo: OTHER },
        Resource::User { id: ME, silo: OWN },
        Resource::User { id: COLLEAGUE, silo: OWN },
        Resource::User { id: COLLEAGUE, silo: OTHER },
    ];
    let fleet = |role| vec![(RoleResource::Fleet, FLEET_ID, role)];
    let silo = |role| vec![(RoleResource::Silo, OWN.0, role)];
    let of = |role| vec![(RoleResource::Project, PROJECT, role)];
    // fleet, own silo, other silo, project, its sibling, another silo's
    // project, oneself, a colleague, another silo's user
    let rows: [(_, [&str; 9]); 12] = [
        (vec![], ["", "vp", "", "", "", "", "vcwd", "", ""]),
        (
            fleet(Admin),
            ["vcwdpP", "vcwdpP", "vcwdpP", "", "", "", "vcwd", "vcwd", "vcwd"],
        ),
        (
            fleet(Collaborator),
            ["vcwdp", "vp", "vp", "", "", "", "vcwd", "", ""],
        ),
        (fleet(Viewer), ["vp", "vp", "vp", "", "", "", "vcwd", "", ""]),
        (
            silo(Admin),
            ["", "vcwdpPlnm", "", "vcwdpPi", "vcwdpPi", "", "vcwd", "vcwd", ""],
        ),
        (
            silo(Collaborator),
            ["", "vplnm", "", "vcwdpPi", "vcwdpPi", "", "vcwd", "", ""],
        ),
        (
            silo(LimitedCollaborator),
            ["", "vpl", "", "vcpi", "vcpi", "", "vcwd", "", ""],
        ),
        (silo(Viewer), ["", "vpl", "", "vp", "vp", "", "vcwd", "", ""]),
        (of(Admin), ["", "vp", "", "vcwdpPi", "", "", "vcwd", "", ""]),
        (of(Collaborator), ["", "vp", "", "vcpi", "", "", "vcwd", "", ""]),
        (
            of(LimitedCollaborator),
            ["", "vp", "", "vcpi", "", "", "vcwd", "", ""],
        ),
        (of(Viewer), ["", "vp", "", "vp", "", "", "vcwd", "", ""]),
    ];
    for (roles, expected) in rows {
        let who = with(&roles);
        let found = on.map(|on| may(&who, on));
        assert_eq!(found, expected, "{roles:?}");
    }
}

#[test]
fn a_role_on_another_silo_is_of_no_use_in_its_projects() {
    let role = (RoleResource::Silo, OTHER.0, RoleName::Admin);
    let theirs = Resource::Project { id: PROJECT, silo: OTHER };
    assert_eq!(may(&with(&[role]), theirs), "");
}

#[test]
fn a_refusal_says_what_is_not_allowed_and_who_may() {
    let nobody = with(&[]);
    let project = Resource::Project { id: PROJECT, silo: OWN };
    let user = Resource::User { id: COLLEAGUE, silo: OWN };
    for (action, on, who) in [
        (Action::View, Resource::Fleet, "viewer of the fleet"),
        (Action::Change, Resource::Fleet, "collaborator of the fleet"),
        (Action::ChangePolicy, Resource::Fleet, "admin of the fleet"),
        (Action::View, Resource::Silo(OTHER), "viewer of the fleet"),
        (
            Action::CreateProject,
            Resource::Silo(OWN),
            "collaborator of the silo",
        ),
        (Action::Delete, Resource::Silo(OWN), "admin of the silo"),
        (Action::View, project, "viewer of the project"),
        (Action::Create, project, "limited collaborator of the project"),
        (Action::Change, project, "admin of the project"),
        (Action::Change, user, "admin of the silo"),
    ] {
        let refused = nobody.authorize(action, on, "do it");
        let text = refused.expect_err("nothing").to_string();
        assert_eq!(text, format!("not allowed to do it: one must be {who}"));
    }
}

#[test]
fn what_one_may_not_see_is_not_there_and_what_one_may_is_refused() {
    let project = Resource::Project { id: PROJECT, silo: OWN };
    let hidden = || Error::NotThere { message: "hidden".to_owned() };
    let asked = |who: OpContext| {
        who.authorize_seen(Action::Delete, project, "do it", hidden)
    };
    let role = (RoleResource::Project, PROJECT, RoleName::Viewer);
    assert!(matches!(asked(with(&[])), Err(Error::NotThere { .. })));
    assert!(matches!(asked(with(&[role])), Err(Error::Forbidden { .. })));
}

#[test]
fn only_a_decision_counts_as_one() {
    let who = with(&[]);
    assert!(!who.decided());
    let _ = who.may(Action::View, Resource::Fleet);
    assert!(!who.decided());
    let _ = who.authorize(Action::View, Resource::Fleet, "see");
    assert!(who.clone().decided());
}

/// `cargo test -p nexus --lib a_decision_takes -- --ignored --nocapture`
#[test]
#[ignore = "it measures"]
#[expect(clippy::print_stdout, reason = "it is what it is for")]
fn a_decision_takes_so_long() {
    const TIMES: u32 = 20_000;
    let many = (0..100)
        .map(|n| (RoleResource::Project, Uuid::from_u128(n), RoleName::Viewer));
    let many: Vec<_> = many.collect();
    let project = Resource::Project { id: PROJECT, silo: OWN };
    for (what, who) in [("no role", with(&[])), ("100 roles", with(&many))] {
        let began = Instant::now();
        for _ in 0..TIMES {
            std::hint::black_box(who.permitted(Action::View, project));
        }
        println!("{what}: {:?} a decision", began.elapsed() / TIMES);
    }
}
