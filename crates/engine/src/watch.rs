//! Looking at what is counted in shared storage, and telling of what that sets off.
//!
//! Of all processes one looks, once a second. It holds the row of the latest look, whose number rises with each; another takes it over
//! when the number stands still. What a look found is kept together with the next number, so nothing fires twice, however many
//! believe that it is theirs to look. Completions that fire one by one are none of its business: these fire where the event came in.

mod find;
mod milestones;
mod sources;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::baseline::Usuals;
use bellwether_domain::id::{OwnerId, SiteId, TriggerId};
use bellwether_domain::milestone::Ledger;
use bellwether_domain::time::{Second, Timestamp};
use bellwether_domain::watch::{Alerts, Crossing, KnownSources};
use bellwether_meters::meters;
use bellwether_store::{Crossed, Found, Learned, NewEvent, StoreError, Tick};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::Engine;
use crate::counter::{CountError, Counter};
use crate::hosted::Polling;
use crate::milestones::{kept, ledger};
use crate::plausible::Log;
use crate::registry::Registry;
use crate::workers::Workers;

const INTERVAL: Duration = Duration::from_secs(1);
/// Whoever's number stood still for so long does not look any more. One that takes so long for a look keeps nothing of it.
const PATIENCE: Duration = Duration::from_secs(12);
/// The same where Plausible's hosted service is asked, which takes its time.
const PATIENCE_WITH_ANSWERS: Duration = Duration::from_secs(40);
/// How long it may take to find out what there is.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// How long of that it may take to find out what a look can go on without.
const SHARE: Duration = Duration::from_secs(4);
/// When it takes longer, or is refused, nothing of the kind is asked for so long: the rest is looked at meanwhile.
const REST_SECONDS: u32 = 300;
/// After so long without a look nobody knows whether everything was counted meanwhile.
const GAP: Duration = Duration::from_secs(60);
/// How often it is forgotten when triggers fired that are gone.
const FORGETTING_SECONDS: u32 = 3_600;
/// Whose it is to look, as far as this process knows.
pub(crate) struct Lookout {
    /// This process.
    holder: OwnerId,
    turn: Turn,
    /// Whether it was said that looks come to nothing.
    is_failing: bool,
}

enum Turn {
    /// This process looks, with what it remembers of where events come from.
    Ours(Box<Seen>, Memory),
    /// Another does, or did: the number of its latest look, and when that was noticed first.
    Theirs { number: u64, since: Duration },
}

impl Turn {
    /// Nobody is known to look, and so nobody has stood still.
    const UNKNOWN: Self = Self::Theirs { number: u64::MAX, since: Duration::ZERO };
}

/// What is remembered of where events come from, if that is not here.
enum Memory {
    Nothing,
    /// How far the events of a Plausible were read.
    Log(Box<Log>),
    /// What Plausible's hosted service was asked.
    Polling(Box<Polling>),
}

impl Memory {
    fn log(&mut self) -> Option<&mut Log> {
        match self {
            Self::Log(log) => Some(log),
            Self::Nothing | Self::Polling(_) => None,
        }
    }
}

/// What one look leaves for the next.
#[derive(Clone)]
pub(crate) struct Seen {
    tick: Tick,
    pub(crate) alerts: Alerts,
    fired_at: HashMap<TriggerId, Timestamp>,
    /// What is usual on sites.
    usuals: HashMap<SiteId, Usuals>,
    /// What is known of sources.
    sources: Arc<KnownSources>,
    /// Until when nothing is asked about them.
    sources_rest_until: Second,
    /// Where among those triggers on several completions that may have enough the next look begins.
    turn_of_filled: usize,
    /// How far triggers on pageviews have come. There may be many, and few of them move.
    pub(crate) ledgers: Arc<HashMap<TriggerId, Ledger>>,
    /// Those that this look moves.
    moved: Vec<(TriggerId, Ledger)>,
    /// Where among those that ask the next look begins.
    turn_of_milestones: usize,
    /// Until when nothing is asked for them.
    milestones_rest_until: Second,
    /// Where among those that have no ledger the next time begins that some start.
    pub(crate) turn_of_starting: usize,
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is counted cannot be asked for.
    #[error(transparent)]
    Count(#[from] CountError),
}

impl Seen {
    /// What a look at `now` begins with.
    fn next(&self, registry: &Registry, now: Timestamp) -> Self {
        let mut next = self.clone();
        let hour = |time: Timestamp| time.second() / FORGETTING_SECONDS;
        if hour(self.tick.looked_at) != hour(now) {
            next.forget_those_gone(registry);
        }
        next.tick = Tick { number: self.tick.number + 1, looked_at: now, ..self.tick };
        next
    }

    fn forget_those_gone(&mut self, registry: &Registry) {
        let sites = registry.all();
        let webhooks = sites.iter().flat_map(|site| &site.webhooks);
        let there: HashSet<_> = webhooks.flat_map(|webhook| &webhook.webhook.triggers).map(|trigger| trigger.id).collect();
        self.fired_at.retain(|id, _| there.contains(id));
        self.alerts.retain(|id| there.contains(&id));
        self.usuals.retain(|id, _| registry.by_id(*id).is_some());
        Arc::make_mut(&mut self.sources).retain(|id| there.contains(&id));
        Arc::make_mut(&mut self.ledgers).retain(|id, _| there.contains(id));
    }

    /// Takes over how far triggers on pageviews have come.
    pub(crate) fn move_ledgers(&mut self, moved: impl IntoIterator<Item = (TriggerId, Ledger)>) {
        Arc::make_mut(&mut self.ledgers).extend(moved);
    }

    /// Takes the place of the look before, once it is kept.
    fn follow(self, before: &mut Self) {
        *before = self;
        let moved = std::mem::take(&mut before.moved);
        before.move_ledgers(moved);
    }
}

impl Lookout {
    pub(crate) fn new(holder: OwnerId) -> Self {
        Self { holder, turn: Turn::UNKNOWN, is_failing: false }
    }

    /// What the latest look left, if it is this process that looks.
    pub(crate) fn seen(&mut self) -> Option<&mut Seen> {
        match &mut self.turn {
            Turn::Ours(seen, _) => Some(seen),
            Turn::Theirs { .. } => None,
        }
    }
}

impl Engine {
    /// Looks, where something is counted that processes share, and that is among this one's roles.
    pub(crate) fn start_looking(&self, workers: &Workers) {
        if self.inner.settings.counts_here() || !self.roles().detect {
            return;
        }
        let (engine, shutdown) = (self.clone(), workers.shutdown().clone());
        workers.spawn("lookout", async move {
            let mut looks = tokio::time::interval(INTERVAL);
            looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while shutdown.run_until_cancelled(looks.tick()).await.is_some() {
                if let Some(looked) = shutdown.run_until_cancelled(engine.look()).await {
                    engine.say_whether_it_looks(looked.err()).await;
                }
            }
            engine.let_others_look().await;
        });
    }

    /// Looks once, if it is this process that does.
    pub async fn look(&self) -> Result<(), LookError> {
        if self.inner.settings.counts_here() || !self.roles().detect {
            return Ok(());
        }
        let mut lookout = self.inner.lookout.lock().await;
        self.take_turn(&mut lookout).await.inspect_err(|_| meters().look_failures.increment(1))?;
        let now = self.inner.ambient.now();
        let Turn::Ours(seen, memory) = &mut lookout.turn else {
            return Ok(());
        };
        let (begun, before) = (Instant::now(), seen.tick.looked_at);
        if before > now + GAP {
            // The clock was set back: it begins anew, with what is true by that.
            lookout.turn = Turn::UNKNOWN;
            return Ok(());
        }
        let looked = match (&self.inner.settings.counter, &self.inner.hosted, memory) {
            (_, Some(hosted), Memory::Polling(polling)) => self.poll(hosted, polling, seen, now).await,
            (Some(counter), _, memory) if is_due(before, now) => self.look_at(counter, (seen, memory.log()), now).await,
            _ => return Ok(()),
        };
        meters().look_seconds.record(begun.elapsed().as_secs_f64());
        meters().look_failures.increment(u64::from(looked.is_err()));
        let number = seen.tick.number;
        let goes_on = match &looked {
            Ok(()) => true,
            // Another may have taken its turn meanwhile.
            Err(LookError::Count(_)) => self.inner.store.tick().await.is_ok_and(|tick| tick.number == number),
            // Whatever became of it: the table knows.
            Err(LookError::Store(_)) => false,
        };
        if !goes_on {
            lookout.turn = Turn::UNKNOWN;
        }
        match looked {
            Err(LookError::Store(StoreError::Overtaken)) => Ok(()),
            result => result,
        }
    }

    /// Says it once when looks come to nothing, and once when they do not any more.
    async fn say_whether_it_looks(&self, error: Option<LookError>) {
        let mut lookout = self.inner.lookout.lock().await;
        match (error, std::mem::replace(&mut lookout.is_failing, false)) {
            (Some(error), was_failing) => {
                lookout.is_failing = true;
                if !was_failing {
                    error!(%error, "it cannot be seen what triggers on visitors, pageviews and several completions say");
                }
            }
            (None, true) => info!("it can be seen again what triggers on visitors, pageviews and several completions say"),
            (None, false) => {}
        }
    }

    /// Begins to look, if nobody does.
    async fn take_turn(&self, lookout: &mut Lookout) -> Result<(), StoreError> {
        let Turn::Theirs { number, since } = lookout.turn else {
            return Ok(());
        };
        let (tick, running) = (self.inner.store.tick().await?, self.inner.ambient.clock.running());
        let patience = if self.inner.hosted.is_some() { PATIENCE_WITH_ANSWERS } else { PATIENCE };
        let stands_still = tick.number == number && running.saturating_sub(since) >= patience;
        // Whoever has the database alone succeeds one that is gone.
        let is_free = tick.holder.is_none() || !self.inner.store.is_shared();
        if is_free || tick.holder == Some(lookout.holder) || stands_still {
            match self.inner.store.pass_tick(tick.number, Some(lookout.holder)).await {
                Ok(()) => lookout.turn = self.begin(tick, lookout.holder).await?,
                Err(StoreError::Overtaken) => {}
                Err(error) => return Err(error),
            }
        } else if tick.number != number {
            lookout.turn = Turn::Theirs { number: tick.number, since: running };
        }
        Ok(())
    }

    async fn begin(&self, tick: Tick, holder: OwnerId) -> Result<Turn, StoreError> {
        let (store, ambient) = (&self.inner.store, &self.inner.ambient);
        let now = ambient.now();
        let mut crossed = store.crossed().await?;
        // A clock that was ahead once must not silence a trigger until then.
        crossed.retain(|one| one.fired_at <= now);
        let told = store.told_sources().await?;
        let looked_at = if tick.looked_at > now + GAP { Timestamp::EPOCH } else { tick.looked_at };
        let memory = match (self.plausible(), &self.inner.hosted) {
            (Some(_), _) => Memory::Log(Box::new(Log::resume(store, now).await?)),
            (None, Some(_)) => Memory::Polling(Box::new(Polling::resume(store, ambient.clock.running()).await?)),
            (None, None) => Memory::Nothing,
        };
        info!("this process looks at what is counted from now on");
        let seen = Seen {
            tick: Tick { number: tick.number + 1, holder: Some(holder), looked_at, ..tick },
            turn_of_filled: 0,
            ledgers: Arc::new(store.milestones().await?.iter().filter_map(ledger).collect()),
            moved: Vec::new(),
            turn_of_milestones: 0,
            milestones_rest_until: 0,
            turn_of_starting: 0,
            usuals: HashMap::new(),
            sources: Arc::new(KnownSources::kept(told.into_iter().map(|told| (told.trigger_id, told.source, told.day)))),
            sources_rest_until: 0,
            fired_at: crossed.iter().map(|one| (one.trigger_id, one.fired_at)).collect(),
            alerts: Alerts::kept(crossed.into_iter().map(|one| (one.trigger_id, one.fired_at, one.still_true))),
        };
        Ok(Turn::Ours(Box::new(seen), memory))
    }

    /// Begins to look, if nobody does. Whether it is this process that looks.
    pub(crate) async fn begins_to_look(&self) -> Result<bool, StoreError> {
        let mut lookout = self.inner.lookout.lock().await;
        self.take_turn(&mut lookout).await?;
        Ok(matches!(lookout.turn, Turn::Ours(..)))
    }

    /// Whether it is this process that looks, as far as it knows.
    pub(crate) async fn looks(&self) -> bool {
        matches!(self.inner.lookout.lock().await.turn, Turn::Ours(..))
    }

    async fn let_others_look(&self) {
        let lookout = self.inner.lookout.lock().await;
        if let Turn::Ours(seen, _) = &lookout.turn
            && let Err(error) = self.inner.store.pass_tick(seen.tick.number, None).await
        {
            warn!(%error, "others will look at what is counted a little later");
        }
    }

    async fn look_at(
        &self,
        counter: &Counter,
        (seen, mut log): (&mut Seen, Option<&mut Log>),
        now: Timestamp,
    ) -> Result<(), LookError> {
        let mut next = seen.next(&self.inner.registry, now);
        // A Plausible counts whether or not anybody looks.
        if counter.own().is_some() && now.since(seen.tick.looked_at) > GAP {
            next.tick.watched_from = now;
        }
        let finding = self.find(counter, log.as_deref_mut(), (seen.tick.looked_at.second(), now), &mut next);
        let (events, stretch) = tokio::time::timeout(TIME_LIMIT, finding).await.unwrap_or(Err(CountError::Late))?;
        let read = log.as_ref().zip(stretch.as_ref()).map(|(log, stretch)| stretch.read(log));
        let milestones = next.moved.iter().map(|(id, ledger)| kept(*id, ledger)).collect();
        let learned = read.map(Learned::Read);
        let found = Found { crossed: changes(seen, &next), milestones, learned, ..Found::default() };
        self.inner.dispatcher.commit_tick(next.tick, events, found).await?;
        if let (Some(log), Some(stretch)) = (log, stretch) {
            log.go_on(stretch);
        }
        next.follow(seen);
        Ok(())
    }

    /// Keeps what an answer at `now` set off, and what triggers on visitors have seen by now.
    pub(crate) async fn keep_poll(
        &self,
        seen: &mut Seen,
        (alerts, crossings): (Alerts, &[Crossing]),
        (events, learned): (Vec<NewEvent>, Option<Learned>),
        now: Timestamp,
    ) -> Result<(), LookError> {
        let mut next = Seen { alerts, ..seen.clone() }.next(&self.inner.registry, now);
        next.fired_at
            .extend(crossings.iter().filter(|crossing| crossing.fires()).map(|crossing| (crossing.target.trigger_id, now)));
        let found = Found { crossed: changes(seen, &next), learned, ..Found::default() };
        self.inner.dispatcher.commit_tick(next.tick, events, found).await?;
        *seen = next;
        Ok(())
    }
}

/// What is found out within its share of a look; none where that takes longer or is refused, which is said in the words of `failing`.
async fn within_share<T>(
    failing: &'static str,
    finding: impl Future<Output = Result<T, CountError>>,
) -> Result<Option<T>, CountError> {
    match tokio::time::timeout(SHARE, finding).await.unwrap_or(Err(CountError::Late)) {
        Err(error @ (CountError::Late | CountError::Failed(_))) => {
            error!(%error, "{failing}");
            Ok(None)
        }
        found => found.map(Some),
    }
}

/// Whether a second has passed since the look before. Clocks of processes differ by little.
fn is_due(before: Timestamp, now: Timestamp) -> bool {
    now.second() > before.second()
}

/// What has changed of triggers from one look to the next.
fn changes(before: &Seen, after: &Seen) -> Vec<Crossed> {
    let fired = after.fired_at.iter().filter(|(id, at)| before.fired_at.get(id) != Some(at));
    let fired = fired.map(|(id, at)| Crossed { trigger_id: *id, fired_at: *at, still_true: after.alerts.is_firing(*id) });
    let lowered = after.alerts.lowered_since(&before.alerts).map(|id| {
        let fired_at = after.fired_at.get(&id).copied().unwrap_or(Timestamp::EPOCH);
        Crossed { trigger_id: id, fired_at, still_true: false }
    });
    fired.chain(lowered).collect()
}
