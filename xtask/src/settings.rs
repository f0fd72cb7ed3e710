//! What this DIR was started with, kept in DIR/settings.json, so that a later
//! `up` without flags goes on in the same way.

use crate::failure::{Context, Failure, Result};
use crate::home::Home;
use crate::ports::{DEFAULT_BASE, MAX_NEXUS, MAX_SLEDS, Ports};
use serde::{Deserialize, Serialize};

/// What sleds run instances with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hypervisor {
    /// No guests, but facts about them.
    Simulated,
    /// One QEMU for each.
    Qemu,
}

impl Hypervisor {
    /// As a sled-agent is told it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Qemu => "qemu",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
// A file of an older version lacks what is newer than it.
#[serde(default)]
pub(crate) struct Settings {
    pub(crate) port: u16,
    pub(crate) nexus: u16,
    pub(crate) sleds: u16,
    pub(crate) sled_vcpus: u32,
    pub(crate) sled_memory_gib: u32,
    pub(crate) sled_storage_gib: u32,
    pub(crate) hypervisor: Hypervisor,
    pub(crate) ephemeral: bool,
    pub(crate) test_control: bool,
}

/// What the command line asks for; `None` means "as before".
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) port: Option<u16>,
    pub(crate) nexus: Option<u16>,
    pub(crate) sleds: Option<u16>,
    pub(crate) sled_vcpus: Option<u32>,
    pub(crate) sled_memory_gib: Option<u32>,
    pub(crate) sled_storage_gib: Option<u32>,
    pub(crate) hypervisor: Option<Hypervisor>,
    pub(crate) ephemeral: bool,
    pub(crate) test_control: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            port: DEFAULT_BASE,
            nexus: 1,
            sleds: 3,
            sled_vcpus: 32,
            sled_memory_gib: 64,
            sled_storage_gib: 256,
            // What there was when there was nothing to choose.
            hypervisor: Hypervisor::Simulated,
            ephemeral: false,
            test_control: false,
        }
    }
}

impl Settings {
    /// The settings of an earlier `up` here, if there was one.
    pub(crate) fn load(home: &Home) -> Result<Option<Settings>> {
        let path = home.settings();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(e) => return Err(e).context(|| format!("cannot read {path}")),
        };
        serde_json::from_str(&text)
            .map(Some)
            .context(|| format!("cannot understand {path}"))
    }

    pub(crate) fn save(&self, home: &Home) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .context(|| "cannot write the settings as JSON")?;
        crate::secret::write_private(&home.settings(), &text)
    }

    pub(crate) fn ports(&self) -> Result<Ports> {
        Ports::new(self.port, self.sleds)
    }

    /// What to run now: the flags given, else what ran before, else the
    /// defaults.
    ///
    /// # Errors
    /// When the flags ask for what cannot be, or for a change that would
    /// destroy kept data.
    pub(crate) fn decide(
        saved: Option<&Settings>,
        wanted: &Wanted,
    ) -> Result<Settings> {
        let fresh =
            Settings { ephemeral: wanted.ephemeral, ..Settings::default() };
        let base = saved.unwrap_or(&fresh);
        if wanted.ephemeral && !base.ephemeral {
            return Err(Failure::new(
                "--ephemeral would remove the data that an earlier `up` here \
                 was told to keep; choose another --dir for it.",
            ));
        }
        let settings = Settings {
            port: wanted.port.unwrap_or(base.port),
            nexus: wanted.nexus.unwrap_or(base.nexus),
            sleds: wanted.sleds.unwrap_or(base.sleds),
            sled_vcpus: wanted.sled_vcpus.unwrap_or(base.sled_vcpus),
            sled_memory_gib: wanted
                .sled_memory_gib
                .unwrap_or(base.sled_memory_gib),
            sled_storage_gib: wanted
                .sled_storage_gib
                .unwrap_or(base.sled_storage_gib),
            hypervisor: wanted.hypervisor.unwrap_or(base.hypervisor),
            ephemeral: base.ephemeral,
            test_control: wanted.test_control || base.test_control,
        };
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        if !(1..=MAX_NEXUS).contains(&self.nexus) {
            return Err(Failure::new(format!(
                "--nexus {}: from 1 to {MAX_NEXUS}.",
                self.nexus
            )));
        }
        if self.sleds > MAX_SLEDS {
            return Err(Failure::new(format!(
                "--sleds {}: at most {MAX_SLEDS}.",
                self.sleds
            )));
        }
        if self.sled_vcpus == 0 || self.sled_memory_gib == 0 {
            return Err(Failure::new(
                "A sled needs at least one vCPU and one GiB of memory.",
            ));
        }
        self.ports().map(|_| ())
    }

    /// Why these cannot replace the ones that processes run with now, if so.
    pub(crate) fn conflict_with_running(
        &self,
        running: &Settings,
    ) -> Option<String> {
        if self.port != running.port {
            return Some(format!(
                "Processes run here with --port {}",
                running.port
            ));
        }
        if self.hypervisor != running.hypervisor {
            return Some(format!(
                "Sleds run here with --hypervisor {}",
                running.hypervisor.name()
            ));
        }
        (self.sleds < running.sleds || self.nexus < running.nexus).then(|| {
            format!(
                "{} sleds and {} Nexus were started here",
                running.sleds, running.nexus
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_memory_and_memory_over_defaults() {
        let saved = Settings { port: 20000, sleds: 5, ..Settings::default() };
        let wanted = Wanted { sleds: Some(6), ..Wanted::default() };
        let now = Settings::decide(Some(&saved), &wanted).unwrap();
        assert_eq!((now.port, now.sleds, now.sled_vcpus), (20000, 6, 32));
    }

    #[test]
    fn kept_data_never_becomes_ephemeral() {
        let wanted = Wanted { ephemeral: true, ..Wanted::default() };
        let kept = Settings::default();
        assert!(Settings::decide(Some(&kept), &wanted).is_err());
        assert!(Settings::decide(None, &wanted).unwrap().ephemeral);
    }

    #[test]
    fn ephemeral_stays_so_without_the_flag() {
        let saved = Settings { ephemeral: true, ..Settings::default() };
        let now = Settings::decide(Some(&saved), &Wanted::default()).unwrap();
        assert!(now.ephemeral);
    }

    #[test]
    fn there_is_a_nexus_and_not_too_many() {
        for (nexus, fits) in [(0, false), (1, true), (10, true), (11, false)] {
            let wanted = Wanted { nexus: Some(nexus), ..Wanted::default() };
            let decided = Settings::decide(None, &wanted);
            assert_eq!(decided.is_ok(), fits, "{nexus}");
        }
    }

    #[test]
    fn what_runs_is_not_moved_or_shrunk() {
        let running = Settings::default();
        let moved = Settings { port: 20000, ..running.clone() };
        let fewer = Settings { sleds: 2, ..running.clone() };
        let more = Settings { sleds: 4, ..running.clone() };
        assert!(moved.conflict_with_running(&running).is_some());
        assert!(fewer.conflict_with_running(&running).is_some());
        assert!(more.conflict_with_running(&running).is_none());
        let hypervisor = Hypervisor::Qemu;
        let real = Settings { hypervisor, ..running.clone() };
        assert!(real.conflict_with_running(&running).is_some());
    }

    #[test]
    fn settings_survive_the_file() {
        let text = serde_json::to_string(&Settings::default()).unwrap();
        let read: Settings = serde_json::from_str(&text).unwrap();
        assert_eq!(read, Settings::default());
    }
}
