//! Who somebody is, as their certificate says it.

use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

const NEXUS: &str = "fleet:nexus";
const OPERATOR: &str = "fleet:operator";
const SLED: &str = "fleet:sled:";

/// A member of the fleet. Its text is the URI in its certificate.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Peer {
    /// A Nexus, whichever.
    Nexus,
    /// This sled and no other.
    Sled(Uuid),
    /// Who looks after the fleet, with a program that speaks to the internal
    /// API: `nexus-admin`, or what reads the metrics.
    Operator,
}

/// A URI that names no member.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the URI names no member of a fleet")]
pub struct NotAPeer;

impl Peer {
    /// The host name that stands for it in its certificate, if it serves
    /// anything: for programs that know servers by nothing else. None of the
    /// fleet's own goes by it.
    pub fn host_name(self) -> Option<String> {
        match self {
            Peer::Nexus => Some("nexus.fleet.internal".to_owned()),
            Peer::Sled(id) => Some(format!("{id}.sled.fleet.internal")),
            Peer::Operator => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Nexus => f.write_str(NEXUS),
            Peer::Operator => f.write_str(OPERATOR),
            Peer::Sled(id) => write!(f, "{SLED}{id}"),
        }
    }
}

impl FromStr for Peer {
    type Err = NotAPeer;

    /// Takes exactly what [`Peer`]'s `Display` writes, and no other spelling.
    fn from_str(text: &str) -> Result<Peer, NotAPeer> {
        let peer = match text {
            NEXUS => Peer::Nexus,
            OPERATOR => Peer::Operator,
            _ => {
                let id = text.strip_prefix(SLED).ok_or(NotAPeer)?;
                Peer::Sled(Uuid::parse_str(id).map_err(|_| NotAPeer)?)
            }
        };
        if peer.to_string() == text { Ok(peer) } else { Err(NotAPeer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_one_spelling() {
        let sled = Peer::Sled(Uuid::from_u128(0xabc));
        for peer in [Peer::Nexus, Peer::Operator, sled] {
            assert_eq!(peer.to_string().parse(), Ok(peer));
        }
        let id = "00000000000000000000000000000abc";
        for other in [
            "",
            "fleet:",
            "fleet:nexus:",
            "Fleet:nexus",
            "fleet:sled",
            "fleet:sled:",
            "fleet:sled:*",
            &format!("fleet:sled:{id}"),
            &sled.to_string().to_uppercase(),
            &format!("{sled} "),
        ] {
            assert_eq!(other.parse::<Peer>(), Err(NotAPeer), "{other}");
        }
    }
}
