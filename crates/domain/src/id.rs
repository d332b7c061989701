//! Names of things: UUIDs of version 7, which sort by the time they were made.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::ambient::Ambient;
use crate::time::Timestamp;

/// A text is no id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an id")]
pub struct NotAnId;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new one, made of the time now and randomness.
            pub fn new(ambient: &Ambient) -> Self {
                let millis = u64::try_from(ambient.now().as_millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &ambient.bytes()).into_uuid())
            }

            /// One that sorts before all that are made at `time` or later, and behind all that were made a millisecond before.
            pub fn first_at(time: Timestamp) -> Self {
                let millis = u64::try_from(time.as_millis()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid())
            }

            /// The one that something has that happened at `time` and is told from all else by `parts`: whoever makes it makes the same.
            pub fn made_of(time: Timestamp, parts: &[&[u8]]) -> Self {
                let mut hash = Sha256::new();
                for part in parts {
                    hash.update(part.len().to_be_bytes());
                    hash.update(part);
                }
                let (millis, digest) = (u64::try_from(time.as_millis()).unwrap_or(0), hash.finalize());
                let bytes = std::array::from_fn(|index| digest[index]);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid())
            }

            /// When it was made, to the millisecond.
            pub fn made_at(&self) -> Timestamp {
                let [a, b, c, d, e, f, ..] = *self.as_bytes();
                Timestamp::EPOCH + Duration::from_millis(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
            }

            /// From its 16 bytes, as stored.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// Its 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.0.as_hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                Uuid::try_parse(text).map(Self).map_err(|_| NotAnId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

ids! {
    /// A site.
    SiteId
    /// A goal of a site.
    GoalId
    /// A webhook of a site.
    WebhookId
    /// A trigger of a webhook.
    TriggerId
    /// Something that fired: what one or more webhooks are told of.
    EventId
    /// An event on its way to one webhook.
    DeliveryId
    /// An API key.
    KeyId
    /// A person who signs in.
    UserId
    /// Dead letters on their way once more.
    ReplayId
    /// A place where somebody is signed in.
    SessionId
    /// A link that makes whoever opens it a member of a site.
    InvitationId
    /// A running process that holds deliveries.
    OwnerId
    /// What is counted together: the visits of a site, or of a segment of it.
    TrafficId
}

impl From<SiteId> for TrafficId {
    /// All visits of the site.
    fn from(id: SiteId) -> Self {
        Self(id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_the_same_is_the_same() {
        let time = Timestamp::from_micros(1_772_029_800_123_456);
        let id = EventId::made_of(time, &[b"ab", b"c"]);
        assert_eq!(id, EventId::made_of(time, &[b"ab", b"c"]));
        assert!(id > EventId::first_at(time) && id.0.get_version_num() == 7);
        assert_eq!(id.made_at().as_millis(), time.as_millis());
        for other in [EventId::made_of(time, &[b"a", b"bc"]), EventId::made_of(Timestamp::EPOCH, &[b"ab", b"c"])] {
            assert_ne!(id, other);
        }
    }
}
