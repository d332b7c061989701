//! What is shown only once, a secret or a link, on its way from the form that made it to the page that shows it.
//!
//! The page's address has a token that leads there, and nothing more: browsers remember addresses, and proxies write them down. A
//! token is good for one page, for the session that it was made for, and for a short time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::ambient::Ambient;
use bellwether_domain::id::SessionId;
use bellwether_domain::time::Timestamp;

/// A browser goes on at once.
const MAX_TIME: Duration = Duration::from_secs(60);
/// Of more that nobody has fetched, the oldest are forgotten.
const MAX_WAITING: usize = 1_000;

/// All that waits to be shown.
#[derive(Default)]
pub(crate) struct ShownOnce(Mutex<VecDeque<Waiting>>);

struct Waiting {
    session: SessionId,
    token: String,
    text: String,
    made_at: Timestamp,
}

impl ShownOnce {
    /// Keeps a text for a page of this session; returns the token that leads to it.
    pub(super) fn keep(&self, ambient: &Ambient, session: SessionId, text: String) -> String {
        let token = format!("{:032x}", u128::from_be_bytes(ambient.bytes()));
        let mut waiting = self.waiting(ambient.now());
        if waiting.len() >= MAX_WAITING {
            waiting.pop_front();
        }
        waiting.push_back(Waiting { session, token: token.clone(), text, made_at: ambient.now() });
        token
    }

    /// The text that a token leads to, this one time.
    pub(super) fn take(&self, ambient: &Ambient, session: SessionId, token: &str) -> Option<String> {
        let mut waiting = self.waiting(ambient.now());
        let index = waiting.iter().position(|one| one.session == session && one.token == token)?;
        waiting.remove(index).map(|one| one.text)
    }

    fn waiting(&self, now: Timestamp) -> MutexGuard<'_, VecDeque<Waiting>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|one| now < one.made_at + MAX_TIME);
        waiting
    }
}

#[cfg(test)]
mod tests {
    use bellwether_testkit::ambient::manual;

    use super::*;

    #[test]
    fn a_text_is_shown_once_to_its_session_and_not_for_long() {
        let (ambient, clock) = manual();
        let (once, mine, yours) = (ShownOnce::default(), SessionId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));
        let keep = |text: &str| once.keep(&ambient, mine, text.to_owned());
        let take = |session, token: &str| once.take(&ambient, session, token);
        let (first, second) = (keep("first"), keep("second"));
        assert_eq!((take(yours, &first), take(mine, "first"), take(mine, &first)), (None, None, Some("first".to_owned())));
        assert_eq!(take(mine, &first), None, "once");
        clock.advance(MAX_TIME);
        assert_eq!(take(mine, &second), None, "in time");

        let oldest = keep("oldest");
        let others: Vec<_> = (0..MAX_WAITING).map(|number| keep(&number.to_string())).collect();
        assert_eq!((take(mine, &oldest), take(mine, &others[0])), (None, Some("0".to_owned())));
    }
}
