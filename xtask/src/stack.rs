//! All the processes of one DIR, in the order in which they need each other.

use crate::failure::{Context, Result};
use crate::home::Home;
use crate::manifest::{Manifest, PerProcess};
use crate::process::Process;
use crate::say::say;
use crate::settings::Settings;
use crate::{cluster, nexus, sled_agent};
use camino::Utf8PathBuf;

pub(crate) struct Stack {
    pub(crate) home: Home,
    pub(crate) settings: Settings,
    pub(crate) cluster_root: Utf8PathBuf,
    pub(crate) postgres: Process,
    pub(crate) nexus: Vec<Process>,
    pub(crate) sled_agents: Vec<Process>,
}

impl Stack {
    pub(crate) fn new(home: &Home, settings: &Settings) -> Result<Stack> {
        let cluster::Place { root, account } = cluster::Place::of(home.dir())?;
        let log = home.log("postgres");
        Ok(Stack {
            home: home.clone(),
            settings: settings.clone(),
            postgres: cluster::process(&root, account, log),
            cluster_root: root,
            nexus: (0..settings.nexus)
                .map(|i| nexus::process(home, i))
                .collect(),
            sled_agents: (0..settings.sleds)
                .map(|j| sled_agent::process(home, j))
                .collect(),
        })
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Process> {
        std::iter::once(&self.postgres)
            .chain(&self.nexus)
            .chain(&self.sled_agents)
    }

    /// Who calls before who is called, so that nothing is asked of what is
    /// gone.
    pub(crate) fn in_stop_order(&self) -> [&[Process]; 3] {
        [&self.nexus, &self.sled_agents, std::slice::from_ref(&self.postgres)]
    }

    /// What the sled-agents leave behind.
    pub(crate) fn guests(&self) -> Vec<Process> {
        sled_agent::guests(&self.home, self.settings.sleds)
    }

    /// Stops everything. Data that was not to be kept goes too.
    pub(crate) fn stop(&self) -> Result<()> {
        for group in self.in_stop_order() {
            crate::process::stop(group)?;
        }
        crate::process::stop(&self.guests())?;
        if self.settings.ephemeral {
            say("Removing its data, which was ephemeral");
            return self.remove_data(false);
        }
        match std::fs::remove_file(self.home.manifest()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).context(|| "cannot remove up.json")
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn remove_data(&self, keep_logs: bool) -> Result<()> {
        if self.cluster_root.exists() {
            std::fs::remove_dir_all(&self.cluster_root)
                .context(|| format!("cannot remove {}", self.cluster_root))?;
        }
        self.home.remove_data(self.settings.sleds, keep_logs);
        Ok(())
    }

    /// What up.json is to say now.
    pub(crate) fn manifest(
        &self,
        token: String,
        database_url: String,
    ) -> Result<Manifest> {
        let ports = self.settings.ports()?;
        let pid = |p: &Process| {
            p.find().map(|pid| pid.as_raw_pid()).ok_or_else(|| {
                crate::failure::Failure::new(format!("{} is gone", p.name))
            })
        };
        let log = |p: &Process| p.log.clone();
        Ok(Manifest {
            api: (0..self.settings.nexus)
                .map(|i| nexus::api(ports, i))
                .collect(),
            token,
            database_url,
            pids: PerProcess {
                postgres: pid(&self.postgres)?,
                nexus: self.nexus.iter().map(pid).collect::<Result<_>>()?,
                sled_agents: self
                    .sled_agents
                    .iter()
                    .map(pid)
                    .collect::<Result<_>>()?,
            },
            logs: PerProcess {
                postgres: log(&self.postgres),
                nexus: self.nexus.iter().map(log).collect(),
                sled_agents: self.sled_agents.iter().map(log).collect(),
            },
        })
    }
}
