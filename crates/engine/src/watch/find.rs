//! What everything that is counted in shared storage sets off. Nothing here knows whose it is to look, or keeps anything.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::baseline::Usuals;
use bellwether_domain::condition::CompletionsWithin;
use bellwether_domain::detector::{Firing, Target, fire};
use bellwether_domain::id::{EventId, TriggerId};
use bellwether_domain::payload::{Data, GoalCompleted};
use bellwether_domain::segment::VisitsWithin;
use bellwether_domain::time::{Second, Timestamp};
use bellwether_domain::traffic::Tops;
use bellwether_domain::trigger::GoalCompletion;
use bellwether_domain::watch::{Counted, Crossing, fill, firings};
use bellwether_domain::window::Counts;
use bellwether_store::NewEvent;
use bellwether_store::clickhouse::{ClickHouse, Completion, Completions, Window};

use super::{GAP, LookError, Seen};
use crate::Engine;
use crate::counter::{CountError, Counter, by_window};
use crate::plausible::{Log, Stretch};
use crate::registry::ActiveSite;

/// So many triggers on several completions are looked at closely with one look; others are with the next.
const MAX_FILLED: usize = 100;
/// On so many sites triggers on visitors fire with one look; on others they do with the next.
const MAX_CROSSED_SITES: usize = 30;
/// For so many sites it is found out with one look what is usual; for others with the next.
const MAX_COMPARED_SITES: usize = 20;
/// So many completions are looked at for one of them.
const MAX_COMPLETIONS: u32 = 20_000;

/// Completions that a trigger waits for.
struct Awaited {
    site: Arc<ActiveSite>,
    target: Target,
    rule: GoalCompletion,
    window_seconds: u32,
    list: Completions,
}

impl Engine {
    /// What everything that is counted sets off, and what was read for it where it comes from a Plausible.
    pub(super) async fn find(
        &self,
        counter: &Counter,
        log: Option<&mut Log>,
        (before, now): (Second, Timestamp),
        next: &mut Seen,
    ) -> Result<(Vec<NewEvent>, Option<Stretch>), CountError> {
        let sites = self.inner.registry.watched();
        let mut events = self.visitors(counter, &sites, (before, now), next).await?;
        events.extend(self.new_sources(counter, &sites, (before, now), next).await?);
        events.extend(self.milestones(counter, &sites, (before, now), next).await?);
        match (counter, log) {
            (Counter::Own(clickhouse), _) => {
                events.extend(self.several_completions(clickhouse, &sites, now, next).await?);
                Ok((events, None))
            }
            (Counter::Plausible(plausible), Some(log)) => {
                let mut stretch = self.read_on(plausible, log, now).await?;
                events.append(&mut stretch.events);
                Ok((events, Some(stretch)))
            }
            (Counter::Plausible(_), None) => Ok((events, None)),
        }
    }

    /// What the windows of visitors set off.
    async fn visitors(
        &self,
        counter: &Counter,
        sites: &[Arc<ActiveSite>],
        (before, now): (Second, Timestamp),
        next: &mut Seen,
    ) -> Result<Vec<NewEvent>, CountError> {
        let of_site = |site: &Arc<ActiveSite>| {
            let id = site.site.id;
            site.watch.windows(before, now.second()).into_iter().map(move |visits| Window { site: id, visits })
        };
        let windows: Vec<_> = sites.iter().flat_map(of_site).collect();
        let nothing = Usuals::default();
        let counts = by_window(&windows, counter.windows(&self.inner.registry, &windows, now.second()).await?);
        let wanted = |site: &Arc<ActiveSite>| {
            let windows = site.watch.completion_windows(before, now.second());
            windows.into_iter().map(|within| (site.clone(), within)).collect::<Vec<_>>()
        };
        let wanted: Vec<_> = sites.iter().flat_map(wanted).collect();
        let completions = counter.completions_within(&wanted, now).await?;
        let completions: HashMap<_, _> =
            wanted.iter().map(|(site, within)| (site.site.id, within.clone())).zip(completions).collect();
        self.compare_watched(sites, now, next).await?;
        let (mut events, mut crossed_sites) = (Vec::new(), 0);
        for site in sites {
            // Each costs questions. Those that are left now are looked at again in a moment.
            if crossed_sites == MAX_CROSSED_SITES {
                break;
            }
            let counts = |visits: &VisitsWithin| {
                let counts = counts.get(&Window { site: site.site.id, visits: visits.clone() })?;
                let watched_from = next.tick.watched_from.max(site.site.created_at).second();
                let was_watched = |times| now.second() >= watched_from.saturating_add(times * visits.window_seconds);
                Some(Counts { watched_once: was_watched(1), watched_twice: was_watched(2), ..*counts })
            };
            let completions = |within: &CompletionsWithin| completions.get(&(site.site.id, within.clone())).copied();
            let usuals = next.usuals.get(&site.site.id).unwrap_or(&nothing);
            let counted = Counted { visitors: &counts, completions: &completions, usuals };
            let crossings = site.watch.cross(&counted, &mut next.alerts, now.second());
            if !crossings.is_empty() {
                crossed_sites += 1;
                let fired = crossings.iter().filter(|crossing| crossing.fires());
                next.fired_at.extend(fired.map(|crossing| (crossing.target.trigger_id, now)));
                events.extend(self.crossed(counter, site, &crossings, now).await?);
            }
        }
        Ok(events)
    }

    /// Finds out what is usual now, for some sites where it is not known.
    async fn compare_watched(&self, sites: &[Arc<ActiveSite>], now: Timestamp, next: &mut Seen) -> Result<(), CountError> {
        let (nothing, mut compared) = (Usuals::default(), 0);
        for site in sites {
            let known = next.usuals.get(&site.site.id).unwrap_or(&nothing);
            let missing = known.missing(site.watch.comparisons(), now.second());
            if missing.is_empty() {
                continue;
            }
            if compared == MAX_COMPARED_SITES {
                break;
            }
            compared += 1;
            match self.usual(site, missing, now).await {
                Ok(found) => next.usuals.entry(site.site.id).or_default().put(found, now.second()),
                Err(LookError::Count(error)) => return Err(error),
                // What is counted elsewhere asks no database of ours.
                Err(LookError::Store(_)) => {}
            }
        }
        Ok(())
    }

    async fn crossed(
        &self,
        counter: &Counter,
        site: &ActiveSite,
        crossings: &[Crossing],
        now: Timestamp,
    ) -> Result<Vec<NewEvent>, CountError> {
        let mut tops: HashMap<VisitsWithin, Tops> = HashMap::new();
        for crossing in crossings.iter().filter(|crossing| crossing.fires()) {
            if let std::collections::hash_map::Entry::Vacant(missing) = tops.entry(crossing.condition.visits()) {
                let window = Window { site: site.site.id, visits: crossing.condition.visits() };
                missing.insert(counter.tops(&self.inner.registry, &window, now.second()).await?);
            }
        }
        let firings = firings(crossings, &site.goals, |visits| tops.get(visits).cloned().unwrap_or_default(), now.second());
        Ok(firings.iter().map(|firing| self.crossing(site, firing, now)).collect())
    }

    /// What several completions within a window set off.
    async fn several_completions(
        &self,
        clickhouse: &ClickHouse,
        sites: &[Arc<ActiveSite>],
        now: Timestamp,
        next: &mut Seen,
    ) -> Result<Vec<NewEvent>, CountError> {
        let awaited: Vec<_> = sites.iter().flat_map(|site| awaited(site, now, &next.fired_at)).collect();
        let lists: Vec<_> = awaited.iter().map(|awaited| awaited.list.clone()).collect();
        let counts = if lists.is_empty() { Vec::new() } else { clickhouse.count_completions(&lists).await? };
        let is_filled = |(awaited, count): &(&Awaited, u64)| *count >= u64::from(awaited.rule.threshold);
        let filled: Vec<_> = awaited.iter().zip(counts).filter(is_filled).map(|(awaited, _)| awaited).collect();
        // Those of a site are looked at together, so that what they say alike is told once.
        let of_site = filled.chunk_by(|a, b| a.list.site_id == b.list.site_id);
        let mut portions: Vec<_> = of_site.flat_map(|of_site| of_site.chunks(MAX_FILLED)).collect();
        // They may have enough in the stretch that is counted, and not within their window: so each has its turn.
        let begin = next.turn_of_filled % portions.len().max(1);
        portions.rotate_left(begin);
        let (mut events, mut looked_at, mut done) = (Vec::new(), 0, 0);
        for portion in &portions {
            looked_at += portion.len();
            if looked_at > MAX_FILLED {
                break;
            }
            done += 1;
            events.extend(self.filled(clickhouse, portion, next).await?);
        }
        next.turn_of_filled = if done < portions.len() { begin + done } else { 0 };
        Ok(events)
    }

    /// What completions on a site set off for those of its triggers that may have enough.
    async fn filled(&self, clickhouse: &ClickHouse, awaited: &[&Awaited], next: &mut Seen) -> Result<Vec<NewEvent>, CountError> {
        let mut firings: BTreeMap<Timestamp, Vec<Firing>> = BTreeMap::new();
        for Awaited { site, target, rule, window_seconds, list } in awaited {
            let completions = clickhouse.completions(list, MAX_COMPLETIONS).await?;
            for index in fill(rule.threshold, *window_seconds, completions.iter().map(|completion| completion.time)) {
                let completion = &completions[index];
                next.fired_at.insert(target.trigger_id, completion.time);
                if let Some(data) = told(site, completion, rule.threshold) {
                    fire(firings.entry(completion.time).or_default(), data, *target);
                }
            }
        }
        let Some(site) = awaited.first().map(|awaited| &awaited.site) else { return Ok(Vec::new()) };
        let at_once = |(time, firings): (&Timestamp, &Vec<Firing>)| -> Vec<_> {
            firings.iter().map(|firing| self.crossing(site, firing, *time)).collect()
        };
        Ok(firings.iter().flat_map(at_once).collect())
    }

    /// An event whose id is made of what fired and when, so that it is the same whoever finds it.
    pub(crate) fn crossing(&self, site: &ActiveSite, firing: &Firing, at: Timestamp) -> NewEvent {
        let triggers = firing.targets.iter().map(|target| target.trigger_id.as_bytes().as_slice());
        let moment = at.as_micros().to_be_bytes();
        // One event may complete several goals, and several sources may bring enough at once.
        let about = match &firing.data {
            Data::GoalCompletion(completed) => Some(completed.goal_id.as_bytes().as_slice()),
            Data::NewSource(found) => Some(found.source.as_bytes()),
            _ => None,
        };
        let parts: Vec<&[u8]> = triggers.chain([moment.as_slice()]).chain(about).collect();
        self.inner.event(site, firing, EventId::made_of(at, &parts), at)
    }
}

/// The completions that each of a site's triggers waits for: of its window, and after those that it has fired for.
fn awaited(site: &Arc<ActiveSite>, now: Timestamp, fired_at: &HashMap<TriggerId, Timestamp>) -> Vec<Awaited> {
    let awaited = |(target, rule, window_seconds): (Target, GoalCompletion, u32)| {
        // What was reached since the look before may have left the window by now.
        let since = now - Duration::from_secs(u64::from(window_seconds)) - GAP;
        // Nor is told what happened before there was a trigger.
        let since = since.max(target.trigger_id.made_at());
        let after = fired_at.get(&target.trigger_id).map_or(since, |fired_at| since.max(*fired_at));
        let list = Completions { site_id: site.site.id, goal_id: rule.goal_id, segment: None, after, until: now };
        Awaited { site: site.clone(), target, rule, window_seconds, list }
    };
    site.watch.completions().map(awaited).collect()
}

/// What is told of a completion that filled a threshold; none when the goal is gone.
fn told(site: &ActiveSite, completion: &Completion, threshold: u32) -> Option<Data> {
    let goal = site.goals.iter().find(|goal| goal.id == completion.goal_id)?;
    let Completion { page, source, props, revenue, .. } = completion.clone();
    Some(Data::GoalCompletion(GoalCompleted::new(goal, threshold, (&page, source), (props, revenue))))
}
