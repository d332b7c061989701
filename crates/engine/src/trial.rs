//! Trying triggers on what has happened on a site: nothing is kept of it, and nobody is told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::baseline::Past;
use bellwether_domain::goal::Goal;
use bellwether_domain::history::{HOUR_MINUTES, MINUTE_SECONDS, Minute, minute_of};
use bellwether_domain::segment::Segment;
use bellwether_domain::site::Site;
use bellwether_domain::time::Timestamp;
use bellwether_domain::trial::Trial;
use bellwether_domain::trigger::Rule;

use crate::Engine;
use crate::history::{Detail, since_minute};
use crate::registry::ActiveSite;
use crate::watch::LookError;

/// A day of a trial.
const DAY: Duration = Duration::from_secs(86_400);
/// So many days are looked back at most: minutes are kept for little longer.
pub const MAX_TRIAL_DAYS: u32 = 30;
/// So many unless it is said otherwise.
pub const DEFAULT_TRIAL_DAYS: u32 = 7;

/// A trigger that was tried.
pub struct Tried {
    /// What it would have seen, and told.
    pub trial: Trial,
    /// The same trigger with what would have made it fire about once a week; none where nothing would.
    pub suggested: Option<Rule>,
    /// Since when it is known what happened on the site, or in the segment of it that the trigger is about.
    pub known_from: Timestamp,
}

/// What a trial goes by, apart from the trigger.
struct Ground {
    /// The past of all visits, and of each segment that is asked for.
    pasts: HashMap<Option<Arc<Segment>>, KnownPast>,
    site: Site,
    goals: Arc<[Goal]>,
    shown: RangeInclusive<u32>,
    pageviews_before: u64,
}

/// What happened, as far as it is known.
struct KnownPast {
    minutes: Vec<Minute>,
    /// Since which minute it is.
    known_from: u32,
}

impl Engine {
    /// Tries triggers of a site on its last days, up to now; in their order, none for one that cannot be tried on minutes. Nothing can
    /// be tried where visitors are only asked for.
    pub async fn try_triggers(&self, site: &ActiveSite, rules: Vec<Rule>, days: u32) -> Result<Vec<Option<Tried>>, LookError> {
        let before = |rule: &Rule| rule.minutes_before().filter(|_| self.polled(site).is_none());
        let Some(longest) = rules.iter().filter_map(before).max() else {
            return Ok(rules.iter().map(|_| None).collect());
        };
        let now = self.ambient().now();
        let shown_from = now - DAY * days.min(MAX_TRIAL_DAYS);
        let since = shown_from - Duration::from_secs(u64::from(longest) * u64::from(MINUTE_SECONDS));
        let counts_completions = |rule: &Rule| match rule {
            Rule::Condition(condition) => condition.completions().is_some(),
            Rule::GoalCompletion(_) => true,
            Rule::WebhookDisabled | Rule::PageviewMilestone(_) | Rule::NewSource(_) => false,
        };
        let detail = if rules.iter().any(counts_completions) { Detail::Completions } else { Detail::Visitors };
        let mut pasts = HashMap::new();
        for segment in rules.iter().map(Rule::segment) {
            if let Entry::Vacant(missing) = pasts.entry(segment.cloned()) {
                let segment = segment.map(|segment| &**segment);
                let minutes = self.minutes_within(site, segment, since_minute(since), detail).await?;
                // What is not counted yet is from the next minute on.
                let known_from = self.inner.known_from(site, segment).await?.unwrap_or(minute_of(now.second()) + 1);
                missing.insert(KnownPast { minutes, known_from });
            }
        }
        let shown = minute_of(shown_from.second()) + 1..=minute_of(now.second());
        let counts_pageviews = rules.iter().any(|rule| matches!(rule, Rule::PageviewMilestone(_)));
        let pageviews_before = match pasts.get(&None).filter(|_| counts_pageviews) {
            Some(KnownPast { minutes, .. }) => self.pageviews_until(site, minutes, *shown.start()).await?,
            None => 0,
        };
        let ground = Ground { pasts, site: site.site.clone(), goals: site.goals.clone(), shown, pageviews_before };
        let tried = move || rules.iter().map(|rule| ground.try_rule(rule)).collect();
        // Weeks of minutes are many. Whoever goes away meanwhile is not waited for.
        Ok(tokio::task::spawn_blocking(tried).await.unwrap_or_default())
    }
}

impl Engine {
    /// How many pageviews a site had before a minute, of whose hour at least these minutes are known.
    async fn pageviews_until(&self, site: &ActiveSite, minutes: &[Minute], minute: u32) -> Result<u64, LookError> {
        let hour = minute / HOUR_MINUTES;
        let of_hour = minutes.iter().filter(|one| (hour * HOUR_MINUTES..minute).contains(&one.minute));
        let of_hour: u64 = of_hour.map(|one| u64::from(one.pageviews)).sum();
        Ok(self.pageviews_before(site, hour).await? + of_hour)
    }
}

impl Ground {
    fn try_rule(&self, rule: &Rule) -> Option<Tried> {
        rule.minutes_before()?;
        let KnownPast { minutes, known_from } = self.pasts.get(&rule.segment().cloned())?;
        let timezone = self.site.zone();
        let (known_from, pageviews_before) = (*known_from, self.pageviews_before);
        let past = Past { minutes, known_from, timezone: &timezone, pageviews_before };
        let trial = rule.try_on(&past, &self.goals, self.shown.clone());
        let suggested = rule.suggested(&past, &self.goals, self.shown.clone());
        Some(Tried { trial, suggested, known_from: Timestamp::from_second(known_from.saturating_mul(MINUTE_SECONDS)) })
    }
}
