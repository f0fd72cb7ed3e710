//! The database that is asked, and the configuration that names it.

use crate::failure::Failure;
use camino::Utf8PathBuf;
use db_model::schema::SCHEMA_VERSION;
use db_queries::{DataStore, PoolSettings, schema_version};
use nexus::config::{Config, ConfigError, Tuning};
use nexus::error::chain;
use std::error::Error;
use std::time::Duration;

/// How long the database may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the database is.
#[derive(clap::Args)]
pub(crate) struct Source {
    /// Nexus's configuration file (TOML)
    #[arg(long, global = true, env = "NEXUS_CONFIG", value_name = "FILE")]
    config: Option<Utf8PathBuf>,
    /// The database, in place of the one that the configuration names
    #[arg(
        long,
        global = true,
        env = "NEXUS_DATABASE_URL",
        value_name = "URL",
        // It has a password in it.
        hide_env_values = true
    )]
    database_url: Option<String>,
}

/// A database that answers and whose schema is known.
pub(crate) struct Database {
    pub(crate) datastore: DataStore,
    pub(crate) config: Option<Config>,
}

impl Source {
    /// Nexus's configuration, for what needs nothing else.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let Some(path) = &self.config else {
            return Err(Failure::wrongly_asked(
                "give --config FILE, Nexus's configuration (or set \
                 NEXUS_CONFIG)",
            ));
        };
        Config::from_file(path).map_err(|e| unusable(&e))
    }
}

impl Database {
    /// Connects, and checks the schema.
    pub(crate) async fn open(source: &Source) -> Result<Database, Failure> {
        let config = source.config.as_deref().map(Config::from_file);
        let config = config.transpose().map_err(|e| unusable(&e))?;
        let from_config = config.as_ref().map(|c| c.database_url.clone());
        let Some(url) = source.database_url.clone().or(from_config) else {
            return Err(Failure::wrongly_asked(
                "which database? Give --config FILE, Nexus's configuration, \
                 or --database-url URL (or set NEXUS_CONFIG or \
                 NEXUS_DATABASE_URL)",
            ));
        };
        if !["postgresql://", "postgres://"].iter().any(|s| url.starts_with(s))
        {
            return Err(Failure::wrongly_asked(
                "the database's URL must begin with postgresql://",
            ));
        }
        let settings = PoolSettings {
            max_connections: 1,
            acquire_timeout: PATIENCE,
            ..PoolSettings::default()
        };
        let datastore = DataStore::new(&url, settings);
        let reached = tokio::time::timeout(PATIENCE, datastore.reachable());
        match reached.await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => return Err(unreachable(&error)),
            Err(_) => {
                return Err(away(&format!("no answer in {PATIENCE:?}")));
            }
        }
        known(schema_version(&datastore).await?)?;
        Ok(Database { datastore, config })
    }

    /// The times and bounds that Nexus goes by, as far as is known here.
    pub(crate) fn tuning(&self) -> Tuning {
        self.config.as_ref().map_or_else(Tuning::default, |c| c.tuning)
    }
}

/// Does not repeat the configuration, which has a password in it.
fn unusable(error: &ConfigError) -> Failure {
    match error {
        ConfigError::Parse(path, why) => Failure::wrongly_asked(format!(
            "{path} is no configuration: {}",
            why.message()
        )),
        ConfigError::Read(..)
        | ConfigError::PlainHttp(_)
        | ConfigError::ShortSession { .. } => {
            Failure::wrongly_asked(chain(error))
        }
    }
}

fn away(why: &str) -> Failure {
    Failure::failed(format!(
        "the database cannot be reached ({why}). Is it up, and is its URL right?"
    ))
}

/// Only what is known not to repeat the URL, which has a password in it.
fn unreachable(error: &(dyn Error + 'static)) -> Failure {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let text = deepest.to_string();
    let line = text.lines().next().unwrap_or_default();
    let known = ["connection to server", "could not translate host name"];
    if known.iter().any(|words| line.starts_with(words)) {
        away(line)
    } else {
        away("the reason may repeat the URL, so it is not shown")
    }
}

/// Refuses a schema that this program would misread.
fn known(found: Option<i64>) -> Result<(), Failure> {
    match found {
        Some(SCHEMA_VERSION) => Ok(()),
        None => Err(Failure::failed(
            "the database is empty: Nexus makes its schema when it starts. Is \
             it the right one?",
        )),
        Some(found) if found > SCHEMA_VERSION => Err(Failure::failed(format!(
            "the database's schema is version {found}, newer than \
             {SCHEMA_VERSION}, the one that this program knows: use the \
             nexus-admin that came with the Nexus that runs on it"
        ))),
        Some(found) => Err(Failure::failed(format!(
            "the database's schema is version {found}, older than \
             {SCHEMA_VERSION}, the one that this program knows: a Nexus of \
             this version brings it up to date when it starts; until then use \
             the nexus-admin that came with the old one"
        ))),
    }
}
