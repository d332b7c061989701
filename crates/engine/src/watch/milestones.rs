//! What pageviews that are counted in shared storage set off: the triggers on them ask for the latest in turn.

use std::sync::Arc;

use bellwether_domain::detector::{Target, fire};
use bellwether_domain::milestone::{Ledger, PageviewMilestone, Stretch};
use bellwether_domain::payload::Data;
use bellwether_domain::time::{Second, Timestamp};
use bellwether_store::NewEvent;

use super::{REST_SECONDS, Seen, within_share};
use crate::Engine;
use crate::counter::{CountError, Counter};
use crate::registry::ActiveSite;

/// So often it is begun that all of them ask.
const STEP_SECONDS: u32 = 5;
/// So many ask with one look; others do with the next, a second later.
const MAX_ASKED: usize = 500;

/// A trigger that asks.
struct Asked<'s> {
    site: &'s Arc<ActiveSite>,
    target: Target,
    rule: &'s PageviewMilestone,
    before: Ledger,
    ledger: Ledger,
    stretch: Stretch,
}

impl Engine {
    /// What the latest pageviews set off for those whose turn it is.
    pub(super) async fn milestones(
        &self,
        counter: &Counter,
        sites: &[Arc<ActiveSite>],
        (before, now): (Second, Timestamp),
        next: &mut Seen,
    ) -> Result<Vec<NewEvent>, CountError> {
        let is_begun = next.turn_of_milestones > 0 || before / STEP_SECONDS != now.second() / STEP_SECONDS;
        if !is_begun || now.second() < next.milestones_rest_until {
            return Ok(Vec::new());
        }
        let failing = "it cannot be asked which numbers pageviews have reached: that is left out for a while";
        let told = within_share(failing, self.tell_of_milestones(counter, sites, now, next)).await?;
        Ok(told.unwrap_or_else(|| {
            next.milestones_rest_until = now.second().saturating_add(REST_SECONDS);
            next.turn_of_milestones = 0;
            next.moved.clear();
            Vec::new()
        }))
    }

    async fn tell_of_milestones(
        &self,
        counter: &Counter,
        sites: &[Arc<ActiveSite>],
        now: Timestamp,
        next: &mut Seen,
    ) -> Result<Vec<NewEvent>, CountError> {
        let mut asked = asked(sites, next, now.second());
        let views: Vec<_> = asked.iter().map(|asked| (asked.site, asked.rule.page.clone(), asked.stretch)).collect();
        let counts = counter.views(&views).await?;
        let mut events = Vec::new();
        let mut answered: Vec<_> = asked.iter_mut().zip(counts).collect();
        // What triggers of a site say alike is told once.
        for of_site in answered.chunk_by_mut(|(a, _), (b, _)| a.site.site.id == b.site.site.id) {
            let mut firings = Vec::new();
            for (asked, counts) in of_site.iter_mut() {
                if let Some(told) = asked.ledger.answer(asked.rule, &asked.stretch, *counts) {
                    fire(&mut firings, Data::PageviewMilestone(told), asked.target);
                }
                if asked.ledger != asked.before {
                    next.moved.push((asked.target.trigger_id, asked.ledger));
                }
            }
            let site = of_site.first().map(|(asked, _)| asked.site);
            events.extend(site.iter().flat_map(|site| firings.iter().map(|firing| self.crossing(site, firing, now))));
        }
        Ok(events)
    }
}

/// The triggers that ask with this look: those that have something to ask, from where the look before ended.
fn asked<'s>(sites: &'s [Arc<ActiveSite>], next: &mut Seen, now: Second) -> Vec<Asked<'s>> {
    let all = sites.iter().flat_map(|site| site.watch.milestones().map(move |(target, rule)| (site, target, rule)));
    let begin = std::mem::take(&mut next.turn_of_milestones);
    let mut asked = Vec::new();
    for (position, (site, target, rule)) in all.enumerate().skip(begin) {
        if asked.len() == MAX_ASKED {
            next.turn_of_milestones = position;
            break;
        }
        let (Some(before), Some(zone)) = (next.ledgers.get(&target.trigger_id).copied(), site.watch.zone()) else { continue };
        if before.lies_ahead(rule, now, zone) {
            // It begins anew in a moment.
            Arc::make_mut(&mut next.ledgers).remove(&target.trigger_id);
            continue;
        }
        let mut ledger = before;
        if let Some(stretch) = ledger.ask(rule, now, zone) {
            asked.push(Asked { site, target, rule, before, ledger, stretch });
        }
    }
    asked
}
