//! Users and their tokens, written straight into the database: hundreds of tests
//! need them, and only those about users need them through the front door; for
//! those there is the rest of this file.

use crate::{Answer, Client, Token};
use db_model::{
    ApiToken, ApiTokenId, ByteCount, FLEET_ID, Name, NameOrId, NewSilo,
    RoleAssignment, RoleName, RoleResource, Silo, SiloUser, UserName,
};
use db_queries::{DataStore, Error, PoolSettings};

/// The password of who is made by [`Client::make_user`].
pub const PASSWORD: &str = "correct horse";

impl Client {
    /// Makes a user of "main" with [`PASSWORD`]; its id.
    pub async fn make_user(&self, name: &str) -> String {
        let body = serde_json::json!({
            "external_id": name,
            "password": { "mode": "password", "value": PASSWORD },
        });
        let path = "/v1/system/identity-providers/local/users?silo=main";
        let user = self.post(path, body).await.expect(201);
        user["id"].as_str().unwrap().to_string()
    }

    /// Somebody wants to log in to "main".
    pub async fn try_login(&self, name: &str, password: &str) -> Answer {
        let body = serde_json::json!({
            "username": name,
            "password": password,
        });
        self.anonymous().post("/v1/login/main/local", body).await
    }

    /// Logs a user in who has [`PASSWORD`]; a client that shows the cookie, and
    /// the cookie.
    pub async fn login(&self, name: &str) -> (Client, String) {
        let answer = self.try_login(name, PASSWORD).await;
        let cookie = answer.set_cookie.clone().unwrap();
        answer.expect(204);
        let (pair, _) = cookie.split_once(';').unwrap();
        (self.with_cookie(pair), cookie)
    }
}

/// A token of the user of this name, an admin of its silo; both are made if they
/// are not there.
pub(crate) async fn token(
    database_url: &str,
    silo: &str,
    user: &str,
    fleet_admin: bool,
) -> Token {
    let datastore = DataStore::new(database_url, PoolSettings::default());
    let silo = the_silo(&datastore, silo.parse().unwrap()).await;
    let user = the_user(&datastore, &silo, user.parse().unwrap()).await;
    let mut on = vec![(RoleResource::Silo, silo.id.0)];
    if fleet_admin {
        on.push((RoleResource::Fleet, FLEET_ID));
    }
    for (resource, resource_id) in on {
        datastore
            .role_ensure(RoleAssignment {
                resource,
                resource_id,
                silo_user_id: user.id,
                role_name: RoleName::Admin,
                time_created: user.time_created,
            })
            .await
            .unwrap();
    }
    let token = nexus::app::Token::generate().unwrap();
    datastore
        .api_token_insert(ApiToken {
            id: ApiTokenId::new_v4(),
            silo_user_id: user.id,
            token_hash: token.hash(),
            time_created: user.time_created,
            time_expires: None,
        })
        .await
        .unwrap();
    Token(token.expose().to_string())
}

/// The silo of this name, with a quota that it does not feel.
pub(crate) async fn the_silo(datastore: &DataStore, name: Name) -> Silo {
    let exbibyte = ByteCount::from_gib(1 << 30);
    let made = datastore
        .silo_create(NewSilo {
            name: name.clone(),
            description: String::new(),
            discoverable: true,
            mapped_fleet_roles: serde_json::json!({}),
            vcpus: 1_000_000_000,
            memory: exbibyte,
            storage: exbibyte,
        })
        .await;
    match made {
        Err(Error::AlreadyExists) => {
            datastore.silo_view(NameOrId::Name(name)).await.unwrap()
        }
        made => made.unwrap(),
    }
}

/// The user of this name.
pub(crate) async fn the_user(
    datastore: &DataStore,
    silo: &Silo,
    name: UserName,
) -> SiloUser {
    match datastore.user_create(silo.id, name.clone(), None).await {
        Err(Error::AlreadyExists) => {
            datastore.user_named(silo.id, name).await.unwrap()
        }
        made => made.unwrap(),
    }
}
