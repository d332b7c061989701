//! What every event needs, in memory: the sites, their compiled rules, their webhooks, and what has happened on them.
//!
//! A site's entry is immutable and swapped whole when its configuration changes; what has happened on it lives on in the new
//! entry. The tables are the truth: an entry changes after they did.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellwether_domain::alert::Alert;
use bellwether_domain::baseline::{Comparison, Usual};
use bellwether_domain::detector::{Detector, Firing, Rules, Stand, Start, Starting};
use bellwether_domain::goal::Goal;
use bellwether_domain::headers::CustomHeaders;
use bellwether_domain::history::{Minute, Recorder};
use bellwether_domain::id::{SiteId, TrafficId, TriggerId, WebhookId};
use bellwether_domain::milestone::MilestoneCount;
use bellwether_domain::segment::Segment;
use bellwether_domain::signature::Secret;
use bellwether_domain::site::Site;
use bellwether_domain::time::{Second, Timestamp};
use bellwether_domain::watch::Watch;
use bellwether_domain::webhook::Webhook;
use bellwether_store::{Crossed, Store};
use foldhash::fast::RandomState;
use http::{HeaderMap, HeaderName, HeaderValue};
use papaya::HashMap as ConcurrentMap;

use crate::StartError;
use crate::seal::Sealer;

/// So many webhooks are read at a time: there may be a great many, and read they take more memory than ready for use.
const LOADED_AT_A_TIME: usize = 1_000;

/// A site with everything that is configured for it.
pub struct ActiveSite {
    /// The site.
    pub site: Site,
    /// Its goals, in the order they were made.
    pub goals: Arc<[Goal]>,
    /// Its webhooks, in the order they were made, those that were deleted among them.
    pub webhooks: Vec<Arc<ActiveWebhook>>,
    /// What each event fulfils by itself; where nothing else counts, also what it takes several for.
    pub(crate) rules: Rules,
    /// What takes several events, where these are counted elsewhere.
    pub(crate) watch: Watch,
    /// How often the site was changed before.
    revision: u64,
    live: Arc<Live>,
}

/// A webhook, ready to be sent to.
#[derive(Clone)]
pub struct ActiveWebhook {
    /// The webhook.
    pub webhook: Webhook,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    pub(crate) secret: Secret,
    /// The secret before, and until when it signs too.
    pub(crate) previous: Option<Box<(Secret, Timestamp)>>,
    /// Its own headers, ready to be sent. Most webhooks have none, and there are many webhooks.
    pub(crate) headers: Option<Box<HeaderMap>>,
}

/// What has happened on a site, from one entry to the next.
struct Live(Mutex<Seen>);

struct Seen {
    /// Since when it is known what happened, before there is a detector: nothing.
    quiet_from: Second,
    /// Of the entry whose rules the detector goes by.
    revision: u64,
    detector: Option<Box<Detector>>,
    /// Whether there was a detector before, which knew more than what was kept when this process began.
    had_detector: bool,
    /// When it is to be looked at next, as it is noted.
    next_look: Option<Second>,
}

/// The parts of an entry that configuration changes.
#[derive(Clone)]
pub(crate) struct SiteParts {
    pub(crate) site: Site,
    pub(crate) goals: Vec<Goal>,
    pub(crate) webhooks: Vec<Arc<ActiveWebhook>>,
}

/// Where it is counted what takes several events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counting {
    /// In the memory of this process.
    Here,
    /// Where several processes can: it is looked at there.
    Elsewhere,
}

type Map<K, V> = ConcurrentMap<K, V, RandomState>;

pub(crate) struct Registry {
    counting: Counting,
    by_domain: Map<Arc<str>, Arc<ActiveSite>>,
    by_id: Map<SiteId, Arc<ActiveSite>>,
    webhooks: Map<WebhookId, Arc<ActiveWebhook>>,
    /// How triggers with a condition stood when this process began.
    alerts: HashMap<TriggerId, Alert>,
    /// The sites on which time alone may set something off, and when.
    awaiting_time: Map<SiteId, Second>,
    /// The sites of which it is to be looked up when sources were seen before.
    asking: Map<SiteId, ()>,
    /// Since when webhooks had been failing when this process began.
    failing: Vec<(WebhookId, Timestamp)>,
}

impl ActiveWebhook {
    pub(crate) fn new(webhook: Webhook, secret: Secret) -> Self {
        Self { headers: header_map(&webhook.headers), webhook, secret, previous: None, deleted_at: None }
    }

    /// The same, configured otherwise.
    pub(crate) fn with(&self, webhook: Webhook) -> Self {
        Self { previous: self.previous.clone(), deleted_at: self.deleted_at, ..Self::new(webhook, self.secret.clone()) }
    }

    /// Whether anything is sent to it.
    pub fn is_on(&self) -> bool {
        self.webhook.enabled && self.deleted_at.is_none()
    }
}

/// What no header can be is left out; there is nothing of the kind, since headers are checked as they come in.
fn header_map(headers: &CustomHeaders) -> Option<Box<HeaderMap>> {
    let header = |(name, value): (&str, &str)| {
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name).ok()?, value))
    };
    (!headers.is_empty()).then(|| Box::new(headers.iter().filter_map(header).collect()))
}

impl ActiveSite {
    fn new(parts: SiteParts, counting: Counting, revision: u64, live: Arc<Live>) -> Self {
        let SiteParts { site, goals, webhooks } = parts;
        let goals: Arc<[Goal]> = goals.into();
        let on = webhooks.iter().filter(|webhook| webhook.is_on());
        let rules = Rules::new(goals.clone(), on.map(|webhook| (webhook.webhook.id, &webhook.webhook.triggers[..])));
        let rules = rules.in_zone(|| site.zone());
        let (rules, watch) = match counting {
            Counting::Here => (rules, Watch::default()),
            Counting::Elsewhere => rules.without_counts(),
        };
        Self { site, goals, webhooks, rules, watch, revision, live }
    }

    pub(crate) fn parts(&self) -> SiteParts {
        SiteParts { site: self.site.clone(), goals: self.goals.to_vec(), webhooks: self.webhooks.clone() }
    }

    /// A webhook of the site, be it deleted.
    pub fn webhook(&self, id: WebhookId) -> Option<&Arc<ActiveWebhook>> {
        self.webhooks.iter().find(|webhook| webhook.webhook.id == id)
    }

    /// Lets `work` see what has happened on the site; none when this entry is not the newest any more. Short: it holds a lock.
    pub(crate) fn with_detector<T>(&self, registry: &Registry, now: Second, work: impl FnOnce(&mut Detector) -> T) -> Option<T> {
        let mut seen = self.live.lock();
        if !seen.goes_by(self) {
            return None;
        }
        let Seen { quiet_from, detector, had_detector, next_look, .. } = &mut *seen;
        let is_first = !std::mem::replace(had_detector, true);
        let kept = |id: TriggerId| registry.alerts.get(&id).copied().filter(|_| is_first);
        let new = || Box::new(Detector::new(&self.rules, now.min(*quiet_from), now, kept));
        let detector = detector.get_or_insert_with(new);
        let result = work(detector);
        if detector.has_unknown_sources() {
            registry.ask(self.site.id);
        }
        let at = detector.next_look();
        if at.is_some() && (next_look.is_none() || at < *next_look) {
            *next_look = at;
            at.into_iter().for_each(|at| _ = registry.awaiting_time.pin().insert(self.site.id, at));
        }
        Some(result)
    }

    /// Lets `work` see what has happened on the site, where that is held. Short: it holds a lock.
    pub(crate) fn if_watched<T>(&self, work: impl FnOnce(&mut Detector) -> T) -> Option<T> {
        self.live.lock().detector.as_deref_mut().map(work)
    }

    /// Of what it is to be found out what is usual at `now`, where the site is visited or missed.
    pub(crate) fn missing_usuals(&self, now: Second) -> Vec<Comparison> {
        match &mut self.live.lock().detector {
            Some(detector) if self.rules.comparisons().next().is_some() => {
                detector.usuals().missing(self.rules.comparisons(), now)
            }
            _ => Vec::new(),
        }
    }

    /// This is usual at `now`.
    pub(crate) fn put_usuals(&self, found: Vec<(Comparison, Usual)>, now: Second) {
        if let Some(detector) = &mut self.live.lock().detector {
            detector.usuals().put(found, now);
        }
    }

    /// The milestones whose start is to be found out, where the site is visited.
    pub(crate) fn starting(&self, now: Second) -> Vec<Starting> {
        self.with_milestones(|detector| detector.starting(&self.rules, now)).unwrap_or_default()
    }

    /// Starts milestones, see [`Detector::start`].
    pub(crate) fn start(&self, starts: &[Start]) {
        let _ = self.with_milestones(|detector| detector.start(&self.rules, starts));
    }

    /// How far milestones have come that have changed since that was kept.
    pub(crate) fn unkept_milestones(&self) -> Vec<(TriggerId, MilestoneCount)> {
        self.with_milestones(|detector| detector.unkept().collect()).unwrap_or_default()
    }

    /// Takes note that this is kept of a milestone.
    pub(crate) fn keep_milestone(&self, id: TriggerId, kept: MilestoneCount) {
        let _ = self.with_milestones(|detector| detector.keep(id, kept));
    }

    /// Lets `work` see what has happened, where there are milestones, and this entry is the newest.
    fn with_milestones<T>(&self, work: impl FnOnce(&mut Detector) -> T) -> Option<T> {
        if !self.rules.has_milestones() {
            return None;
        }
        let mut seen = self.live.lock();
        if !seen.goes_by(self) {
            return None;
        }
        seen.detector.as_deref_mut().map(work)
    }

    /// How triggers stand that have changed without anybody being told, to be kept.
    pub(crate) fn take_quiet(&self) -> Vec<Stand> {
        self.live.lock().detector.as_mut().map(|detector| std::mem::take(detector.quiet())).unwrap_or_default()
    }

    /// Puts back what could not be kept. What has changed since is newer.
    pub(crate) fn put_back_quiet(&self, stands: Vec<Stand>) {
        if let Some(detector) = &mut self.live.lock().detector {
            detector.quiet().splice(..0, stands);
        }
    }

    /// Takes back what fired, see [`Detector::take_back`].
    pub(crate) fn take_back(&self, firings: &[Firing]) {
        if let Some(detector) = &mut self.live.lock().detector {
            detector.take_back(&self.rules, firings);
        }
    }

    /// Takes note that it is written what fired, see [`Detector::keep_told`].
    pub(crate) fn keep_told(&self, firings: &[Firing]) {
        if let Some(detector) = &mut self.live.lock().detector {
            detector.keep_told(firings);
        }
    }

    /// Distinct visitors of the last five minutes.
    pub(crate) fn current_visitors(&self, now: Second) -> u32 {
        self.live.lock().detector.as_mut().map_or(0, |detector| detector.current_visitors(now))
    }

    /// Under which name the traffic of a segment is kept, or all traffic.
    pub(crate) fn traffic_id(&self, segment: Option<&Segment>) -> TrafficId {
        segment.map_or_else(|| self.site.id.into(), |segment| segment.traffic_on(self.site.id))
    }

    /// The minutes before this one, of a segment or of all, that are not stored yet.
    pub(crate) fn waiting_minutes(&self, segment: Option<&Segment>, before: u32) -> Vec<Minute> {
        let waiting = |history: &mut Recorder| history.waiting().filter(|minute| minute.minute < before).cloned().collect();
        self.with_history(segment, waiting).unwrap_or_default()
    }

    /// Forgets the minutes before this one, of a segment or of all, which are stored.
    pub(crate) fn forget_minutes(&self, segment: Option<&Segment>, before: u32) {
        self.with_history(segment, |history| history.forget_before(before));
    }

    fn with_history<T>(&self, segment: Option<&Segment>, work: impl FnOnce(&mut Recorder) -> T) -> Option<T> {
        let mut seen = self.live.lock();
        let mut histories = seen.detector.as_mut()?.histories();
        histories.find(|(of, _)| *of == segment).map(|(_, history)| work(history))
    }

    fn forget_if_over(&self, now: Second) {
        let mut seen = self.live.lock();
        if let Some(over) = seen.detector.take_if(|detector| detector.is_over(&self.rules, now)) {
            seen.quiet_from = over.quiet_from();
        }
    }
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// From now on the rules of `site`'s entry count, unless it is not the newest: then false.
    fn goes_by(&mut self, site: &ActiveSite) -> bool {
        if let (true, Some(detector)) = (self.revision < site.revision, &mut self.detector) {
            detector.adapt(&site.rules);
        }
        self.revision = self.revision.max(site.revision);
        self.revision == site.revision
    }
}

impl Registry {
    /// Everything that is configured, from the store. The sites are watched from `now` on.
    pub(crate) async fn load(store: &Store, sealer: &Sealer, counting: Counting, now: Timestamp) -> Result<Self, StartError> {
        // A clock that was ahead once must not silence a trigger until then.
        let crossed = store.crossed().await?.into_iter().filter(|crossed| crossed.fired_at <= now);
        let alert = |crossed: Crossed| (crossed.trigger_id, Alert::kept(crossed.fired_at.second(), crossed.still_true));
        let alerts: HashMap<_, _> = crossed.map(alert).collect();
        let mut goals: HashMap<SiteId, Vec<Goal>> = HashMap::new();
        for (site_id, goal) in store.goals().await? {
            goals.entry(site_id).or_default().push(goal);
        }
        let (mut webhooks, mut failing) = (HashMap::<SiteId, Vec<Arc<ActiveWebhook>>>::new(), Vec::new());
        let mut after = Some(WebhookId::from_bytes([0; 16]));
        while let Some(last) = after {
            let some = store.webhooks(last, LOADED_AT_A_TIME).await?;
            after = some.last().map(|kept| kept.webhook.id);
            for kept in some {
                failing.extend(kept.failing_since.map(|since| (kept.webhook.id, since)));
                let webhook = sealer.open(kept).ok_or(StartError::WrongKey)?;
                webhooks.entry(webhook.webhook.site_id).or_default().push(Arc::new(webhook));
            }
        }
        let registry = Self {
            counting,
            by_domain: Map::default(),
            by_id: Map::default(),
            webhooks: Map::default(),
            alerts,
            awaiting_time: Map::default(),
            asking: Map::default(),
            failing,
        };
        for site in store.sites().await? {
            let goals = goals.remove(&site.id).unwrap_or_default();
            let webhooks = webhooks.remove(&site.id).unwrap_or_default();
            registry.put(SiteParts { site, goals, webhooks }, now);
        }
        Ok(registry)
    }

    /// Puts a site's entry in place of the one before, with what has happened so far.
    pub(crate) fn put(&self, parts: SiteParts, now: Timestamp) -> Arc<ActiveSite> {
        let before = self.by_id.pin().get(&parts.site.id).cloned();
        let live = match &before {
            Some(before) => before.live.clone(),
            None => {
                let (quiet_from, detector) = (now.second(), None);
                Arc::new(Live(Mutex::new(Seen { quiet_from, revision: 0, detector, had_detector: false, next_look: None })))
            }
        };
        let revision = before.as_ref().map_or(0, |before| before.revision + 1);
        let active = Arc::new(ActiveSite::new(parts, self.counting, revision, live));
        let is_left_firing = before.is_none() && self.is_left_firing(&active);
        if self.counting == Counting::Here && (is_left_firing || active.rules.watches_absence()) {
            self.await_time(&[active.site.id]);
        }
        for webhook in &active.webhooks {
            self.webhooks.pin().insert(webhook.webhook.id, webhook.clone());
        }
        self.by_id.pin().insert(active.site.id, active.clone());
        self.by_domain.pin().insert(active.site.domain.clone(), active.clone());
        if let Some(before) = before {
            self.settle_in(&before, &active);
        }
        active
    }

    fn settle_in(&self, before: &ActiveSite, active: &ActiveSite) {
        if before.site.domain != active.site.domain {
            self.remove_domain(before);
        }
        active.live.lock().goes_by(active);
    }

    /// Whether a trigger of the site had fired when this process began, and was to tell when that is over.
    fn is_left_firing(&self, site: &ActiveSite) -> bool {
        let triggers = site.webhooks.iter().flat_map(|webhook| &webhook.webhook.triggers);
        triggers.filter_map(|trigger| self.alerts.get(&trigger.id)).any(Alert::is_firing)
    }

    /// On these sites time alone may set something off, at once.
    pub(crate) fn await_time(&self, ids: &[SiteId]) {
        ids.iter().for_each(|id| _ = self.awaiting_time.pin().insert(*id, 0));
    }

    /// It is to be looked up of a site when sources were seen before.
    pub(crate) fn ask(&self, id: SiteId) {
        self.asking.pin().insert(id, ());
    }

    /// Some of the sites of which that is to be looked up, which is done now.
    pub(crate) fn asking(&self, limit: usize) -> Vec<SiteId> {
        let ids: Vec<_> = self.asking.pin().keys().take(limit).copied().collect();
        // Whoever asks from now on asks again.
        ids.iter().for_each(|id| _ = self.asking.pin().remove(id));
        ids
    }

    /// The sites on which time alone may have set something off by `now`.
    pub(crate) fn due(&self, now: Second) -> Vec<SiteId> {
        self.awaiting_time.pin().iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect()
    }

    /// Lets the time of a site pass to `now`. Returns what that sets off, and what is to be kept of it though nobody is told.
    pub(crate) fn tick(&self, id: SiteId, now: Second) -> Option<(Arc<ActiveSite>, Vec<Firing>, Vec<Stand>)> {
        // In this order: whoever finds from now on that it awaits time either puts it back, or is followed by the look below.
        self.awaiting_time.pin().remove(&id);
        let site = self.by_id(id)?;
        site.live.lock().next_look = None;
        let firings = site.with_detector(self, now, |detector| detector.tick(&site.rules, now));
        if firings.is_none() {
            // It was changed between the two lines, and comes next time.
            self.await_time(&[id]);
        }
        let quiet = site.take_quiet();
        firings.filter(|firings| !firings.is_empty() || !quiet.is_empty()).map(|firings| (site, firings, quiet))
    }

    /// Takes a site out, with its webhooks.
    pub(crate) fn remove(&self, site: &ActiveSite) {
        self.remove_domain(site);
        self.by_id.pin().remove(&site.site.id);
        for webhook in &site.webhooks {
            self.webhooks.pin().remove(&webhook.webhook.id);
        }
    }

    /// Another site may have taken the domain meanwhile, whose it then is.
    fn remove_domain(&self, site: &ActiveSite) {
        let _ = self.by_domain.pin().remove_if(&site.site.domain, |_, entry| entry.site.id == site.site.id);
    }

    pub(crate) fn by_domain(&self, domain: &str) -> Option<Arc<ActiveSite>> {
        self.by_domain.pin().get(domain).cloned()
    }

    pub(crate) fn by_id(&self, id: SiteId) -> Option<Arc<ActiveSite>> {
        self.by_id.pin().get(&id).cloned()
    }

    /// Takes out a webhook that is none of its site's any more.
    pub(crate) fn forget_webhook(&self, id: WebhookId) {
        self.webhooks.pin().remove(&id);
    }

    /// Since when webhooks had been failing when this process began.
    pub(crate) fn failing(&self) -> impl Iterator<Item = (WebhookId, Timestamp)> {
        self.failing.iter().copied()
    }

    /// The site of a webhook.
    pub(crate) fn site_of(&self, id: WebhookId) -> Option<SiteId> {
        self.webhooks.pin().get(&id).map(|webhook| webhook.webhook.site_id)
    }

    /// The webhook, if anything is to be sent to it.
    pub(crate) fn webhook_that_is_on(&self, id: WebhookId) -> Option<Arc<ActiveWebhook>> {
        self.webhooks.pin().get(&id).filter(|webhook| webhook.is_on()).cloned()
    }

    /// The sites for which something is to be looked at that is counted elsewhere.
    pub(crate) fn watched(&self) -> Vec<Arc<ActiveSite>> {
        self.by_id.pin().values().filter(|site| !site.watch.is_empty()).cloned().collect()
    }

    /// All sites, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<ActiveSite>> {
        self.by_id.pin().values().cloned().collect()
    }

    /// All sites, by domain.
    pub(crate) fn sites(&self) -> Vec<Arc<ActiveSite>> {
        let mut sites = self.all();
        sites.sort_by(|a, b| a.site.domain.cmp(&b.site.domain));
        sites
    }

    /// How many sites there are, and how many webhooks that are on and that are off.
    pub(crate) fn count(&self) -> (usize, usize, usize) {
        let (mut on, mut off) = (0, 0);
        for webhook in self.webhooks.pin().values().filter(|webhook| webhook.deleted_at.is_none()) {
            *(if webhook.is_on() { &mut on } else { &mut off }) += 1;
        }
        (self.by_id.len(), on, off)
    }

    /// Whether some trigger that is on counts events.
    pub(crate) fn counts_events(&self) -> bool {
        let counts =
            |webhook: &Arc<ActiveWebhook>| webhook.is_on() && webhook.webhook.triggers.iter().any(|on| on.rule.counts_events());
        self.webhooks.pin().values().any(counts)
    }

    /// Frees the memory of sites where nothing has happened for long.
    pub(crate) fn forget_idle(&self, now: Second) {
        self.by_id.pin().values().for_each(|site| site.forget_if_over(now));
    }
}
