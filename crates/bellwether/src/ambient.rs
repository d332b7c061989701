//! The system's own clock and randomness: the one place that asks for them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bellwether_domain::ambient::{Ambient, Clock, Random};
use bellwether_domain::time::Timestamp;
use rand::Rng as _;

/// The surroundings that the system offers.
pub(crate) fn system() -> Ambient {
    Ambient { clock: Arc::new(SystemClock { begun: Instant::now() }), random: Arc::new(SystemRandom) }
}

struct SystemClock {
    begun: Instant,
}

struct SystemRandom;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock that everything else asks")]
    fn now(&self) -> Timestamp {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH + since_1970
    }

    fn running(&self) -> Duration {
        self.begun.elapsed()
    }
}

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}
