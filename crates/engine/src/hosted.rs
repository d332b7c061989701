//! Plausible's hosted service as the source: it is asked how many visitors sites have and how often goals were completed.
//!
//! A [`HostedSettings`] says where it is and whose sites are asked for; a [`Service`] asks it one question; [`poll`] decides with
//! `domain` what is asked next, and keeps what the answers set off. What happened exactly, and when, nobody is told there.

mod poll;
mod service;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bellwether_domain::baseline::Baseline;
use bellwether_domain::condition::Kind;
use bellwether_domain::polling::{Plan, Question, Subject, Urgency};
use bellwether_domain::site::SiteChange;
use bellwether_domain::traffic::CURRENT_VISITORS_WINDOW_SECONDS;
use bellwether_domain::trigger::Rule;
use http::HeaderValue;

use crate::Engine;
use crate::registry::ActiveSite;

pub(crate) use poll::Polling;
pub(crate) use service::Service;

/// What is wrong with a window that the service does not count.
const OTHER_WINDOW: &str =
    "must be 300: of visitors, Plausible's hosted service only tells how many there were in the last five minutes";
/// What is wrong with a baseline that it does not tell.
const OTHER_DAY: &str = "must be previous_window: Plausible's hosted service does not tell when visitors came";
/// What is wrong with a segment: it does not tell of parts of a site.
const OTHER_VISITS: &str = "must be null: Plausible's hosted service only tells how many visitors all of the site has";
/// What is wrong with a trigger on pageviews.
const NO_PAGEVIEWS: &str = "cannot be told: Plausible's hosted service is not asked for pageviews";
/// What is wrong with a type of trigger that takes what it does not tell.
const OTHER_TYPE: &str = "cannot be told: Plausible's hosted service does not tell when visitors came and goals were completed";
/// What is wrong with a type of trigger that takes where visitors came from.
const SOURCES: &str = "cannot be told: Plausible's hosted service does not tell where visitors come from";

/// So many sites are asked for.
pub const MAX_HOSTED_SITES: usize = 100;
const MAX_KEY_BYTES: usize = 512;

/// Plausible's hosted service, as an operator sets it.
#[derive(Clone, Debug, PartialEq)]
pub struct HostedSettings {
    /// Where it is, as in `https://plausible.io`.
    pub origin: String,
    /// What it knows the team by.
    pub api_key: ApiKey,
    /// The domains of the sites that are asked for, as they are called there.
    pub sites: Vec<Arc<str>>,
}

/// A key of the service. It never shows itself.
#[derive(Clone, PartialEq)]
pub struct ApiKey(HeaderValue);

impl ApiKey {
    /// None for a text that is no key.
    pub fn new(text: &str) -> Option<Self> {
        let is_key = (1..=MAX_KEY_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = HeaderValue::try_from(format!("Bearer {text}")).ok().filter(|_| is_key)?;
        value.set_sensitive(true);
        Some(Self(value))
    }

    fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

/// How often the service is asked about a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// How often goals are counted.
    pub completions_every_seconds: u64,
    /// How often visitors are.
    pub visitors_every_seconds: u64,
}

impl Engine {
    /// How often Plausible's hosted service is asked about a site, if it is.
    pub fn polled(&self, site: &ActiveSite) -> Option<Polled> {
        let wanted = wanted(&self.polled_sites());
        let plan = plan(&wanted);
        let every = |subject| {
            let urgency = wanted.get(&Question { subject, site_id: site.site.id })?;
            Some(plan.interval(*urgency).as_secs())
        };
        Some(Polled {
            completions_every_seconds: every(Subject::Completions)?,
            visitors_every_seconds: every(Subject::Visitors)?,
        })
    }

    /// Whether a site is one of those that the hosted service is asked for.
    pub(crate) fn is_polled(&self, site: &ActiveSite) -> bool {
        self.inner.settings.hosted.as_ref().is_some_and(|hosted| hosted.sites.contains(&site.site.domain))
    }

    /// The sites that it is asked for, those that are there.
    fn polled_sites(&self) -> Vec<Arc<ActiveSite>> {
        let domains = self.inner.settings.hosted.iter().flat_map(|hosted| &hosted.sites);
        domains.filter_map(|domain| self.inner.registry.by_domain(domain)).collect()
    }
}

/// Whether what a trigger asks for is told by the service: of visitors, how many there are now.
pub(crate) fn is_counted_there(rule: &Rule) -> bool {
    not_counted_there(rule).is_none()
}

/// The field of a trigger that asks for what the service does not tell, and what is wrong with it.
pub(crate) fn not_counted_there(rule: &Rule) -> Option<(&'static str, &'static str)> {
    let condition = match rule {
        Rule::Condition(condition) => condition,
        Rule::PageviewMilestone(_) => return Some(("type", NO_PAGEVIEWS)),
        Rule::NewSource(_) => return Some(("type", SOURCES)),
        Rule::GoalCompletion(_) | Rule::WebhookDisabled => return None,
    };
    match &condition.kind {
        Kind::GoalRate(_) | Kind::Anomaly(_) => Some(("type", OTHER_TYPE)),
        Kind::Visitors(_) if condition.segment.as_ref().is_some_and(|segment| segment.page.is_some()) => {
            Some(("page", OTHER_VISITS))
        }
        Kind::Visitors(_) if condition.segment.is_some() => Some(("source", OTHER_VISITS)),
        Kind::Visitors(level) if level.window_seconds != CURRENT_VISITORS_WINDOW_SECONDS => {
            Some(("window_seconds", OTHER_WINDOW))
        }
        Kind::Visitors(level) if level.baseline != Baseline::PreviousWindow => Some(("baseline", OTHER_DAY)),
        Kind::Visitors(_) => None,
    }
}

/// The domain of a site as it is called here, none for what is no domain.
pub fn domain_of(text: &str) -> Option<Arc<str>> {
    SiteChange::read(&serde_json::json!({"domain": text})).ok()?.domain
}

/// What is asked for, and what of it triggers wait for.
fn wanted(sites: &[Arc<ActiveSite>]) -> BTreeMap<Question, Urgency> {
    let of_site = |site: &Arc<ActiveSite>| {
        let site_id = site.site.id;
        let counts_goals = site.rules.tells_of_completions() || site.watch.completions().next().is_some();
        let counts_visitors =
            site.watch.conditions().any(|condition| condition.window_seconds() == CURRENT_VISITORS_WINDOW_SECONDS);
        let urgency = |is_waited_for| if is_waited_for { Urgency::Often } else { Urgency::Seldom };
        [(Subject::Completions, counts_goals), (Subject::Visitors, counts_visitors), (Subject::Goals, false)]
            .map(|(subject, is_waited_for)| (Question { subject, site_id }, urgency(is_waited_for)))
    };
    sites.iter().flat_map(of_site).collect()
}

fn plan(wanted: &BTreeMap<Question, Urgency>) -> Plan {
    let count = |urgency| wanted.values().filter(|one| **one == urgency).count();
    Plan::new(count(Urgency::Often), count(Urgency::Seldom), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let key = ApiKey::new("abc-123_XYZ").expect("a key");
        assert_eq!((format!("{key:?}").as_str(), key.header().as_bytes()), ("ApiKey", &b"Bearer abc-123_XYZ"[..]));
        assert!(!format!("{:?}", key.header()).contains("abc"));
        for bad in ["", "a b", "a\n", "ä", &"x".repeat(513)] {
            assert!(ApiKey::new(bad).is_none(), "{bad:?}");
        }
    }
}
