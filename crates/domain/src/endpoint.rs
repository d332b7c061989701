//! Where webhooks may be sent: which URLs, and which addresses behind them.
//!
//! A webhook's URL is written by somebody who may not be trusted with the network that Bellwether runs in. So addresses that
//! are not public are refused, in every form that hides one, unless the operator allows their network. The rules are about
//! single addresses; whoever resolves names refuses them all when one is bad.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// The longest URL, in characters.
pub const MAX_URL_CHARS: usize = 2_048;

/// What the operator allows of endpoints.
#[derive(Clone, Debug, Default)]
pub struct EndpointPolicy {
    /// `http://` is accepted.
    pub allow_http: bool,
    /// Networks that endpoints may live in although they are not public.
    pub allow_networks: Vec<IpNet>,
}

/// A URL that webhooks may be sent to, as far as the URL alone tells.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl(Url);

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address {address} is {kind}; BELLWETHER_ALLOW_NETWORKS can allow it")]
pub struct RefusedAddress {
    /// The address.
    pub address: IpAddr,
    /// What it is instead of public.
    pub kind: &'static str,
}

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// IPv4 networks that are not public: the special-purpose registry of IANA.
const NOT_PUBLIC_V4: [(Ipv4Net, &str); 16] = [
    (v4(0, 0, 0, 8), "unspecified"),
    (v4(10, 0, 0, 8), "private"),
    (v4(100, 64, 0, 10), "carrier NAT"),
    (v4(127, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 16), "link-local"),
    (v4(172, 16, 0, 12), "private"),
    (v4(192, 0, 0, 24), "reserved"),
    (v4(192, 0, 2, 24), "documentation"),
    (v4(192, 31, 196, 24), "reserved"),
    (v4(192, 52, 193, 24), "reserved"),
    (v4(192, 88, 99, 24), "a 6to4 relay"),
    (v4(192, 168, 0, 16), "private"),
    (v4(198, 18, 0, 15), "benchmark"),
    (v4(198, 51, 100, 24), "documentation"),
    (v4(203, 0, 113, 24), "documentation"),
    (v4(224, 0, 0, 3), "multicast or reserved"),
];

/// IPv6 networks that are not public, the first match decides. Beyond them only 2000::/3 is public.
const NOT_PUBLIC_V6: [(Ipv6Net, &str); 16] = [
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "unspecified"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "loopback"),
    (v6(0x64, 0xff9b, 1, 48), "local NAT64"),
    (v6(0x100, 0, 0, 64), "discard-only"),
    (v6(0x2001, 0, 0, 32), "Teredo"),
    (v6(0x2001, 2, 0, 48), "benchmark"),
    (v6(0x2001, 0xdb8, 0, 32), "documentation"),
    (v6(0x2001, 0, 0, 23), "reserved"),
    (v6(0x2002, 0, 0, 16), "6to4"),
    (v6(0x2620, 0x4f, 0x8000, 48), "reserved"),
    (v6(0x3fff, 0, 0, 20), "documentation"),
    (v6(0xfc00, 0, 0, 7), "private"),
    (v6(0xfe80, 0, 0, 10), "link-local"),
    (v6(0xfec0, 0, 0, 10), "private"),
    (v6(0xff00, 0, 0, 8), "multicast"),
    (v6(0, 0, 0, 8), "reserved"),
];

const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 0, 3);
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

impl EndpointPolicy {
    /// Reads a URL. The error is a sentence for whoever wrote it.
    pub fn parse(&self, text: &str) -> Result<EndpointUrl, String> {
        if text.chars().count() > MAX_URL_CHARS {
            return Err(format!("must be at most {MAX_URL_CHARS} characters"));
        }
        let url = Url::parse(text).map_err(|_| "must be a valid URL like https://example.com/webhook".to_owned())?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            "http" => return Err("must begin with https:// (BELLWETHER_ALLOW_HTTP accepts http://)".to_owned()),
            _ => return Err("must begin with https://".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user name or a password".to_owned());
        }
        if url.as_str().len() > 2 * MAX_URL_CHARS {
            return Err(format!("must be at most {MAX_URL_CHARS} characters"));
        }
        let url = EndpointUrl(url);
        match url.address() {
            Some(address) => self.check(address).map_err(|refused| refused.to_string())?,
            None => url.check_name()?,
        }
        Ok(url)
    }

    /// Whether webhooks may be sent to an address.
    pub fn check(&self, address: IpAddr) -> Result<(), RefusedAddress> {
        let address = address.to_canonical();
        if self.allow_networks.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        match not_public(address) {
            Some(kind) => Err(RefusedAddress { address, kind }),
            None => Ok(()),
        }
    }
}

impl EndpointUrl {
    /// The URL, normalised.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host as the URL names it.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The host's address, where the URL has it in numbers, in any notation.
    pub fn address(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }

    /// The port, by default that of the scheme.
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// A name is checked by what it resolves to; here only by its form.
    fn check_name(&self) -> Result<(), String> {
        match self.host().trim_end_matches('.') {
            "" => Err("must have a host".to_owned()),
            host if host.len() > 253 => Err("must have a host of at most 253 characters".to_owned()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => find(&NOT_PUBLIC_V4, |network| network.contains(&address)),
        IpAddr::V6(address) if NAT64.contains(&address) => {
            let [.., a, b, c, d] = address.octets();
            not_public(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(address) => find(&NOT_PUBLIC_V6, |network| network.contains(&address))
            .or_else(|| (!GLOBAL_UNICAST.contains(&address)).then_some("reserved")),
    }
}

fn find<N>(networks: &[(N, &'static str)], contains: impl Fn(&N) -> bool) -> Option<&'static str> {
    networks.iter().find(|(network, _)| contains(network)).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_pass() {
        let public = [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.1.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
        ];
        for address in public {
            assert_eq!(EndpointPolicy::default().check(address.parse().expect("an address")), Ok(()), "{address}");
        }
    }

    #[test]
    fn other_addresses_are_refused_by_their_kind() {
        let refused = [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("10.0.0.1", "private"),
            ("100.64.0.1", "carrier NAT"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("169.254.169.254", "link-local"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.1", "reserved"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "a 6to4 relay"),
            ("192.168.1.1", "private"),
            ("198.18.0.1", "benchmark"),
            ("198.19.255.255", "benchmark"),
            ("198.51.100.1", "documentation"),
            ("203.0.113.1", "documentation"),
            ("224.0.0.1", "multicast or reserved"),
            ("240.0.0.1", "multicast or reserved"),
            ("255.255.255.255", "multicast or reserved"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:10.0.0.1", "private"),
            ("::127.0.0.1", "reserved"),
            ("64:ff9b::7f00:1", "loopback"),
            ("64:ff9b::a00:1", "private"),
            ("64:ff9b:1::808:808", "local NAT64"),
            ("100::1", "discard-only"),
            ("2001::1", "Teredo"),
            ("2001:2::1", "benchmark"),
            ("2001:db8::1", "documentation"),
            ("2001:10::1", "reserved"),
            ("2001:20::1", "reserved"),
            ("2002:7f00:1::", "6to4"),
            ("2002:808:808::", "6to4"),
            ("3fff::1", "documentation"),
            ("fc00::1", "private"),
            ("fd12::1", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "private"),
            ("ff02::1", "multicast"),
            ("5f00::1", "reserved"),
            ("4000::1", "reserved"),
        ];
        for (address, kind) in refused {
            let refusal = EndpointPolicy::default().check(address.parse().expect("an address")).expect_err(address);
            assert_eq!(refusal.kind, kind, "{address}");
        }
    }

    #[test]
    fn allowed_networks_pass_in_every_form() {
        let policy = EndpointPolicy { allow_http: false, allow_networks: vec!["10.0.0.0/8".parse().expect("a network")] };
        assert!(policy.check("10.1.2.3".parse().expect("an address")).is_ok());
        assert!(policy.check("::ffff:10.1.2.3".parse().expect("an address")).is_ok());
        assert!(policy.check("127.0.0.1".parse().expect("an address")).is_err());
        assert!(policy.parse("https://10.9.9.9:8443/hook").is_ok());
    }

    #[test]
    fn urls() {
        let long = format!("https://example.com/{}", "a".repeat(2_029));
        let cases = [
            ("https://example.com/hook?x=1", ""),
            ("HTTPS://EXAMPLE.com", ""),
            ("https://[2606:4700::1111]:8443/", ""),
            ("https://8.8.8.8/", ""),
            ("http://example.com/", "BELLWETHER_ALLOW_HTTP"),
            ("ftp://example.com/", "must begin with https://"),
            ("javascript:alert(1)", "must begin with https://"),
            ("example.com/hook", "must be a valid URL"),
            ("", "must be a valid URL"),
            ("https://", "must be a valid URL"),
            ("https://user@example.com/", "user name"),
            ("https://user:pw@example.com/", "user name"),
            ("https://:pw@example.com/", "user name"),
            (long.as_str(), "at most 2048"),
            ("https://127.0.0.1/", "loopback"),
            ("https://2130706433/", "loopback"),
            ("https://0x7f.1/", "loopback"),
            ("https://0177.0.0.1/", "loopback"),
            ("https://[::ffff:127.0.0.1]/", "loopback"),
            ("https://[::ffff:7f00:1]/", "loopback"),
            ("https://169.254.169.254/latest/meta-data", "link-local"),
            ("https://１２７.0.0.1/", "loopback"),
        ];
        for (url, sentence) in cases {
            match EndpointPolicy::default().parse(url) {
                Ok(_) => assert_eq!(sentence, "", "{url}"),
                Err(message) => assert!(!sentence.is_empty() && message.contains(sentence), "{url}: {message}"),
            }
        }
        let policy = EndpointPolicy { allow_http: true, ..EndpointPolicy::default() };
        assert_eq!(policy.parse("http://example.com/x").map(|url| url.port()), Ok(80));
    }
}
