//! Where the counting of triggers on pageviews starts, and keeping how far it has come.
//!
//! Where visitors are counted in memory a trigger that is new in this process starts with what was kept of it, or with what the history
//! has. Where they are counted elsewhere it starts with what there was when it was made, once; from then on whoever looks goes on
//! ([`watch`](crate::watch)). Until the start is known nothing is told.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::detector::{Start, Starting};
use bellwether_domain::history::{HOUR_MINUTES, hour_of};
use bellwether_domain::id::TriggerId;
use bellwether_domain::milestone::{Ledger, MilestoneCount, PageviewMilestone, Period, Stretch};
use bellwether_domain::time::{Second, Timestamp};
use bellwether_store::{Milestone, StoreError};

use crate::Engine;
use crate::counter::{CountError, Counter};
use crate::registry::ActiveSite;
use crate::watch::LookError;
use crate::workers::Workers;

/// How soon it is found out.
const INTERVAL: Duration = Duration::from_secs(2);
/// So many start at a time where pageviews are asked for.
const MAX_STARTED: usize = 20;
/// Few enough that the thread that writes is not held up.
const BATCH: usize = 200;

impl Engine {
    pub(crate) fn start_starting(&self, workers: &Workers) {
        if !self.inner.settings.counts_here() && (self.inner.settings.counter.is_none() || !self.roles().detect) {
            return;
        }
        let engine = self.clone();
        workers.spawn_loop("milestones", INTERVAL, "triggers on pageviews cannot start", move || {
            let engine = engine.clone();
            async move { engine.start_milestones().await }
        });
    }

    /// Finds out how far the milestones have come that start, as the engine does by itself every few seconds.
    pub async fn start_milestones(&self) -> Result<(), LookError> {
        match &self.inner.settings.counter {
            Some(counter) => self.begin_ledgers(counter).await,
            None => Ok(self.start_here().await?),
        }
    }

    /// Where pageviews are counted as they come.
    async fn start_here(&self) -> Result<(), StoreError> {
        let now = self.inner.ambient.now().second();
        for site in self.inner.registry.all() {
            let starting = site.starting(now);
            if starting.is_empty() {
                continue;
            }
            // What waits now waits until it is counted below.
            let _still = self.inner.storing.read().await;
            let starts = self.starts(&site, &starting).await?;
            // It may have been changed meanwhile.
            if let Some(site) = self.inner.registry.by_id(site.site.id) {
                site.start(&starts);
            }
            // What has been reached meanwhile is told beside it.
            self.inner.registry.await_time(&[site.site.id]);
        }
        Ok(())
    }

    async fn starts(&self, site: &ActiveSite, starting: &[Starting]) -> Result<Vec<Start>, StoreError> {
        let (store, id) = (&self.inner.store, site.site.id);
        let kept = store.milestones_of(starting.iter().map(|starting| starting.trigger_id).collect()).await?;
        let mut starts = Vec::new();
        for starting in starting {
            let stored = match starting.from_minute {
                None => 0,
                Some(0) => store.pageviews_before(id, u32::MAX / HOUR_MINUTES).await?,
                Some(minute) => store.pageviews_since(id, minute).await?,
            };
            let kept = kept.iter().find(|kept| kept.trigger_id == starting.trigger_id).map(|kept| kept.count);
            starts.push(Start { starting: *starting, kept, stored });
        }
        Ok(starts)
    }

    /// Where pageviews are asked for, and it is this process that looks.
    async fn begin_ledgers(&self, counter: &Counter) -> Result<(), LookError> {
        let sites = self.inner.registry.watched();
        let begins = {
            let mut lookout = self.inner.lookout.lock().await;
            let Some(seen) = lookout.seen() else { return Ok(()) };
            let of_site = |site: &Arc<ActiveSite>| {
                let milestones = site.watch.milestones().filter(|(target, _)| !seen.ledgers.contains_key(&target.trigger_id));
                milestones.map(|(target, rule)| (site.clone(), target.trigger_id, rule.clone())).collect::<Vec<_>>()
            };
            let all: Vec<_> = sites.iter().flat_map(of_site).collect();
            take_turns(all, &mut seen.turn_of_starting)
        };
        let mut result = Ok(());
        for (site, id, rule) in begins {
            // One that cannot be told holds up no other.
            match self.begin_ledger(counter, &site, id, &rule).await {
                Ok(()) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    async fn begin_ledger(
        &self,
        counter: &Counter,
        site: &Arc<ActiveSite>,
        id: TriggerId,
        rule: &PageviewMilestone,
    ) -> Result<(), LookError> {
        let (now, zone) = (self.inner.ambient.now().second(), site.site.zone());
        let known = self.inner.store.milestones_of(vec![id]).await?.pop();
        let ledger = match known.map(|known| (known.count, ledger(&known))) {
            None => self.count_before(counter, site, rule, id.made_at().second()).await?,
            Some((count, None)) => Ledger::take_over(count, now),
            Some((_, Some((_, ledger)))) if !ledger.lies_ahead(rule, now, &zone) => ledger,
            // What is known is of another day, and what was told of this one nobody knows.
            Some(_) if rule.period == Period::Day => self.count_before(counter, site, rule, now).await?,
            Some((count, _)) => {
                let mut ledger = self.count_before(counter, site, rule, id.made_at().second()).await?;
                ledger.count.told = ledger.count.told.max(count.told);
                ledger
            }
        };
        self.inner.store.keep_milestones(vec![kept(id, &ledger)]).await?;
        if let Some(seen) = self.inner.lookout.lock().await.seen() {
            seen.move_ledgers([(id, ledger)]);
        }
        Ok(())
    }

    /// A ledger that tells nothing of what was reached before `from`.
    async fn count_before(
        &self,
        counter: &Counter,
        site: &Arc<ActiveSite>,
        rule: &PageviewMilestone,
        from: Second,
    ) -> Result<Ledger, CountError> {
        let mut ledger = Ledger::begin(rule, from, &site.site.zone());
        if rule.period == Period::Total {
            let hour = hour_of(ledger.until);
            ledger.count.pageviews = counter.pageviews_before(site, rule.page.as_ref(), hour).await?;
        }
        let stretch = Stretch { since: ledger.until, settled: from, until: from };
        let since = counter.views(&[(site, rule.page.clone(), stretch)]).await?.into_iter().map(|(views, _)| views).sum::<u64>();
        ledger.count.told = rule.reached(ledger.count.pageviews.saturating_add(since));
        Ok(ledger)
    }

    /// Keeps how far milestones have come where that changed.
    pub(crate) async fn keep_milestones(&self) -> Result<(), StoreError> {
        let mut unkept = Vec::new();
        for site in self.inner.registry.all() {
            unkept.extend(site.unkept_milestones().into_iter().map(|(id, count)| (site.clone(), id, count)));
        }
        for batch in unkept.chunks(BATCH) {
            let milestone = |(_, trigger_id, count): &(Arc<ActiveSite>, TriggerId, MilestoneCount)| Milestone {
                trigger_id: *trigger_id,
                count: *count,
                counted_until: Timestamp::EPOCH,
            };
            self.inner.store.keep_milestones(batch.iter().map(milestone).collect()).await?;
            batch.iter().for_each(|(site, id, count)| site.keep_milestone(*id, *count));
        }
        Ok(())
    }

    /// How many pageviews a site had before an hour, as far back as hours are known.
    pub(crate) async fn pageviews_before(&self, site: &ActiveSite, hour: u32) -> Result<u64, LookError> {
        if let Some(counter) = &self.inner.settings.counter {
            return Ok(counter.pageviews_before(site, None, hour).await?);
        }
        let _still = self.inner.storing.read().await;
        let waiting = site.waiting_minutes(None, hour.saturating_mul(HOUR_MINUTES));
        let stored = self.inner.store.pageviews_before(site.site.id, hour).await?;
        Ok(stored + waiting.iter().map(|minute| u64::from(minute.pageviews)).sum::<u64>())
    }
}

/// Those of all that start now: others do the next time, so that those which cannot hold up nobody.
fn take_turns<T>(all: Vec<T>, turn: &mut usize) -> Vec<T> {
    let begin = if *turn < all.len() { *turn } else { 0 };
    let end = begin + MAX_STARTED;
    *turn = if end < all.len() { end } else { 0 };
    all.into_iter().skip(begin).take(MAX_STARTED).collect()
}

/// A ledger as it is kept.
pub(crate) fn kept(trigger_id: TriggerId, ledger: &Ledger) -> Milestone {
    Milestone { trigger_id, count: ledger.count, counted_until: Timestamp::from_second(ledger.until) }
}

/// A ledger that was kept; none where pageviews were counted as they came.
pub(crate) fn ledger(kept: &Milestone) -> Option<(TriggerId, Ledger)> {
    let was_asked = kept.counted_until > Timestamp::EPOCH;
    was_asked.then(|| (kept.trigger_id, Ledger { count: kept.count, until: kept.counted_until.second() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_their_turn_whether_or_not_those_before_could_start() {
        let (mut turn, mut taken) = (0, Vec::new());
        for _ in 0..4 {
            taken.push(take_turns((0..45).collect(), &mut turn));
        }
        assert_eq!(taken, [(0..20).collect(), (20..40).collect(), (40..45).collect(), (0..20).collect::<Vec<_>>()]);
        let (mut left, mut turn): (Vec<_>, _) = ((0..45).collect(), 0);
        for _ in 0..4 {
            let started = take_turns(left.clone(), &mut turn);
            left.retain(|one| *one < 10 || !started.contains(one));
        }
        assert_eq!(left, (0..10).collect::<Vec<_>>(), "only those that cannot are left");
        assert!(take_turns(Vec::<u8>::new(), &mut turn).is_empty());
    }
}
