//! A site's visitors: their sessions, how many there are now, where they come from and what they look at.
//!
//! One record a visitor, kept as long as a session or the longest window may need it, in two generations of maps: what is
//! seen moves to the young one, and when a period is over the old one is dropped whole. So an event costs constant time, and
//! forgetting costs nothing.

mod by_source;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::FixedState;

use self::by_source::BySource;
use crate::time::Second;
use crate::visitor::VisitorId;
use crate::window::{Counts, Window};

/// Visitors count as current for this long after their last event, in seconds.
pub const CURRENT_VISITORS_WINDOW_SECONDS: u32 = 300;
/// A session ends when nothing comes for longer than this, in seconds.
pub const SESSION_TIMEOUT_SECONDS: u32 = 1_800;
/// The most visitors a site may have in a period; those above are not counted, so that memory stays bounded.
pub const MAX_VISITORS: usize = 8_000_000;

/// The most pages that visitors left for others which are remembered in a period; those above are missing among the top pages.
const MAX_LEFT_PAGES: usize = 8_000_000;
/// The most sources, and the most pages, that are told apart at a time.
const MAX_NAMES: usize = 20_000;
const TOP: usize = 3;

/// The visitors of one site.
#[derive(Debug)]
pub struct Traffic {
    visitors: Generations<VisitorId, Visitor>,
    /// When visitors were last on pages that they left for others.
    left_pages: Generations<(VisitorId, NameId), Second>,
    sources: Names,
    pages: Names,
    windows: Vec<Window>,
    /// For so many seconds it is remembered who came from which source; 0 where nobody wants to know.
    sources_seconds: u32,
    /// Who did, once somebody has come.
    by_source: Option<Box<BySource>>,
    /// The source of the session that the latest visit began.
    begun: NameId,
    /// From this second on, nobody came.
    quiet_from: Second,
    now: Second,
}

/// Who did something, by today's salt and yesterday's, and what a session that begins with it would come from.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// The visitor.
    pub visitor: VisitorId,
    /// The same visitor by yesterday's salt, whose session may go on.
    pub previous: Option<VisitorId>,
    /// The source, none when direct.
    pub source: Option<&'a str>,
    /// The page's path.
    pub page: &'a str,
}

/// A session that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// When its latest event was.
    pub last_event: Second,
    /// Where its first event came from, none when direct.
    pub source: Option<Arc<str>>,
}

impl Session {
    /// The session that goes on at `now`, out of a visitor's events and where each came from, the latest first.
    pub fn of(events: impl IntoIterator<Item = (Second, Option<Arc<str>>)>, now: Second) -> Option<Self> {
        let (mut after, mut session) = (now, None);
        for (second, source) in events {
            if after.saturating_sub(second) > SESSION_TIMEOUT_SECONDS {
                break;
            }
            let last_event = session.map_or(second, |session: Self| session.last_event);
            (after, session) = (second, Some(Self { last_event, source }));
        }
        session
    }
}

/// A number of visitors by source or page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The source or the page.
    pub name: Arc<str>,
    /// Distinct visitors.
    pub visitors: u32,
}

/// Where most visitors come from, and where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tops {
    /// The sources of most visitors, those without one left out.
    pub sources: Vec<Share>,
    /// The pages of most visitors.
    pub pages: Vec<Share>,
}

/// What a visit was to those that count visitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visited {
    /// There are too many visitors to count this one.
    Uncounted,
    /// The visitor had not been here, as far as is remembered.
    First,
    /// The visitor's visit before was then.
    Again(Second),
}

#[derive(Clone, Copy, Debug)]
struct Visitor {
    last_event: Second,
    /// The last event that counts as a visit; 0 for none.
    last_counted: Second,
    source: NameId,
    page: NameId,
}

impl Traffic {
    /// A site that is watched from the second `watched_from` on, now being `now`.
    pub fn new(watched_from: Second, now: Second) -> Self {
        Self {
            visitors: Generations::default(),
            left_pages: Generations::default(),
            sources: Names::default(),
            pages: Names::default(),
            windows: vec![Window::new(CURRENT_VISITORS_WINDOW_SECONDS, watched_from, [])],
            sources_seconds: 0,
            by_source: None,
            begun: NameId::NONE,
            quiet_from: watched_from,
            now,
        }
    }

    /// Keeps windows of exactly these lengths, beside the one of current visitors. New ones know who is in them, but of the time
    /// before only whether anybody came since it is known that nobody did.
    pub fn keep_windows(&mut self, lengths: &[u32]) {
        self.windows.retain(|window| {
            window.length_seconds() == CURRENT_VISITORS_WINDOW_SECONDS || lengths.contains(&window.length_seconds())
        });
        let watched_from = if self.visitors.is_empty() { self.quiet_from } else { self.now + 1 };
        for length in lengths {
            if self.window(*length).is_none() {
                let mut last_seen: Vec<_> = self.visitors_within(*length).map(|(_, visitor)| visitor.last_counted).collect();
                last_seen.sort_unstable();
                self.windows.push(Window::new(*length, watched_from, last_seen));
            }
        }
    }

    /// Lets the time pass to `now`. Events of one second may come in any order; a time before the latest counts as the latest.
    pub fn advance(&mut self, now: Second) -> Second {
        self.now = self.now.max(now);
        self.windows.iter_mut().for_each(|window| window.advance(self.now));
        let period = self.period();
        self.visitors.turn(self.now, period);
        self.left_pages.turn(self.now, period);
        self.by_source.iter_mut().for_each(|by_source| by_source.turn(self.now, period));
        self.sources.turn(self.now, period);
        self.pages.turn(self.now, period);
        self.now
    }

    /// Counts a visit at the time reached.
    pub fn record_visit(&mut self, visit: &Visit<'_>) -> Visited {
        let now = self.now;
        (self.quiet_from, self.begun) = (now + 1, NameId::NONE);
        let known = self.take_over(visit);
        if known.is_none() && self.visitors.young.len() >= MAX_VISITORS {
            self.by_source.iter_mut().for_each(|by_source| by_source.skip());
            return Visited::Uncounted;
        }
        let session = known.filter(|visitor| visitor.is_in_session(now));
        let source = match session {
            Some(visitor) => self.sources.touch(visitor.source, now),
            None => visit.source.map_or(NameId::NONE, |source| self.sources.name(source, now)),
        };
        self.begun = if session.is_none() { source } else { NameId::NONE };
        if self.sources_seconds > 0 {
            self.by_source.get_or_insert_default().record(visit.visitor, source, known);
        }
        let page = self.pages.name(visit.page, now);
        let last_counted = known.map(|visitor| visitor.last_counted).filter(|last_counted| *last_counted > 0);
        if let (Some(visitor), Some(last_counted)) = (known, last_counted)
            && visitor.page != page
            && self.left_pages.young.len() < MAX_LEFT_PAGES
        {
            self.left_pages.insert((visit.visitor, visitor.page), last_counted);
        }
        self.windows.iter_mut().for_each(|window| window.record(last_counted, now));
        self.visitors.insert(visit.visitor, Visitor { last_event: now, last_counted: now, source, page });
        last_counted.map_or(Visited::First, Visited::Again)
    }

    /// Lets the visitor's session go on without counting a visit. False, and nothing changes, without a live session.
    pub fn extend_session(&mut self, visit: &Visit<'_>) -> bool {
        let now = self.now;
        match self.take_over(visit).filter(|visitor| visitor.is_in_session(now)) {
            Some(visitor) => {
                self.sources.touch(visitor.source, now);
                self.visitors.insert(visit.visitor, Visitor { last_event: now, ..visitor });
                true
            }
            None => false,
        }
    }

    /// Takes note of a session that began elsewhere: its latest event and its source. It is no visit.
    pub fn adopt_session(&mut self, visitor: VisitorId, session: &Session) {
        let source = session.source.as_deref().map_or(NameId::NONE, |source| self.sources.name(source, self.now));
        let adopted = Visitor { last_event: session.last_event, last_counted: 0, source, page: NameId::NONE };
        if self.visitors.young.len() < MAX_VISITORS {
            self.visitors.insert(visitor, adopted);
        }
    }

    /// Whether the visitor has been here lately.
    pub fn knows(&self, visitor: VisitorId) -> bool {
        self.visitors.get(&visitor).is_some()
    }

    /// The source of the visitor's session, none when direct.
    pub fn source_of(&self, visitor: VisitorId) -> Option<Arc<str>> {
        self.sources.get(self.visitors.get(&visitor)?.source)
    }

    /// Distinct visitors of the window of this length and of the one before; zero for a length that is not kept.
    pub fn counts(&self, length_seconds: u32) -> Counts {
        self.window(length_seconds).map(|window| window.counts(self.now)).unwrap_or_default()
    }

    /// The sources that the most visitors of the window come from, at most three. Looks at every visitor.
    pub fn top_sources(&self, length_seconds: u32) -> Vec<Share> {
        let mut visitors = HashMap::new();
        for (_, visitor) in self.visitors_within(length_seconds).filter(|(_, visitor)| visitor.source != NameId::NONE) {
            *visitors.entry(visitor.source).or_insert(0) += 1;
        }
        top(visitors, &self.sources)
    }

    /// The pages that the most visitors of the window looked at, at most three. Looks at every visitor.
    pub fn top_pages(&self, length_seconds: u32) -> Vec<Share> {
        let mut visitors = HashMap::new();
        for (_, visitor) in self.visitors_within(length_seconds) {
            *visitors.entry(visitor.page).or_insert(0) += 1;
        }
        for ((id, page), left_at) in self.left_pages.iter() {
            let is_back = self.visitors.get(&id).is_some_and(|visitor| visitor.page == page);
            if !is_back && self.is_within(left_at, length_seconds) {
                *visitors.entry(page).or_insert(0) += 1;
            }
        }
        visitors.remove(&NameId::NONE);
        top(visitors, &self.pages)
    }

    /// Whether nothing would be lost by forgetting this site's visitors at `now`.
    pub fn is_over(&self, now: Second) -> bool {
        now.saturating_sub(self.now) > self.period().saturating_mul(2)
    }

    /// The second since which nobody came, or since which the site is watched.
    pub fn quiet_from(&self) -> Second {
        self.quiet_from
    }

    /// The latest time this site has seen.
    pub fn now(&self) -> Second {
        self.now
    }

    /// The record of a visitor who may still bear yesterday's name, under today's.
    fn take_over(&mut self, visit: &Visit<'_>) -> Option<Visitor> {
        let known = self.visitors.get(&visit.visitor);
        let live = |visitor: &Visitor| visitor.is_in_session(self.now);
        if known.as_ref().is_some_and(live) {
            return known;
        }
        let Some((id, before)) = visit.previous.and_then(|id| Some((id, self.visitors.get(&id).filter(live)?))) else {
            return known;
        };
        self.visitors.remove(&id);
        self.visitors.insert(visit.visitor, before);
        Some(before)
    }

    fn window(&self, length_seconds: u32) -> Option<&Window> {
        self.windows.iter().find(|window| window.length_seconds() == length_seconds)
    }

    fn visitors_within(&self, length_seconds: u32) -> impl Iterator<Item = (VisitorId, Visitor)> {
        self.visitors.iter().filter(move |(_, visitor)| self.is_within(visitor.last_counted, length_seconds))
    }

    fn is_within(&self, second: Second, length_seconds: u32) -> bool {
        second > 0 && self.now.saturating_sub(second) < length_seconds
    }

    /// How long a record must be kept after its last event: until neither a session nor a window needs it.
    fn period(&self) -> u32 {
        let longest = self.windows.iter().map(Window::length_seconds).max().unwrap_or(0);
        longest.max(SESSION_TIMEOUT_SECONDS + 1).max(self.sources_seconds)
    }
}

impl Visitor {
    fn is_in_session(&self, now: Second) -> bool {
        now.saturating_sub(self.last_event) <= SESSION_TIMEOUT_SECONDS
    }
}

fn top(visitors: HashMap<NameId, u32>, names: &Names) -> Vec<Share> {
    let named = visitors.into_iter().filter_map(|(id, visitors)| Some(Share { name: names.get(id)?, visitors }));
    let mut shares: Vec<_> = named.collect();
    shares.sort_by(|a, b| b.visitors.cmp(&a.visitors).then_with(|| a.name.cmp(&b.name)));
    shares.truncate(TOP);
    shares
}

/// A map that forgets what was not written for a while: everything lives at least one period and at most two.
#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, V, FixedState>,
    old: HashMap<K, V, FixedState>,
    turned_at: Second,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), turned_at: 0 }
    }
}

impl<K: Copy + Eq + Hash, V: Copy> Generations<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).copied()
    }

    fn insert(&mut self, key: K, value: V) {
        self.young.insert(key, value);
    }

    fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    fn is_empty(&self) -> bool {
        self.young.is_empty() && self.old.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = (K, V)> {
        let old = self.old.iter().filter(|(key, _)| !self.young.contains_key(key));
        self.young.iter().chain(old).map(|(key, value)| (*key, *value))
    }

    fn turn(&mut self, now: Second, period: u32) {
        let passed = now.saturating_sub(self.turned_at);
        if passed < period {
            return;
        }
        let young = std::mem::take(&mut self.young);
        self.old = if passed < period.saturating_mul(2) { young } else { HashMap::default() };
        self.turned_at = now;
    }
}

/// A small number for a source or a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct NameId(u32);

impl NameId {
    const NONE: Self = Self(0);
}

/// Texts by number, so that a visitor's record stays small. A name that was not touched for a period loses its number.
#[derive(Debug, Default)]
struct Names {
    ids: HashMap<Arc<str>, NameId, FixedState>,
    entries: HashMap<NameId, (Arc<str>, Second), FixedState>,
    last_id: u32,
    swept_at: Second,
}

impl Names {
    /// The number of a name, which is new if there is room.
    fn name(&mut self, name: &str, now: Second) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return self.touch(*id, now);
        }
        if self.ids.len() >= MAX_NAMES {
            return NameId::NONE;
        }
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let (id, name) = (NameId(self.last_id), Arc::<str>::from(name));
        self.ids.insert(name.clone(), id);
        self.entries.insert(id, (name, now));
        id
    }

    fn touch(&mut self, id: NameId, now: Second) -> NameId {
        if let Some((_, touched)) = self.entries.get_mut(&id) {
            *touched = now;
        }
        id
    }

    fn get(&self, id: NameId) -> Option<Arc<str>> {
        self.entries.get(&id).map(|(name, _)| name.clone())
    }

    fn turn(&mut self, now: Second, period: u32) {
        if now.saturating_sub(self.swept_at) < period {
            return;
        }
        self.swept_at = now;
        self.entries.retain(|_, (_, touched)| now.saturating_sub(*touched) <= period);
        self.ids.retain(|_, id| self.entries.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const START: Second = 1_000_000;

    fn visit(visitor: u64, page: &str) -> Visit<'_> {
        Visit { visitor: VisitorId(visitor), previous: None, source: None, page }
    }

    fn shares(shares: &[Share]) -> Vec<(&str, u32)> {
        shares.iter().map(|share| (share.name.as_ref(), share.visitors)).collect()
    }

    #[test]
    fn a_session_goes_back_to_its_first_event() {
        let event = |second, source: &str| (START + second, Some(Arc::from(source)));
        let events = [event(4_000, "c"), event(2_300, "b"), event(600, "a"), event(0, "0")];
        let session = |now, events: &[_]| Session::of(events.to_vec(), START + now);
        let expected = |last_event, source: &str| Some(Session { last_event: START + last_event, source: Some(source.into()) });
        assert_eq!(session(5_800, &events), expected(4_000, "0"));
        assert_eq!(session(5_801, &events), None);
        assert_eq!(session(5_800, &events[..1]), expected(4_000, "c"));
        assert_eq!(session(4_100, &[event(4_000, "c"), event(2_199, "b")]), expected(4_000, "c"));
        assert_eq!(session(0, &[]), None);
    }

    #[test]
    fn a_session_from_elsewhere_goes_on() {
        let mut traffic = Traffic::new(START, START);
        traffic.advance(START + 100);
        traffic.adopt_session(VisitorId(1), &Session { last_event: START, source: Some("Google".into()) });
        assert_eq!(traffic.counts(CURRENT_VISITORS_WINDOW_SECONDS).current, 0);
        assert!(traffic.extend_session(&visit(1, "/")));
        assert_eq!(traffic.record_visit(&visit(1, "/")), Visited::First);
        assert_eq!(traffic.source_of(VisitorId(1)).as_deref(), Some("Google"));
        assert_eq!(traffic.counts(CURRENT_VISITORS_WINDOW_SECONDS).current, 1);
    }

    #[test]
    fn a_session_keeps_its_source() {
        let mut traffic = Traffic::new(START, START);
        let from = |source| Visit { source, ..visit(1, "/") };
        let source = |traffic: &Traffic| traffic.source_of(VisitorId(1)).map(|source| source.to_string());
        traffic.advance(START);
        traffic.record_visit(&from(Some("Google")));
        traffic.advance(START + 1_800);
        traffic.record_visit(&from(Some("Twitter")));
        assert_eq!(source(&traffic).as_deref(), Some("Google"));
        traffic.advance(START + 3_600);
        assert!(traffic.extend_session(&from(None)));
        traffic.advance(START + 5_400);
        traffic.record_visit(&from(Some("Twitter")));
        assert_eq!(source(&traffic).as_deref(), Some("Google"));
        traffic.advance(START + 7_201);
        assert!(!traffic.extend_session(&from(None)));
        traffic.record_visit(&from(Some("Twitter")));
        assert_eq!(source(&traffic).as_deref(), Some("Twitter"));
    }

    #[test]
    fn engagement_extends_a_session_but_is_no_visit() {
        let mut traffic = Traffic::new(START, START);
        traffic.advance(START);
        assert!(!traffic.extend_session(&visit(1, "/")));
        traffic.record_visit(&visit(1, "/"));
        traffic.advance(START + 299);
        assert_eq!(traffic.counts(300).current, 1);
        assert!(traffic.extend_session(&visit(1, "/")));
        traffic.advance(START + 300);
        assert_eq!(traffic.counts(300).current, 0);
        traffic.record_visit(&visit(1, "/"));
        assert_eq!(traffic.counts(300), Counts { current: 1, previous: 1, watched_once: true, watched_twice: false });
    }

    #[test]
    fn a_session_goes_on_past_midnight_as_one_visitor() {
        let mut traffic = Traffic::new(START, START);
        traffic.advance(START);
        traffic.record_visit(&Visit { source: Some("Google"), ..visit(1, "/a") });
        traffic.advance(START + 60);
        traffic.record_visit(&Visit { previous: Some(VisitorId(1)), source: Some("Bing"), ..visit(2, "/b") });
        assert_eq!(traffic.counts(300).current, 1);
        assert_eq!(shares(&traffic.top_sources(300)), [("Google", 1)]);
        traffic.advance(START + 1_861);
        traffic.record_visit(&Visit { previous: Some(VisitorId(2)), ..visit(3, "/b") });
        assert_eq!(traffic.source_of(VisitorId(3)), None);
    }

    #[test]
    fn tops_count_distinct_visitors_of_the_window() {
        let mut traffic = Traffic::new(START, START);
        let seen = [
            (0, 9, "/old", Some("Old")),
            (250, 1, "/a", Some("Google")),
            (300, 2, "/a", Some("Bing")),
            (301, 2, "/b", None),
            (302, 3, "/b", Some("Bing")),
            (303, 2, "/a", None),
            (304, 4, "/c", None),
            (305, 5, "/d", None),
        ];
        for (second, visitor, page, source) in seen {
            traffic.advance(START + second);
            traffic.record_visit(&Visit { source, ..visit(visitor, page) });
        }
        assert_eq!(shares(&traffic.top_pages(300)), [("/a", 2), ("/b", 2), ("/c", 1)]);
        assert_eq!(shares(&traffic.top_sources(300)), [("Bing", 2), ("Google", 1)]);
    }

    #[test]
    fn names_are_bounded_and_forgotten() {
        let mut names = Names::default();
        let first = names.name("/first", 0);
        for page in 0..MAX_NAMES {
            names.name(&format!("/{page}"), 0);
        }
        assert_eq!(names.name("/one-too-many", 0), NameId::NONE);
        names.touch(first, 9);
        names.turn(15, 10);
        assert_eq!((names.entries.len(), names.name("/first", 15)), (1, first));
        assert_ne!(names.name("/new", 15), NameId::NONE);
    }

    #[test]
    fn a_new_window_knows_that_nobody_came_since_the_last_visit_and_no_more() {
        const DAY: u32 = 86_400;
        let mut traffic = Traffic::new(START, START);
        traffic.record_visit(&visit(1, "/"));
        traffic.advance(START + 10_000);
        traffic.keep_windows(&[DAY]);
        for (seconds, watched_twice) in [(2 * DAY - 1, false), (2 * DAY, true)] {
            traffic.advance(START + seconds);
            assert_eq!(traffic.counts(DAY).watched_twice, watched_twice, "{seconds}");
        }
    }

    #[test]
    fn what_is_forgotten_is_over() {
        let mut traffic = Traffic::new(START, START);
        traffic.record_visit(&visit(1, "/"));
        assert!(!traffic.is_over(START + 3_602) && traffic.is_over(START + 3_603));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// Random visitors that come, look around, stay away for long, and change their id from one day to the next; times may be
        /// a second late. Windows of several lengths, one of them longer than a session, against counting all events anew.
        #[test]
        fn counts_as_an_oracle_does(
            steps in prop::collection::vec((prop_oneof![6 => 0_u32..20, 2 => 20_u32..400, 1 => 400_u32..6_000], 0_u64..10, 0_u32..2, 0_usize..4), 1..150),
            midnight in 0_u32..8_000,
        ) {
            const LENGTHS: [u32; 3] = [60, 300, 2_500];
            let mut traffic = Traffic::new(START, START);
            traffic.keep_windows(&LENGTHS);
            let mut events: Vec<(Second, u64, usize)> = Vec::new();
            let mut last_event: BTreeMap<u64, Second> = BTreeMap::new();
            let mut person: BTreeMap<u64, u64> = BTreeMap::new();
            let mut time = START;
            for (gap, someone, late, page) in steps {
                time += gap;
                let now = traffic.advance(time - late.min(gap));
                let (visitor, previous) = if now >= START + midnight { (someone + 100, Some(someone)) } else { (someone, None) };
                let live = |id: u64| last_event.get(&id).is_some_and(|last| now - last <= SESSION_TIMEOUT_SECONDS);
                let identity = match previous {
                    Some(previous) if !live(visitor) && live(previous) => *person.get(&previous).unwrap_or(&previous),
                    _ => *person.get(&visitor).unwrap_or(&visitor),
                };
                person.insert(visitor, identity);
                last_event.insert(visitor, now);
                events.push((now, identity, page));
                let pages = ["/a", "/b", "/c", "/d"];
                traffic.record_visit(&Visit { visitor: VisitorId(visitor), previous: previous.map(VisitorId), source: None, page: pages[page] });
                for length in LENGTHS {
                    let distinct = |from: u32, to: u32| events.iter().filter(|(second, _, _)| (from..to).contains(&(now - second))).map(|(_, id, _)| id).collect::<BTreeSet<_>>().len();
                    let counts = traffic.counts(length);
                    prop_assert_eq!((counts.current as usize, counts.previous as usize), (distinct(0, length), distinct(length, 2 * length)), "{} at {}", length, now);
                }
            }
        }
    }
}
