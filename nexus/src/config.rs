//! The configuration file of a Nexus.

mod limits;

pub use limits::{Limits, count};

use camino::{Utf8Path, Utf8PathBuf};
use chrono::TimeDelta;
use db_queries::SessionLife;
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a Nexus must be told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `postgresql://…`, of PostgreSQL or CockroachDB.
    pub database_url: String,
    /// At most so many connections to it.
    #[serde(default = "max_connections")]
    pub database_max_connections: u32,
    /// Where users find the API.
    pub external_address: SocketAddr,
    /// Where sleds and operators find the internal API.
    pub internal_address: SocketAddr,
    /// Where sleds that are not of the fleet yet find the API by which they
    /// join it; without it, none joins by this Nexus.
    #[serde(default)]
    pub join_address: Option<SocketAddr>,
    /// The certificate of the external API.
    #[serde(default)]
    pub external_tls: Option<ExternalTlsConfig>,
    /// Serve the external API without TLS to others than this machine: behind
    /// a proxy, say, that has the certificate.
    #[serde(default)]
    pub allow_plain_http: bool,
    /// The file with the fleet's secret, which all Nexuses have and nobody
    /// else: what sleds are given is made of it.
    pub sled_secret_file: Utf8PathBuf,
    /// The directory with the fleet's CA, which `nexus init` makes and all
    /// Nexuses have.
    pub pki_dir: Utf8PathBuf,
    /// Where to write the addresses that were bound, as JSON, once the API
    /// answers: for those who ask for port 0.
    #[serde(default)]
    pub address_file: Option<Utf8PathBuf>,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    #[serde(default = "log_level")]
    pub log_level: String,
    /// Are users told how many sleds a placement looked at, and what excluded
    /// how many of them?
    #[serde(default = "placement_detail")]
    pub placement_detail: bool,
    /// Proxies that are believed when `X-Forwarded-For` says for whom they
    /// ask. From anybody else that header is ignored.
    #[serde(default)]
    pub trusted_proxies: Vec<IpAddr>,
    /// The audit log.
    #[serde(default)]
    pub audit: AuditSettings,
    /// Console sessions.
    #[serde(default)]
    pub session: SessionConfig,
    /// The web console.
    #[serde(default)]
    pub console: ConsoleSettings,
    /// What clients may take.
    #[serde(default)]
    pub limits: Limits,
    /// Times and bounds.
    #[serde(default)]
    pub tuning: Tuning,
}

/// The web console.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleSettings {
    /// The directory that it was built into: `index.html` and `assets`. Without
    /// it there is no console.
    pub static_dir: Option<Utf8PathBuf>,
}

/// Where the certificate of the external API is, and its key, in PEM. They are
/// read again within a minute when they change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalTlsConfig {
    /// The certificate, followed by those between it and its authority.
    pub certificate_file: Utf8PathBuf,
    /// The key.
    pub key_file: Utf8PathBuf,
}

/// How the audit log is kept.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// For how many days.
    pub keep_days: u32,
    /// A change whose answer is not written down by then has an unknown one.
    /// It is longer than any request takes.
    pub unknown_after_secs: u32,
}

impl Default for AuditSettings {
    fn default() -> AuditSettings {
        AuditSettings { keep_days: 90, unknown_after_secs: 300 }
    }
}

/// That a session is used is noted once a minute, so one that ended any sooner
/// than after twice that might end while it is used.
const SESSION_SECS_MIN: u32 = 120;

/// For how long one is logged in to the console.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// After so long without a request one has to log in again.
    pub idle_secs: u32,
    /// And after so long in any case.
    pub absolute_secs: u32,
    /// Is the API reached by HTTPS alone? Then browsers are told to send the
    /// cookie over nothing else.
    pub secure_cookie: bool,
}

impl Default for SessionConfig {
    /// A working day without a break, and a day.
    fn default() -> SessionConfig {
        SessionConfig {
            idle_secs: 8 * 60 * 60,
            absolute_secs: 24 * 60 * 60,
            secure_cookie: false,
        }
    }
}

impl SessionConfig {
    /// The same, as the database is told it.
    pub fn life(&self) -> SessionLife {
        SessionLife {
            idle: TimeDelta::seconds(i64::from(self.idle_secs)),
            absolute: TimeDelta::seconds(i64::from(self.absolute_secs)),
        }
    }
}

fn placement_detail() -> bool {
    true
}

fn max_connections() -> u32 {
    32
}

fn log_level() -> String {
    "info".to_string()
}

/// Times and bounds. The defaults are for production; tests shorten them.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    /// How long this process's right to act lasts without being renewed. A
    /// process that died is found dead after as long, and its sagas go on
    /// elsewhere a second later.
    pub lease_ms: u32,
    /// How long, once the process is told to end, what it has begun may go on.
    /// What is left then is handed over with the lease.
    pub drain_ms: u32,
    /// How long a guest may take from its sled's taking the order to its
    /// running. The slowest honest boot, under software emulation, takes well
    /// under a minute to get there.
    pub boot_allowance_ms: u32,
    /// How long to wait for one answer of a sled.
    pub sled_timeout_ms: u32,
    /// How often a saga asks a sled that does not answer.
    pub sled_tries: u32,
    /// Between two of those tries.
    pub sled_retry_ms: u32,
    /// How many looks of the reconciler, in a row, a sled may leave
    /// unanswered before a VMM that never ran is abandoned, and how many an
    /// attempt may be held back before it is given up.
    pub patience: u32,
    /// Between two looks at something that waits.
    pub look_period_ms: u32,
    /// Between two of the reconciler's polls for unsettled instances, which
    /// it is also woken for.
    pub reconcile_poll_ms: u32,
    /// Between two times that a sled is asked for all its VMMs.
    pub watch_period_ms: u32,
    /// What sleds are told of how often to send a heartbeat.
    pub heartbeat_period_ms: u32,
    /// How much longer than it promised a sled must have been silent for its
    /// guests to be taken for stopped, besides a hundredth of the promise. It
    /// covers the time that a sled may take to kill them all.
    pub fence_margin_ms: u32,
    /// How many serial consoles are streamed at a time. Each is two sockets, a
    /// task and, at worst, some 300 KiB.
    pub console_streams: u32,
    /// Between two times that who follows a serial console is asked again
    /// whether it may. Each is two looks into the database.
    pub console_look_ms: u32,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            lease_ms: 8_000,
            drain_ms: 10_000,
            boot_allowance_ms: 120_000,
            sled_timeout_ms: 5_000,
            sled_tries: 4,
            sled_retry_ms: 500,
            patience: 15,
            look_period_ms: 2_000,
            reconcile_poll_ms: 1_000,
            watch_period_ms: 5_000,
            heartbeat_period_ms: 3_000,
            fence_margin_ms: 30_000,
            console_streams: 512,
            console_look_ms: 60_000,
        }
    }
}

impl Tuning {
    /// See `lease_ms`.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(u64::from(self.lease_ms))
    }

    /// See `drain_ms`.
    pub fn drain(&self) -> Duration {
        Duration::from_millis(u64::from(self.drain_ms))
    }

    /// See `boot_allowance_ms`.
    pub fn boot_allowance(&self) -> TimeDelta {
        TimeDelta::milliseconds(i64::from(self.boot_allowance_ms))
    }

    /// See `look_period_ms`.
    pub fn look_period(&self) -> TimeDelta {
        TimeDelta::milliseconds(i64::from(self.look_period_ms))
    }

    /// See `fence_margin_ms`.
    pub fn fence_margin(&self) -> TimeDelta {
        TimeDelta::milliseconds(i64::from(self.fence_margin_ms))
    }

    /// See `console_look_ms`.
    pub fn console_look(&self) -> Duration {
        Duration::from_millis(u64::from(self.console_look_ms))
    }

    /// See `sled_retry_ms`.
    pub fn sled_retry(&self) -> Duration {
        Duration::from_millis(u64::from(self.sled_retry_ms))
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {0}")]
    Read(Utf8PathBuf, #[source] std::io::Error),
    /// The file says something else than a configuration.
    #[error("{0} is no configuration")]
    Parse(Utf8PathBuf, #[source] Box<toml::de::Error>),
    /// Tokens and passwords would go in the clear.
    #[error(
        "external_address is {0}, which others than this machine reach, and \
         there is no [external_tls]: give it a certificate_file and a \
         key_file, or set allow_plain_http = true if something else encrypts \
         what users send"
    )]
    PlainHttp(SocketAddr),
    /// A session would end while it is used.
    #[error(
        "[session] {field} is {secs}: it must be at least {SESSION_SECS_MIN}, \
         since that a session is used is noted once a minute"
    )]
    ShortSession {
        /// Which of the two.
        field: &'static str,
        /// What it is.
        secs: u32,
    },
}

impl Config {
    /// Refuses what would be served and must not be.
    ///
    /// # Errors
    ///
    /// `PlainHttp`, `ShortSession`.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (field, secs) in [
            ("idle_secs", self.session.idle_secs),
            ("absolute_secs", self.session.absolute_secs),
        ] {
            if secs < SESSION_SECS_MIN {
                return Err(ConfigError::ShortSession { field, secs });
            }
        }
        let address = self.external_address;
        let safe = self.external_tls.is_some()
            || address.ip().to_canonical().is_loopback()
            || self.allow_plain_http;
        match safe {
            true => Ok(()),
            false => Err(ConfigError::PlainHttp(address)),
        }
    }

    /// Reads a configuration file (TOML).
    ///
    /// # Errors
    ///
    /// It is not there, or a key is missing, unknown or of the wrong kind.
    pub fn from_file(path: &Utf8Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError::Read(path.to_owned(), e))?;
        toml::from_str(&text)
            .map_err(|e| ConfigError::Parse(path.to_owned(), Box::new(e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(address: &str, more: &str) -> Config {
        toml::from_str(&format!(
            "database_url = \"postgresql://d\"\n\
             external_address = \"{address}\"\n\
             internal_address = \"0.0.0.0:1\"\n\
             sled_secret_file = \"s\"\npki_dir = \"p\"\n{more}"
        ))
        .expect("a configuration")
    }

    #[test]
    fn only_this_machine_is_served_in_the_clear_unless_it_is_allowed() {
        let tls = "[external_tls]\ncertificate_file = \"c\"\nkey_file = \"k\"";
        for (address, more, taken) in [
            ("127.0.0.1:80", "", true),
            ("127.9.9.9:80", "", true),
            ("[::1]:80", "", true),
            ("[::ffff:127.0.0.1]:80", "", true),
            ("0.0.0.0:80", "", false),
            ("[::]:80", "", false),
            ("10.0.0.1:80", "", false),
            ("0.0.0.0:80", "allow_plain_http = false", false),
            ("0.0.0.0:80", "allow_plain_http = true", true),
            ("0.0.0.0:443", tls, true),
        ] {
            let config = with(address, more);
            assert_eq!(config.check().is_ok(), taken, "{address} {more}");
        }
    }

    #[test]
    fn a_session_that_would_end_while_it_is_used_is_refused() {
        for (more, said) in [
            (
                "[session]\nidle_secs = 119",
                "[session] idle_secs is 119: it must",
            ),
            ("[session]\nabsolute_secs = 0", "absolute_secs is 0: it must"),
        ] {
            let refusal = with("127.0.0.1:80", more).check();
            let refusal = refusal.expect_err("it is too short").to_string();
            assert!(refusal.contains(said), "{refusal}");
            assert!(refusal.contains("at least 120"), "{refusal}");
        }
        let least = "[session]\nidle_secs = 120\nabsolute_secs = 120";
        assert!(with("127.0.0.1:80", least).check().is_ok());
    }
}
