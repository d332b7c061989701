//! Moments: microseconds where things are stored, whole seconds where visitors are counted.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// A moment in UTC, in microseconds since the start of 1970. Shown as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A whole second since the start of 1970: the resolution at which events are counted.
pub type Second = u32;

impl Timestamp {
    /// The start of 1970.
    pub const EPOCH: Self = Self(0);

    /// From microseconds since the start of 1970; those outside of years 0 to 9999 are brought into them.
    pub fn from_micros(micros: i64) -> Self {
        const YEAR_0: i64 = -62_167_219_200_000_000;
        const YEAR_9999_END: i64 = 253_402_207_200_000_000;
        Self(micros.clamp(YEAR_0, YEAR_9999_END))
    }

    /// Microseconds since the start of 1970.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the start of 1970, cut.
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Seconds since the start of 1970, cut.
    pub fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// The second this moment lies in; before 1970 it is 0.
    pub fn second(self) -> Second {
        u32::try_from(self.as_seconds().max(0)).unwrap_or(u32::MAX)
    }

    /// The beginning of a second.
    pub fn from_second(second: Second) -> Self {
        Self(i64::from(second) * 1_000_000)
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_sub(micros))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

impl FromStr for Timestamp {
    type Err = NotATime;

    /// Reads RFC 3339, with any offset.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let moment: jiff::Timestamp = text.parse().map_err(|_| NotATime)?;
        Ok(Self::from_micros(moment.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text is no moment in RFC 3339.
#[derive(Debug, thiserror::Error)]
#[error("must be a time like 2026-02-25T14:30:00Z")]
pub struct NotATime;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_with_milliseconds_and_read_back() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_772_029_800_123_456, "2026-02-25T14:30:00.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (i64::MAX, "9999-12-30T22:00:00.000Z"),
        ];
        for (micros, text) in cases {
            assert_eq!(Timestamp::from_micros(micros).to_string(), text);
        }
        let read: Timestamp = "2026-02-25T15:30:00.5+01:00".parse().expect("a time");
        assert_eq!(read.to_string(), "2026-02-25T14:30:00.500Z");
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    #[test]
    fn arithmetic_stays_within_bounds() {
        let late = Timestamp::from_micros(i64::MAX);
        assert_eq!(late + Duration::from_secs(1), late);
        assert_eq!(Timestamp::from_micros(5).since(Timestamp::from_micros(9)), Duration::ZERO);
        assert_eq!(Timestamp::from_micros(-1).second(), 0);
    }
}
