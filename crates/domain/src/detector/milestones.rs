//! How far the milestones of a site have come, as its pageviews come.
//!
//! One whose trigger is new here starts with what was kept of it, or with what the history has. Until that is known its pageviews are
//! counted, and it tells nothing.

use crate::detector::{Firing, Rules, fire};
use crate::history::Recorder;
use crate::id::TriggerId;
use crate::milestone::{Day, MilestoneCount, PageviewMilestone, Period};
use crate::payload::Data;
use crate::time::Second;

/// The milestones of a site, in the order of its rules.
#[derive(Debug, Default)]
pub(super) struct Milestones {
    standing: Box<[Standing]>,
    today: Today,
}

#[derive(Clone, Debug)]
struct Standing {
    trigger_id: TriggerId,
    count: MilestoneCount,
    is_started: bool,
    /// The day of which something is known to be told, and its highest milestone. What has just fired is still to be written.
    told: (Day, u64),
    /// As it was kept.
    kept: Option<MilestoneCount>,
}

/// The day that it is on the site, from its first second to the one before the next day's.
#[derive(Clone, Copy, Debug, Default)]
struct Today {
    day: Day,
    begins: Second,
    ends: Second,
}

/// A milestone whose start is to be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starting {
    /// The trigger.
    pub trigger_id: TriggerId,
    /// The day that it counts, if it counts one.
    pub day: Day,
    /// From which minute on the history knows what it counts; none for pages, of which the history knows nothing.
    pub from_minute: Option<u32>,
}

/// What was found out for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// For whom.
    pub starting: Starting,
    /// What was kept.
    pub kept: Option<MilestoneCount>,
    /// The pageviews since its minute that are stored; 0 for pages.
    pub stored: u64,
}

impl Milestones {
    pub(super) fn new(rules: &Rules) -> Self {
        let mut milestones = Self::default();
        milestones.take_in(rules);
        milestones
    }

    /// Takes over changed rules at `now`: how far those have come that stay is kept.
    pub(super) fn adapt(&mut self, rules: &Rules, now: Second) {
        self.take_in(rules);
        // The site's clocks may have been changed.
        self.set_back(rules, now);
    }

    fn take_in(&mut self, rules: &Rules) {
        let before = std::mem::take(&mut self.standing);
        let standing = |id| before.iter().find(|standing| standing.trigger_id == id).cloned().unwrap_or(Standing::new(id));
        self.standing = rules.milestones().iter().map(|(target, _)| standing(target.trigger_id)).collect();
    }

    /// Counts a view of a page at `now`.
    pub(super) fn count(&mut self, rules: &Rules, path: &str, now: Second, firings: &mut Vec<Firing>) {
        for (standing, (target, rule)) in self.standing.iter_mut().zip(rules.milestones()) {
            if rule.counts(path) {
                standing.turn(rule, rules, &mut self.today, now);
                standing.count.pageviews += 1;
                if let Some(data) = standing.tell(rule) {
                    fire(firings, data, *target);
                }
            }
        }
    }

    /// Tells of milestones that were reached before it was known.
    pub(super) fn look(&mut self, rules: &Rules, firings: &mut Vec<Firing>) {
        for (standing, (target, rule)) in self.standing.iter_mut().zip(rules.milestones()) {
            if let Some(data) = standing.tell(rule) {
                fire(firings, data, *target);
            }
        }
    }

    /// Takes back what fired.
    pub(super) fn take_back(&mut self, firing: &Firing) {
        let Data::PageviewMilestone(told) = &firing.data else { return };
        let fired = |standing: &&mut Standing| firing.targets.iter().any(|target| target.trigger_id == standing.trigger_id);
        self.standing.iter_mut().filter(fired).for_each(|standing| standing.count.take_back(told));
    }

    /// Takes note that it is written what fired.
    pub(super) fn keep_told(&mut self, firing: &Firing) {
        let Data::PageviewMilestone(told) = &firing.data else { return };
        let fired = |standing: &&mut Standing| firing.targets.iter().any(|target| target.trigger_id == standing.trigger_id);
        self.standing.iter_mut().filter(fired).for_each(|standing| standing.keep_told(told.count()));
    }

    /// The clock was set back to `now`, or the site's clocks were: what was counted of days to come was not.
    pub(super) fn set_back(&mut self, rules: &Rules, now: Second) {
        self.today = Today::default();
        for (standing, (_, rule)) in self.standing.iter_mut().zip(rules.milestones()) {
            if rule.period == Period::Day && standing.count.day > self.today.at(rules, now) {
                *standing = Standing::new(standing.trigger_id);
            }
        }
    }

    /// Those whose start is to be found out.
    pub(super) fn starting(&mut self, rules: &Rules, now: Second) -> Vec<Starting> {
        let mut starting = Vec::new();
        for (standing, (target, rule)) in self.standing.iter_mut().zip(rules.milestones()) {
            if !standing.is_started {
                standing.turn(rule, rules, &mut self.today, now);
                let first = || if rule.period == Period::Day { standing.count.day.first_minute(rules.zone()) } else { 0 };
                let from_minute = rule.page.is_none().then(first);
                starting.push(Starting { trigger_id: target.trigger_id, day: standing.count.day, from_minute });
            }
        }
        starting
    }

    /// Starts those of which it was found out how far they have come, unless another day has begun meanwhile.
    pub(super) fn start(&mut self, rules: &Rules, starts: &[Start], history: &Recorder) {
        for (standing, (_, rule)) in self.standing.iter_mut().zip(rules.milestones()) {
            let is_its =
                |start: &&Start| start.starting.trigger_id == standing.trigger_id && start.starting.day == standing.count.day;
            let Some(start) = starts.iter().find(is_its).filter(|_| !standing.is_started) else { continue };
            let known = start.starting.from_minute.map(|from| start.stored + pageviews_since(history, from));
            standing.count.start(rule, start.kept, known);
            standing.told = (standing.count.day, standing.count.told);
            standing.is_started = true;
        }
    }

    /// How far those have come that have changed since they were kept, without what fired and is not written yet.
    pub(super) fn unkept(&self) -> impl Iterator<Item = (TriggerId, MilestoneCount)> + '_ {
        let unkept = self.standing.iter().filter(|standing| standing.is_started && standing.kept != Some(standing.written()));
        unkept.map(|standing| (standing.trigger_id, standing.written()))
    }

    /// Takes note that this is kept of one.
    pub(super) fn keep(&mut self, id: TriggerId, kept: MilestoneCount) {
        let its = self.standing.iter_mut().find(|standing| standing.trigger_id == id);
        its.into_iter().for_each(|standing| standing.kept = Some(kept));
    }

    /// Whether nothing would be lost by forgetting this: all of it is kept.
    pub(super) fn is_over(&self) -> bool {
        self.standing.iter().all(|standing| standing.kept == Some(standing.count))
    }
}

impl Standing {
    fn new(trigger_id: TriggerId) -> Self {
        Self { trigger_id, count: MilestoneCount::default(), is_started: false, told: (Day::default(), 0), kept: None }
    }

    fn turn(&mut self, rule: &PageviewMilestone, rules: &Rules, today: &mut Today, now: Second) {
        if rule.period == Period::Day {
            self.count.turn_to(today.at(rules, now));
        }
    }

    /// How far it has come, as whoever begins anew is to know it.
    fn written(&self) -> MilestoneCount {
        let (day, told) = self.told;
        MilestoneCount { told: if day == self.count.day { told } else { 0 }, ..self.count }
    }

    fn keep_told(&mut self, count: MilestoneCount) {
        if count.day == self.count.day {
            self.told = (count.day, count.told.max(self.written().told));
        }
    }

    fn tell(&mut self, rule: &PageviewMilestone) -> Option<Data> {
        let is_news = self.is_started && self.count.reach(rule);
        is_news.then(|| Data::PageviewMilestone(rule.told(&self.count)))
    }
}

impl Today {
    /// The day at `now`, looked up once a day.
    fn at(&mut self, rules: &Rules, now: Second) -> Day {
        if now < self.begins || now >= self.ends {
            let day = Day::of(now, rules.zone());
            *self = Self { day, begins: day.begins(rules.zone()), ends: day.next().begins(rules.zone()) };
        }
        self.day
    }
}

fn pageviews_since(history: &Recorder, minute: u32) -> u64 {
    history.waiting().filter(|waiting| waiting.minute >= minute).map(|waiting| u64::from(waiting.pageviews)).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::tz::TimeZone;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::id::WebhookId;
    use crate::payload::PageviewsReached;
    use crate::traffic::Visited;
    use crate::trigger::{Rule, Trigger};

    /// 2026-02-25T12:00Z.
    const NOON: Second = 1_772_020_800;

    fn rules(list: &[Value], zone: &str) -> Rules {
        let trigger = |(number, fields): (u8, &Value)| {
            let mut fields = fields.clone();
            fields["type"] = json!("pageview_milestone");
            Trigger { id: TriggerId::from_bytes([number; 16]), rule: Rule::read(&fields, None).expect("a rule") }
        };
        let triggers: Vec<_> = (0..).zip(list).map(trigger).collect();
        let zone = TimeZone::get(zone).expect("a time zone");
        Rules::new([].into(), [(WebhookId::from_bytes([9; 16]), &triggers[..])]).in_zone(|| zone)
    }

    fn told(firings: &[Firing]) -> Vec<PageviewsReached> {
        let told = |firing: &Firing| match &firing.data {
            Data::PageviewMilestone(told) => told.clone(),
            other => panic!("{other:?}"),
        };
        firings.iter().map(told).collect()
    }

    /// A site, what is kept of its milestones, and its history.
    struct Site {
        rules: Rules,
        milestones: Milestones,
        kept: Vec<Option<MilestoneCount>>,
        stored: Vec<Second>,
        history: Recorder,
        waiting: Vec<Second>,
    }

    impl Site {
        fn new(list: &[Value], zone: &str) -> Self {
            let rules = rules(list, zone);
            let milestones = Milestones::new(&rules);
            let kept = vec![None; list.len()];
            Self { rules, milestones, kept, stored: Vec::new(), history: Recorder::default(), waiting: Vec::new() }
        }

        fn started(list: &[Value], zone: &str) -> Self {
            let mut site = Self::new(list, zone);
            site.start(NOON);
            site
        }

        /// Finds out how far those have come that start, as the engine does.
        fn start(&mut self, now: Second) -> Vec<PageviewsReached> {
            let start = |starting: Starting| {
                let from = starting.from_minute.unwrap_or(u32::MAX);
                let stored = self.stored.iter().filter(|second| **second / 60 >= from).count() as u64;
                Start { starting, kept: self.kept[usize::from(starting.trigger_id.as_bytes()[0])], stored }
            };
            let starts: Vec<_> = self.milestones.starting(&self.rules, now).into_iter().map(start).collect();
            self.milestones.start(&self.rules, &starts, &self.history);
            let mut firings = Vec::new();
            self.milestones.look(&self.rules, &mut firings);
            self.keep_fired(&firings);
            told(&firings)
        }

        fn view(&mut self, path: &str, now: Second) -> Vec<Firing> {
            let mut firings = Vec::new();
            self.history.visit(Visited::Uncounted, true, now);
            self.waiting.push(now);
            self.milestones.count(&self.rules, path, now, &mut firings);
            firings
        }

        fn keep_fired(&mut self, firings: &[Firing]) {
            for firing in firings {
                self.milestones.keep_told(firing);
                for target in &firing.targets {
                    self.kept[usize::from(target.trigger_id.as_bytes()[0])] = Some(told(std::slice::from_ref(firing))[0].count());
                }
            }
        }

        fn store(&mut self) {
            self.history = Recorder::default();
            self.stored.append(&mut self.waiting);
            for (id, count) in self.milestones.unkept().collect::<Vec<_>>() {
                self.kept[usize::from(id.as_bytes()[0])] = Some(count);
                self.milestones.keep(id, count);
            }
        }

        /// The process begins anew with what is stored.
        fn restart(&mut self) {
            (self.history, self.milestones) = (Recorder::default(), Milestones::new(&self.rules));
            self.waiting.clear();
        }
    }

    #[test]
    fn pages_count_by_their_pattern_and_days_anew() {
        let list = [json!({"threshold": 2, "page": "/blog/*"}), json!({"threshold": 2, "period": "day"})];
        let mut site = Site::started(&list, "Europe/Berlin");
        let mut view = |path: &str, now| {
            let told = told(&site.view(path, now));
            told.into_iter().map(|told| (told.page.is_some(), told.pageviews)).collect::<Vec<_>>()
        };
        assert_eq!(view("/", NOON), []);
        assert_eq!(view("/blog/a", NOON + 1), [(false, 2)]);
        assert_eq!(view("/blog/b", NOON + 2), [(true, 2)]);
        // Midnight in Berlin is at 23:00 in UTC.
        assert_eq!(view("/blog/b", NOON + 11 * 3_600 - 1), []);
        assert_eq!(view("/", NOON + 11 * 3_600), []);
        assert_eq!(view("/", NOON + 11 * 3_600), [(false, 2)]);
    }

    #[test]
    fn nothing_is_told_before_the_start_is_known_and_then_what_has_been_reached_since() {
        let mut site = Site::new(&[json!({"threshold": 10, "repeat": true}), json!({"threshold": 2, "page": "/"})], "UTC");
        site.stored = vec![NOON - 86_400; 8];
        assert_eq!([0, 1].map(|second| site.view("/", NOON + second).len()), [0, 0]);
        let told = site.start(NOON + 2);
        let told: Vec<_> = told.into_iter().map(|told| (told.milestone, told.pageviews)).collect();
        assert_eq!(told, [(10, 10), (2, 2)]);
        assert!(site.start(NOON + 3).is_empty());
    }

    #[test]
    fn what_was_taken_back_fires_with_the_next_pageview() {
        let mut site = Site::started(&[json!({"threshold": 2})], "UTC");
        assert!(site.view("/", NOON).is_empty());
        let firings = site.view("/", NOON);
        firings.iter().for_each(|firing| site.milestones.take_back(firing));
        assert_eq!(told(&site.view("/", NOON))[0].pageviews, 3);
        assert!(site.view("/", NOON).is_empty());
    }

    #[test]
    fn what_fired_is_kept_as_told_only_once_it_is_written() {
        let mut site = Site::started(&[json!({"threshold": 2, "period": "day"})], "UTC");
        assert!(site.view("/", NOON).is_empty());
        let firings = site.view("/", NOON);
        site.store();
        assert_eq!(site.kept[0].map(|kept| (kept.pageviews, kept.told)), Some((2, 0)));
        assert!(!site.milestones.is_over(), "it waits for what fired");
        // Whoever is killed now has told nobody.
        let mut next = Site { kept: site.kept.clone(), ..Site::new(&[json!({"threshold": 2, "period": "day"})], "UTC") };
        assert_eq!(next.start(NOON).len(), 1);
        site.keep_fired(&firings);
        site.store();
        assert_eq!(site.kept[0].map(|kept| (kept.pageviews, kept.told)), Some((2, 2)));
        assert!(site.milestones.is_over());
        // Of the next day nothing is told yet, and what is written late is of the day before.
        site.view("/", NOON + 86_400);
        site.keep_fired(&firings);
        site.store();
        assert_eq!(site.kept[0].map(|kept| (kept.pageviews, kept.told)), Some((1, 0)));
    }

    #[test]
    fn changed_rules_keep_what_was_counted_and_what_is_kept_may_be_forgotten() {
        let mut site = Site::started(&[json!({"threshold": 3})], "UTC");
        site.view("/", NOON);
        assert!(!site.milestones.is_over());
        site.store();
        assert!(site.milestones.is_over());
        site.view("/", NOON);
        site.milestones.adapt(&site.rules, NOON);
        assert_eq!(site.view("/", NOON).len(), 1);
        site.milestones.adapt(&rules(&[], "UTC"), NOON);
        assert!(site.milestones.is_over());
    }

    #[test]
    fn a_clock_set_back_over_midnight_tells_nothing_twice() {
        let mut site = Site::started(&[json!({"threshold": 2, "period": "day"}), json!({"threshold": 100})], "UTC");
        let tomorrow = NOON + 86_400;
        assert_eq!([NOON, NOON, tomorrow, tomorrow].map(|now| site.view("/", now).len()), [0, 1, 0, 1]);
        site.milestones.set_back(&site.rules, NOON);
        site.history.forget_from(NOON / 60 + 1);
        assert!(site.start(NOON).is_empty());
        assert_eq!([NOON, NOON, tomorrow, tomorrow].map(|now| site.view("/", now).len()), [0, 0, 0, 1]);
        let total = site.milestones.standing[1].count.pageviews;
        assert_eq!(total, 8, "a total goes on");
    }

    /// At noon in UTC the day after is there in Auckland, and in New York it is not.
    #[test]
    fn a_site_that_moves_west_over_midnight_counts_the_day_that_it_is_there() {
        let list = [json!({"threshold": 2, "period": "day"}), json!({"threshold": 100})];
        let mut site = Site::started(&list, "Pacific/Auckland");
        assert_eq!([NOON, NOON].map(|now| site.view("/", now).len()), [0, 1]);
        site.rules = rules(&list, "America/New_York");
        site.milestones.adapt(&site.rules, NOON);
        assert!(site.start(NOON).is_empty(), "it was reached before");
        let days: Vec<_> =
            site.milestones.standing.iter().map(|standing| (standing.count.day, standing.count.pageviews)).collect();
        assert_eq!(days, [(Day::of(NOON, site.rules.zone()), 2), (Day::default(), 2)]);
        assert_eq!([NOON, NOON + 86_400, NOON + 86_400].map(|now| site.view("/", now).len()), [0, 0, 1]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        View { gap: Second, is_blog: bool },
        Store,
        Restart,
        Kill,
        Start,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (0_u32..20_000, any::<bool>()).prop_map(|(gap, is_blog)| Step::View { gap, is_blog }),
            2 => Just(Step::Store),
            1 => Just(Step::Restart),
            1 => Just(Step::Kill),
            4 => Just(Step::Start),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]
        /// However a process begins anew, nothing is told twice; and where it ended in good order, what is told by the end of a day is
        /// what an oracle says who has seen all pageviews.
        #[test]
        fn what_is_told_is_what_the_oracle_says(
            steps in prop::collection::vec(step(), 1..120),
            threshold in 1_u32..9,
            repeat: bool,
            is_of_day: bool,
            is_of_page: bool,
            kills: bool,
            zone in prop::sample::select(vec!["UTC", "Asia/Kolkata", "America/New_York"]),
        ) {
            let page = if is_of_page { json!("/blog/*") } else { Value::Null };
            let period = if is_of_day { "day" } else { "total" };
            let mut site = Site::started(&[json!({"threshold": threshold, "repeat": repeat, "period": period, "page": page})], zone);
            site.store();
            let timezone = TimeZone::get(zone).expect("a time zone");
            let (mut now, mut all, mut seen) = (NOON, Vec::new(), BTreeSet::new());
            for step in steps.into_iter().filter(|step| kills || !matches!(step, Step::Kill)).chain([Step::Start]) {
                let told = match step {
                    Step::View { gap, is_blog } => {
                        // Before a day ends its start is known.
                        let next = now + gap;
                        let late = if Day::of(next, &timezone) > Day::of(now, &timezone) { site.start(now) } else { Vec::new() };
                        now = next;
                        let counts = is_blog || !is_of_page;
                        all.extend(counts.then(|| is_of_day.then(|| Day::of(now, &timezone))));
                        let firings = site.view(if is_blog { "/blog/a" } else { "/" }, now);
                        site.keep_fired(&firings);
                        late.into_iter().chain(told(&firings)).collect()
                    }
                    Step::Store => { site.store(); Vec::new() }
                    Step::Restart => { let told = site.start(now); site.store(); site.restart(); told }
                    Step::Kill => { site.restart(); Vec::new() }
                    Step::Start => site.start(now),
                };
                for told in told {
                    prop_assert!(seen.insert((told.date.map(Day::number), told.milestone)), "twice: {:?}", told);
                }
            }
            if !kills {
                let rule = &site.rules.milestones()[0].1;
                for day in &all {
                    let highest = rule.reached(all.iter().filter(|of| *of == day).count() as u64);
                    let of_day = seen.iter().filter(|(date, _)| *date == day.map(Day::number)).map(|(_, milestone)| *milestone);
                    prop_assert_eq!(of_day.max().unwrap_or(0), highest);
                }
            }
        }
    }
}
