//! From where a request comes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dropshot::{RequestContext, ServerContext};
use http::HeaderMap;

use crate::door::Peers;

/// What is known of where requests come from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sources {
    peers: Peers,
    trusted_proxies: Arc<[IpAddr]>,
}

impl Sources {
    /// These peers, of which these are believed whom they speak for.
    pub fn new(peers: Peers, trusted_proxies: &[IpAddr]) -> Sources {
        Sources { peers, trusted_proxies: trusted_proxies.into() }
    }

    /// Who sent a request, which is known from here on to have been sent.
    pub(super) fn of<C: ServerContext>(
        &self,
        rqctx: &RequestContext<C>,
    ) -> IpAddr {
        let peer = self.peers.who_asks(rqctx.request.remote_addr());
        self.behind(peer, rqctx.request.headers())
    }

    fn behind(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut at = peer.ip().to_canonical();
        let said = headers.get_all("x-forwarded-for").iter();
        let said: Vec<&str> = said
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        // Each proxy adds whom it heard at the end: the last one that is no
        // proxy of ours is who asks. What stands before, anybody may write.
        for hop in said.into_iter().rev() {
            if !self.trusted_proxies.contains(&at) {
                break;
            }
            let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
            at = hop.to_canonical();
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    #[test]
    fn only_a_trusted_proxy_says_for_whom_it_asks() {
        let proxies: [IpAddr; 1] = ["10.0.0.1".parse().expect("an address")];
        let peers = Peers::new(Limits::default(), &proxies);
        let sources = Sources::new(peers, &proxies);
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-forwarded-for",
            "1.1.1.1, 2.2.2.2".parse().expect("a value"),
        );
        for (peer, source) in [
            ("10.0.0.1:9", "2.2.2.2"),
            ("[::ffff:10.0.0.1]:9", "2.2.2.2"),
            ("10.0.0.2:9", "10.0.0.2"),
        ] {
            let peer = peer.parse().expect("a peer");
            assert_eq!(sources.behind(peer, &headers).to_string(), source);
        }
    }
}
