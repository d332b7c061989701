//! Today's salt, made when the first event of a day comes, and yesterday's.

use std::sync::{PoisonError, RwLock};

use bellwether_domain::ambient::Ambient;
use bellwether_domain::time::Timestamp;
use bellwether_domain::visitor::{Salt, Salts};
use bellwether_store::{Store, StoreError};

/// Holds the salts, and changes them at midnight, UTC.
pub(crate) struct SaltKeeper {
    store: Store,
    ambient: Ambient,
    salts: RwLock<Salts>,
}

impl SaltKeeper {
    pub(crate) async fn load(store: Store, ambient: Ambient) -> Result<Self, StoreError> {
        let salts = keep(&store, &ambient).await?;
        Ok(Self { store, ambient, salts: RwLock::new(salts) })
    }

    /// The salts at `now`, which is the time now. Touches the store only when a day begins.
    pub(crate) async fn at(&self, now: Timestamp) -> Result<Salts, StoreError> {
        let salts = *self.salts.read().unwrap_or_else(PoisonError::into_inner);
        if !salts.are_over(now) {
            return Ok(salts);
        }
        let salts = keep(&self.store, &self.ambient).await?;
        *self.salts.write().unwrap_or_else(PoisonError::into_inner) = salts;
        Ok(salts)
    }
}

/// Today's salt is the one that was kept first, whoever else makes one at the same time. Older ones than yesterday's go.
async fn keep(store: &Store, ambient: &Ambient) -> Result<Salts, StoreError> {
    let salt = Salt::generate(ambient);
    let stored = store.keep_salt(salt, salt.day - 1).await?;
    let its_day = Timestamp::from_micros(salt.day * 86_400_000_000);
    Ok(Salts::select(&stored, its_day).unwrap_or(Salts { current: salt, previous: None }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bellwether_testkit::ambient::manual;
    use bellwether_testkit::database::Database;

    use super::*;

    #[tokio::test]
    async fn salts_survive_a_restart_and_change_at_midnight() {
        let (ambient, clock) = manual();
        let database = Database::temporary();
        let load = async || SaltKeeper::load(database.store().await, ambient.clone()).await;
        let (first, again) = (load().await.expect("salts"), load().await.expect("salts"));
        let today = first.at(ambient.now()).await.expect("salts");
        assert!(again.at(ambient.now()).await.expect("salts") == today);
        clock.advance(Duration::from_secs(86_400));
        let tomorrow = first.at(ambient.now()).await.expect("salts");
        assert!(tomorrow.previous == Some(today.current) && tomorrow.current != today.current);
        assert!(again.at(ambient.now()).await.expect("salts") == tomorrow);
        clock.advance(Duration::from_secs(2 * 86_400));
        assert!(first.at(ambient.now()).await.expect("salts").previous.is_none());
    }
}
