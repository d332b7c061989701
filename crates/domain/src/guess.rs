//! How often somebody may guess a password: the slower, the more often they were wrong.
//!
//! Guesses at an account are counted by the network they come from, so that nobody keeps an account's owner out from elsewhere; and
//! more leniently over all networks, so that many of them are no way around that. Of an address and a network only a hash is kept,
//! under a key that nobody knows.
//!
//! A guess counts as wrong from the moment it begins, so that many at once are no way around either.

use std::collections::HashMap;
use std::hash::Hasher as _;
use std::net::IpAddr;
use std::time::Duration;

use siphasher::sip::SipHasher24;

use crate::id::SessionId;
use crate::time::Timestamp;

/// From one network, and within one session.
const FROM_ONE_PLACE: Limit = Limit { free: 5, first_pause: Duration::from_secs(30), max_pause: Duration::from_secs(3_600) };
/// From all networks together. Whoever is slowed down by others' guesses has a turn soon.
const FROM_EVERYWHERE: Limit = Limit { free: 50, first_pause: Duration::from_secs(1), max_pause: Duration::from_secs(10) };
/// Mistakes are forgotten after this time without another.
const MEMORY: Duration = Duration::from_secs(24 * 3_600);
/// The most counts that are kept. When there are more, those matter least that are of no account, and then those of few mistakes.
const MAX_COUNTS: usize = 10_000;

/// Somebody who is about to name a password.
#[derive(Clone, Copy, Debug)]
pub enum Guess<'a> {
    /// To sign in.
    SignIn {
        /// Lower case.
        email: &'a str,
        /// Whether there is an account with this address.
        has_account: bool,
        /// Where it comes from, as [`network`](crate::client::network) tells.
        network: IpAddr,
    },
    /// Once more, by somebody who is signed in.
    Within(SessionId),
}

/// Who has guessed wrong lately.
#[derive(Debug)]
pub struct Guesses {
    key: [u8; 16],
    wrong: HashMap<u64, Wrong>,
}

/// How often somebody may be wrong before they have to wait, and for how long: twice as long after each further mistake.
#[derive(Clone, Copy, Debug)]
struct Limit {
    free: u32,
    first_pause: Duration,
    max_pause: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    has_account: bool,
    times: u32,
    last_at: Timestamp,
}

impl Limit {
    /// How long nobody may try after the last of so many mistakes.
    fn pause(self, times: u32) -> Duration {
        match times.checked_sub(self.free) {
            None => Duration::ZERO,
            Some(more) => self.first_pause.saturating_mul(2_u32.saturating_pow(more)).min(self.max_pause),
        }
    }
}

impl Guess<'_> {
    /// What the guess is counted by.
    fn counted_by(&self, key: &[u8; 16]) -> Vec<(u64, Limit)> {
        match self {
            Self::SignIn { email, network, .. } => vec![
                (hash(key, &[b"network", network.to_string().as_bytes(), email.as_bytes()]), FROM_ONE_PLACE),
                (hash(key, &[b"everywhere", email.as_bytes()]), FROM_EVERYWHERE),
            ],
            Self::Within(session) => vec![(hash(key, &[b"session", session.as_bytes()]), FROM_ONE_PLACE)],
        }
    }

    fn has_account(&self) -> bool {
        match self {
            Self::SignIn { has_account, .. } => *has_account,
            Self::Within(_) => true,
        }
    }
}

impl Guesses {
    /// With a random key.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key, wrong: HashMap::new() }
    }

    /// Counts a guess, as wrong until told otherwise; or says how long whoever makes it has to wait.
    pub fn begin(&mut self, guess: &Guess<'_>, now: Timestamp) -> Result<(), Duration> {
        let counted_by = guess.counted_by(&self.key);
        if let Some(pause) = counted_by.iter().filter_map(|(by, limit)| self.pause(*by, *limit, now)).max() {
            return Err(pause);
        }
        let counted_by: Vec<_> = counted_by.iter().map(|(by, _)| *by).collect();
        self.make_room(&counted_by, now);
        for by in counted_by {
            let wrong = self.wrong.entry(by).or_insert(Wrong { has_account: guess.has_account(), times: 0, last_at: now });
            *wrong = Wrong { times: wrong.times.saturating_add(1), last_at: now, ..*wrong };
        }
        Ok(())
    }

    /// A guess was right.
    pub fn note_right(&mut self, guess: &Guess<'_>) {
        for (by, _) in guess.counted_by(&self.key) {
            self.wrong.remove(&by);
        }
    }

    /// How long has to be waited from `now` on; none when somebody may try.
    fn pause(&self, by: u64, limit: Limit, now: Timestamp) -> Option<Duration> {
        let wrong = self.wrong.get(&by)?;
        let left = limit.pause(wrong.times).checked_sub(now.since(wrong.last_at))?;
        (!left.is_zero()).then_some(left)
    }

    /// Forgets what is old, and as much more as these counts need.
    fn make_room(&mut self, needed: &[u64], now: Timestamp) {
        self.wrong.retain(|_, wrong| now.since(wrong.last_at) < MEMORY);
        let new = needed.iter().filter(|by| !self.wrong.contains_key(by)).count();
        for _ in MAX_COUNTS..self.wrong.len() + new {
            let others = self.wrong.iter().filter(|(by, _)| !needed.contains(by));
            let least = others.min_by_key(|(_, wrong)| (wrong.has_account, wrong.times, wrong.last_at)).map(|(by, _)| *by);
            least.map(|least| self.wrong.remove(&least));
        }
    }
}

/// Of parts whose lengths are told apart by what cannot be in them.
fn hash(key: &[u8; 16], parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(key);
    for part in parts {
        hasher.write(part);
        hasher.write(&[0xff]);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "a@example.com";

    fn at(second: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(second)
    }

    fn guesses() -> Guesses {
        Guesses::new([1; 16])
    }

    fn from(network: u32, email: &str) -> Guess<'_> {
        Guess::SignIn { email, has_account: true, network: IpAddr::V4(network.into()) }
    }

    fn invented(email: &str) -> Guess<'_> {
        Guess::SignIn { email, has_account: false, network: IpAddr::V4(1.into()) }
    }

    /// Waits as long as it takes, and makes the guess; returns the seconds it took.
    fn wait_and_guess(guesses: &mut Guesses, guess: &Guess<'_>, second: &mut u64) -> u64 {
        let pause = guesses.begin(guess, at(*second)).err().map_or(0, |pause| pause.as_secs());
        *second += pause;
        if pause > 0 {
            assert_eq!(guesses.begin(guess, at(*second)), Ok(()));
        }
        pause
    }

    #[test]
    fn guessing_becomes_slower_and_slower() {
        for guess in [from(1, A), Guess::Within(SessionId::from_bytes([1; 16]))] {
            let (mut guesses, mut second) = (guesses(), 0);
            let pauses: Vec<_> = (0..14).map(|_| wait_and_guess(&mut guesses, &guess, &mut second)).collect();
            assert_eq!(pauses, [0, 0, 0, 0, 0, 30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
            assert_eq!(guesses.begin(&guess, at(second + 3_599)), Err(Duration::from_secs(1)));
            guesses.note_right(&guess);
            assert_eq!(guesses.begin(&guess, at(second)), Ok(()));
        }
    }

    #[test]
    fn others_guesses_keep_nobody_out_for_long() {
        let (mut guesses, mut second) = (guesses(), 0);
        for _ in 0..20 {
            wait_and_guess(&mut guesses, &from(1, A), &mut second);
        }
        assert!(guesses.begin(&from(1, A), at(second)).is_err());
        assert_eq!(guesses.begin(&from(2, A), at(second)), Ok(()), "the account from elsewhere");
        assert_eq!(guesses.begin(&from(1, "b@example.com"), at(second)), Ok(()), "another account from there");
        assert_eq!(guesses.begin(&Guess::Within(SessionId::from_bytes([1; 16])), at(second)), Ok(()));

        let pauses: Vec<_> = (100..1_000).map(|network| wait_and_guess(&mut guesses, &from(network, A), &mut second)).collect();
        assert_eq!(pauses[..29], [0; 29], "50 in all are free");
        assert_eq!(pauses[29..34], [1, 2, 4, 8, 10]);
        assert!(pauses[34..].iter().all(|pause| *pause == 10), "{pauses:?}");
    }

    /// As many counts as are kept, of so many mistakes each.
    fn full(has_account: bool, times: u32) -> Guesses {
        let wrong = Wrong { has_account, times, last_at: at(2) };
        Guesses { wrong: (0..MAX_COUNTS as u64).map(|by| (by, wrong)).collect(), ..guesses() }
    }

    #[test]
    fn what_is_kept_is_bounded_and_forgotten() {
        let mut guesses = full(true, 1);
        guesses.begin(&from(1, A), at(3)).expect("a guess");
        assert_eq!(guesses.wrong.len(), MAX_COUNTS);
        guesses.begin(&from(1, "b@example.com"), at(200_000)).expect("a guess");
        assert_eq!(guesses.wrong.len(), 2);
    }

    #[test]
    fn what_matters_least_is_forgotten_first() {
        let cases = [(false, 9, true), (true, 4, true), (true, 6, false)];
        for (has_account, times, is_remembered) in cases {
            let mut guesses = guesses();
            for _ in 0..5 {
                guesses.begin(&from(1, A), at(1)).expect("a guess");
            }
            guesses.wrong.extend(full(has_account, times).wrong);
            for number in 0..10 {
                guesses.begin(&invented(&format!("{number}@example.com")), at(3)).expect("a guess");
            }
            assert_eq!(guesses.wrong.len(), MAX_COUNTS);
            assert_eq!(guesses.begin(&from(1, A), at(3)).is_err(), is_remembered, "{has_account} {times}");
        }
    }

    #[test]
    fn a_guess_makes_room_for_itself_and_not_at_its_own_cost() {
        let mut guesses = full(true, 9);
        for _ in 0..5 {
            guesses.begin(&from(1, A), at(3)).expect("a guess");
        }
        assert!(guesses.begin(&from(1, A), at(3)).is_err());
    }
}
