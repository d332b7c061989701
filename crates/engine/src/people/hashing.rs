//! Hashing passwords, by Argon2: few at a time, since each takes much memory, while a few more wait for their turn.
//!
//! A password is hashed in a place, which is given at once or not at all. The place and the turn are the hashing's own until it ends:
//! whoever asked for it may go away, and it goes on.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many passwords are hashed at a time.
const HASHED_AT_A_TIME: usize = 2;
/// How many are hashed or wait for it. The last of them waits for a second or two.
const MAX_HASHES: usize = 32;

/// Where passwords are hashed.
pub(crate) struct Hashing {
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// Room for one password.
pub(crate) struct Place {
    place: OwnedSemaphorePermit,
    turns: Arc<Semaphore>,
}

/// Too many passwords wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many people are signing in: try again in a few seconds")]
pub struct Crowded;

impl Hashing {
    pub(crate) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_HASHES)), turns: Arc::new(Semaphore::new(HASHED_AT_A_TIME)) }
    }

    /// Room for one password, if there is any.
    pub(crate) fn place(&self) -> Result<Place, Crowded> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| Crowded)?;
        Ok(Place { place, turns: self.turns.clone() })
    }
}

impl Place {
    /// Whether a password is the one of a hash.
    pub(crate) async fn verify(self, password: String, hash: String) -> bool {
        let verify = move || {
            let parsed = argon2::password_hash::phc::PasswordHash::new(&hash);
            parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        };
        self.run(verify).await
    }

    /// A password's hash.
    pub(crate) async fn hash(self, password: String, salt: [u8; 16]) -> String {
        self.run(move || hash_password(&password, salt)).await
    }

    #[expect(clippy::expect_used, reason = "nothing closes the semaphore, and hashing does not panic")]
    async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let turn = self.turns.acquire_owned().await.expect("a semaphore that stays open");
        let held = (self.place, turn);
        let working = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(held);
            result
        });
        working.await.expect("hashing that ends")
    }
}

/// A password's hash, in the format of PHC strings.
#[expect(clippy::expect_used, reason = "the parameters and the length of the salt are constant and good")]
pub fn hash_password(password: &str, salt: [u8; 16]) -> String {
    Argon2::default().hash_password_with_salt(password.as_bytes(), &salt).expect("a hash").to_string()
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;

    /// A hashing that has its turn, and ends when the other half is dropped.
    fn begun(hashing: &Hashing) -> (mpsc::Sender<()>, impl Future<Output = ()> + use<>) {
        let (end, ended) = mpsc::channel::<()>();
        let mut running = Box::pin(hashing.place().expect("a place").run(move || ended.recv().is_err()).map(|_| ()));
        assert_eq!(running.as_mut().now_or_never(), None);
        (end, running)
    }

    #[tokio::test]
    async fn a_place_is_given_at_once_or_not_at_all() {
        let hashing = Hashing::new();
        let mut places: Vec<_> = (0..MAX_HASHES).map(|_| hashing.place().expect("a place")).collect();
        assert_eq!(hashing.place().err(), Some(Crowded));
        let hash = places.pop().expect("a place").hash("password".to_owned(), [1; 16]).await;
        assert!(hashing.place().expect("a place").verify("password".to_owned(), hash).await);
    }

    #[tokio::test]
    async fn whoever_goes_away_frees_nothing_before_the_hashing_ends() {
        let hashing = Hashing::new();
        let (ends, all): (Vec<_>, Vec<_>) = (0..HASHED_AT_A_TIME).map(|_| begun(&hashing)).unzip();
        drop(all);
        assert_eq!((hashing.turns.available_permits(), hashing.places.available_permits()), (0, MAX_HASHES - HASHED_AT_A_TIME));
        drop(ends);
        hashing.place().expect("a place").run(|| ()).await;
        let everything = u32::try_from(MAX_HASHES).expect("a number");
        drop(hashing.places.acquire_many(everything).await.expect("every place"));
        assert_eq!(hashing.turns.available_permits(), HASHED_AT_A_TIME);
    }
}
