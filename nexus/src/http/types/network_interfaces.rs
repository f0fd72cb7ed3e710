//! The network interfaces that an instance is made with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The network interfaces of a new instance.
#[derive(Debug, Deserialize, Default, JsonSchema, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum InstanceNetworkInterfaceAttachment {
    /// As described one by one. Not possible yet.
    Create {
        /// The interfaces.
        params: Vec<serde_json::Value>,
    },
    /// One, with an IPv4 address.
    DefaultIpv4,
    /// One, with an IPv6 address.
    DefaultIpv6,
    /// One, with an IPv4 and an IPv6 address.
    #[default]
    DefaultDualStack,
    /// None.
    None,
}

impl InstanceNetworkInterfaceAttachment {
    /// The wish as it is kept, unless it cannot be fulfilled.
    pub(super) fn into_kept(self) -> Result<serde_json::Value, Error> {
        match self {
            Self::Create { .. } => Err(Error::invalid_value(
                "network_interfaces",
                "\"create\" is not possible yet: use \"default_dual_stack\", \
                 \"default_ipv4\", \"default_ipv6\" or \"none\"",
            )),
            Self::DefaultIpv4
            | Self::DefaultIpv6
            | Self::DefaultDualStack
            | Self::None => serde_json::to_value(self).map_err(Error::internal),
        }
    }
}
