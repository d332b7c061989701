//! What Plausible's hosted service answers: how often goals were completed on which day, how many visitors there are, which goals a
//! site has.
//!
//! Each answer is read into a type that cannot be wrong, or is [`NotAnAnswer`]. Nothing here knows how anything is asked
//! ([`polling`](crate::polling)).

mod goals;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Span;
use jiff::civil::Date;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::goal::Goal;
use crate::polling::Subject;

pub use goals::{Listed, listed_goals, named_goals};

/// So many rows are asked for at a time: one for each goal and day.
const MAX_ROWS: usize = 10_000;
/// So many days are asked for at a time.
pub const MAX_DAYS: i32 = 7;

/// A day in a site's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

/// How often goals were completed, by day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The first of the days.
    pub from: Day,
    /// The last of the days, which may not be over.
    pub until: Day,
    /// How often, by day and the goal's name; what is not there is 0.
    pub counts: BTreeMap<(Day, String), u32>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Which goals a site has.
    Goals(Listed),
    /// How often they were completed.
    Completions(Counted),
    /// How many visitors there are.
    Visitors(u32),
}

/// An answer is none that the service gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not what the service gives: {0}")]
pub struct NotAnAnswer(&'static str);

/// A text is no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a day like 2026-02-25")]
pub struct NotADay;

impl Answer {
    /// Reads the answer to a question about a subject.
    pub fn read(subject: Subject, body: &[u8]) -> Result<Self, NotAnAnswer> {
        match subject {
            Subject::Goals => Listed::read(body).map(Self::Goals),
            Subject::Completions => Counted::read(body).map(Self::Completions),
            Subject::Visitors => read_visitors(body).map(Self::Visitors),
        }
    }
}

impl Day {
    /// The day so many days before.
    pub fn earlier(self, days: i32) -> Self {
        Self(self.0.saturating_sub(Span::new().days(days)))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Day {
    type Err = NotADay;

    /// Reads the day of a moment in RFC 3339 too, as it is where the moment is given.
    fn from_str(text: &str) -> Result<Self, NotADay> {
        text.get(..10).and_then(|day| day.parse().ok()).map(Self).ok_or(NotADay)
    }
}

/// The body that asks how often the goals of a site were completed: today, where it is, or on days that are known.
pub fn completions_query(domain: &str, days: Option<(Day, Day)>) -> Value {
    let range = days.map_or(json!("day"), |(from, until)| json!([from.to_string(), until.to_string()]));
    json!({
        "site_id": domain, "metrics": ["visitors", "events"], "date_range": range, "dimensions": ["time:day", "event:goal"],
        "pagination": {"limit": MAX_ROWS, "offset": 0},
    })
}

#[derive(Deserialize)]
struct Results {
    results: Vec<Row>,
    query: Query,
}

#[derive(Deserialize)]
struct Row {
    metrics: (Option<f64>, Option<f64>),
    dimensions: (String, String),
}

#[derive(Deserialize)]
struct Query {
    date_range: (String, String),
}

impl Counted {
    /// Reads the answer to [`completions_query`]. A goal that has no completions of its own, as those on scrolling do, has as many as
    /// visitors.
    pub fn read(body: &[u8]) -> Result<Self, NotAnAnswer> {
        let answer: Results = serde_json::from_slice(body).map_err(|_| NotAnAnswer("no counts of goals"))?;
        let day = |text: &str| text.parse::<Day>().map_err(|_| NotAnAnswer("a day that is none"));
        let (from, until) = (day(&answer.query.date_range.0)?, day(&answer.query.date_range.1)?);
        let mut counts = BTreeMap::new();
        for Row { metrics: (visitors, events), dimensions: (time, goal) } in answer.results.into_iter().take(MAX_ROWS) {
            let count = number(visitors)?.max(number(events)?);
            counts.insert((day(&time)?, goal), count);
        }
        if from > until || counts.keys().any(|(day, _)| !(from..=until).contains(day)) {
            return Err(NotAnAnswer("days that were not asked for"));
        }
        Ok(Self { from, until, counts })
    }

    /// How often a goal was completed on a day.
    pub fn count(&self, day: Day, goal: &str) -> u32 {
        // A key of the map owns its name.
        self.counts.get(&(day, goal.to_owned())).copied().unwrap_or(0)
    }

    /// The names of goals that were completed and are none of these.
    pub fn others(&self, goals: &[Goal]) -> Vec<String> {
        let mut names: Vec<_> = self.counts.keys().map(|(_, name)| name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| goals.iter().all(|goal| goal.spec.display_name != *name));
        names
    }
}

/// A count that may be absent, and that some versions write with a fraction.
fn number(metric: Option<f64>) -> Result<u32, NotAnAnswer> {
    let number = metric.unwrap_or(0.0);
    if !(0.0..=f64::from(u32::MAX)).contains(&number) {
        return Err(NotAnAnswer("a count that is none"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was looked at")]
    Ok(number as u32)
}

/// Reads how many visitors there are, which is a bare number.
fn read_visitors(body: &[u8]) -> Result<u32, NotAnAnswer> {
    serde_json::from_slice(body).map_err(|_| NotAnAnswer("no number of visitors"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SiteId;
    use crate::time::Timestamp;

    fn day(text: &str) -> Day {
        text.parse().expect("a day")
    }

    fn answer(range: [&str; 2], rows: Value) -> Vec<u8> {
        json!({"results": rows, "meta": {}, "query": {"site_id": "example.com", "date_range": range}}).to_string().into_bytes()
    }

    #[test]
    fn what_is_asked() {
        let today = completions_query("example.com", None);
        assert_eq!((&today["site_id"], &today["date_range"]), (&json!("example.com"), &json!("day")));
        let days = completions_query("example.com", Some((day("2026-02-24"), day("2026-02-25"))));
        assert_eq!(days["date_range"], json!(["2026-02-24", "2026-02-25"]));
        assert_eq!(days["dimensions"], json!(["time:day", "event:goal"]));
    }

    #[test]
    fn counts_of_goals() {
        let range = ["2026-02-24T00:00:00+13:00", "2026-02-25T23:59:59+13:00"];
        let rows = json!([
            {"metrics": [3, 7], "dimensions": ["2026-02-25", "Signup"]},
            {"metrics": [3, 0], "dimensions": ["2026-02-25", "Scroll 50% on /"]},
            {"metrics": [2, null], "dimensions": ["2026-02-24", "Visit /a"]},
        ]);
        let counted = Counted::read(&answer(range, rows)).expect("counts");
        assert_eq!((counted.from, counted.until), (day("2026-02-24"), day("2026-02-25")));
        for (date, goal, count) in [
            ("2026-02-25", "Signup", 7),
            ("2026-02-24", "Signup", 0),
            ("2026-02-25", "Scroll 50% on /", 3),
            ("2026-02-24", "Visit /a", 2),
        ] {
            assert_eq!(counted.count(day(date), goal), count, "{date} {goal}");
        }
        let goals = named_goals(SiteId::from_bytes([1; 16]), &[], &["Signup".to_owned()], Timestamp::EPOCH);
        assert_eq!(counted.others(&goals), ["Scroll 50% on /", "Visit /a"]);
    }

    #[test]
    fn what_is_no_answer() {
        let range = ["2026-02-25T00:00:00Z", "2026-02-25T23:59:59Z"];
        let row = |metrics: Value, dimensions: Value| answer(range, json!([{"metrics": metrics, "dimensions": dimensions}]));
        let good = json!(["2026-02-25", "Signup"]);
        assert!(Counted::read(&row(json!([1, 1]), good.clone())).is_ok());
        for bad in [
            b"<html>".to_vec(),
            b"{}".to_vec(),
            b"5".to_vec(),
            br#"{"error": "no"}"#.to_vec(),
            row(json!([1]), good.clone()),
            row(json!([-1, 1]), good.clone()),
            row(json!(["1", 1]), good.clone()),
            row(json!([1, 5e9]), good),
            row(json!([1, 1]), json!(["Signup"])),
            row(json!([1, 1]), json!(["today", "Signup"])),
            row(json!([1, 1]), json!(["2026-02-24", "Signup"])),
            answer(["2026-02-26", "2026-02-25"], json!([])),
            answer(["€€€€€€€€€€", "2026-02-25"], json!([])),
        ] {
            assert!(Counted::read(&bad).is_err(), "{}", String::from_utf8_lossy(&bad));
        }
    }

    #[test]
    fn numbers_of_visitors() {
        let cases: [(&[u8], Option<u32>); 6] =
            [(b"17", Some(17)), (b" 0\n", Some(0)), (b"-1", None), (b"1.5", None), (b"\"3\"", None), (b"", None)];
        for (body, visitors) in cases {
            assert_eq!(read_visitors(body).ok(), visitors, "{}", String::from_utf8_lossy(body));
        }
    }
}
