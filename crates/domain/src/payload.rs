//! The body of a webhook, as the documentation describes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::baseline::Baseline;
use crate::condition::{Direction, Sensitivity, Unit, VisitorLevel};
use crate::event::Revenue;
use crate::goal::{Goal, GoalKind, PathPattern};
use crate::id::{EventId, GoalId, SiteId, WebhookId};
use crate::milestone::{Day, MilestoneCount, Period};
use crate::segment::Segment;
use crate::site::Site;
use crate::time::{Second, Timestamp};
use crate::traffic::{Share, Tops};
use crate::trigger::{EventType, change_percent};
use crate::window::Counts;

/// What a test says.
pub const TEST_MESSAGE: &str = "This is a test of the webhook. Nothing happened on the site.";

/// What a webhook's body says.
#[derive(Debug, Serialize)]
pub struct Payload<'a> {
    /// The event's id: the same in every delivery and every retry.
    pub event_id: EventId,
    /// The type of `data`.
    pub event_type: &'static str,
    /// The site's id.
    pub site_id: SiteId,
    /// The site's domain.
    pub site_domain: &'a str,
    /// The site's name.
    pub site_name: &'a str,
    /// When it happened.
    pub timestamp: Timestamp,
    /// What happened.
    pub data: &'a Data,
}

/// What happened, by type.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Data {
    /// A goal was completed.
    GoalCompletion(GoalCompleted),
    /// Visitors rushed in.
    VisitorSpike(VisitorsSpiked),
    /// A rush of visitors is over.
    VisitorSpikeResolved(Over<Compared>),
    /// Visitors stay away.
    VisitorDrop(Compared),
    /// They are back.
    VisitorDropResolved(Over<Compared>),
    /// More or fewer of the visitors complete goals.
    GoalRate(Rated),
    /// They do not any more.
    GoalRateResolved(Over<Rated>),
    /// More or fewer than is usual.
    Anomaly(Unusual),
    /// As usual again.
    AnomalyResolved(Over<Unusual>),
    /// Another webhook was switched off.
    WebhookDisabled(WebhookDisabled),
    /// Pageviews have reached a number.
    PageviewMilestone(PageviewsReached),
    /// Somebody tries the webhook out.
    WebhookTest(WebhookTested),
    /// A source that is new brings visitors.
    NewSource(SourceFound),
}

/// A goal was completed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GoalCompleted {
    /// The goal.
    pub goal_id: GoalId,
    /// Its name.
    pub goal_name: String,
    /// `event`, `page` or `scroll`.
    pub goal_type: &'static str,
    /// The page it happened on; null where only the number of completions is known.
    pub path: Option<String>,
    /// How many completions this is about: the trigger's threshold.
    pub count: u32,
    /// Where the visit came from; null when direct.
    pub source: Option<Arc<str>>,
    /// The event's custom properties.
    pub props: BTreeMap<String, String>,
    /// What was paid, where the goal counts revenue.
    pub revenue: Option<Revenue>,
}

/// The visitors of a window beside what a trigger compares them with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// Distinct visitors of the window.
    pub current_visitors: u32,
    /// Distinct visitors of the window before.
    pub previous_visitors: u32,
    /// What the window is compared with.
    pub baseline: Baseline,
    /// How many visitors that had; null where it is not known.
    pub baseline_visitors: Option<u32>,
    /// How many percent more there are; null when there were none.
    pub change_percent: Option<f64>,
    /// The trigger's threshold.
    pub threshold: u32,
    /// What the threshold counts.
    pub unit: Unit,
    /// The window's length.
    pub window_seconds: u32,
    /// The visits that the trigger is about: its page pattern and source, each null for all.
    #[serde(flatten)]
    pub segment: Segment,
}

/// Visitors rushed in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VisitorsSpiked {
    /// How many.
    #[serde(flatten)]
    pub compared: Compared,
    /// Where most come from, and what they look at.
    #[serde(flatten)]
    pub tops: Tops,
}

/// Something that was told of is over.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Over<T> {
    /// How it is now.
    #[serde(flatten)]
    pub now: T,
    /// When it was told of.
    pub fired_at: Timestamp,
    /// For how long it lasted from then on.
    pub duration_seconds: u32,
}

/// Completions by visitors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rated {
    /// The goal; null for any goal of the site.
    pub goal_id: Option<GoalId>,
    /// Its name.
    pub goal_name: Option<String>,
    /// Completions within the window.
    pub completions: u32,
    /// Distinct visitors of the window.
    pub visitors: u32,
    /// Completions by a hundred visitors.
    pub rate_percent: f64,
    /// On which side of the threshold the trigger waits for it.
    pub direction: Direction,
    /// The trigger's threshold, in percent.
    pub threshold: f64,
    /// The window's length.
    pub window_seconds: u32,
    /// The visits that the trigger is about: its page pattern and source, each null for all.
    #[serde(flatten)]
    pub segment: Segment,
}

/// More or fewer than is usual at this hour of the week.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unusual {
    /// What is counted: `visitors` or `completions`.
    pub metric: &'static str,
    /// The goal whose completions are; null for visitors, and for any goal of the site.
    pub goal_id: Option<GoalId>,
    /// Its name.
    pub goal_name: Option<String>,
    /// How many there are within the window.
    pub current: u32,
    /// How many are typical.
    pub typical: u32,
    /// The fewest that are usual.
    pub lowest_usual: u32,
    /// The most that are.
    pub highest_usual: u32,
    /// How many percent more there are than typical; null where none are.
    pub change_percent: Option<f64>,
    /// On which side of the usual.
    pub direction: Direction,
    /// In plain words.
    pub how_unusual: &'static str,
    /// The day of the week, by the site's clocks.
    pub weekday: &'static str,
    /// The hour of the day, by the site's clocks, 0 to 23.
    pub hour: u8,
    /// The trigger's sensitivity.
    pub sensitivity: Sensitivity,
    /// The window's length.
    pub window_seconds: u32,
    /// The visits that the trigger is about: its page pattern and source, each null for all.
    #[serde(flatten)]
    pub segment: Segment,
    /// For visitors, where most come from and what they look at.
    #[serde(flatten)]
    pub tops: Tops,
}

/// Another webhook of the site was switched off because its endpoint fails.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WebhookDisabled {
    /// The webhook.
    pub webhook_id: WebhookId,
    /// What people call it.
    pub webhook_name: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// Pageviews have reached a number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PageviewsReached {
    /// The trigger's threshold.
    pub threshold: u32,
    /// What was reached: it, or a multiple of it.
    pub milestone: u64,
    /// How many pageviews there are.
    pub pageviews: u64,
    /// What is counted together.
    pub period: Period,
    /// The day, by the site's clocks; null for a total.
    pub date: Option<Day>,
    /// The pages whose views are counted; null for all.
    pub page: Option<PathPattern>,
    /// Whether every further multiple is told of as well.
    pub repeat: bool,
}

/// Somebody tries the webhook out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WebhookTested {
    /// What people who read it should know.
    pub message: &'static str,
}

/// A source that the site has not seen for long brings visitors.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceFound {
    /// The source.
    pub source: Arc<str>,
    /// How many distinct visitors it brought within the window.
    pub visitors: u32,
    /// How many the trigger waits for.
    pub min_visitors: u32,
    /// The window's length.
    pub window_seconds: u32,
    /// The date of the last day on which it was seen before; null where none is known.
    pub last_seen_on: Option<String>,
    /// What most of them look at.
    #[serde(serialize_with = "serialize_pages")]
    pub top_pages: Vec<Share>,
}

impl GoalCompleted {
    /// A goal was completed the `count`th time on a page, by a session from a source, with properties and what was paid.
    pub fn new(
        goal: &Goal,
        count: u32,
        (path, source): (&str, Option<Arc<str>>),
        (props, revenue): (BTreeMap<String, String>, Option<Revenue>),
    ) -> Self {
        let counts_revenue = matches!(&goal.spec.kind, GoalKind::Event { currency: Some(_), .. });
        Self {
            goal_id: goal.id,
            goal_name: goal.spec.display_name.clone(),
            goal_type: goal.spec.kind.name(),
            path: Some(path.to_owned()),
            count,
            source,
            props,
            revenue: revenue.filter(|_| counts_revenue),
        }
    }

    /// A goal was completed `count` times, of which nothing else is known.
    pub fn counted(goal: &Goal, count: u32) -> Self {
        Self { path: None, ..Self::new(goal, count, ("", None), (BTreeMap::new(), None)) }
    }
}

impl Compared {
    /// The counts of a trigger's window of visits beside its reference.
    pub fn new(level: &VisitorLevel, segment: Segment, counts: &Counts, reference: Option<u32>) -> Self {
        Self {
            current_visitors: counts.current,
            previous_visitors: counts.previous,
            baseline: level.baseline,
            baseline_visitors: reference,
            change_percent: reference.and_then(|reference| change_percent(counts.current, reference)),
            threshold: level.threshold,
            unit: level.unit,
            window_seconds: level.window_seconds,
            segment,
        }
    }

    /// So many now and before, for people who want to see some.
    fn example(current_visitors: u32, previous_visitors: u32) -> Self {
        Self {
            current_visitors,
            previous_visitors,
            baseline: Baseline::PreviousWindow,
            baseline_visitors: Some(previous_visitors),
            change_percent: change_percent(current_visitors, previous_visitors),
            threshold: 50,
            unit: Unit::Percent,
            window_seconds: 300,
            segment: Segment::default(),
        }
    }
}

impl VisitorsSpiked {
    /// These are a spike, with where they come from and what they look at.
    pub fn new(compared: Compared, tops: Tops) -> Self {
        Self { compared, tops }
    }
}

impl<T> Over<T> {
    /// What was told of at `fired_at` is over at `now`, and this is how it is.
    pub fn new(now_is: T, fired_at: Second, now: Second) -> Self {
        Self { now: now_is, fired_at: Timestamp::from_second(fired_at), duration_seconds: now.saturating_sub(fired_at) }
    }

    /// What began some time ago is over, for people who want to see one.
    fn example(now: T) -> Self {
        Self { now, fired_at: Timestamp::from_second(1_772_029_800), duration_seconds: 1_260 }
    }
}

impl Rated {
    /// So many completions, for people who want to see some.
    fn example(completions: u32) -> Self {
        Self {
            goal_id: Some(GoalId::from_bytes([1; 16])),
            goal_name: Some("Purchase".to_owned()),
            completions,
            visitors: 200,
            rate_percent: f64::from(completions) / 2.0,
            direction: Direction::Below,
            threshold: 2.0,
            window_seconds: 3_600,
            segment: Segment::default(),
        }
    }
}

impl Unusual {
    /// So many visitors, for people who want to see some.
    fn example(current: u32, how_unusual: &'static str, tops: Tops) -> Self {
        Self {
            metric: "visitors",
            goal_id: None,
            goal_name: None,
            current,
            typical: 200,
            lowest_usual: 137,
            highest_usual: 263,
            change_percent: change_percent(current, 200),
            direction: if current >= 200 { Direction::Above } else { Direction::Below },
            how_unusual,
            weekday: "Wednesday",
            hour: 14,
            sensitivity: Sensitivity::Medium,
            window_seconds: 1_800,
            segment: Segment::default(),
            tops,
        }
    }
}

impl PageviewsReached {
    /// How far the pageviews have come with it.
    pub fn count(&self) -> MilestoneCount {
        MilestoneCount { day: self.date.unwrap_or_default(), pageviews: self.pageviews, told: self.milestone }
    }

    /// A round number, for people who want to see one.
    fn example() -> Self {
        Self {
            threshold: 10_000,
            milestone: 10_000,
            pageviews: 10_000,
            period: Period::Total,
            date: None,
            page: None,
            repeat: false,
        }
    }
}

impl Data {
    /// What an event of this type may say, for people who want to see one.
    pub fn example(event_type: EventType) -> Self {
        let share = |name: &str, visitors| Share { name: Arc::from(name), visitors };
        let tops = Tops {
            sources: vec![share("Hacker News", 90), share("Google", 12)],
            pages: vec![share("/", 80), share("/pricing", 25)],
        };
        match event_type {
            EventType::GoalCompletion => Self::GoalCompletion(GoalCompleted {
                goal_id: GoalId::from_bytes([1; 16]),
                goal_name: "Purchase".to_owned(),
                goal_type: "event",
                path: Some("/checkout".to_owned()),
                count: 1,
                source: Some(Arc::from("Google")),
                props: BTreeMap::from([("plan".to_owned(), "pro".to_owned())]),
                revenue: Some(Revenue { amount: "29.90".to_owned(), currency: "EUR".to_owned() }),
            }),
            EventType::VisitorSpike => Self::VisitorSpike(VisitorsSpiked { compared: Compared::example(120, 40), tops }),
            EventType::VisitorSpikeResolved => Self::VisitorSpikeResolved(Over::example(Compared::example(45, 60))),
            EventType::VisitorDrop => Self::VisitorDrop(Compared::example(12, 60)),
            EventType::VisitorDropResolved => Self::VisitorDropResolved(Over::example(Compared::example(55, 12))),
            EventType::GoalRate => Self::GoalRate(Rated::example(3)),
            EventType::GoalRateResolved => Self::GoalRateResolved(Over::example(Rated::example(5))),
            EventType::Anomaly => Self::Anomaly(Unusual::example(412, "far more than usual", tops)),
            EventType::AnomalyResolved => {
                Self::AnomalyResolved(Over::example(Unusual::example(231, "as usual", Tops::default())))
            }
            EventType::WebhookDisabled => Self::WebhookDisabled(WebhookDisabled {
                webhook_id: WebhookId::from_bytes([2; 16]),
                webhook_name: "Shop".to_owned(),
                reason: "the endpoint answered 410: it is gone".to_owned(),
            }),
            EventType::PageviewMilestone => Self::PageviewMilestone(PageviewsReached::example()),
            EventType::WebhookTest => Self::WebhookTest(WebhookTested { message: TEST_MESSAGE }),
            EventType::NewSource => Self::NewSource(SourceFound {
                source: Arc::from("Hacker News"),
                visitors: 12,
                min_visitors: 12,
                window_seconds: 3_600,
                last_seen_on: None,
                top_pages: vec![share("/blog/launch", 9), share("/", 3)],
            }),
        }
    }

    /// When something fired, where this tells that it is over.
    pub fn resolved(&self) -> Option<Timestamp> {
        match self {
            Self::VisitorSpikeResolved(over) | Self::VisitorDropResolved(over) => Some(over.fired_at),
            Self::GoalRateResolved(over) => Some(over.fired_at),
            Self::AnomalyResolved(over) => Some(over.fired_at),
            _ => None,
        }
    }

    /// The type of event.
    pub fn event_type(&self) -> EventType {
        match self {
            Self::GoalCompletion(_) => EventType::GoalCompletion,
            Self::VisitorSpike(_) => EventType::VisitorSpike,
            Self::VisitorSpikeResolved(_) => EventType::VisitorSpikeResolved,
            Self::VisitorDrop(_) => EventType::VisitorDrop,
            Self::VisitorDropResolved(_) => EventType::VisitorDropResolved,
            Self::GoalRate(_) => EventType::GoalRate,
            Self::GoalRateResolved(_) => EventType::GoalRateResolved,
            Self::Anomaly(_) => EventType::Anomaly,
            Self::AnomalyResolved(_) => EventType::AnomalyResolved,
            Self::WebhookDisabled(_) => EventType::WebhookDisabled,
            Self::PageviewMilestone(_) => EventType::PageviewMilestone,
            Self::WebhookTest(_) => EventType::WebhookTest,
            Self::NewSource(_) => EventType::NewSource,
        }
    }
}

impl<'a> Payload<'a> {
    /// What happened on `site` at the time `now`.
    pub fn of(event_id: EventId, site: &'a Site, now: Timestamp, data: &'a Data) -> Self {
        Self {
            event_id,
            event_type: data.event_type().name(),
            site_id: site.id,
            site_domain: &site.domain,
            site_name: &site.name,
            timestamp: now,
            data,
        }
    }

    /// The payload as JSON.
    pub fn to_body(&self) -> String {
        #[expect(clippy::expect_used, reason = "the types above have string keys only and serialise without errors")]
        serde_json::to_string(self).expect("a payload")
    }
}

impl Serialize for Tops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tops = serializer.serialize_struct("Tops", 2)?;
        tops.serialize_field("top_sources", &named("source", &self.sources))?;
        tops.serialize_field("top_pages", &named("page", &self.pages))?;
        tops.end()
    }
}

fn serialize_pages<S: Serializer>(pages: &[Share], serializer: S) -> Result<S::Ok, S::Error> {
    named("page", pages).serialize(serializer)
}

fn named<'a>(kind: &'static str, shares: &'a [Share]) -> Vec<Named<'a>> {
    shares.iter().map(|share| Named(kind, share)).collect()
}

struct Named<'a>(&'static str, &'a Share);

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut share = serializer.serialize_struct("Share", 2)?;
        share.serialize_field(self.0, &self.1.name)?;
        share.serialize_field("visitors", &self.1.visitors)?;
        share.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::PathPattern;

    fn body(data: &Data) -> String {
        let payload = Payload {
            event_id: EventId::from_bytes([1; 16]),
            event_type: data.event_type().name(),
            site_id: SiteId::from_bytes([2; 16]),
            site_domain: "example.com",
            site_name: "Example",
            timestamp: Timestamp::from_micros(1_772_029_800_123_456),
            data,
        };
        payload.to_body()
    }

    #[test]
    fn a_goal_completion() {
        let data = Data::example(EventType::GoalCompletion);
        let expected = concat!(
            r#"{"event_id":"01010101-0101-0101-0101-010101010101","event_type":"goal_completion","#,
            r#""site_id":"02020202-0202-0202-0202-020202020202","site_domain":"example.com","site_name":"Example","#,
            r#""timestamp":"2026-02-25T14:30:00.123Z","data":{"goal_id":"01010101-0101-0101-0101-010101010101","#,
            r#""goal_name":"Purchase","goal_type":"event","path":"/checkout","count":1,"source":"Google","#,
            r#""props":{"plan":"pro"},"revenue":{"amount":"29.90","currency":"EUR"}}}"#,
        );
        assert_eq!(body(&data), expected);
    }

    #[test]
    fn a_visitor_spike_that_is_over() {
        let data = Data::VisitorSpikeResolved(Over {
            now: Compared::example(9, 16),
            fired_at: Timestamp::from_second(1_772_029_800),
            duration_seconds: 420,
        });
        let expected = concat!(
            r#""data":{"current_visitors":9,"previous_visitors":16,"baseline":"previous_window","baseline_visitors":16,"#,
            r#""change_percent":-43.7,"threshold":50,"unit":"percent","#,
            r#""window_seconds":300,"page":null,"source":null,"fired_at":"2026-02-25T14:30:00.000Z","duration_seconds":420}}"#,
        );
        let body = body(&data);
        assert!(body.contains(r#""event_type":"visitor_spike_resolved","#) && body.ends_with(expected), "{body}");
    }

    #[test]
    fn a_new_source() {
        let Data::NewSource(found) = Data::example(EventType::NewSource) else { panic!("another type") };
        let data = Data::NewSource(SourceFound { last_seen_on: Some("2026-01-20".to_owned()), ..found });
        let expected = concat!(
            r#""event_type":"new_source","site_id":"02020202-0202-0202-0202-020202020202","site_domain":"example.com","#,
            r#""site_name":"Example","timestamp":"2026-02-25T14:30:00.123Z","data":{"source":"Hacker News","visitors":12,"#,
            r#""min_visitors":12,"window_seconds":3600,"last_seen_on":"2026-01-20","#,
            r#""top_pages":[{"page":"/blog/launch","visitors":9},{"page":"/","visitors":3}]}}"#,
        );
        assert!(body(&data).ends_with(expected), "{}", body(&data));
    }

    #[test]
    fn a_visitor_spike() {
        let share = |name: &str| vec![Share { name: Arc::from(name), visitors: 7 }];
        let data = Data::VisitorSpike(VisitorsSpiked {
            compared: Compared {
                baseline: Baseline::Typical,
                segment: Segment { page: Some(PathPattern::new("/blog/*")), source: Some("Hacker News".into()) },
                ..Compared::example(16, 0)
            },
            tops: Tops { sources: share("Hacker News"), pages: share("/") },
        });
        let expected = concat!(
            r#""data":{"current_visitors":16,"previous_visitors":0,"baseline":"typical","baseline_visitors":0,"#,
            r#""change_percent":null,"threshold":50,"unit":"percent","#,
            r#""window_seconds":300,"page":"/blog/*","source":"Hacker News","#,
            r#""top_sources":[{"source":"Hacker News","visitors":7}],"top_pages":[{"page":"/","visitors":7}]}}"#,
        );
        assert!(body(&data).ends_with(expected), "{}", body(&data));
    }

    #[test]
    fn a_pageview_milestone() {
        let day = PageviewsReached {
            milestone: 20_000,
            pageviews: 20_001,
            period: Period::Day,
            date: Some(Day::from_number(20_509)),
            page: Some(PathPattern::new("/blog/*")),
            repeat: true,
            ..PageviewsReached::example()
        };
        let expected = concat!(
            r#""data":{"threshold":10000,"milestone":20000,"pageviews":20001,"period":"day","date":"2026-02-25","#,
            r#""page":"/blog/*","repeat":true}}"#,
        );
        let body = body(&Data::PageviewMilestone(day));
        assert!(body.contains(r#""event_type":"pageview_milestone","#) && body.ends_with(expected), "{body}");
    }
}
