//! DIR/up.json: what runs and how to reach it, for scripts and people. Written
//! by `up` when all of it answers, removed by `down`. This program itself looks
//! at `/proc` instead, which cannot be out of date.

use crate::failure::{Context, Result};
use crate::home::Home;
use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) api: Vec<String>,
    pub(crate) token: String,
    pub(crate) database_url: String,
    pub(crate) pids: PerProcess<i32>,
    pub(crate) logs: PerProcess<Utf8PathBuf>,
}

/// One value for each process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PerProcess<T> {
    pub(crate) postgres: T,
    pub(crate) nexus: Vec<T>,
    pub(crate) sled_agents: Vec<T>,
}

impl Manifest {
    pub(crate) fn save(&self, home: &Home) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .context(|| "cannot write up.json")?;
        crate::secret::write_private(&home.manifest(), &format!("{text}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts read this: a change here breaks them.
    #[test]
    fn the_shape_is_the_promised_one() {
        let text = r#"{
            "api": ["http://127.0.0.1:12220"],
            "token": "t",
            "database_url": "postgresql://nexus:p@127.0.0.1:12222/nexus",
            "pids": {"postgres": 7, "nexus": [8], "sled_agents": [9, 10]},
            "logs": {"postgres": "/d/logs/postgres.log",
                     "nexus": ["/d/logs/nexus-0.log"],
                     "sled_agents": ["/d/a", "/d/b"]}
        }"#;
        let manifest: Manifest = serde_json::from_str(text).unwrap();
        assert_eq!(manifest.pids.sled_agents, [9, 10]);
        let again = serde_json::to_value(&manifest).unwrap();
        let plain: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(again, plain);
    }
}
