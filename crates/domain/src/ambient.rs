//! What a program draws from its surroundings: the time and randomness.
//!
//! The binary passes the system's own; tests pass a clock that is turned by hand and numbers that repeat.

use std::sync::Arc;
use std::time::Duration;

use crate::time::Timestamp;

/// The surroundings of a running Bellwether, cheap to clone.
#[derive(Clone)]
pub struct Ambient {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Yields unpredictable bytes.
    pub random: Arc<dyn Random>,
}

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The wall clock's time, UTC. It may jump in both directions.
    fn now(&self) -> Timestamp;

    /// The time that has passed since some moment in the past. It never jumps, but may stand still with the machine.
    fn running(&self) -> Duration;
}

/// A moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What the wall clock says.
    pub wall: Timestamp,
    /// What [`Clock::running`] says.
    pub running: Duration,
}

/// Yields random bytes.
pub trait Random: Send + Sync {
    /// Fills `bytes`; cryptographically strong outside tests.
    fn fill(&self, bytes: &mut [u8]);
}

impl Ambient {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The moment now.
    pub fn moment(&self) -> Moment {
        Moment { wall: self.clock.now(), running: self.clock.running() }
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }

    /// A number from 0 up to, but not including, 1.
    pub fn fraction(&self) -> f64 {
        f64::from(u32::from_le_bytes(self.bytes())) / (f64::from(u32::MAX) + 1.0)
    }
}
