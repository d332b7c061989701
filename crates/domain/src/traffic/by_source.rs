//! Who came from which source, for those that count the visitors of a source.
//!
//! A visitor's record has the latest source. When a visitor was last here under those before is remembered beside it, as with pages,
//! and only where somebody wants to know.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Generations, NameId, Share, Traffic, Visitor, top};
use crate::time::Second;
use crate::visitor::VisitorId;

/// The most sources that visitors left for others which are remembered in a period; who left those above counts as new there again.
const MAX_LEFT_SOURCES: usize = 1_000_000;

/// What is remembered of visitors by source.
#[derive(Debug, Default)]
pub(super) struct BySource {
    /// When visitors were last here under sources that they left for others.
    left: Generations<(VisitorId, NameId), Second>,
    /// The source of the latest visit, and when its visitor was last here under that.
    latest: Option<(NameId, Option<Second>)>,
}

impl BySource {
    /// Takes note of a visit under a source, of a visitor whose record was another before.
    pub(super) fn record(&mut self, id: VisitorId, source: NameId, known: Option<Visitor>) {
        let known = known.filter(|visitor| visitor.last_counted > 0);
        let last_seen = match known {
            Some(visitor) if visitor.source == source => Some(visitor.last_counted),
            _ => self.left.get(&(id, source)),
        };
        if let Some(visitor) = known.filter(|visitor| visitor.source != source && visitor.source != NameId::NONE)
            && self.left.young.len() < MAX_LEFT_SOURCES
        {
            self.left.insert((id, visitor.source), visitor.last_counted);
        }
        self.latest = (source != NameId::NONE).then_some((source, last_seen));
    }

    /// The latest visit was not counted.
    pub(super) fn skip(&mut self) {
        self.latest = None;
    }

    pub(super) fn turn(&mut self, now: Second, period: u32) {
        self.left.turn(now, period);
    }
}

impl Traffic {
    /// From now on it is remembered for so many seconds who came from which source; for none not at all.
    pub(crate) fn remember_sources(&mut self, seconds: u32) {
        self.sources_seconds = seconds;
        if seconds == 0 {
            self.by_source = None;
        }
    }

    /// The source of the session that the latest visit began; none where it began none, or came directly.
    pub(crate) fn begun(&self) -> Option<&Arc<str>> {
        self.sources.entries.get(&self.begun).map(|(name, _)| name)
    }

    /// The source of the latest visit's session, and when its visitor was here before under that.
    pub(crate) fn latest_source(&self) -> Option<(&Arc<str>, Option<Second>)> {
        let (source, last_seen) = self.by_source.as_ref()?.latest?;
        Some((&self.sources.entries.get(&source)?.0, last_seen))
    }

    /// When those visitors of a window were last here who came from these sources, in order. Looks at every visitor.
    pub(crate) fn last_seen_from(&self, sources: &[Arc<str>], length_seconds: u32) -> HashMap<Arc<str>, Vec<Second>> {
        let ids: HashMap<_, _> = sources.iter().filter_map(|name| Some((*self.sources.ids.get(name)?, name))).collect();
        let mut found: HashMap<Arc<str>, Vec<Second>> = HashMap::new();
        let here = self.visitors_within(length_seconds).map(|(_, visitor)| (visitor.source, visitor.last_counted));
        let left = self.by_source.iter().flat_map(|by_source| by_source.left.iter());
        let left = left.filter(|((id, source), last_seen)| {
            let is_back = self.visitors.get(id).is_some_and(|visitor| visitor.source == *source);
            !is_back && self.is_within(*last_seen, length_seconds)
        });
        for (source, last_seen) in here.chain(left.map(|((_, source), last_seen)| (source, last_seen))) {
            if let Some(name) = ids.get(&source) {
                found.entry((*name).clone()).or_default().push(last_seen);
            }
        }
        found.values_mut().for_each(|seconds| seconds.sort_unstable());
        found
    }

    /// The pages that those who came from a source looked at most within the window, at most three. Looks at every visitor.
    pub(crate) fn top_pages_from(&self, source: &str, length_seconds: u32) -> Vec<Share> {
        let Some(source) = self.sources.ids.get(source) else { return Vec::new() };
        let mut visitors = HashMap::new();
        for (_, visitor) in self.visitors_within(length_seconds).filter(|(_, visitor)| visitor.source == *source) {
            *visitors.entry(visitor.page).or_insert(0) += 1;
        }
        for ((id, page), _) in self.left_pages.iter().filter(|(_, left_at)| self.is_within(*left_at, length_seconds)) {
            let came_from_there = |visitor: &Visitor| visitor.source == *source && visitor.page != page;
            if self.visitors.get(&id).as_ref().is_some_and(came_from_there) {
                *visitors.entry(page).or_insert(0) += 1;
            }
        }
        visitors.remove(&NameId::NONE);
        top(visitors, &self.pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Visit;

    const START: Second = 1_000_000;

    fn at(
        traffic: &mut Traffic,
        second: Second,
        visitor: u64,
        source: Option<&str>,
        page: &str,
    ) -> Option<(String, Option<Second>)> {
        traffic.advance(START + second);
        traffic.record_visit(&Visit { visitor: VisitorId(visitor), previous: None, source, page });
        traffic.latest_source().map(|(name, last_seen)| (name.to_string(), last_seen.map(|second| second - START)))
    }

    #[test]
    fn who_comes_back_under_a_source_is_known_there() {
        let mut traffic = Traffic::new(START, START);
        traffic.remember_sources(86_400);
        let latest = |name: &str, last_seen| Some((name.to_owned(), last_seen));
        assert_eq!(at(&mut traffic, 0, 1, Some("A"), "/"), latest("A", None));
        assert_eq!(at(&mut traffic, 10, 1, Some("B"), "/b"), latest("A", Some(0)), "the session goes on");
        assert_eq!(at(&mut traffic, 2_000, 1, Some("B"), "/b"), latest("B", None));
        assert_eq!(at(&mut traffic, 4_000, 1, Some("A"), "/"), latest("A", Some(10)));
        assert_eq!(at(&mut traffic, 6_000, 1, None, "/"), None);
        assert_eq!(at(&mut traffic, 6_001, 2, Some("A"), "/c"), latest("A", None));
        let sources: Vec<Arc<str>> = vec!["A".into(), "B".into(), "C".into()];
        let found = traffic.last_seen_from(&sources, 86_400);
        assert_eq!((&found["A"], &found["B"], found.len()), (&vec![START + 4_000, START + 6_001], &vec![START + 2_000], 2));
        assert_eq!(traffic.last_seen_from(&sources, 60).len(), 1);
        let pages: Vec<_> =
            traffic.top_pages_from("A", 60).into_iter().map(|page| (page.name.to_string(), page.visitors)).collect();
        assert_eq!(pages, [("/c".to_owned(), 1)]);
    }

    #[test]
    fn only_what_begins_a_session_is_noted() {
        let mut traffic = Traffic::new(START, START);
        let mut begun = |second, visitor, source| {
            at(&mut traffic, second, visitor, source, "/");
            traffic.begun().map(|name| name.to_string())
        };
        assert_eq!(begun(0, 1, Some("A")), Some("A".to_owned()));
        assert_eq!(begun(1, 1, Some("B")), None);
        assert_eq!(begun(2, 2, None), None);
        assert_eq!(begun(1_803, 1, Some("B")), Some("B".to_owned()));
    }
}
