//! A database for each test, copied from a template that is made once.

use db_queries::{DataStore, PoolSettings};
use diesel::{Connection, PgConnection, RunQueryDsl, sql_query};
use std::fs::File;
use std::net::SocketAddr;
use std::time::Duration;
use uuid::Uuid;

/// Where there is a server whose role may create databases.
const URL_VARIABLE: &str = "NEXUS_TEST_DATABASE_URL";

/// A database of a test's own, gone when dropped.
#[derive(Debug)]
pub struct Database {
    /// Its URL.
    pub url: String,
    name: String,
    server: String,
}

impl Database {
    /// A database with the schema as it is now.
    pub async fn create() -> Database {
        let template =
            tokio::task::spawn_blocking(ensure_template).await.unwrap();
        let is_copy = template.is_some();
        let database = Database::copy(template).await;
        if !is_copy {
            db_queries::migrate(&database.datastore()).await.unwrap();
        }
        database
    }

    /// A database with nothing in it.
    pub async fn create_empty() -> Database {
        Database::copy(None).await
    }

    async fn copy(template: Option<String>) -> Database {
        let server = server();
        let name = format!("test_{}", Uuid::new_v4().simple());
        let url = on_server(&server, &name);
        let database = Database { url, name, server };
        let (server, name) = (database.server.clone(), database.name.clone());
        tokio::task::spawn_blocking(move || {
            let mut conn = PgConnection::establish(&server).unwrap();
            let from =
                template.map(|t| format!(" TEMPLATE {t}")).unwrap_or_default();
            sql_query(format!("CREATE DATABASE {name}{from}"))
                .execute(&mut conn)
                .unwrap();
        })
        .await
        .unwrap();
        database
    }

    /// host:port of its server.
    pub fn address(&self) -> String {
        self.url_parts().1.to_string()
    }

    /// Its URL for who goes by way of `address`, from where it leads to its
    /// server.
    pub fn url_by_way_of(&self, address: SocketAddr) -> String {
        let (before, _, after) = self.url_parts();
        format!("{before}{address}{after}")
    }

    /// What stands before its server's address, that, and what stands after.
    fn url_parts(&self) -> (&str, &str, &str) {
        let begin = self.url.rfind('@').unwrap() + 1;
        let end = begin + self.url[begin..].find('/').unwrap();
        (&self.url[..begin], &self.url[begin..end], &self.url[end..])
    }

    /// The product's own way into it.
    pub fn datastore(&self) -> DataStore {
        DataStore::new(
            &self.url,
            PoolSettings {
                max_connections: 8,
                acquire_timeout: Duration::from_secs(30),
                ..PoolSettings::default()
            },
        )
    }

    /// A plain connection, for tests that look behind the door.
    pub fn connect(&self) -> PgConnection {
        PgConnection::establish(&self.url).unwrap()
    }

    /// Runs statements as they are.
    ///
    /// # Errors
    ///
    /// What the database says.
    pub fn try_sql(&self, sql: &str) -> Result<(), diesel::result::Error> {
        use diesel::connection::SimpleConnection;
        self.connect().batch_execute(sql)
    }

    /// The number that a query of one `INT8` answers with.
    pub fn count(&self, sql: &str) -> i64 {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            n: i64,
        }
        let row: Row = sql_query(format!("SELECT ({sql})::INT8 AS n"))
            .get_result(&mut self.connect())
            .unwrap();
        row.n
    }

    /// The row that a query answers with, whole, for tests that nothing of it
    /// changes.
    pub fn row(&self, sql: &str) -> serde_json::Value {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Text)]
            row: String,
        }
        let sql = format!("SELECT to_jsonb(r)::TEXT AS row FROM ({sql}) AS r");
        let row: Row = sql_query(sql).get_result(&mut self.connect()).unwrap();
        serde_json::from_str(&row.row).unwrap()
    }

    /// All that is kept of an instance, but for when the system looks at it
    /// next: a refused request must leave it as it was.
    pub fn instance(&self, id: &str) -> serde_json::Value {
        let mut row =
            self.row(&format!("SELECT * FROM instance WHERE id = '{id}'"));
        row.as_object_mut().unwrap().retain(|k, _| !k.starts_with("reconcile"));
        row
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // What is left behind goes with the cluster.
        if let Ok(mut conn) = PgConnection::establish(&self.server) {
            let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
            let _ = sql_query(drop).execute(&mut conn);
        }
    }
}

fn server() -> String {
    std::env::var(URL_VARIABLE).unwrap_or_else(|_| {
        panic!("{URL_VARIABLE} is not set: run `cargo xtask test`")
    })
}

/// The URL of another database on the same server.
fn on_server(server: &str, name: &str) -> String {
    let (base, query) = server.split_once('?').unwrap_or((server, ""));
    let scheme_end = base.find("://").map_or(0, |i| i + 3);
    let path = base[scheme_end..].find('/').map(|i| i + scheme_end);
    let host = path.map_or(base, |i| &base[..i]);
    let query =
        if query.is_empty() { String::new() } else { format!("?{query}") };
    format!("{host}/{name}{query}")
}

/// CockroachDB copies no databases.
fn supports_templates(server: &str) -> bool {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        version: String,
    }
    let mut conn = PgConnection::establish(server).unwrap();
    let row: Row =
        sql_query("SELECT version() AS version").get_result(&mut conn).unwrap();
    !row.version.contains("CockroachDB")
}

/// The template's name; made by the first test that needs it. Its name follows
/// from the schema, so a changed schema gets a new one.
fn ensure_template() -> Option<String> {
    let server = server();
    if !supports_templates(&server) {
        return None;
    }
    let name = format!("template_{:016x}", schema_fingerprint());
    // The tests are processes of their own: a file is what they share.
    let lock =
        File::create(std::env::temp_dir().join("nexus-test-template.lock"))
            .unwrap();
    lock.lock().unwrap();
    let mut conn = PgConnection::establish(&server).unwrap();
    let made =
        sql_query(format!("CREATE DATABASE {name}_part")).execute(&mut conn);
    let there = sql_query(format!(
        "SELECT 1 FROM pg_database WHERE datname = '{name}'"
    ))
    .execute(&mut conn)
    .unwrap();
    if there == 0 {
        drop(made);
        let url = on_server(&server, &format!("{name}_part"));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let datastore = DataStore::new(&url, PoolSettings::default());
            db_queries::migrate(&datastore).await.unwrap();
        });
        drop(runtime);
        // No copy is made of a database with a connection to it: wait for the
        // pool's to be gone by ending them.
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = '{name}_part'"
        );
        sql_query(end).execute(&mut conn).unwrap();
        sql_query(format!("ALTER DATABASE {name}_part RENAME TO {name}"))
            .execute(&mut conn)
            .unwrap();
    } else if made.is_ok() {
        sql_query(format!("DROP DATABASE {name}_part"))
            .execute(&mut conn)
            .unwrap();
    }
    Some(name)
}

fn schema_fingerprint() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    include_str!("../../schema/dbinit.sql").hash(&mut hasher);
    hasher.finish()
}
