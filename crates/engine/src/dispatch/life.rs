//! That this process lives, and what that gives it: the deliveries that it has in memory.
//!
//! It gives a sign of life now and then, and looks for those of others. What one had that is dead is freed. When this process
//! itself was taken for dead, because it was paused or could not reach the database, it begins another life under another id; what
//! it held in the one before is not its own any more.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::ambient::{Ambient, Moment};
use bellwether_domain::id::OwnerId;
use bellwether_domain::lease::{Lease, RENEWAL, Witness};
use bellwether_store::{Store, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use super::places::MAX_HELD;

/// How often it is looked for signs of life that are waited for. Signs come a little later than they are due, too.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

pub(super) struct Life {
    store: Store,
    ambient: Ambient,
    now: Mutex<Now>,
    /// Told of each sign of life.
    renewed: Notify,
}

struct Now {
    owner: OwnerId,
    lease: Lease,
    witness: Witness,
    /// Whether no other process that lives began before this one.
    is_eldest: bool,
    /// Whether there is another one that is not known to be dead.
    has_company: bool,
}

/// What a sign of life was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The life goes on.
    OfTheSameLife,
    /// It was over, and another has begun.
    OfAnotherLife,
}

impl Life {
    /// Begins a life, before anything is owned: what belongs to somebody who is not known to have lived is never freed.
    pub(super) async fn begin(store: Store, ambient: Ambient) -> Result<Self, StoreError> {
        let (owner, lease) = (OwnerId::new(&ambient), Lease::new(ambient.moment()));
        store.add_owner(owner).await?;
        if !store.is_shared() {
            store.bury_others(owner).await?;
        }
        let (mut witness, others) = (Witness::default(), store.give_sign_of_life(owner).await?);
        witness.observe(&others, ambient.clock.running());
        store.free_from_the_dead(MAX_HELD).await?;
        let now =
            Mutex::new(Now { owner, lease, witness, is_eldest: is_eldest(owner, &others), has_company: !others.is_empty() });
        Ok(Self { store, ambient, now, renewed: Notify::new() })
    }

    /// Whose work new deliveries are; nobody's while others may have taken this process for dead.
    pub(super) fn owner(&self) -> Option<OwnerId> {
        let now = self.now();
        self.is_valid(&now).then_some(now.owner)
    }

    /// Whether this process is to do what only one should. While one life ends and another begins there may be two such processes or
    /// none.
    pub(super) fn leads(&self) -> bool {
        let now = self.now();
        now.is_eldest && self.is_valid(&now)
    }

    /// Whether other processes may live, some of which may be dead without anybody knowing yet.
    pub(super) fn has_company(&self) -> bool {
        self.now().has_company
    }

    /// As [`hears_processes`], but for this one.
    pub(super) async fn hears_others(&self) -> Result<bool, StoreError> {
        let owner = self.now().owner;
        hears_but(&self.store, owner).await
    }

    /// Whether `owner` is this process in its present life. While that is not certain it waits for the next sign of life.
    pub(super) async fn is_that_of(&self, owner: OwnerId) -> bool {
        loop {
            let renewed = self.renewed.notified();
            {
                let now = self.now();
                if now.owner != owner || self.is_valid(&now) {
                    return now.owner == owner;
                }
            }
            renewed.await;
        }
    }

    pub(super) fn is_sign_due(&self, now: Moment) -> bool {
        self.now().lease.is_due(now)
    }

    /// Gives a sign of life at a moment `now`, and frees what the dead had.
    pub(super) async fn give_sign(&self, now: Moment) -> Result<Sign, StoreError> {
        let owner = self.now().owner;
        let sign = match self.store.give_sign_of_life(owner).await {
            Ok(others) => {
                let dead = {
                    let mut life = self.renew(Lease::new(now));
                    (life.is_eldest, life.has_company) = (is_eldest(owner, &others), !others.is_empty());
                    life.witness.observe(&others, now.running)
                };
                self.bury(dead).await?;
                Sign::OfTheSameLife
            }
            Err(StoreError::TakenForDead) => {
                let another = OwnerId::new(&self.ambient);
                self.store.add_owner(another).await?;
                let mut life = self.renew(Lease::new(now));
                (life.owner, life.is_eldest) = (another, false);
                Sign::OfAnotherLife
            }
            Err(error) => return Err(error),
        };
        self.renewed.notify_waiters();
        self.store.free_from_the_dead(MAX_HELD).await?;
        Ok(sign)
    }

    /// Gives everything back.
    pub(super) async fn end(&self) -> Result<(), StoreError> {
        let owner = self.now().owner;
        self.store.give_back(owner).await
    }

    async fn bury(&self, dead: Vec<(OwnerId, u64)>) -> Result<(), StoreError> {
        if dead.is_empty() {
            return Ok(());
        }
        dead.iter().for_each(|(process, _)| warn!(%process, "a process is taken for dead: what it had is taken over"));
        self.store.bury(dead).await
    }

    /// Whoever has the database alone is taken for dead by nobody.
    fn is_valid(&self, now: &Now) -> bool {
        !self.store.is_shared() || now.lease.is_valid(self.ambient.moment())
    }

    fn renew(&self, lease: Lease) -> MutexGuard<'_, Now> {
        let mut now = self.now();
        now.lease = lease;
        now
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a sign of life of any process on a database, as long as one that lives may let others wait for it. Whether there was one.
pub async fn hears_processes(store: &Store) -> Result<bool, StoreError> {
    hears_but(store, OwnerId::from_bytes([0; 16])).await
}

async fn hears_but(store: &Store, owner: OwnerId) -> Result<bool, StoreError> {
    let before = store.signs_of_others(owner).await?;
    let patience = Instant::now() + RENEWAL + LOOK_INTERVAL;
    while !before.is_empty() && Instant::now() < patience {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if store.signs_of_others(owner).await?.iter().any(|sign| !before.contains(sign)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Ids sort by the time they were made.
fn is_eldest(owner: OwnerId, others: &[(OwnerId, u64)]) -> bool {
    others.iter().all(|(other, _)| owner < *other)
}
