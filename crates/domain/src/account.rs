//! People who sign in: their addresses, their passwords, and how often somebody may guess.

use std::collections::HashMap;
use std::time::Duration;

use crate::time::Timestamp;

const MAX_EMAIL_CHARS: usize = 254;
const MAX_PASSWORD_BYTES: usize = 1_024;
const MIN_PASSWORD_CHARS: usize = 10;
/// How often somebody may be wrong before they have to wait.
const FREE_GUESSES: u32 = 5;
/// The pause after that, which doubles with each further mistake.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_secs(3_600);
/// Mistakes are forgotten after this time without another.
const MEMORY: Duration = Duration::from_secs(24 * 3_600);
/// The most accounts whose guesses are counted. When there are more, those who were wrong first are forgotten.
const MAX_GUESSED: usize = 10_000;

/// Reads an e-mail address, in lower case, as far as its form tells.
pub fn parse_email(text: &str) -> Result<String, &'static str> {
    let email = text.trim().to_lowercase();
    let has_form =
        email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'));
    let bad = |letter: char| letter.is_whitespace() || letter.is_control();
    let is_email = has_form && email.chars().count() <= MAX_EMAIL_CHARS && !email.contains(bad);
    if is_email { Ok(email) } else { Err("is no e-mail address") }
}

/// Whether a password is good enough for the account of `email`. The error is a sentence for whoever chose it.
pub fn check_password(password: &str, email: &str) -> Result<(), String> {
    if password.chars().count() < MIN_PASSWORD_CHARS || password.len() > MAX_PASSWORD_BYTES {
        return Err(format!("must be {MIN_PASSWORD_CHARS} characters to {MAX_PASSWORD_BYTES} bytes long"));
    }
    let strength = zxcvbn::zxcvbn(password, &[email, "bellwether"]);
    if strength.score() < zxcvbn::Score::Three {
        let advice = strength.feedback().and_then(|feedback| feedback.warning());
        let advice = advice.map_or_else(|| "choose a longer or less usual one".to_owned(), |advice| advice.to_string());
        return Err(format!("is easy to guess: {advice}"));
    }
    Ok(())
}

/// Who has guessed wrong lately, by account.
#[derive(Debug, Default)]
pub struct Guesses(HashMap<String, Wrong>);

#[derive(Clone, Copy, Debug)]
struct Wrong {
    times: u32,
    last_at: Timestamp,
}

impl Wrong {
    /// How long nobody may try after the last mistake.
    fn pause(self) -> Duration {
        match self.times.checked_sub(FREE_GUESSES) {
            None => Duration::ZERO,
            Some(more) => FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(more)).min(MAX_PAUSE),
        }
    }
}

impl Guesses {
    /// How long an account has to be left alone from `now` on; none when somebody may try.
    pub fn pause(&self, email: &str, now: Timestamp) -> Option<Duration> {
        let wrong = self.0.get(email)?;
        let left = wrong.pause().checked_sub(now.since(wrong.last_at))?;
        (!left.is_zero()).then_some(left)
    }

    /// Somebody was wrong.
    pub fn note_wrong(&mut self, email: &str, now: Timestamp) {
        self.0.retain(|_, wrong| now.since(wrong.last_at) < MEMORY);
        if self.0.len() >= MAX_GUESSED && !self.0.contains_key(email) {
            let first = self.0.iter().min_by_key(|(_, wrong)| wrong.last_at).map(|(email, _)| email.clone());
            first.map(|first| self.0.remove(&first));
        }
        let wrong = self.0.entry(email.to_owned()).or_insert(Wrong { times: 0, last_at: now });
        *wrong = Wrong { times: wrong.times.saturating_add(1), last_at: now };
    }

    /// Somebody was right.
    pub fn note_right(&mut self, email: &str) {
        self.0.remove(email);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Timestamp {
        Timestamp::EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn emails() {
        assert_eq!(parse_email(" Ada@Example.COM ").as_deref(), Ok("ada@example.com"));
        for bad in ["", "ada", "@example.com", "ada@example", "a b@example.com", "a@b@c.com"] {
            assert!(parse_email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords() {
        assert!(check_password("purple-otters-juggle-7", "ada@example.com").is_ok());
        for bad in ["short", "password12345", "ada@example.com", &"x".repeat(1_025)] {
            assert!(check_password(bad, "ada@example.com").is_err(), "{bad}");
        }
    }

    #[test]
    fn guessing_becomes_slower_and_slower() {
        let mut guesses = Guesses::default();
        let mut pauses = Vec::new();
        for _ in 0..14 {
            pauses.push(guesses.pause("a@example.com", at(0)).map_or(0, |pause| pause.as_secs()));
            guesses.note_wrong("a@example.com", at(0));
        }
        assert_eq!(pauses, [0, 0, 0, 0, 0, 30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
        assert_eq!(guesses.pause("b@example.com", at(0)), None);
        assert_eq!(guesses.pause("a@example.com", at(3_599)), Some(Duration::from_secs(1)));
        assert_eq!(guesses.pause("a@example.com", at(3_600)), None);
        guesses.note_right("a@example.com");
        assert_eq!(guesses.pause("a@example.com", at(0)), None);
    }

    #[test]
    fn what_is_counted_is_bounded_and_forgotten() {
        let mut guesses = Guesses::default();
        for number in 0..=MAX_GUESSED {
            guesses.note_wrong(&format!("{number}@example.com"), at(number as u64));
        }
        assert_eq!(guesses.0.len(), MAX_GUESSED);
        assert!(!guesses.0.contains_key("0@example.com"));
        guesses.note_wrong("a@example.com", at(200_000));
        assert_eq!(guesses.0.len(), 1);
    }
}
