//! Who is behind an event: a number that cannot be turned back into a person, and that nobody can follow from day to day.

use std::hash::Hasher as _;
use std::net::Ipv4Addr;

use siphasher::sip::SipHasher24;

use crate::ambient::Ambient;
use crate::event::NO_HOST;
use crate::time::Timestamp;

/// A visitor of a site on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VisitorId(pub u64);

/// What is hashed into a [`VisitorId`]; it is not kept.
#[derive(Clone, Copy)]
pub struct Traits<'a> {
    /// The `User-Agent` header, empty without one.
    pub user_agent: &'a str,
    /// The client's address in text.
    pub address: &'a str,
    /// The site's domain, without `www.`.
    pub domain: &'a str,
    /// The host of the event's page.
    pub hostname: &'a str,
}

/// Random bytes that make the visitors of one day, in UTC, unlike those of any other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt {
    /// Days since the start of 1970.
    pub day: i64,
    /// The key.
    pub key: [u8; 16],
}

/// The salt of today, and yesterday's, which serves only to let a visit go on past midnight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salts {
    /// Of the day it is.
    pub current: Salt,
    /// Of the day before, where it is known.
    pub previous: Option<Salt>,
}

impl Traits<'_> {
    /// The visitor under `salt`: SipHash-2-4 of user agent, address, domain and registrable domain of the page.
    pub fn visitor(&self, salt: &Salt) -> VisitorId {
        let mut hasher = SipHasher24::new_with_key(&salt.key);
        for part in [self.user_agent, self.address, self.domain, root_domain(self.hostname)] {
            hasher.write(part.as_bytes());
        }
        VisitorId(hasher.finish())
    }
}

impl Salt {
    /// A new salt for the day of `now`.
    pub fn generate(ambient: &Ambient) -> Self {
        Self { day: day(ambient.now()), key: ambient.bytes() }
    }
}

impl Salts {
    /// Out of stored salts, those that count at `now`; none when today has none yet.
    pub fn select(stored: &[Salt], now: Timestamp) -> Option<Self> {
        let of = |wanted: i64| stored.iter().find(|salt| salt.day == wanted).copied();
        Some(Self { current: of(day(now))?, previous: of(day(now) - 1) })
    }

    /// Whether today's salt is another day's at `now`.
    pub fn are_over(&self, now: Timestamp) -> bool {
        self.current.day != day(now)
    }
}

/// Days since the start of 1970, in UTC.
pub fn day(now: Timestamp) -> i64 {
    now.as_seconds().div_euclid(86_400)
}

/// The registrable domain of a host; an IPv4 address stays whole.
fn root_domain(hostname: &str) -> &str {
    if hostname == NO_HOST || hostname.parse::<Ipv4Addr>().is_ok() {
        return hostname;
    }
    psl::domain_str(hostname).unwrap_or(hostname)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAITS: Traits<'static> =
        Traits { user_agent: "Firefox", address: "203.0.113.7", domain: "example.com", hostname: "blog.example.com" };

    fn salt(day: i64) -> Salt {
        Salt { day, key: [u8::try_from(day).expect("a small day"); 16] }
    }

    #[test]
    fn a_visitor_is_the_hash_of_the_joined_traits() {
        let mut hasher = SipHasher24::new_with_key(&[3; 16]);
        hasher.write(b"Firefox203.0.113.7example.comexample.com");
        assert_eq!(TRAITS.visitor(&salt(3)), VisitorId(hasher.finish()));
        assert_ne!(TRAITS.visitor(&salt(3)), TRAITS.visitor(&salt(4)));
        assert_eq!(TRAITS.visitor(&salt(3)), Traits { hostname: "shop.example.com", ..TRAITS }.visitor(&salt(3)));
    }

    #[test]
    fn root_domains() {
        let cases = [
            ("a.b.example.co.uk", "example.co.uk"),
            ("example.com", "example.com"),
            ("127.0.0.1", "127.0.0.1"),
            (NO_HOST, NO_HOST),
            ("localhost", "localhost"),
        ];
        for (host, root) in cases {
            assert_eq!(root_domain(host), root, "{host}");
        }
    }

    #[test]
    fn salts_hold_for_a_day() {
        let noon = |day: i64| Timestamp::from_micros((day * 86_400 + 43_200) * 1_000_000);
        let stored = [salt(4), salt(5)];
        let salts = Salts::select(&stored, noon(5)).expect("salts");
        assert!(salts.current == salt(5) && salts.previous == Some(salt(4)));
        assert!(!salts.are_over(noon(5)) && salts.are_over(noon(6)));
        assert!(Salts::select(&stored, noon(6)).is_none());
        assert!(Salts::select(&stored, noon(4)).is_some_and(|salts| salts.previous.is_none()));
    }
}
