//! Networks in CIDR notation, and the address that a client really has.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A network: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct Network(IpNet);

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a network in CIDR notation, such as 10.0.0.0/8 or 2001:db8::/32")]
pub struct NotANetwork(String);

impl Network {
    /// An IPv4 address may come as an IPv6 address that maps it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let address = text.parse::<IpAddr>().map(IpNet::from).ok();
        let network = address.or_else(|| text.parse().ok()).map(Self);
        network.ok_or_else(|| NotANetwork(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The client's address: the peer's, or, if the peer is a proxy that is trusted, the last one in
/// `X-Forwarded-For` that is not. What stands before that was written by the client itself.
#[must_use]
pub fn client_address(peer: IpAddr, forwarded_for: Option<&str>, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let hops = forwarded_for.into_iter().flat_map(|hops| hops.rsplit(','));
    for hop in hops {
        if !is_trusted(client) {
            break;
        }
        let hop = hop.trim().trim_start_matches('[').trim_end_matches(']');
        match hop.parse::<IpAddr>() {
            Ok(address) => client = address.to_canonical(),
            // A proxy that is trusted writes addresses; from here on nothing can be believed.
            Err(_) => break,
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_its_addresses() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::ffff:11.1.1.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
        ] {
            assert!(
                network(text).contains(inside.parse().unwrap()),
                "{text} {inside}"
            );
            assert!(
                !network(text).contains(outside.parse().unwrap()),
                "{text} {outside}"
            );
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "ten/8",
            "::/129",
            "1.2.3/8",
            "10.0.0.0/8/8",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = [network("10.0.0.0/8")];
        let check = |peer: &str, header: Option<&str>, expected: &str| {
            let seen = client_address(peer.parse().unwrap(), header, &trusted);
            assert_eq!(
                seen,
                expected.parse::<IpAddr>().unwrap(),
                "{peer} {header:?}"
            );
        };
        check("203.0.113.9", Some("1.1.1.1"), "203.0.113.9");
        check("10.0.0.1", None, "10.0.0.1");
        check("10.0.0.1", Some("1.1.1.1"), "1.1.1.1");
        check("10.0.0.1", Some("6.6.6.6, 1.1.1.1, 10.0.0.2"), "1.1.1.1");
        check("10.0.0.1", Some("1.1.1.1, spoofed"), "10.0.0.1");
        check("10.0.0.1", Some("10.0.0.3,10.0.0.2"), "10.0.0.3");
        check("::ffff:10.0.0.1", Some("2001:db8::1"), "2001:db8::1");
    }
}
