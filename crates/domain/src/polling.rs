//! When Plausible's hosted service is asked what: as often as it allows, and never oftener.
//!
//! A [`Question`] is about one site. A [`Plan`] says how often each is asked, which follows from how many there are; a [`Schedule`]
//! says which one is next, from what was asked before and what became of it. Nothing here knows how a question is asked or what an
//! answer says ([`hosted`](crate::hosted)). Moments are the time for which the process has been running, which no clock sets.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::SiteId;

/// So many requests an hour does the service allow to a team.
pub const ALLOWED_PER_HOUR: u32 = 600;
/// So many of a hundred are left to whatever else asks on the team's behalf.
pub const RESERVED_PERCENT: u32 = 10;
/// So many requests are made in an hour at most.
pub const REQUESTS_PER_HOUR: u32 = ALLOWED_PER_HOUR * (100 - RESERVED_PERCENT) / 100;

/// Between two requests passes so much time at least: no hour has more than its share, whatever was asked before a restart. Whole
/// seconds, since it is looked once a second whether something is to be asked.
const PACE: Duration = Duration::from_secs(3_600_u64.div_ceil(REQUESTS_PER_HOUR as u64));
/// What somebody waits for is asked no oftener than this.
const SHORTEST: Duration = Duration::from_secs(15);
/// What nobody waits for is asked no oftener than this.
const SHORTEST_SELDOM: Duration = Duration::from_secs(300);
/// What nobody waits for is asked so many times less often where time is short.
const SELDOM: u32 = 20;
/// Pauses after failures, the first and the longest: of the service, where it says that it was asked too often, and of one question.
const FAILED: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
const BUSY: (Duration, Duration) = (Duration::from_secs(60), HOUR);
const REFUSED: (Duration, Duration) = (Duration::from_secs(60), HOUR);
/// So many times slower does it get at most where the service is asked too often although this is not.
const SLOWEST: u32 = 8;
const HOUR: Duration = Duration::from_secs(3_600);

/// What can be asked about a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Which goals it has.
    Goals,
    /// How often they were completed.
    Completions,
    /// How many visitors there are.
    Visitors,
}

impl Subject {
    /// What it is called in log lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Goals => "goals",
            Self::Completions => "completions",
            Self::Visitors => "visitors",
        }
    }
}

/// A question about a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// What is asked.
    pub subject: Subject,
    /// The site.
    pub site_id: SiteId,
}

/// Whether somebody waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// A trigger does.
    Often,
    /// It is for people who look, now and then.
    Seldom,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It was answered.
    Answered,
    /// It was refused, and others may not be.
    Refused,
    /// The service was asked too often, and says when it may be asked again, if it does.
    Busy(Option<Duration>),
    /// The service cannot be reached, or does not work.
    Failed,
}

/// How often questions are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Between two requests.
    pub pace: Duration,
    /// Between two answers to a question that a trigger waits for.
    pub often: Duration,
    /// Between two answers to any other.
    pub seldom: Duration,
}

/// What was asked, and what is next.
#[derive(Debug)]
pub struct Schedule {
    plan: Plan,
    questions: BTreeMap<Question, Asked>,
    /// Nothing is asked before.
    next_at: Duration,
    /// How often in a row the service failed, and how often it was asked too often.
    failures: u32,
    /// So many times slower than it could be.
    slowdown: u32,
    slowed_at: Duration,
}

#[derive(Debug)]
struct Asked {
    urgency: Urgency,
    due_at: Duration,
    /// How often in a row it was refused.
    refusals: u32,
}

impl Reply {
    /// What a status says, and the `Retry-After` beside it.
    pub fn of_status(code: u16, retry_after: Option<Duration>) -> Self {
        match code {
            200 => Self::Answered,
            429 => Self::Busy(retry_after),
            400..=499 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl Plan {
    /// For so many questions of each urgency, asked so many times slower than it is allowed.
    pub fn new(often: usize, seldom: usize, slowdown: u32) -> Self {
        let (pace, many) = (PACE * slowdown.max(1), |count: usize| u32::try_from(count).unwrap_or(u32::MAX));
        let round = pace.saturating_mul(many(often)) + pace.saturating_mul(many(seldom)) / SELDOM;
        Self { pace, often: round.max(SHORTEST), seldom: round.saturating_mul(SELDOM).max(SHORTEST_SELDOM) }
    }

    /// Between two answers to a question.
    pub fn interval(&self, urgency: Urgency) -> Duration {
        match urgency {
            Urgency::Often => self.often,
            Urgency::Seldom => self.seldom,
        }
    }
}

impl Schedule {
    /// A schedule without questions, of which the first comes after a pause: nobody knows how lately others asked.
    pub fn new(now: Duration) -> Self {
        let plan = Plan::new(0, 0, 1);
        Self { plan, questions: BTreeMap::new(), next_at: now + PACE, failures: 0, slowdown: 1, slowed_at: now }
    }

    /// How often questions are asked.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// From now on these questions are asked.
    pub fn set(&mut self, wanted: &BTreeMap<Question, Urgency>, now: Duration) {
        if self.slowdown > 1 && now.saturating_sub(self.slowed_at) >= HOUR {
            self.slow_down(self.slowdown / 2, now);
        }
        self.questions.retain(|question, _| wanted.contains_key(question));
        let count = |urgency| wanted.values().filter(|one| **one == urgency).count();
        self.plan = Plan::new(count(Urgency::Often), count(Urgency::Seldom), self.slowdown);
        for (question, urgency) in wanted {
            let asked = self.questions.entry(*question).or_insert(Asked { urgency: *urgency, due_at: now, refusals: 0 });
            asked.urgency = *urgency;
            if asked.refusals == 0 {
                asked.due_at = asked.due_at.min(now + self.plan.interval(*urgency));
            }
        }
    }

    /// What is to be asked now, if anything is: what is late by the greatest part of its interval.
    pub fn next(&self, now: Duration) -> Option<Question> {
        if now < self.next_at {
            return None;
        }
        let due = self.questions.iter().filter(|(_, asked)| asked.due_at <= now);
        let lateness = |asked: &Asked| {
            let late_us = now.saturating_sub(asked.due_at).as_micros();
            late_us * 1_000 / self.plan.interval(asked.urgency).as_micros().max(1)
        };
        due.min_by_key(|(question, asked)| (Reverse(lateness(asked)), asked.urgency, **question)).map(|(question, _)| *question)
    }

    /// A question is being asked at `now`.
    pub fn asked(&mut self, question: Question, now: Duration) {
        self.next_at = now + self.plan.pace;
        if let Some(asked) = self.questions.get_mut(&question) {
            asked.due_at = now + self.plan.interval(asked.urgency);
        }
    }

    /// What became of it at `now`. Returns the pause that follows, where there is one.
    pub fn replied(&mut self, question: Question, reply: Reply, now: Duration) -> Option<Duration> {
        match reply {
            Reply::Answered => {
                self.failures = 0;
                self.questions.entry(question).and_modify(|asked| asked.refusals = 0);
                None
            }
            Reply::Refused => {
                self.failures = 0;
                let asked = self.questions.get_mut(&question)?;
                asked.refusals = asked.refusals.saturating_add(1);
                let pause = growing(REFUSED, asked.refusals);
                asked.due_at = now + pause;
                Some(pause)
            }
            Reply::Busy(retry_after) => {
                self.failures = self.failures.saturating_add(1);
                self.slow_down(self.slowdown.saturating_mul(2), now);
                let pause = retry_after.map_or(growing(BUSY, self.failures), |pause| pause.clamp(PACE, HOUR));
                Some(self.pause(question, pause, now))
            }
            Reply::Failed => {
                self.failures = self.failures.saturating_add(1);
                Some(self.pause(question, growing(FAILED, self.failures), now))
            }
        }
    }

    /// Asks at once what was just answered in part.
    pub fn ask_again(&mut self, question: Question, now: Duration) {
        self.questions.entry(question).and_modify(|asked| asked.due_at = now);
    }

    fn pause(&mut self, question: Question, pause: Duration, now: Duration) -> Duration {
        self.next_at = self.next_at.max(now + pause);
        self.ask_again(question, now);
        pause
    }

    fn slow_down(&mut self, slowdown: u32, now: Duration) {
        self.slowdown = slowdown.clamp(1, SLOWEST);
        self.slowed_at = now;
    }
}

/// The pause after so many failures in a row: each is twice the one before.
fn growing((first, longest): (Duration, Duration), failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    first.saturating_mul(1 << doublings).min(longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn question(subject: Subject, site: u8) -> Question {
        Question { subject, site_id: SiteId::from_bytes([site; 16]) }
    }

    /// The first `often` of the completions of sites and then of their visitors are waited for.
    fn wanted(sites: u8, often: usize) -> BTreeMap<Question, Urgency> {
        let subjects = [Subject::Completions, Subject::Visitors, Subject::Goals];
        let questions = subjects.into_iter().flat_map(|subject| (0..sites).map(move |site| question(subject, site)));
        let urgency = |index| if index < often { Urgency::Often } else { Urgency::Seldom };
        questions.enumerate().map(|(index, question)| (question, urgency(index))).collect()
    }

    fn schedule(sites: u8, often: usize) -> Schedule {
        let mut schedule = Schedule::new(START);
        schedule.set(&wanted(sites, often), START);
        schedule
    }

    #[test]
    fn plans() {
        for (often, seldom, slowdown, expected) in [
            (0, 0, 1, [7_000, 15_000, 300_000]),
            (2, 1, 1, [7_000, 15_000, 300_000]),
            (10, 20, 1, [7_000, 77_000, 1_540_000]),
            (20, 10, 1, [7_000, 143_500, 2_870_000]),
            (20, 10, 4, [28_000, 574_000, 11_480_000]),
            (200, 100, 1, [7_000, 1_435_000, 28_700_000]),
        ] {
            let Plan { pace, often: short, seldom: long } = Plan::new(often, seldom, slowdown);
            assert_eq!([pace, short, long].map(|duration| duration.as_millis()), expected, "{often} {seldom} {slowdown}");
        }
    }

    #[test]
    fn what_a_status_means() {
        let after = Some(seconds(9));
        for (code, expected) in [
            (200, Reply::Answered),
            (429, Reply::Busy(after)),
            (400, Reply::Refused),
            (401, Reply::Refused),
            (402, Reply::Refused),
            (404, Reply::Refused),
            (302, Reply::Failed),
            (204, Reply::Failed),
            (500, Reply::Failed),
            (503, Reply::Failed),
        ] {
            assert_eq!(Reply::of_status(code, after), expected, "{code}");
        }
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let cases: [(Reply, &[u64]); 4] = [
            (Reply::Failed, &[10, 20, 40, 80, 160, 300, 300]),
            (Reply::Busy(None), &[60, 120, 240, 480, 960, 1_920, 3_600, 3_600]),
            (Reply::Busy(Some(seconds(90))), &[90, 90]),
            (Reply::Busy(Some(seconds(90_000))), &[3_600]),
        ];
        for (reply, pauses) in cases {
            let (mut schedule, mut now) = (schedule(1, 2), START + PACE);
            for pause in pauses {
                let next = schedule.next(now).expect("a question");
                schedule.asked(next, now);
                assert_eq!(schedule.replied(next, reply, now), Some(seconds(*pause)), "{reply:?}");
                assert_eq!(schedule.next(now + seconds(*pause) - Duration::from_millis(1)), None, "{reply:?}");
                now += seconds(*pause).max(schedule.plan().pace);
            }
            let next = schedule.next(now).expect("a question");
            schedule.asked(next, now);
            schedule.replied(next, Reply::Answered, now);
            let after = schedule.replied(next, reply, now).expect("a pause");
            assert_eq!(after, seconds(pauses[0]), "it begins anew after an answer");
        }
    }

    #[test]
    fn a_question_that_is_refused_holds_up_no_other() {
        let mut schedule = schedule(1, 2);
        let (mut now, mut refused, mut answered) = (START, Vec::new(), 0);
        while now < START + HOUR {
            now += seconds(1);
            let Some(next) = schedule.next(now) else { continue };
            schedule.asked(next, now);
            if next.subject == Subject::Visitors {
                refused.extend(schedule.replied(next, Reply::Refused, now));
            } else {
                schedule.replied(next, Reply::Answered, now);
                answered += 1;
            }
        }
        assert_eq!(refused, [60, 120, 240, 480, 960, 1_920].map(seconds));
        assert!(answered >= 240, "{answered}");
    }

    #[test]
    fn it_gets_slower_where_others_ask_too_and_faster_again() {
        let (often, mut now) = (wanted(10, 20), START + PACE);
        let mut schedule = schedule(10, 20);
        let (plan, busy) = (schedule.plan(), question(Subject::Visitors, 1));
        for slowdown in [2, 4, 8, 8] {
            schedule.replied(busy, Reply::Busy(Some(seconds(1))), now);
            schedule.set(&often, now);
            assert_eq!(schedule.plan().pace, plan.pace * slowdown);
        }
        for slowdown in [4, 2, 1] {
            now += HOUR - seconds(1);
            schedule.set(&often, now);
            assert_ne!(schedule.plan().pace, plan.pace * slowdown);
            now += seconds(1);
            schedule.set(&often, now);
            assert_eq!(schedule.plan().pace, plan.pace * slowdown);
        }
    }

    #[test]
    fn what_begins_to_be_waited_for_is_asked_soon() {
        let mut schedule = schedule(1, 0);
        let mut now = START;
        while now < START + seconds(60) {
            now += seconds(1);
            if let Some(next) = schedule.next(now) {
                schedule.asked(next, now);
                schedule.replied(next, Reply::Answered, now);
            }
        }
        assert_eq!(schedule.next(now), None, "each was asked once, and nobody waits");
        schedule.set(&wanted(1, 1), now);
        assert_eq!(schedule.next(now + SHORTEST), Some(question(Subject::Completions, 0)));
        schedule.set(&BTreeMap::new(), now);
        assert_eq!(schedule.next(now + HOUR), None);
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let busy = prop::option::of(0_u64..5_000).prop_map(|after| Reply::Busy(after.map(seconds)));
        prop_oneof![8 => Just(Reply::Answered), 1 => Just(Reply::Refused), 1 => Just(Reply::Failed), 1 => busy]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn no_hour_has_more_requests_than_are_allowed(
            sites in 0_u8..60, often in 0_usize..120, replies in prop::collection::vec(reply(), 1..50),
            starts in prop::collection::btree_set(0_u64..9_000, 0..5), looks in 800_u64..3_000,
        ) {
            let (mut schedule, wanted) = (schedule(sites, often), wanted(sites, often));
            let (mut now, mut times) = (START, Vec::new());
            while now < START + seconds(9_000) {
                let before = now;
                now += Duration::from_millis(looks);
                if starts.iter().any(|start| (before..now).contains(&(START + seconds(*start)))) {
                    schedule = Schedule::new(now);
                    schedule.set(&wanted, now);
                }
                if let Some(next) = schedule.next(now) {
                    schedule.asked(next, now);
                    times.push(now);
                    schedule.replied(next, replies[times.len() % replies.len()], now);
                }
            }
            for hour in times.windows(REQUESTS_PER_HOUR as usize + 1) {
                prop_assert!(hour[hour.len() - 1] - hour[0] >= HOUR);
            }
        }

        #[test]
        fn whatever_is_wanted_gets_its_turn(sites in 1_u8..40, share in 0_usize..=100) {
            let often = usize::from(sites) * 2 * share / 100;
            let (mut schedule, wanted) = (schedule(sites, often), wanted(sites, often));
            let plan = schedule.plan();
            let mut answered: BTreeMap<Question, Duration> = wanted.keys().map(|question| (*question, START)).collect();
            let mut now = START;
            while now < START + plan.seldom * 3 {
                now += Duration::from_secs(1);
                if let Some(next) = schedule.next(now) {
                    schedule.asked(next, now);
                    schedule.replied(next, Reply::Answered, now);
                    let before = answered.insert(next, now).expect("it is wanted");
                    let late = (now - before).saturating_sub(plan.interval(wanted[&next]));
                    // In the beginning everything is to be asked at once.
                    let tolerated = plan.interval(wanted[&next]) + plan.pace * 4;
                    prop_assert!(late <= tolerated, "{:?} {:?} late {:?} of {:?}", next, wanted[&next], late, plan);
                }
            }
            for (question, at) in answered {
                prop_assert!(now - at <= plan.interval(wanted[&question]) * 2, "{question:?} was last answered at {at:?}");
            }
        }
    }
}
