//! When a process may still take its work for its own, and when others may take it for dead.
//!
//! Every process gives a sign of life now and then: a number that it raises. Others take it for dead when the number has stayed the
//! same for [`LEASE`] by their own clock, and it stops some time before by itself. So nobody's wall clock has to agree with another's.

use std::collections::HashMap;
use std::time::Duration;

use crate::ambient::Moment;
use crate::id::OwnerId;

/// Whoever has given no sign of life for this long is taken for dead.
pub const LEASE: Duration = Duration::from_secs(30);
/// So much earlier a process leaves alone what was its own: what it began before may last a little.
pub const MARGIN: Duration = Duration::from_secs(5);
/// After so long whoever has written nothing is forgotten, much later than anybody who lives could ask.
pub const OBLIVION: Duration = Duration::from_secs(3_600);
/// How often a process gives a sign of life.
pub const RENEWAL: Duration = Duration::from_secs(5);

/// The lease of this process.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// A moment before the latest sign of life was given.
    renewed: Moment,
}

/// What this process knows of the others' signs of life.
#[derive(Debug)]
pub struct Witness {
    patience: Duration,
    seen: HashMap<OwnerId, (u64, Duration)>,
}

impl Lease {
    /// One that was renewed with a sign of life that was given after `renewed`.
    pub fn new(renewed: Moment) -> Self {
        Self { renewed }
    }

    /// Whether nobody can have taken this process for dead yet. Both clocks must say so: one may have stood still with the machine.
    pub fn is_valid(&self, now: Moment) -> bool {
        self.age(now) < LEASE - MARGIN
    }

    /// Whether it is time for the next sign of life.
    pub fn is_due(&self, now: Moment) -> bool {
        self.age(now) >= RENEWAL
    }

    /// How long ago it was renewed, by the clock that says more.
    pub fn age(&self, now: Moment) -> Duration {
        now.running.saturating_sub(self.renewed.running).max(now.wall.since(self.renewed.wall))
    }
}

impl Witness {
    /// One who takes others for dead after so long without a sign.
    pub fn new(patience: Duration) -> Self {
        Self { patience, seen: HashMap::new() }
    }

    /// Takes note of the others' signs of life at a moment `running`. Returns those who are taken for dead, with the sign of life
    /// that was their last.
    pub fn observe(&mut self, signs: &[(OwnerId, u64)], running: Duration) -> Vec<(OwnerId, u64)> {
        self.seen.retain(|id, _| signs.iter().any(|(other, _)| other == id));
        let mut dead = Vec::new();
        for (id, sign) in signs {
            let (latest, since) = self.seen.entry(*id).or_insert((*sign, running));
            if latest != sign {
                (*latest, *since) = (*sign, running);
            } else if running.saturating_sub(*since) >= self.patience {
                dead.push((*id, *sign));
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn moment(wall: u64, running: u64) -> Moment {
        Moment { wall: Timestamp::EPOCH + Duration::from_secs(wall), running: Duration::from_secs(running) }
    }

    #[test]
    fn a_lease_is_valid_while_both_clocks_say_so() {
        let lease = Lease::new(moment(1_000, 50));
        let cases = [
            (moment(1_000, 50), true, false),
            (moment(1_004, 54), true, false),
            (moment(1_005, 55), true, true),
            (moment(1_024, 74), true, true),
            (moment(1_025, 75), false, true),
            (moment(1_000, 75), false, true),
            (moment(1_025, 50), false, true),
            (moment(0, 51), true, false),
        ];
        for (now, is_valid, is_due) in cases {
            assert_eq!((lease.is_valid(now), lease.is_due(now)), (is_valid, is_due), "{now:?}");
        }
    }

    #[test]
    fn whoever_gives_no_sign_of_life_is_taken_for_dead() {
        let (a, b) = (OwnerId::from_bytes([1; 16]), OwnerId::from_bytes([2; 16]));
        let mut witness = Witness::new(LEASE);
        let mut observe = |signs: &[(OwnerId, u64)], seconds| witness.observe(signs, Duration::from_secs(seconds));
        assert_eq!(observe(&[(a, 7), (b, 1)], 0), []);
        assert_eq!(observe(&[(a, 7), (b, 2)], 29), []);
        assert_eq!(observe(&[(a, 7), (b, 2)], 30), [(a, 7)]);
        assert_eq!(observe(&[(a, 8), (b, 2)], 58), []);
        assert_eq!(observe(&[(b, 2)], 59), [(b, 2)]);
        assert_eq!(observe(&[(a, 8)], 1_000), [], "it was away, and is known anew");
    }
}
