//! How often the pages of sites were viewed, in any table of events.

use std::collections::{BTreeMap, HashMap};

use bellwether_domain::event::PAGEVIEW;
use bellwether_domain::goal::PathPattern;
use bellwether_domain::history::HOUR_SECONDS;
use bellwether_domain::id::SiteId;
use bellwether_domain::milestone::Stretch;
use bellwether_domain::time::Second;

use super::events::{SHAPE, literal};
use super::segments::pattern;
use super::windows::Shape;
use super::{ClickHouse, ClickHouseError};

/// So many questions are asked by one statement, each of so many sites.
const QUESTIONS_AT_A_TIME: usize = 50;
const SITES_AT_A_TIME: usize = 1_000;
/// Bellwether's own name of the column.
const PAGE: &str = "e.page";

/// Views of pages that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Views<S> {
    /// The site.
    pub site: S,
    /// Of which pages; none for all.
    pub page: Option<PathPattern>,
    /// When.
    pub stretch: Stretch,
}

impl ClickHouse {
    /// How many of them are settled, and how many come after these; in their order.
    pub async fn counted_views(&self, views: &[Views<SiteId>]) -> Result<Vec<(u64, u64)>, ClickHouseError> {
        self.count_views((&SHAPE, PAGE), views, |site| literal(*site)).await
    }

    /// How many pageviews a site had before an hour, as far back as hours are kept; of certain pages, as far back as events are.
    pub async fn pageviews_before(&self, site: SiteId, page: Option<&PathPattern>, hour: u32) -> Result<u64, ClickHouseError> {
        let kept_until = if page.is_some() { 0 } else { self.latest_hour().await?.unwrap_or(0).min(hour) };
        let kept =
            format!("SELECT sum(pageviews) FROM traffic_hours FINAL WHERE site_id = {} AND hour < {kept_until}", literal(site));
        let kept = if kept_until == 0 { 0 } else { self.query::<u64>(&kept).await?.into_iter().sum() };
        let stretch = before(hour, kept_until);
        let counted = self.counted_views(&[Views { site, page: page.cloned(), stretch }]).await?;
        Ok(counted.into_iter().map(|(settled, _)| settled + kept).sum())
    }

    /// The same of a table of any shape, with the name of its column of pages, and sites as SQL has them.
    pub(super) async fn count_views<S>(
        &self,
        (shape, page): (&Shape, &str),
        views: &[Views<S>],
        literal: impl Fn(&S) -> String,
    ) -> Result<Vec<(u64, u64)>, ClickHouseError> {
        let mut counts = vec![(0, 0); views.len()];
        let questions = questions(views, literal);
        for some in questions.chunks(QUESTIONS_AT_A_TIME) {
            let count = |(number, question): (usize, &Question<'_>)| count(shape, page, number, question);
            let sql = some.iter().enumerate().map(count).collect::<Vec<_>>().join(" UNION ALL ");
            for (number, place, settled, latest) in self.query::<(u32, u32, u64, u64)>(&sql).await? {
                let asked = some.get(number as usize).and_then(|question| question.sites.get((place as usize).checked_sub(1)?));
                for index in asked.into_iter().flat_map(|(_, indices)| indices) {
                    counts[*index] = (settled, latest);
                }
            }
        }
        Ok(counts)
    }
}

/// What is asked of many sites alike: each, as SQL has it, with the numbers of those who ask.
struct Question<'v> {
    page: Option<&'v PathPattern>,
    stretch: Stretch,
    sites: Vec<(String, Vec<usize>)>,
}

fn questions<S>(views: &[Views<S>], literal: impl Fn(&S) -> String) -> Vec<Question<'_>> {
    let mut alike: HashMap<_, BTreeMap<String, Vec<usize>>> = HashMap::new();
    for (index, one) in views.iter().enumerate() {
        alike.entry((one.page.as_ref(), one.stretch)).or_default().entry(literal(&one.site)).or_default().push(index);
    }
    let question = |((page, stretch), sites): ((Option<_>, Stretch), BTreeMap<_, _>)| {
        let sites: Vec<_> = sites.into_iter().collect();
        sites.chunks(SITES_AT_A_TIME).map(|sites| Question { page, stretch, sites: sites.to_vec() }).collect::<Vec<_>>()
    };
    alike.into_iter().flat_map(question).collect()
}

/// Everything from one hour to another.
pub(super) fn before(hour: u32, from: u32) -> Stretch {
    let until = hour.saturating_mul(HOUR_SECONDS);
    Stretch { since: from.saturating_mul(HOUR_SECONDS), settled: until, until }
}

fn count(shape: &Shape, column: &str, number: usize, question: &Question<'_>) -> String {
    let (Shape { table, site, time, .. }, Question { page, stretch, sites }) = (shape, question);
    let page = page.map(|page| format!("AND {column} LIKE {}", pattern(page))).unwrap_or_default();
    let sites = sites.iter().map(|(site, _)| site.as_str()).collect::<Vec<_>>().join(",");
    let [since, settled, until] = [stretch.since, stretch.settled, stretch.until].map(beginning);
    format!(
        "SELECT toUInt32({number}) AS number, toUInt32(indexOf([{sites}], site)) AS place, settled, latest
         FROM (SELECT {site} AS site, countIf({time} < {settled}) AS settled, countIf({time} >= {settled}) AS latest
               FROM {table} WHERE {site} IN ({sites}) AND {time} >= {since} AND {time} < {until} AND e.name = '{PAGEVIEW}' {page}
               GROUP BY site)"
    )
}

/// The beginning of a second in SQL.
fn beginning(second: Second) -> String {
    format!("toDateTime({second}, 'UTC')")
}
