//! Whose address a request comes from, when proxies may stand between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Headers in which proxies say for whom they ask, the most trusted first.
const HEADERS: [&str; 5] = ["x-plausible-ip", "cf-connecting-ip", "b-forwarded-for", "x-forwarded-for", "forwarded"];

/// The client's address, as text. Headers are believed only when `peer`, who is connected, is in `trusted`.
///
/// `header` yields the value of the header of a name.
pub fn address<'a>(peer: IpAddr, trusted: &[IpNet], header: impl Fn(&'static str) -> Option<&'a str>) -> String {
    let peer = peer.to_canonical();
    if !trusted.iter().any(|network| network.contains(&peer)) {
        return peer.to_string();
    }
    let forwarded = HEADERS.iter().find_map(|name| Some(forwarded(name, header(name)?)).filter(|text| !text.is_empty()));
    forwarded.map_or_else(|| peer.to_string(), str::to_owned)
}

/// The network of a client's address, as far as it is one client's own: an address of IPv4, and the first 64 bits of one of IPv6.
/// What is no address is all one network, 0.0.0.0.
pub fn network(address: &str) -> IpAddr {
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        Ok(address) => address,
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn forwarded<'a>(name: &str, value: &'a str) -> &'a str {
    let entry = value.split(',').next().unwrap_or(value);
    let entry = match name {
        "forwarded" => entry.split(';').find_map(for_parameter).unwrap_or(""),
        _ => entry,
    };
    without_port(entry.trim().trim_matches('"'))
}

fn for_parameter(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.trim().split_once('=')?;
    name.eq_ignore_ascii_case("for").then_some(value)
}

fn without_port(address: &str) -> &str {
    if let Some(rest) = address.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match address.split_once(':') {
        Some((host, port)) if !port.contains(':') => host,
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(peer: &str, headers: &[(&str, &'static str)]) -> String {
        let trusted = ["10.0.0.0/8".parse().expect("a network")];
        let header = |name: &'static str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        address(peer.parse().expect("an address"), &trusted, header)
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let headers = [("x-forwarded-for", "203.0.113.7")];
        assert_eq!(ask("198.51.100.1", &headers), "198.51.100.1");
        assert_eq!(ask("10.1.2.3", &headers), "203.0.113.7");
        assert_eq!(ask("::ffff:10.1.2.3", &headers), "203.0.113.7");
        assert_eq!(ask("10.1.2.3", &[]), "10.1.2.3");
    }

    #[test]
    fn the_most_trusted_header_that_is_not_empty_counts() {
        let cases: [(&[(&str, &'static str)], &str); 7] = [
            (&[("x-plausible-ip", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")], "1.1.1.1"),
            (&[("x-plausible-ip", ""), ("cf-connecting-ip", "2.2.2.2")], "2.2.2.2"),
            (&[("b-forwarded-for", "3.3.3.3, 10.0.0.1")], "3.3.3.3"),
            (&[("x-forwarded-for", "4.4.4.4:5678, 10.0.0.1")], "4.4.4.4"),
            (&[("x-forwarded-for", "[2001:db8::1]:5678")], "2001:db8::1"),
            (&[("x-forwarded-for", "2001:db8::1")], "2001:db8::1"),
            (&[("forwarded", "proto=https;For=\"[2001:db8::2]:47\", for=5.5.5.5")], "2001:db8::2"),
        ];
        for (headers, expected) in cases {
            assert_eq!(ask("10.0.0.9", headers), expected);
        }
    }

    #[test]
    fn a_network_is_what_one_client_has_for_itself() {
        let cases = [
            ("203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("unknown", "0.0.0.0"),
        ];
        for (address, expected) in cases {
            assert_eq!(network(address).to_string(), expected);
        }
    }
}
