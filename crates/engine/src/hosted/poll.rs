//! What the process that looks does where Plausible's hosted service is the source: asks one question at a time, and tells of what the
//! answer sets off.
//!
//! What an answer says is kept in the transaction of what it set off, so that what comes after a restart, or another process, neither
//! misses nor repeats a completion. How lately something was asked is known in memory alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::baseline::Usuals;
use bellwether_domain::detector::Firing;
use bellwether_domain::differences::{Comparison, Completed, PastVisitors, compare, firings};
use bellwether_domain::goal::Goal;
use bellwether_domain::history::{Gaps, Minute, minute_of};
use bellwether_domain::hosted::{Answer, Counted, Day, listed_goals, named_goals};
use bellwether_domain::id::{EventId, SiteId};
use bellwether_domain::payload::Data;
use bellwether_domain::polling::{Plan, Question, REQUESTS_PER_HOUR, Reply, Schedule, Subject};
use bellwether_domain::segment::VisitsWithin;
use bellwether_domain::site::Site;
use bellwether_domain::time::Timestamp;
use bellwether_domain::traffic::{CURRENT_VISITORS_WINDOW_SECONDS, Tops};
use bellwether_domain::watch::{self, Alerts, Crossing};
use bellwether_meters::label::QuestionOutcome;
use bellwether_meters::meters;
use bellwether_store::{KeptPolls, Learned, NewEvent, Polled, PolledVisitors, Store, StoreError};
use tracing::{info, warn};

use super::service::{Ask, Failure, Service};
use super::{is_counted_there, wanted};
use crate::Engine;
use crate::manage::ManageError;
use crate::registry::ActiveSite;
use crate::watch::{LookError, Seen};

/// Whoever looks says so this often, though nothing is to be asked.
const SIGN_INTERVAL: Duration = Duration::from_secs(10);

/// What is known from one question to the next.
pub(crate) struct Polling {
    schedule: Schedule,
    kept: KeptPolls,
    visitors: HashMap<SiteId, PastVisitors>,
    /// The days that are to be counted next, where that is not today.
    days: HashMap<SiteId, (Day, Day)>,
    signed_at: Duration,
    /// The plan that was told last, and for how many sites.
    told: Option<(Plan, usize)>,
    /// Whether the last question was not answered.
    is_in_trouble: bool,
    /// How many triggers there are that it cannot tell anything about.
    untold: usize,
}

impl Polling {
    pub(crate) async fn resume(store: &Store, now: Duration) -> Result<Self, StoreError> {
        Ok(Self {
            schedule: Schedule::new(now),
            kept: store.polls().await?,
            visitors: HashMap::new(),
            days: HashMap::new(),
            signed_at: now,
            told: None,
            is_in_trouble: false,
            untold: 0,
        })
    }

    /// Adapts how often is asked to what is there, and says so.
    fn adapt(&mut self, sites: &[Arc<ActiveSite>], now: Duration) {
        let untold = sites.iter().flat_map(|site| &site.webhooks).filter(|webhook| webhook.is_on());
        let untold =
            untold.flat_map(|webhook| &webhook.webhook.triggers).filter(|trigger| !is_counted_there(&trigger.rule)).count();
        if untold > std::mem::replace(&mut self.untold, untold) {
            warn!(
                triggers = untold,
                "triggers on visitors with other windows than 300 seconds do not fire: Plausible's hosted service does not count these"
            );
        }
        self.schedule.set(&wanted(sites), now);
        let plan = (self.schedule.plan(), sites.len());
        if self.told.replace(plan) != Some(plan) {
            tell(plan);
        }
    }
}

impl Polling {
    /// Takes note of what became of a question, and says when it begins or ends to be answered.
    fn note(&mut self, question: Question, site: &ActiveSite, answer: Result<(), &Failure>, now: Duration) {
        let reply = answer.map_or_else(|failure| failure.reply, |()| Reply::Answered);
        meters().questions.add(outcome(reply), 1);
        let pause = self.schedule.replied(question, reply, now).unwrap_or_default();
        let was_in_trouble = std::mem::replace(&mut self.is_in_trouble, answer.is_err());
        match answer {
            Ok(()) if was_in_trouble => info!("Plausible's hosted service answers again"),
            Ok(()) => {}
            Err(Failure { reason, .. }) => {
                let (site, subject) = (&site.site.domain, question.subject.name());
                warn!(%site, subject, reason, pause_seconds = pause.as_secs(), "Plausible's hosted service does not answer");
            }
        }
    }
}

fn outcome(reply: Reply) -> QuestionOutcome {
    match reply {
        Reply::Answered => QuestionOutcome::Answered,
        Reply::Refused => QuestionOutcome::Refused,
        Reply::Busy(_) => QuestionOutcome::RateLimited,
        Reply::Failed => QuestionOutcome::Failed,
    }
}

fn tell((Plan { pace, often, seldom }, sites): (Plan, usize)) {
    info!(
        sites,
        requests_per_hour = 3_600 / pace.as_secs().max(1),
        at_most = REQUESTS_PER_HOUR,
        for_triggers_every_seconds = often.as_secs(),
        for_others_every_seconds = seldom.as_secs(),
        "Plausible's hosted service is asked so often about each site"
    );
    if often > Duration::from_secs(CURRENT_VISITORS_WINDOW_SECONDS.into()) {
        warn!(
            every_seconds = often.as_secs(),
            "there are so many triggers for its limit of requests that rushes of visitors which are shorter may go unseen"
        );
    }
}

/// What an answer says, and what that sets off.
#[derive(Default)]
struct Finding {
    polled: Polled,
    events: Vec<NewEvent>,
    /// Of visitors: what triggers have seen by now, and those that fire.
    crossed: Option<(Alerts, Vec<Crossing>)>,
}

impl Engine {
    /// How many visitors sites had when that was asked last; in their order.
    pub(crate) async fn polled_visitors(&self, sites: &[Arc<ActiveSite>]) -> Result<Vec<u32>, StoreError> {
        let all = self.inner.store.polled_visitors().await?;
        let visitors: HashMap<_, _> = all.into_iter().map(|of| (of.site_id, of.visitors)).collect();
        Ok(sites.iter().map(|site| visitors.get(&site.site.id).copied().unwrap_or(0)).collect())
    }

    /// Asks what is to be asked now, if anything is. After an error nothing that is remembered can be relied on.
    pub(crate) async fn poll(
        &self,
        service: &Service,
        polling: &mut Polling,
        seen: &mut Seen,
        now: Timestamp,
    ) -> Result<(), LookError> {
        let running = self.inner.ambient.clock.running();
        let sites = self.sites_there(service, now).await?;
        polling.adapt(&sites, running);
        let next = polling.schedule.next(running).and_then(|question| Some((question, site_of(&sites, question)?)));
        let finding = match next {
            Some((question, site)) => self.ask(service, polling, (question, site), seen).await?,
            None if running.saturating_sub(polling.signed_at) < SIGN_INTERVAL => return Ok(()),
            None => Finding::default(),
        };
        polling.signed_at = running;
        let (alerts, crossings) = finding.crossed.unwrap_or_else(|| (seen.alerts.clone(), Vec::new()));
        let learned = Some(Learned::Polled(finding.polled));
        self.keep_poll(seen, (alerts, &crossings), (finding.events, learned), self.inner.ambient.now()).await
    }

    /// Asks a question, and finds out what follows from the answer.
    async fn ask(
        &self,
        service: &Service,
        polling: &mut Polling,
        (question, site): (Question, &ActiveSite),
        seen: &Seen,
    ) -> Result<Finding, LookError> {
        let clock = &self.inner.ambient.clock;
        polling.schedule.asked(question, clock.running());
        let asks_for_days = question.subject == Subject::Completions;
        let days = asks_for_days.then(|| polling.days.remove(&site.site.id)).flatten();
        let ask = Ask { subject: question.subject, domain: &site.site.domain, days };
        let answer = service.ask(ask, clock.now()).await;
        polling.note(question, site, answer.as_ref().map(|_| ()), clock.running());
        match answer {
            Err(_) => Ok(Finding::default()),
            Ok(Answer::Visitors(visitors)) => Ok(self.visitors_found(site, visitors, polling, seen)),
            Ok(Answer::Completions(counted)) => self.completions_found(site, &counted, polling).await,
            Ok(Answer::Goals(listed)) => {
                let goals = listed_goals(site.site.id, &site.goals, &listed, clock.now());
                self.take_goals(site, goals).await?;
                Ok(Finding::default())
            }
        }
    }

    fn visitors_found(&self, site: &ActiveSite, visitors: u32, polling: &mut Polling, seen: &Seen) -> Finding {
        let (now, running) = (self.inner.ambient.now(), self.inner.ambient.clock.running());
        let interval = polling.schedule.plan().often;
        let counts = polling.visitors.entry(site.site.id).or_default().note(visitors, running, interval);
        let mut alerts = seen.alerts.clone();
        let of_window = |visits: &VisitsWithin| (*visits == VisitsWithin::all(CURRENT_VISITORS_WINDOW_SECONDS)).then_some(counts);
        let counted = watch::Counted { visitors: &of_window, completions: &|_| None, usuals: &Usuals::default() };
        let crossings = site.watch.cross(&counted, &mut alerts, now.second());
        let firings = watch::firings(&crossings, &site.goals, |_| Tops::default(), now.second());
        let polled = PolledVisitors { site_id: site.site.id, visitors, polled_at: now };
        Finding {
            polled: Polled { visitors: Some(polled), ..Polled::default() },
            events: firings.iter().map(|firing| self.crossing(site, firing, now)).collect(),
            crossed: Some((alerts, crossings)),
        }
    }

    async fn completions_found(&self, site: &ActiveSite, counted: &Counted, polling: &mut Polling) -> Result<Finding, LookError> {
        let (id, now) = (site.site.id, self.inner.ambient.now());
        let others = counted.others(&site.goals);
        if !others.is_empty() {
            self.take_goals(site, named_goals(id, &site.goals, &others, now)).await?;
        }
        // Its goals may be others by now.
        let Some(site) = self.inner.registry.by_id(id) else {
            return Ok(Finding::default());
        };
        let (kept, completed) = match compare(&site.goals, &polling.kept.goals, counted) {
            Comparison::Known { kept, completed } => (kept, completed),
            Comparison::Missing(from, until) => {
                polling.days.insert(id, (from, until));
                polling
                    .schedule
                    .ask_again(Question { subject: Subject::Completions, site_id: id }, self.inner.ambient.clock.running());
                return Ok(Finding::default());
            }
        };
        let before = polling.kept.counts.clone();
        let fired = firings(&site.rules, &site.watch, &mut polling.kept.counts, (&completed, now.second()));
        let changed = polling.kept.counts.iter().filter(|(id, count)| before.get(id) != Some(count));
        let counts = changed.map(|(id, count)| (*id, count.clone())).collect();
        polling.kept.counts.retain(|_, count| !count.seconds().is_empty());
        polling.kept.goals.extend(kept.iter().copied());
        let events = fired.iter().map(|firing| self.completion(&site, firing, now)).collect();
        let completed = (!completed.is_empty()).then(|| (id.into(), minute_of_completions(&completed, now)));
        Ok(Finding { polled: Polled { goals: kept, visitors: None, counts, completed }, events, crossed: None })
    }

    /// Goals that are completed at the same moment are told apart by the goal.
    fn completion(&self, site: &ActiveSite, firing: &Firing, now: Timestamp) -> NewEvent {
        let goal = match &firing.data {
            Data::GoalCompletion(completed) => Some(completed.goal_id),
            _ => None,
        };
        let triggers = firing.targets.iter().map(|target| target.trigger_id.as_bytes().as_slice());
        let goal = goal.iter().map(|id| id.as_bytes().as_slice());
        let moment = now.as_micros().to_be_bytes();
        let parts: Vec<&[u8]> = goal.chain(triggers).chain([moment.as_slice()]).collect();
        self.inner.event(site, firing, EventId::made_of(now, &parts), now)
    }

    /// The sites that are asked for. Those that are not there yet are made.
    async fn sites_there(&self, service: &Service, now: Timestamp) -> Result<Vec<Arc<ActiveSite>>, LookError> {
        for domain in &service.settings().sites {
            if self.inner.registry.by_domain(domain).is_none() {
                let (id, name, timezone) = (SiteId::new(&self.inner.ambient), domain.clone(), Arc::from("UTC"));
                info!(site = %domain, "Plausible's hosted service is asked about the site from now on");
                let site =
                    Site { id, domain: domain.clone(), name, timezone, plausible_id: None, created_at: now, updated_at: now };
                self.keep_site(site, Vec::new()).await?;
            }
        }
        Ok(self.polled_sites())
    }

    async fn take_goals(&self, site: &ActiveSite, goals: Vec<Goal>) -> Result<(), LookError> {
        if *goals == *site.goals {
            return Ok(());
        }
        info!(site = %site.site.domain, goals = goals.len(), "the site has other goals now");
        self.keep_site(site.site.clone(), goals).await
    }

    /// Keeps a site and its goals; where somebody else has its domain, not yet.
    async fn keep_site(&self, site: Site, goals: Vec<Goal>) -> Result<(), LookError> {
        let domain = site.domain.clone();
        match self.mirror_site(site, goals).await {
            Ok(()) => Ok(()),
            Err(ManageError::Store(error)) if !matches!(error, StoreError::Exists) => Err(error.into()),
            Err(error) => {
                warn!(site = %domain, %error, "the site and its goals cannot be taken over");
                Ok(())
            }
        }
    }
}

/// The minute in which completions were found, which may have been earlier.
fn minute_of_completions(completed: &[Completed<'_>], now: Timestamp) -> Minute {
    let completions = completed.iter().map(|completed| (completed.goal.id, completed.times)).collect();
    Minute { minute: minute_of(now.second()), pageviews: 0, visitors: Gaps::default(), completions }
}

fn site_of(sites: &[Arc<ActiveSite>], question: Question) -> Option<&ActiveSite> {
    sites.iter().find(|site| site.site.id == question.site_id).map(|site| &**site)
}
