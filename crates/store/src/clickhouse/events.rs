//! What Bellwether itself writes into ClickHouse, a row for each event of a site that counts, and what it asks of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::event::Revenue;
use bellwether_domain::history::Minute;
use bellwether_domain::id::{GoalId, SiteId};
use bellwether_domain::segment::Segment;
use bellwether_domain::time::{Second, Timestamp};
use bellwether_domain::traffic::{SESSION_TIMEOUT_SECONDS, Share, Tops};
use bellwether_domain::visitor::VisitorId;
use bellwether_domain::watch::SourceCount;
use bellwether_domain::window::Counts;
use clickhouse::Row;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::minutes::{beginning, minute_of, within_minutes};
use super::segments::{belongs, numbered, portions};
use super::sources::SourceWindow;
use super::windows::Shape;
use super::{ClickHouse, ClickHouseError, Window, named, shares, within};

/// How long keeping events may take.
const INSERT_TIME_LIMIT: Duration = Duration::from_secs(10);
const DAY_SECONDS: u32 = 86_400;
/// So far back it is looked for the beginning of a session. Of a longer one, where it came from is not told.
const LOOKBACK_SECONDS: u32 = 4 * 3_600;
/// So many events of a session are looked at.
const MAX_VISITS: u32 = 1_000;
/// So many lists of completions are counted by one statement.
const LISTS_AT_A_TIME: usize = 1_000;

/// An event, for counting.
#[derive(Clone, Debug, PartialEq)]
pub struct CountedEvent {
    /// The site.
    pub site_id: SiteId,
    /// When it came.
    pub time: Timestamp,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub visitor: VisitorId,
    /// The same by the salt of the day before, where a session may go on from that.
    pub previous_visitor: Option<VisitorId>,
    /// Where the session came from, none when direct.
    pub source: Option<Arc<str>>,
    /// The page's path.
    pub page: String,
    /// The goals that it completed.
    pub goals: Vec<GoalId>,
    /// Its properties, where it completed one.
    pub props: BTreeMap<String, String>,
    /// What was paid, where it completed one.
    pub revenue: Option<Revenue>,
}

/// An event of a visitor, as far as sessions are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatestVisit {
    /// When it was.
    pub second: Second,
    /// Where it came from, none when direct.
    pub source: Option<Arc<str>>,
}

/// Completions of a goal, or of any, of a site within a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completions {
    /// The site.
    pub site_id: SiteId,
    /// The goal; any without one.
    pub goal_id: Option<GoalId>,
    /// The visits that completed it; all without one.
    pub segment: Option<Arc<Segment>>,
    /// After this.
    pub after: Timestamp,
    /// Until this.
    pub until: Timestamp,
}

/// A goal was completed.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// When.
    pub time: Timestamp,
    /// The goal.
    pub goal_id: GoalId,
    /// On which page.
    pub page: String,
    /// Where the session came from, as far as is known.
    pub source: Option<Arc<str>>,
    /// The event's properties.
    pub props: BTreeMap<String, String>,
    /// What was paid.
    pub revenue: Option<Revenue>,
}

/// A row of the table, its columns in the order of the table's.
#[derive(Row, Serialize)]
struct EventRow<'a> {
    #[serde(with = "clickhouse::serde::uuid")]
    site_id: Uuid,
    time: i64,
    name: &'a str,
    visitor: u64,
    previous_visitor: u64,
    source: &'a str,
    page: &'a str,
    goals: Vec<(u64, u64)>,
    props: Vec<(&'a str, &'a str)>,
    amount: &'a str,
    currency: &'a str,
}

#[derive(Row, Deserialize)]
struct CompletionRow {
    time: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    goal: Uuid,
    page: String,
    source: String,
    props: Vec<(String, String)>,
    amount: String,
    currency: String,
}

impl ClickHouse {
    /// Keeps events, all of them or none. Kept again under the same `token` within a while they are still there once.
    pub async fn add_counted(&self, events: &[CountedEvent], token: &str) -> Result<(), ClickHouseError> {
        let add = async {
            let client = self.client.clone().with_validation(false).with_setting("insert_deduplication_token", token);
            let mut insert = client.insert::<EventRow<'_>>("events").await?;
            for event in events {
                insert.write(&row(event)).await?;
            }
            insert.end().await
        };
        within(INSERT_TIME_LIMIT, add).await
    }

    /// The distinct visitors of windows that end with a second, and of those before them; in their order. `watched_twice` is left
    /// false.
    pub async fn counted(&self, windows: &[Window<SiteId>], at: Second) -> Result<Vec<Counts>, ClickHouseError> {
        let longest = windows.iter().map(|window| window.visits.window_seconds).max().unwrap_or(0);
        self.count_windows(&shape(at, longest.saturating_mul(2)), windows, at, literal).await
    }

    /// The sources and the pages of most visitors of a window that ends with a second, three of each at most.
    pub async fn counted_tops(&self, window: &Window<SiteId>, at: Second) -> Result<Tops, ClickHouseError> {
        let shape = shape(at, window.visits.window_seconds + LOOKBACK_SECONDS);
        let sources = self.query(&top_sources(&shape, window, at)).await?;
        let pages = self.query(&top_pages(&shape, window, at)).await?;
        Ok(Tops { sources: shares(sources), pages: shares(pages) })
    }

    /// The sources that bring at least so many visitors in each of the windows, at the end of a second: the window's place, and what
    /// was counted.
    pub async fn counted_sources(
        &self,
        windows: &[SourceWindow<SiteId>],
        at: Second,
    ) -> Result<Vec<(usize, SourceCount)>, ClickHouseError> {
        let longest = windows.iter().map(|window| window.window_seconds).max().unwrap_or(0);
        self.count_sources(&shape(at, longest), windows, at, literal).await
    }

    /// On which of some days each of the sources of sites brought visitors; in their order, the days in none.
    pub async fn counted_days(
        &self,
        sources: &[(SiteId, Arc<str>)],
        days: RangeInclusive<u32>,
    ) -> Result<Vec<Vec<u32>>, ClickHouseError> {
        self.days_of_sources(&SHAPE, sources, days, literal).await
    }

    /// The pages that most of those look at who come from a source within so many seconds that end with a second, three at most.
    pub async fn counted_pages_from(
        &self,
        (site_id, window_seconds): (SiteId, u32),
        source: &str,
        at: Second,
    ) -> Result<Vec<Share>, ClickHouseError> {
        self.pages_from(&shape(at, window_seconds), (&literal(site_id), window_seconds), source, at).await
    }

    /// Whether anything was counted on a site until the end of a day. Hours are kept for longer than events.
    pub async fn counted_until(&self, site_id: SiteId, day: u32) -> Result<bool, ClickHouseError> {
        let until = day.saturating_add(1).saturating_mul(24);
        let hours = format!("SELECT 1 FROM traffic_hours WHERE site_id = {} AND hour < {until} LIMIT 1", literal(site_id));
        Ok(self.knows(&SHAPE, &literal(site_id), day).await? || !self.query::<u8>(&hours).await?.is_empty())
    }

    /// What a visitor of a site did until `now`, under any of the names, the latest first; as far back as sessions are looked at.
    pub async fn latest_visits(
        &self,
        site_id: SiteId,
        names: &[VisitorId],
        now: Timestamp,
    ) -> Result<Vec<LatestVisit>, ClickHouseError> {
        let names = names.iter().map(|name| name.0.to_string()).collect::<Vec<_>>().join(", ");
        let (from, until) = (now - Duration::from_secs(u64::from(LOOKBACK_SECONDS)), now);
        let sql = format!(
            "SELECT toUInt32(toUnixTimestamp(time)), toString(source) FROM events
             WHERE site_id = {} AND visitor IN ({names}) AND time >= {} AND time <= {} ORDER BY time DESC LIMIT {MAX_VISITS}",
            literal(site_id),
            moment(from),
            moment(until),
        );
        let rows = self.query::<(u32, String)>(&sql).await?;
        Ok(rows.into_iter().map(|(second, source)| LatestVisit { second, source: named(source) }).collect())
    }

    /// What happened on a site, or in a segment of it, in some minutes, in order, without completions.
    pub async fn counted_minutes(
        &self,
        site_id: SiteId,
        segment: Option<&Segment>,
        within: RangeInclusive<u32>,
    ) -> Result<Vec<Minute>, ClickHouseError> {
        self.minutes(&SHAPE, (&literal(site_id), segment), &within).await
    }

    /// How often goals of a site were completed in some minutes, be it by visits of a segment: the minute, the goal, how often; in
    /// order.
    pub async fn completions_by_minute(
        &self,
        site_id: SiteId,
        segment: Option<&Segment>,
        within: RangeInclusive<u32>,
    ) -> Result<Vec<(u32, GoalId, u32)>, ClickHouseError> {
        let sql = format!(
            "SELECT {} AS minute, toString(goal) AS id, toUInt32(count()) FROM events AS e ARRAY JOIN goals AS goal
             WHERE site_id = {} AND {} AND {} GROUP BY minute, id ORDER BY minute, id",
            minute_of("time"),
            literal(site_id),
            within_minutes("time", &within),
            belongs(&SHAPE, segment),
        );
        let rows = self.query::<(u32, String, u32)>(&sql).await?;
        Ok(rows.into_iter().filter_map(|(minute, goal, count)| Some((minute, goal.parse().ok()?, count))).collect())
    }

    /// How often each goal of a site was completed since a minute.
    pub async fn counted_completions(&self, site_id: SiteId, from: u32) -> Result<HashMap<GoalId, u64>, ClickHouseError> {
        let sql = format!(
            "SELECT toString(goal), count() FROM events ARRAY JOIN goals AS goal
             WHERE site_id = {} AND time >= {} GROUP BY goal",
            literal(site_id),
            beginning(from),
        );
        let rows = self.query::<(String, u64)>(&sql).await?;
        Ok(rows.into_iter().filter_map(|(goal, count)| Some((goal.parse().ok()?, count))).collect())
    }

    /// How many completions each of the lists has; in their order.
    pub async fn count_completions(&self, lists: &[Completions]) -> Result<Vec<u64>, ClickHouseError> {
        let mut counts = Vec::with_capacity(lists.len());
        for chunk in portions(lists, LISTS_AT_A_TIME, |list| list.segment.is_some()) {
            let mut found = vec![0; chunk.len()];
            for (index, count) in self.query::<(u32, u64)>(&completions_of_lists(chunk)).await? {
                if let Some(place) = found.get_mut(index as usize) {
                    *place = count;
                }
            }
            counts.append(&mut found);
        }
        Ok(counts)
    }

    /// The first `limit` completions of a list, in their order.
    pub async fn completions(&self, list: &Completions, limit: u32) -> Result<Vec<Completion>, ClickHouseError> {
        let goal = list.goal_id.map(|goal_id| format!("AND goal = toUUID('{goal_id}')")).unwrap_or_default();
        let sql = format!(
            "SELECT toUnixTimestamp64Micro(time) AS time, goal, page, toString(source) AS source,
                    CAST(props, 'Array(Tuple(String, String))') AS props, amount, toString(currency) AS currency
             FROM events ARRAY JOIN goals AS goal
             WHERE site_id = {} AND events.time > {} AND events.time <= {} {goal}
             ORDER BY events.time, visitor, goal LIMIT {limit}",
            literal(list.site_id),
            moment(list.after),
            moment(list.until),
        );
        Ok(self.query::<CompletionRow>(&sql).await?.into_iter().map(completion).collect())
    }
}

fn row(event: &CountedEvent) -> EventRow<'_> {
    let of_goal = |id: &GoalId| Uuid::from_bytes(*id.as_bytes()).as_u64_pair();
    let revenue = event.revenue.as_ref();
    EventRow {
        site_id: Uuid::from_bytes(*event.site_id.as_bytes()),
        time: event.time.as_micros(),
        name: &event.name,
        visitor: event.visitor.0,
        previous_visitor: event.previous_visitor.map_or(0, |visitor| visitor.0),
        source: event.source.as_deref().unwrap_or_default(),
        page: &event.page,
        goals: event.goals.iter().map(of_goal).collect(),
        props: event.props.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        amount: revenue.map(|revenue| revenue.amount.as_str()).unwrap_or_default(),
        currency: revenue.map(|revenue| revenue.currency.as_str()).unwrap_or_default(),
    }
}

fn completion(row: CompletionRow) -> Completion {
    let CompletionRow { time, goal, page, source, props, amount, currency } = row;
    Completion {
        time: Timestamp::from_micros(time),
        goal_id: GoalId::from_bytes(goal.into_bytes()),
        page,
        source: named(source),
        props: props.into_iter().collect(),
        revenue: (!currency.is_empty()).then_some(Revenue { amount, currency }),
    }
}

/// The table, where it does not matter that visitors have other names after midnight.
pub(super) const SHAPE: Shape = Shape {
    table: Cow::Borrowed("events AS e"),
    site: "e.site_id",
    time: "e.time",
    visitor: "e.visitor",
    is_visit: "e.name != 'engagement'",
    page: "e.page",
    source: "e.source",
};

/// The table, for what happened within so many seconds until `at`. Who came before midnight and after it is the same visitor where a
/// session went on: they are counted under the name of the day before.
fn shape(at: Second, seconds: u32) -> Shape {
    let midnight = at - at % DAY_SECONDS;
    match at.saturating_sub(seconds) < midnight {
        true => Shape { visitor: "e.who", table: across(midnight).into(), ..SHAPE },
        false => SHAPE,
    }
}

fn across(midnight: Second) -> String {
    let (before, after) = (midnight - SESSION_TIMEOUT_SECONDS, midnight + SESSION_TIMEOUT_SECONDS);
    format!(
        "(SELECT events.*, if(goes_on.previous = 0, events.visitor, goes_on.previous) AS who
          FROM events LEFT JOIN (
              SELECT site_id, visitor, any(previous_visitor) AS previous FROM events
              WHERE time >= toDateTime({midnight}, 'UTC') AND time < toDateTime({after}, 'UTC')
                    AND (site_id, previous_visitor) IN (
                        SELECT site_id, visitor FROM events
                        WHERE time >= toDateTime({before}, 'UTC') AND time < toDateTime({midnight}, 'UTC'))
              GROUP BY site_id, visitor) AS goes_on
          ON goes_on.site_id = events.site_id AND goes_on.visitor = events.visitor) AS e"
    )
}

/// A visitor's source is that of the session: of the first event after the latest gap that ends one.
fn top_sources(shape: &Shape, window: &Window<SiteId>, at: Second) -> String {
    let Shape { table, visitor, is_visit, .. } = shape;
    let (site, since) = (literal(window.site), at.saturating_sub(window.visits.window_seconds));
    let belongs = belongs(shape, window.visits.segment.as_deref());
    format!(
        "SELECT source, toUInt32(count()) AS visitors FROM (
             SELECT {visitor} AS id, arraySort(groupArray((toUnixTimestamp(e.time), toString(e.source)))) AS seen,
                    arrayLastIndex((event, index) -> index > 1 AND event.1 - seen[index - 1].1 > {SESSION_TIMEOUT_SECONDS},
                                   seen, arrayEnumerate(seen)) AS begun,
                    seen[greatest(begun, 1)].2 AS source
             FROM {table}
             WHERE e.site_id = {site} AND e.time >= toDateTime({}, 'UTC') AND e.time < toDateTime({}, 'UTC')
             GROUP BY id
             HAVING countIf({is_visit} AND {belongs} AND toUnixTimestamp(e.time) > {since}) > 0)
         WHERE source != '' GROUP BY source ORDER BY visitors DESC, source LIMIT 3",
        since.saturating_sub(LOOKBACK_SECONDS),
        at.saturating_add(1),
    )
}

fn top_pages(shape: &Shape, window: &Window<SiteId>, at: Second) -> String {
    let Shape { table, visitor, is_visit, .. } = shape;
    format!(
        "SELECT e.page AS page, toUInt32(uniqExact({visitor})) AS visitors
         FROM {table}
         WHERE e.site_id = {} AND e.time >= toDateTime({}, 'UTC') AND e.time < toDateTime({}, 'UTC') AND {is_visit} AND {}
         GROUP BY page ORDER BY visitors DESC, page LIMIT 3",
        literal(window.site),
        at.saturating_sub(window.visits.window_seconds).saturating_add(1),
        at.saturating_add(1),
        belongs(shape, window.visits.segment.as_deref()),
    )
}

fn completions_of_lists(lists: &[Completions]) -> String {
    const ANY: Uuid = Uuid::nil();
    let segments: Vec<_> = lists.iter().map(|list| list.segment.as_ref()).collect();
    let (segments, belongs) = numbered(&SHAPE, "w.segment", &segments);
    let wanted = lists.iter().zip(segments).enumerate().map(|(index, (list, segment))| {
        let goal = list.goal_id.map_or(ANY, |goal_id| Uuid::from_bytes(*goal_id.as_bytes()));
        format!(
            "({}, toUUID('{goal}'), {}, {}, toUInt32({index}), toUInt32({segment}))",
            literal(list.site_id),
            moment(list.after),
            moment(list.until)
        )
    });
    let wanted = wanted.collect::<Vec<_>>().join(", ");
    let sites = lists.iter().map(|list| literal(list.site_id)).collect::<Vec<_>>().join(", ");
    let earliest = lists.iter().map(|list| list.after).min().unwrap_or(Timestamp::EPOCH);
    format!(
        "SELECT w.number AS number, count() AS completions
         FROM (SELECT site_id, time, goal, page, source FROM events ARRAY JOIN goals AS goal
               WHERE site_id IN ({sites}) AND time > {}) AS e
         INNER JOIN (SELECT p.1 AS site, p.2 AS goal, p.3 AS after, p.4 AS until, p.5 AS number,
                            p.6 AS segment
                     FROM (SELECT arrayJoin([{wanted}]) AS p)) AS w
             ON e.site_id = w.site
         WHERE e.time > w.after AND e.time <= w.until AND (w.goal = toUUID('{ANY}') OR w.goal = e.goal)
               AND {belongs}
         GROUP BY number",
        moment(earliest),
    )
}

/// A site in SQL.
pub(super) fn literal(site_id: SiteId) -> String {
    format!("toUUID('{site_id}')")
}

/// A moment in SQL.
fn moment(time: Timestamp) -> String {
    format!("fromUnixTimestamp64Micro({}, 'UTC')", time.as_micros())
}
