//! Where a login comes from, as far as that can be known.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// What proxies append the address of their client to.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address behind the trusted proxies: the rightmost of `X-Forwarded-For` that is not itself one
/// of them, and only when the peer is. `None` otherwise: anybody can write the header, and behind a
/// proxy that is not known all the world has one address.
pub(super) fn source(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let trusts = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    peer.map(|peer| peer.to_canonical()).filter(trusts)?;
    for header in headers.get_all(FORWARDED_FOR).iter().rev() {
        for item in header.to_str().ok()?.rsplit(',') {
            // What a trusted proxy wrote and we cannot read leads nowhere; what stands left of it
            // is the client's own claim.
            let address = address(item.trim())?;
            if !trusts(&address) {
                return Some(address);
            }
        }
    }
    None
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn address(item: &str) -> Option<IpAddr> {
    let bracketed = || item.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || item.parse::<SocketAddr>().ok().map(|address| address.ip());
    item.parse().ok().or_else(bracketed).or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(peer: &str, forwarded: &[&str]) -> Option<String> {
        let trusted = ["10.0.0.0/8", "192.0.2.7/32", "fd00::/8"].map(|network| network.parse().unwrap());
        let headers = forwarded.iter().map(|value| (FORWARDED_FOR.parse().unwrap(), value.parse().unwrap()));
        source(peer.parse().ok(), &headers.collect(), &trusted).map(|address| address.to_string())
    }

    #[test]
    fn a_peer_that_is_no_proxy_of_ours_has_no_say() {
        assert_eq!(found("203.0.113.9", &["198.51.100.1"]), None);
        assert_eq!(found("", &["198.51.100.1"]), None);
        assert_eq!(found("10.1.1.1", &[]), None);
    }

    #[test]
    fn the_rightmost_address_that_is_not_ours_counts() {
        assert_eq!(found("10.1.1.1", &["198.51.100.1"]).as_deref(), Some("198.51.100.1"));
        let chain = ["1.1.1.1, 198.51.100.1 , 192.0.2.7"];
        assert_eq!(found("::ffff:10.1.1.1", &chain).as_deref(), Some("198.51.100.1"));
        let headers = ["6.6.6.6", "198.51.100.1,192.0.2.7", "10.2.2.2"];
        assert_eq!(found("fd00::1", &headers).as_deref(), Some("198.51.100.1"));
        assert_eq!(found("10.1.1.1", &["10.9.9.9, 192.0.2.7"]), None, "a client within our own networks");
    }

    #[test]
    fn addresses_come_bare_in_brackets_and_with_ports() {
        for (item, expected) in [
            ("198.51.100.1:4711", Some("198.51.100.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:4711", Some("2001:db8::1")),
            ("::ffff:198.51.100.1", Some("198.51.100.1")),
            ("unknown", None),
            ("", None),
            ("198.51.100.01", None),
            ("198.51.100.1:99999", None),
            ("[198.51.100.1]", None),
            ("fe80::1%eth0", None),
        ] {
            assert_eq!(found("10.1.1.1", &[&format!("6.6.6.6, {item}")]).as_deref(), expected, "{item:?}");
        }
    }
}
