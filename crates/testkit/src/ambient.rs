//! A clock to turn by hand, and randomness that repeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bellwether_domain::ambient::{Ambient, Clock, Random};
use bellwether_domain::time::Timestamp;

/// A clock that stands still until it is turned.
#[derive(Debug)]
pub struct ManualClock {
    wall: AtomicI64,
    running: AtomicI64,
}

impl ManualClock {
    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        self.set_forward(duration);
        self.running.fetch_add(micros(duration), Ordering::SeqCst);
    }

    /// Sets the wall clock forward, although no time passes.
    pub fn set_forward(&self, duration: Duration) {
        self.wall.fetch_add(micros(duration), Ordering::SeqCst);
    }

    /// Sets the wall clock back.
    pub fn set_back(&self, duration: Duration) {
        self.wall.fetch_sub(micros(duration), Ordering::SeqCst);
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall.load(Ordering::SeqCst))
    }

    fn running(&self) -> Duration {
        Duration::from_micros(self.running.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// Numbers that look random and are the same in every run (SplitMix64).
#[derive(Debug)]
struct Repeating(AtomicU64);

impl Random for Repeating {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let mut number = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(number ^ (number >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Surroundings whose clock stands at noon of 2026-02-25 and is turned by the second value.
pub fn manual() -> (Ambient, Arc<ManualClock>) {
    manual_of(0)
}

/// As [`manual`], of one of several processes, whose numbers are not those of the others.
pub fn manual_of(process: u64) -> (Ambient, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock { wall: AtomicI64::new(1_772_020_800_000_000), running: AtomicI64::new(0) });
    (Ambient { clock: clock.clone(), random: Arc::new(Repeating(AtomicU64::new(process << 32))) }, clock)
}
