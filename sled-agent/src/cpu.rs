//! What CPU the host has.

use sled_agent_client::nexus_types::SledCpu;

/// Where the kernel says it.
const CPUINFO: &str = "/proc/cpuinfo";

/// The CPU of this host; unknown, too, where nobody says it.
pub(crate) async fn of_host() -> SledCpu {
    let said = tokio::fs::read_to_string(CPUINFO).await;
    said.map_or(SledCpu::Unknown, |cpuinfo| recognize(&cpuinfo))
}

/// The CPU that this `/proc/cpuinfo` describes: by its first processor, since a
/// host has but one kind.
fn recognize(cpuinfo: &str) -> SledCpu {
    let number = |key| value(cpuinfo, key).and_then(|n| n.parse::<u32>().ok());
    let vendor = value(cpuinfo, "vendor_id");
    match (vendor, number("cpu family"), number("model")) {
        (Some("AuthenticAMD"), Some(0x19), Some(0x00..=0x0f)) => {
            SledCpu::AmdMilan
        }
        (Some("AuthenticAMD"), Some(0x1a), Some(0x00..=0x1f)) => {
            SledCpu::AmdTurin
        }
        _ => SledCpu::Unknown,
    }
}

/// What stands first under this key, which is the whole of what is before the
/// colon: `model` is not `model name`.
fn value<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    cpuinfo.lines().find_map(|line| {
        let (its_key, value) = line.split_once(':')?;
        (its_key.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpuinfo(vendor: &str, family: u32, model: u32) -> String {
        format!(
            "processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\n\
             model\t\t: {model}\nmodel name\t: 1\nstepping\t: 1\n\n\
             processor\t: 1\nvendor_id\t: {vendor}\ncpu family\t: {family}\n\
             model\t\t: {model}\n"
        )
    }

    #[test]
    fn a_cpu_is_known_by_its_vendor_family_and_model() {
        use SledCpu::{AmdMilan, AmdTurin, Unknown};
        for (vendor, family, model, cpu) in [
            ("AuthenticAMD", 25, 0, AmdMilan),
            ("AuthenticAMD", 25, 1, AmdMilan),
            ("AuthenticAMD", 25, 15, AmdMilan),
            // Genoa, and what is no server's.
            ("AuthenticAMD", 25, 16, Unknown),
            ("AuthenticAMD", 25, 0x21, Unknown),
            ("AuthenticAMD", 26, 0, AmdTurin),
            ("AuthenticAMD", 26, 2, AmdTurin),
            ("AuthenticAMD", 26, 0x11, AmdTurin),
            ("AuthenticAMD", 26, 0x1f, AmdTurin),
            ("AuthenticAMD", 26, 0x20, Unknown),
            // Rome, and what comes next.
            ("AuthenticAMD", 23, 1, Unknown),
            ("AuthenticAMD", 27, 1, Unknown),
            ("GenuineIntel", 25, 1, Unknown),
            ("GenuineIntel", 6, 106, Unknown),
        ] {
            let found = recognize(&cpuinfo(vendor, family, model));
            assert_eq!(found, cpu, "{vendor} {family} {model}");
        }
    }

    #[test]
    fn what_does_not_say_it_is_unknown() {
        for cpuinfo in [
            "",
            "processor: 0",
            "vendor_id: AuthenticAMD\ncpu family: 25\nmodel name: 1",
            "vendor_id: AuthenticAMD\ncpu family: old\nmodel: 1",
            "vendor_id: AuthenticAMD\ncpu family: 25\nmodel: -1",
            // Another architecture's.
            "processor: 0\nCPU implementer: 0x41\nCPU part: 0xd0c",
        ] {
            assert_eq!(recognize(cpuinfo), SledCpu::Unknown, "{cpuinfo}");
        }
    }
}
