//! What the host has to give.

use crate::capacity::Limits;
use std::io;

/// Why a sled cannot have the limits that it is given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error(
        "--vcpus {wanted}: the host has {there}; --overcommit says that this \
         is meant"
    )]
    Vcpus { wanted: u32, there: usize },
    #[error(
        "--memory-gib: {wanted} bytes, and the host has {there}; --overcommit \
         says that this is meant"
    )]
    Memory { wanted: u64, there: u64 },
    #[error("cannot find out what the host has")]
    Unknown(#[source] io::Error),
}

/// Refuses limits that the host itself does not have.
pub(crate) fn check(limits: &Limits) -> Result<(), HostError> {
    let vcpus =
        std::thread::available_parallelism().map_err(HostError::Unknown)?;
    let meminfo = std::fs::read_to_string("/proc/meminfo");
    let meminfo = meminfo.map_err(HostError::Unknown)?;
    let memory = memory_bytes(&meminfo)
        .ok_or_else(|| HostError::Unknown(io::ErrorKind::InvalidData.into()))?;
    within(limits, vcpus.get(), memory)
}

fn within(limits: &Limits, vcpus: usize, memory: u64) -> Result<(), HostError> {
    let wanted = limits.vcpus;
    if usize::try_from(wanted).is_ok_and(|wanted| wanted > vcpus) {
        return Err(HostError::Vcpus { wanted, there: vcpus });
    }
    let wanted = limits.memory_bytes;
    if wanted > memory {
        return Err(HostError::Memory { wanted, there: memory });
    }
    Ok(())
}

/// `MemTotal:       24041416 kB`
fn memory_bytes(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_is() {
        let meminfo = "MemTotal:       24041416 kB\nMemFree: 1 kB\n";
        let memory = memory_bytes(meminfo).unwrap();
        assert_eq!(memory, 24_041_416 * 1024);
        let limits = |vcpus, memory_bytes| Limits { vcpus, memory_bytes };
        assert!(within(&limits(2, memory), 2, memory).is_ok());
        let error = within(&limits(3, 1), 2, memory).unwrap_err();
        assert!(error.to_string().starts_with("--vcpus 3: the host has 2;"));
        let error = within(&limits(1, memory + 1), 2, memory).unwrap_err();
        assert!(error.to_string().starts_with("--memory-gib: "));
    }
}
