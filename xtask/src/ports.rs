//! Which port is whose, counted from one base:
//!
//! ```text
//! BASE + 10*i          Nexus i, the API for users
//! BASE + 10*i + 1      Nexus i, the API for sleds
//! BASE + 2             PostgreSQL
//! BASE + 10*i + 3      Nexus i, where sleds join
//! BASE + 100 + 2*j     sled-agent j
//! BASE + 101 + 2*j     sled-agent j, its test control (only if asked for)
//! ```

use crate::failure::{Failure, Result};

pub(crate) const DEFAULT_BASE: u16 = 12220;

/// Ten Nexuses of ten ports each fit below the first sled's port.
pub(crate) const MAX_NEXUS: u16 = 10;
/// More simulated sleds than one machine can usefully run.
pub(crate) const MAX_SLEDS: u16 = 1000;

const NEXUS_STRIDE: u16 = 10;
const FIRST_SLED: u16 = 100;
const SLED_STRIDE: u16 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    base: u16,
}

impl Ports {
    /// # Errors
    /// When the last port of this many processes would be beyond 65535.
    pub(crate) fn new(base: u16, sleds: u16) -> Result<Ports> {
        let span = FIRST_SLED + SLED_STRIDE * sleds.min(MAX_SLEDS);
        match base.checked_add(span) {
            Some(_) if base >= 1024 => Ok(Ports { base }),
            _ => Err(Failure::new(format!(
                "--port {base}: the ports {base} to {base}+{span} are \
                 needed, all of them between 1024 and 65535."
            ))),
        }
    }

    pub(crate) fn nexus_external(self, i: u16) -> u16 {
        self.base + NEXUS_STRIDE * i
    }

    pub(crate) fn nexus_internal(self, i: u16) -> u16 {
        self.nexus_external(i) + 1
    }

    pub(crate) fn nexus_join(self, i: u16) -> u16 {
        self.nexus_external(i) + 3
    }

    pub(crate) fn postgres(self) -> u16 {
        self.base + 2
    }

    pub(crate) fn sled(self, j: u16) -> u16 {
        self.base + FIRST_SLED + SLED_STRIDE * j
    }

    pub(crate) fn sled_test_control(self, j: u16) -> u16 {
        self.sled(j) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_layout_is_the_documented_one() {
        let ports = Ports::new(12220, 3).unwrap();
        assert_eq!(ports.nexus_external(0), 12220);
        assert_eq!(ports.nexus_internal(0), 12221);
        assert_eq!(ports.postgres(), 12222);
        assert_eq!(ports.nexus_join(0), 12223);
        assert_eq!(ports.nexus_external(1), 12230);
        assert_eq!(ports.nexus_internal(1), 12231);
        assert_eq!(ports.sled(0), 12320);
        assert_eq!(ports.sled_test_control(0), 12321);
        assert_eq!(ports.sled(2), 12324);
    }

    #[test]
    fn no_port_has_two_owners_at_the_limits() {
        let ports = Ports::new(1024, MAX_SLEDS).unwrap();
        let mut all = vec![ports.postgres()];
        for i in 0..MAX_NEXUS {
            all.extend([ports.nexus_external(i), ports.nexus_internal(i)]);
            all.push(ports.nexus_join(i));
        }
        for j in 0..MAX_SLEDS {
            all.extend([ports.sled(j), ports.sled_test_control(j)]);
        }
        let distinct: BTreeSet<u16> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn a_base_without_room_is_refused() {
        assert!(Ports::new(65500, 3).is_err());
        assert!(Ports::new(80, 3).is_err());
    }
}
