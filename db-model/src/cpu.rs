//! What CPU a sled has, and what CPU an instance needs.

sql_enum! {
    /// The CPU that an instance needs: the guest may use what it has beyond
    /// the least of all hosts.
    pub enum InstanceCpuPlatform: InstanceCpuPlatformSql {
        /// As AMD's Milan.
        AmdMilan = "amd_milan",
        /// As AMD's Turin, without cache and TLB information in CPUID.
        AmdTurin = "amd_turin",
        /// As AMD's Turin.
        AmdTurinV2 = "amd_turin_v2",
    }
}

sql_enum! {
    /// The CPU of a sled.
    pub enum SledCpu: SledCpuSql {
        /// None of those below, or its agent does not say.
        Unknown = "unknown",
        /// AMD's Milan.
        AmdMilan = "amd_milan",
        /// AMD's Turin.
        AmdTurin = "amd_turin",
    }
}

impl InstanceCpuPlatform {
    /// The sleds that have all that this platform promises a guest: its own,
    /// and the newer of its lineage.
    pub fn runs_on(self) -> &'static [SledCpu] {
        match self {
            InstanceCpuPlatform::AmdMilan => {
                &[SledCpu::AmdMilan, SledCpu::AmdTurin]
            }
            InstanceCpuPlatform::AmdTurin | InstanceCpuPlatform::AmdTurinV2 => {
                &[SledCpu::AmdTurin]
            }
        }
    }
}
