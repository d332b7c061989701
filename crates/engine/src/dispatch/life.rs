//! That this process lives, and what that gives it: the deliveries that it has in memory.
//!
//! It gives a sign of life now and then, and looks for those of others. What one had that is dead is freed. When this process
//! itself was taken for dead, because it was paused or could not reach the database, it begins another life under another id; what
//! it held in the one before is not its own any more.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::ambient::{Ambient, Moment};
use bellwether_domain::counting::CountedIn;
use bellwether_domain::id::OwnerId;
use bellwether_domain::lease::{LEASE, Lease, RENEWAL, Witness};
use bellwether_domain::roles::Roles;
use bellwether_store::{Process, Store, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use super::places::MAX_HELD;

/// How often it is looked for signs of life that are waited for. Signs come a little later than they are due, too.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

pub(super) struct Life {
    store: Store,
    ambient: Ambient,
    roles: Roles,
    counted_in: CountedIn,
    now: Mutex<Now>,
    /// Told of each sign of life.
    renewed: Notify,
}

struct Now {
    owner: OwnerId,
    lease: Lease,
    witness: Witness,
    /// Whether this process sends, and no other one that does and lives began before it.
    is_eldest: bool,
    /// Whether there are several that take events and are not known to be dead.
    is_spread: bool,
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
    pub(super) async fn begin(
        store: Store,
        ambient: Ambient,
        (roles, counted_in): (Roles, CountedIn),
    ) -> Result<Self, StoreError> {
        let (owner, lease) = (OwnerId::new(&ambient), Lease::new(ambient.moment()));
        store.add_owner(owner, roles, counted_in).await?;
        if !store.is_shared() {
            store.bury_others(owner).await?;
        }
        let (mut witness, others) = (Witness::new(LEASE), store.give_sign_of_life(owner).await?);
        witness.observe(&signs(&others), ambient.clock.running());
        store.free_from_the_dead(MAX_HELD).await?;
        let (is_eldest, is_spread) = (is_eldest((owner, roles), &others), is_spread(roles, &others));
        let now = Mutex::new(Now { owner, lease, witness, is_eldest, is_spread });
        Ok(Self { store, ambient, roles, counted_in, now, renewed: Notify::new() })
    }

    /// Whose work new deliveries are; nobody's while others may have taken this process for dead.
    pub(super) fn owner(&self) -> Option<OwnerId> {
        let now = self.now();
        self.is_valid(&now).then_some(now.owner)
    }

    /// Whether this process is to do what only one of those that send should. While one life ends and another begins there may be two such processes or
    /// none.
    pub(super) fn leads(&self) -> bool {
        let now = self.now();
        now.is_eldest && self.is_valid(&now)
    }

    /// Whether several processes may take events, some of which may be dead without anybody knowing yet.
    pub(super) fn is_spread(&self) -> bool {
        self.now().is_spread
    }

    /// As [`hears_processes`], of others that this concerns; one of them.
    pub(super) async fn hears_other(&self, concerns: impl Fn(&Process) -> bool) -> Result<Option<Process>, StoreError> {
        let owner = self.now().owner;
        hears(&self.store, |process| process.id != owner && concerns(process)).await
    }

    /// This process's id in its present life, whether or not that is over.
    pub(super) fn latest_owner(&self) -> OwnerId {
        self.now().owner
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

    /// For how long no sign of life was given.
    pub(super) fn silence(&self) -> Duration {
        self.now().lease.age(self.ambient.moment())
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
                    (life.is_eldest, life.is_spread) = (is_eldest((owner, self.roles), &others), is_spread(self.roles, &others));
                    life.witness.observe(&signs(&others), now.running)
                };
                self.bury(dead).await?;
                Sign::OfTheSameLife
            }
            Err(StoreError::TakenForDead) => {
                let another = OwnerId::new(&self.ambient);
                self.store.add_owner(another, self.roles, self.counted_in).await?;
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
    Ok(hears(store, |_| true).await?.is_some())
}

async fn hears(store: &Store, concerns: impl Fn(&Process) -> bool) -> Result<Option<Process>, StoreError> {
    let look = async || {
        let processes = store.other_processes(OwnerId::from_bytes([0; 16])).await?;
        Ok::<Vec<_>, StoreError>(processes.into_iter().filter(&concerns).collect())
    };
    let (before, patience) = (look().await?, Instant::now() + RENEWAL + LOOK_INTERVAL);
    while !before.is_empty() && Instant::now() < patience {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if let Some(heard) = look().await?.into_iter().find(|process| !before.contains(process)) {
            return Ok(Some(heard));
        }
    }
    Ok(None)
}

/// Ids sort by the time they were made.
fn is_eldest((owner, roles): (OwnerId, Roles), others: &[Process]) -> bool {
    roles.dispatch && others.iter().all(|other| owner < other.id || !other.roles.dispatch)
}

fn is_spread(roles: Roles, others: &[Process]) -> bool {
    let ingesting = others.iter().filter(|other| other.roles.ingest).count();
    ingesting + usize::from(roles.ingest) > 1
}

fn signs(processes: &[Process]) -> Vec<(OwnerId, u64)> {
    processes.iter().map(|process| (process.id, process.sign)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(id: u8, roles: &str) -> Process {
        Process {
            id: OwnerId::from_bytes([id; 16]),
            sign: 0,
            roles: roles.parse().expect("roles"),
            counted_in: Some(CountedIn::Memory),
        }
    }

    #[test]
    fn the_eldest_is_one_that_sends() {
        let others = [process(1, "web,ingest"), process(3, "dispatch")];
        for (id, roles, expected) in [(2, "dispatch,web", true), (2, "web,ingest", false), (4, "dispatch", false)] {
            let me = process(id, roles);
            assert_eq!(is_eldest((me.id, me.roles), &others), expected, "{id} {roles}");
        }
    }

    #[test]
    fn events_are_spread_over_those_that_take_them() {
        let cases = [("ingest", "web,dispatch", false), ("ingest", "ingest,web", true), ("web", "ingest", false)];
        for (mine, other, expected) in cases {
            let roles = mine.parse().expect("roles");
            assert_eq!(is_spread(roles, &[process(1, other)]), expected, "{mine} {other}");
        }
        assert!(is_spread("web".parse().expect("roles"), &[process(1, "ingest"), process(2, "ingest")]));
        assert!(!is_spread(Roles::ALL, &[]));
    }
}
