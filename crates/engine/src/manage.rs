//! Changes of the configuration: checked against what else there is, stored, then in force.
//!
//! One change of a site at a time, each to its end.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::endpoint::{EndpointPolicy, EndpointUrl};
use bellwether_domain::fields::Invalid;
use bellwether_domain::goal::{Goal, GoalSpec};
use bellwether_domain::headers::CustomHeaders;
use bellwether_domain::id::{GoalId, SiteId, TriggerId, WebhookId};
use bellwether_domain::payload::{Data, WebhookDisabled};
use bellwether_domain::segment::MAX_SEGMENTS_PER_SITE;
use bellwether_domain::signature::Secret;
use bellwether_domain::site::{Site, SiteChange};
use bellwether_domain::trigger::{MAX_TRIGGERS_PER_WEBHOOK, NOT_A_GOAL, Rule, Trigger};
use bellwether_domain::webhook::{Webhook, WebhookChange};
use bellwether_domain::webhook_template::{TemplateChange, WebhookTemplate};
use bellwether_store::{NewDelivery, NewEvent, SealedWebhook, StoreError};
use tokio::sync::Mutex;
use tracing::warn;

use crate::Engine;
use crate::dispatch::GivenUp;
use crate::hosted::not_counted_there;
use crate::people::Crowded;
use crate::registry::{ActiveSite, ActiveWebhook, SiteParts};

const CANCELLED_PER_WRITE: usize = 1_000;
const CANCELLING_WRITES: usize = 10;
const SITE_LOCKS: usize = 64;
const MIRRORED: &str = "sites and goals come from Plausible: what is changed there is changed here a little later";
const SPREAD: &str = "can only be on visitors, new sources, pageviews, or several completions, where one process takes all events or \
                      BELLWETHER_CLICKHOUSE_URL is set, and several take them here";

const COUNTING: &str = "cannot be true: it has triggers on visitors, new sources, pageviews, or several completions, and several processes take events \
                        here, without BELLWETHER_CLICKHOUSE_URL";

/// Why a change was not made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// It does not fit what else there is.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It does not go together with what is there, in the words of the sentence.
    #[error("{0}")]
    Conflict(&'static str),
    /// There is nothing of that name.
    #[error("there is nothing here")]
    NotFound,
    /// A password could not be hashed now.
    #[error(transparent)]
    Crowded(#[from] Crowded),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A webhook that was just made, with its secret, which is shown this one time.
#[derive(Debug)]
pub struct NewWebhook {
    /// The webhook.
    pub webhook: Webhook,
    /// The secret.
    pub secret: Secret,
}

pub(crate) type Result<T> = std::result::Result<T, ManageError>;

impl Engine {
    /// All sites, by domain.
    pub fn sites(&self) -> Vec<Arc<ActiveSite>> {
        self.inner.registry.sites()
    }

    /// A site by its id or its domain.
    pub fn find_site(&self, id_or_domain: &str) -> Option<Arc<ActiveSite>> {
        match id_or_domain.parse::<SiteId>() {
            Ok(id) => self.inner.registry.by_id(id),
            Err(_) => self.inner.registry.by_domain(id_or_domain),
        }
    }

    /// Where webhooks may be sent.
    pub fn policy(&self) -> &EndpointPolicy {
        &self.inner.settings.policy
    }

    /// Adds a site.
    pub async fn create_site(&self, change: SiteChange) -> Result<Site> {
        if !self.takes_events() {
            return Err(ManageError::Conflict(MIRRORED));
        }
        let id = SiteId::new(&self.inner.ambient);
        self.change(id, |engine| async move {
            let now = engine.inner.ambient.now();
            let site = change.create(id, now)?;
            engine
                .inner
                .store
                .add_site(site.clone())
                .await
                .map_err(|error| exists(error, "there is a site with this domain already"))?;
            engine.inner.registry.put(SiteParts { site: site.clone(), goals: Vec::new(), webhooks: Vec::new() }, now);
            Ok(site)
        })
        .await
    }

    /// Changes a site.
    pub async fn update_site(&self, id: SiteId, change: SiteChange) -> Result<Site> {
        self.must_be_ours(id)?;
        self.change(id, |engine| async move {
            let (active, now) = (engine.site(id)?, engine.inner.ambient.now());
            let site = change.apply(active.site.clone(), now);
            engine
                .inner
                .store
                .update_site(site.clone(), active.site.updated_at)
                .await
                .map_err(|error| outdated(error, "there is a site with this domain already"))?;
            engine.inner.registry.put(SiteParts { site: site.clone(), ..active.parts() }, now);
            Ok(site)
        })
        .await
    }

    /// Deletes a site with its webhooks; what has not gone out is cancelled.
    pub async fn delete_site(&self, id: SiteId) -> Result<()> {
        self.must_be_ours(id)?;
        self.remove_site(id).await
    }

    pub(crate) async fn remove_site(&self, id: SiteId) -> Result<()> {
        self.change(id, |engine| async move {
            let active = engine.site(id)?;
            engine.inner.store.delete_site(id, engine.inner.ambient.now()).await?;
            engine.inner.registry.remove(&active);
            for webhook in &active.webhooks {
                engine.inner.dispatcher.start_over(webhook.webhook.id);
                engine.cancel_open(webhook.webhook.id).await;
            }
            Ok(())
        })
        .await
    }

    /// Keeps a site and its goals as they are elsewhere. What waits for goals that are gone goes with them. Errors: `Exists` where a
    /// site that was made here has its domain.
    pub(crate) async fn mirror_site(&self, site: Site, goals: Vec<Goal>) -> Result<()> {
        let id = site.id;
        self.change(id, move |engine| async move {
            engine.inner.store.mirror_site(site, goals).await?;
            Ok(engine.take_over(id).await?)
        })
        .await
    }

    /// Errors: `Conflict` for a site that follows another.
    fn must_be_ours(&self, id: SiteId) -> Result<()> {
        match self.inner.registry.by_id(id) {
            Some(site) if self.is_mirrored(&site) => Err(ManageError::Conflict(MIRRORED)),
            _ => Ok(()),
        }
    }

    /// Whether a site is as it is in Plausible, and is changed there.
    pub fn is_mirrored(&self, site: &ActiveSite) -> bool {
        self.is_polled(site) || (self.plausible().is_some() && site.site.plausible_id.is_some())
    }

    /// Adds a goal to a site.
    pub async fn create_goal(&self, site_id: SiteId, spec: GoalSpec) -> Result<Goal> {
        self.must_be_ours(site_id)?;
        self.change(site_id, |engine| async move {
            let (active, now) = (engine.site(site_id)?, engine.inner.ambient.now());
            let goal = Goal { id: GoalId::new(&engine.inner.ambient), spec, created_at: now };
            let added = engine.inner.store.add_goal(site_id, goal.clone()).await;
            added.map_err(|error| match error {
                StoreError::TooMany(most) => Invalid::field("goals", format!("must be at most {most} a site")).into(),
                error => exists(error, "the site has a goal with this name, or completed by the same events, already"),
            })?;
            let mut parts = active.parts();
            parts.goals.push(goal.clone());
            engine.inner.registry.put(parts, now);
            Ok(goal)
        })
        .await
    }

    /// Removes a goal, and the triggers that wait for it.
    pub async fn delete_goal(&self, site_id: SiteId, id: GoalId) -> Result<()> {
        self.must_be_ours(site_id)?;
        self.change(site_id, |engine| async move {
            let active = engine.site(site_id)?;
            engine.inner.store.delete_goal(site_id, id).await.map_err(not_found)?;
            let mut parts = active.parts();
            parts.goals.retain(|goal| goal.id != id);
            for webhook in &mut parts.webhooks {
                if webhook.webhook.triggers.iter().any(|trigger| waits_for(&trigger.rule, id)) {
                    Arc::make_mut(webhook).webhook.triggers.retain(|trigger| !waits_for(&trigger.rule, id));
                }
            }
            engine.inner.registry.put(parts, engine.inner.ambient.now());
            Ok(())
        })
        .await
    }

    /// Adds a webhook to a site. Without a secret of its own it gets a new one.
    pub async fn create_webhook(&self, site_id: SiteId, change: WebhookChange) -> Result<NewWebhook> {
        let url = change.url.clone().ok_or_else(|| Invalid::field("url", "is required"))?;
        self.check_host(&url).await?;
        self.change(site_id, |engine| async move {
            let (active, now) = (engine.site(site_id)?, engine.inner.ambient.now());
            let ambient = &engine.inner.ambient;
            let webhook = Webhook {
                id: WebhookId::new(ambient),
                site_id,
                name: change.name.unwrap_or_else(|| url.host().to_owned()),
                url: url.as_str().into(),
                enabled: change.enabled.unwrap_or(true),
                disabled_reason: None,
                triggers: engine.triggers(&active, &[], change.triggers.unwrap_or_default())?,
                headers: CustomHeaders::default().changed(change.headers.unwrap_or_default())?,
                template: applied(change.template.flatten(), None)?,
                batch: change.batch.flatten(),
                retry_schedule: change.retry_schedule.flatten(),
                rate_limit_per_second: change.rate_limit_per_second.flatten(),
                created_at: now,
                updated_at: now,
            };
            webhook.check()?;
            let secret = change.secret.unwrap_or_else(|| Secret::generate(ambient));
            let new = ActiveWebhook::new(webhook.clone(), secret.clone());
            let (most, for_one) = (engine.inner.settings.max_webhooks_per_site, engine.must_be_counted_by_one(None, &webhook));
            let added = engine.inner.store.add_webhook(engine.sealed(&new), most, for_one).await;
            added.map_err(|error| match error {
                StoreError::TooMany(most) => Invalid::field("webhooks", format!("must be at most {most} a site")).into(),
                error => exists(error, "the same trigger stands twice"),
            })?;
            let mut parts = active.parts();
            parts.webhooks.push(Arc::new(new));
            engine.inner.registry.put(parts, now);
            Ok(NewWebhook { webhook, secret })
        })
        .await
    }

    /// Changes a webhook. Switching it off cancels what has not gone out.
    pub async fn update_webhook(&self, site_id: SiteId, id: WebhookId, change: WebhookChange) -> Result<Webhook> {
        if let Some(url) = &change.url {
            self.check_host(url).await?;
        }
        self.change(site_id, |engine| async move {
            let active = engine.site(site_id)?;
            let current = webhook_of(&active, id)?;
            let mut webhook = current.webhook.clone();
            if let Some(rules) = change.triggers {
                webhook.triggers = engine.triggers(&active, &webhook.triggers, rules)?;
            }
            webhook.url = change.url.map_or(webhook.url, |url| url.as_str().into());
            webhook.name = change.name.unwrap_or(webhook.name);
            if let Some(headers) = change.headers {
                webhook.headers = webhook.headers.changed(headers)?;
            }
            if let Some(template) = change.template {
                webhook.template = applied(template, webhook.template.as_deref())?;
            }
            webhook.batch = change.batch.unwrap_or(webhook.batch);
            webhook.check()?;
            webhook.retry_schedule = change.retry_schedule.unwrap_or(webhook.retry_schedule);
            webhook.rate_limit_per_second = change.rate_limit_per_second.unwrap_or(webhook.rate_limit_per_second);
            webhook.enabled = change.enabled.unwrap_or(webhook.enabled);
            if webhook.enabled && !current.webhook.enabled {
                engine.may_be_on(&webhook)?;
            }
            webhook.disabled_reason = webhook.disabled_reason.filter(|_| !webhook.enabled);
            let changed = current.with(webhook);
            engine.replace(&active, changed).await
        })
        .await
    }

    /// Gives a webhook a new secret, which is returned. The one before signs too for as long as `grace`.
    pub async fn rotate_secret(&self, site_id: SiteId, id: WebhookId, grace: Duration) -> Result<Secret> {
        self.change(site_id, move |engine| async move {
            let active = engine.site(site_id)?;
            let current = webhook_of(&active, id)?;
            let (secret, until) = (Secret::generate(&engine.inner.ambient), engine.inner.ambient.now() + grace);
            let previous = (!grace.is_zero()).then(|| Box::new((current.secret.clone(), until)));
            let changed = ActiveWebhook { secret: secret.clone(), previous, ..ActiveWebhook::clone(current) };
            engine.replace(&active, changed).await?;
            Ok(secret)
        })
        .await
    }

    /// Switches a webhook off that its endpoint gives no reason to keep on, and tells the site's other webhooks that want to know.
    pub(crate) async fn switch_off(&self, given_up: GivenUp) -> Result<()> {
        let GivenUp { webhook_id: id, url, reason } = given_up;
        let site_id = self.inner.registry.site_of(id).ok_or(ManageError::NotFound)?;
        self.change(site_id, move |engine| async move {
            let active = engine.site(site_id)?;
            let current = webhook_of(&active, id)?;
            if !current.is_on() || current.webhook.url != url {
                return Ok(());
            }
            warn!(site = %site_id, webhook = %id, reason, "the webhook is switched off");
            let webhook = Webhook { enabled: false, disabled_reason: Some(reason.clone()), ..current.webhook.clone() };
            let told = engine.event_of_switching_off(&active, &webhook, reason);
            engine.replace_and_tell(&active, current.with(webhook), told).await.map(|_| ())
        })
        .await
    }

    /// Adds a trigger to a webhook.
    pub async fn create_trigger(&self, site_id: SiteId, webhook_id: WebhookId, rule: Rule) -> Result<Trigger> {
        self.change(site_id, |engine| async move {
            let active = engine.site(site_id)?;
            let current = webhook_of(&active, webhook_id)?;
            let mut webhook = current.webhook.clone();
            if webhook.triggers.len() >= MAX_TRIGGERS_PER_WEBHOOK {
                return Err(Invalid::field("triggers", format!("must be at most {MAX_TRIGGERS_PER_WEBHOOK} a webhook")).into());
            }
            if !has_goal_of(&active, &rule) {
                return Err(Invalid::field("goal_id", NOT_A_GOAL).into());
            }
            let rules = webhook.triggers.iter().map(|trigger| trigger.rule.clone()).chain([rule.clone()]).collect();
            webhook.triggers = engine.triggers(&active, &webhook.triggers, rules)?;
            let changed = current.with(webhook);
            let webhook = engine.replace(&active, changed).await?;
            let added = webhook.triggers.into_iter().find(|trigger| trigger.rule == rule);
            added.ok_or(ManageError::NotFound)
        })
        .await
    }

    /// Removes a trigger from a webhook.
    pub async fn delete_trigger(&self, site_id: SiteId, webhook_id: WebhookId, id: TriggerId) -> Result<()> {
        self.change(site_id, |engine| async move {
            let active = engine.site(site_id)?;
            let current = webhook_of(&active, webhook_id)?;
            let mut webhook = current.webhook.clone();
            let before = webhook.triggers.len();
            webhook.triggers.retain(|trigger| trigger.id != id);
            if webhook.triggers.len() == before {
                return Err(ManageError::NotFound);
            }
            engine.replace(&active, current.with(webhook)).await.map(|_| ())
        })
        .await
    }

    /// Deletes a webhook: nothing is sent any more, its history stays.
    pub async fn delete_webhook(&self, site_id: SiteId, id: WebhookId) -> Result<()> {
        self.change(site_id, |engine| async move {
            let (active, now) = (engine.site(site_id)?, engine.inner.ambient.now());
            webhook_of(&active, id)?;
            engine.inner.store.delete_webhook(id, now).await.map_err(not_found)?;
            let mut parts = active.parts();
            for webhook in parts.webhooks.iter_mut().filter(|webhook| webhook.webhook.id == id) {
                Arc::make_mut(webhook).deleted_at = Some(now);
            }
            engine.inner.registry.put(parts, now);
            engine.inner.dispatcher.start_over(id);
            engine.cancel_open(id).await;
            Ok(())
        })
        .await
    }

    /// Takes a webhook out of memory that was deleted long ago, and of which the tables know nothing any more.
    pub(crate) async fn forget_webhook(&self, id: WebhookId) -> Result<()> {
        let site_id = self.inner.registry.site_of(id).ok_or(ManageError::NotFound)?;
        self.change(site_id, move |engine| async move {
            let mut parts = engine.site(site_id)?.parts();
            parts.webhooks.retain(|webhook| webhook.webhook.id != id);
            engine.inner.registry.put(parts, engine.inner.ambient.now());
            engine.inner.registry.forget_webhook(id);
            Ok(())
        })
        .await
    }

    /// Makes one change of a site after the other, each to its end, although whoever asked for it may go away: what is stored and
    /// what is in force never differ.
    async fn change<T, F>(&self, site_id: SiteId, work: impl FnOnce(Self) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let (engine, work) = (self.clone(), work(self.clone()));
        self.finish(async move {
            let _changing = engine.inner.changing.of(site_id).lock().await;
            if engine.inner.store.is_shared() {
                engine.take_over(site_id).await?;
            }
            work.await
        })
        .await
    }

    /// Does work to its end, although whoever asked for it may go away.
    pub(crate) async fn finish<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        self.inner.workers.finish(work).await.unwrap_or(Err(ManageError::Store(StoreError::Closed)))
    }

    pub(crate) fn site(&self, id: SiteId) -> Result<Arc<ActiveSite>> {
        self.inner.registry.by_id(id).ok_or(ManageError::NotFound)
    }

    /// Stores a changed webhook and puts it in force.
    async fn replace(&self, active: &ActiveSite, changed: ActiveWebhook) -> Result<Webhook> {
        self.replace_and_tell(active, changed, None).await
    }

    /// As [`Engine::replace`], together with what others are told of it. An endpoint that was changed or is switched on again begins
    /// anew, whatever it did before.
    async fn replace_and_tell(&self, active: &ActiveSite, changed: ActiveWebhook, told: Option<NewEvent>) -> Result<Webhook> {
        let (now, id) = (self.inner.ambient.now(), changed.webhook.id);
        let changed = ActiveWebhook { webhook: Webhook { updated_at: now, ..changed.webhook }, ..changed };
        let before = &webhook_of(active, id)?.webhook;
        let makes_same_requests = |other: &Webhook| before.headers == other.headers && before.template == other.template;
        let is_other = before.url != changed.webhook.url || !makes_same_requests(&changed.webhook);
        let begins_anew = is_other || !changed.is_on() || !before.enabled;
        let for_one = self.must_be_counted_by_one(Some(before), &changed.webhook);
        let (sealed, kept) = (self.sealed(&changed), told.iter().cloned().collect());
        let updated = self.inner.store.update_webhook(sealed, before.updated_at, kept, for_one).await;
        updated.map_err(|error| outdated(error, "the webhook has this trigger already"))?;
        let (mut parts, webhook) = (active.parts(), changed.webhook.clone());
        let changed = Arc::new(changed);
        for current in parts.webhooks.iter_mut().filter(|current| current.webhook.id == id) {
            *current = changed.clone();
        }
        self.inner.registry.put(parts, now);
        told.iter().for_each(|event| self.inner.dispatcher.note_kept(event));
        if begins_anew {
            self.inner.dispatcher.start_over(id);
        }
        if !webhook.enabled {
            self.cancel_open(id).await;
        }
        Ok(webhook)
    }

    fn sealed(&self, webhook: &ActiveWebhook) -> SealedWebhook {
        let sealed = self.inner.sealer.seal(webhook, &self.inner.ambient);
        let bare = Webhook { headers: CustomHeaders::default(), ..webhook.webhook.clone() };
        SealedWebhook { webhook: bare, sealed, failing_since: None, deleted_at: webhook.deleted_at }
    }

    /// For those of the site's other webhooks that want to hear of it; none when there is none.
    fn event_of_switching_off(&self, active: &ActiveSite, webhook: &Webhook, reason: String) -> Option<NewEvent> {
        let told = |other: &Arc<ActiveWebhook>| {
            let trigger = other.webhook.triggers.iter().find(|trigger| trigger.rule == Rule::WebhookDisabled)?;
            let wants_to_know = other.is_on() && other.webhook.id != webhook.id;
            wants_to_know.then(|| NewDelivery { trigger_id: Some(trigger.id), ..self.inner.delivery(other) })
        };
        let deliveries: Vec<_> = active.webhooks.iter().filter_map(told).collect();
        let (webhook_id, webhook_name) = (webhook.id, webhook.name.clone());
        let data = Data::WebhookDisabled(WebhookDisabled { webhook_id, webhook_name, reason });
        let now = self.inner.ambient.now();
        (!deliveries.is_empty()).then(|| self.inner.new_event(&active.site, now, &data, deliveries))
    }

    /// Whether a trigger could be one of a site's: its goal is there, and what it counts is told.
    pub fn check_trigger(&self, site: &ActiveSite, rule: &Rule) -> Result<()> {
        let wrong = not_counted_there(rule).filter(|_| self.is_polled(site));
        let wrong = wrong.or_else(|| (!has_goal_of(site, rule)).then_some(("goal_id", NOT_A_GOAL)));
        wrong.map_or(Ok(()), |(field, sentence)| Err(Invalid::field(&format!("trigger.{field}"), sentence).into()))
    }

    /// Triggers for rules: those that were there keep their ids, and with them what was counted.
    fn triggers(&self, active: &ActiveSite, before: &[Trigger], rules: Vec<Rule>) -> Result<Vec<Trigger>> {
        let mut invalid = Invalid::default();
        for (index, _) in rules.iter().enumerate().filter(|(_, rule)| !has_goal_of(active, rule)) {
            invalid.add(&format!("triggers[{index}].goal_id"), NOT_A_GOAL);
        }
        if self.is_polled(active) {
            for (index, (field, sentence)) in
                rules.iter().map(not_counted_there).enumerate().filter_map(|(at, wrong)| Some((at, wrong?)))
            {
                invalid.add(&format!("triggers[{index}].{field}"), sentence);
            }
        }
        let is_new = |rule: &Rule| before.iter().all(|trigger| trigger.rule != *rule);
        if self.is_spread() && rules.iter().any(|rule| rule.counts_events() && is_new(rule)) {
            invalid.add("triggers", SPREAD);
        }
        if has_too_many_segments(active, before, &rules) {
            invalid.add("triggers", format!("must not be about more than {MAX_SEGMENTS_PER_SITE} pages and sources on a site"));
        }
        let trigger = |rule: Rule| {
            let kept = before.iter().find(|trigger| trigger.rule == rule);
            kept.cloned().unwrap_or_else(|| Trigger { id: TriggerId::new(&self.inner.ambient), rule })
        };
        Ok(invalid.or(rules.into_iter().map(trigger).collect())?)
    }

    /// Whether what is counted in memory may be in that of several processes, as far as is known: the store looks again.
    fn is_spread(&self) -> bool {
        self.inner.settings.counts_here() && self.inner.dispatcher.is_spread()
    }

    /// Whether what its triggers count can be counted here.
    fn may_be_on(&self, webhook: &Webhook) -> Result<()> {
        let is_spread = self.is_spread() && webhook.triggers.iter().any(|on| on.rule.counts_events());
        if is_spread { Err(Invalid::field("enabled", COUNTING).into()) } else { Ok(()) }
    }

    /// A host that resolves to an address that is refused is refused at once. One that does not resolve yet may do so later, and
    /// is checked then.
    async fn check_host(&self, url: &EndpointUrl) -> Result<()> {
        if url.address().is_some() {
            return Ok(());
        }
        let addresses = crate::send::resolve(&*self.inner.resolver, url.host()).await.unwrap_or_default();
        for address in addresses {
            self.inner.settings.policy.check(address).map_err(|refused| Invalid::field("url", refused.to_string()))?;
        }
        Ok(())
    }

    /// Cancels what has not gone out, or much of it; the rest is cancelled when it is due. What waits for other events is put
    /// together, so that it is in the history.
    async fn cancel_open(&self, webhook_id: WebhookId) {
        self.inner.dispatcher.cancel_waiting(webhook_id).await;
        let cancelled = async {
            self.cancel_stored(webhook_id).await?;
            self.inner.dispatcher.put_together(webhook_id).await?;
            self.cancel_stored(webhook_id).await
        };
        match cancelled.await {
            Ok(()) => self.inner.dispatcher.changes().note(webhook_id),
            Err(error) => warn!(%error, webhook = %webhook_id, "open deliveries are not cancelled yet"),
        }
    }

    async fn cancel_stored(&self, webhook_id: WebhookId) -> std::result::Result<(), StoreError> {
        let now = self.inner.ambient.now();
        for _ in 0..CANCELLING_WRITES {
            if self.inner.store.cancel_open(webhook_id, now, CANCELLED_PER_WRITE).await? < CANCELLED_PER_WRITE {
                break;
            }
        }
        Ok(())
    }
}

/// One lock for each site, or for a few together: changes of different sites may share a commit.
pub(crate) struct SiteLocks([Mutex<()>; SITE_LOCKS]);

impl SiteLocks {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }

    pub(crate) fn of(&self, site_id: SiteId) -> &Mutex<()> {
        let [.., last] = *site_id.as_bytes();
        &self.0[usize::from(last) % SITE_LOCKS]
    }
}

pub(crate) fn webhook_of(active: &ActiveSite, id: WebhookId) -> Result<&Arc<ActiveWebhook>> {
    active.webhook(id).filter(|webhook| webhook.deleted_at.is_none()).ok_or(ManageError::NotFound)
}

/// What a change makes of a webhook's template.
fn applied(change: Option<TemplateChange>, before: Option<&WebhookTemplate>) -> Result<Option<Arc<WebhookTemplate>>> {
    Ok(change.map(|change| change.applied(before)).transpose()?.map(Arc::new))
}

/// Whether the triggers of a site would be about too many segments with these rules in the place of the triggers before.
fn has_too_many_segments(active: &ActiveSite, before: &[Trigger], rules: &[Rule]) -> bool {
    let webhooks = active.webhooks.iter().filter(|webhook| webhook.deleted_at.is_none());
    let others = webhooks.flat_map(|webhook| &webhook.webhook.triggers).filter(|other| !before.contains(other));
    let segments: HashSet<_> = others.map(|trigger| &trigger.rule).chain(rules).filter_map(Rule::segment).collect();
    rules.iter().any(|rule| rule.segment().is_some()) && segments.len() > MAX_SEGMENTS_PER_SITE
}

/// Whether the goal that a rule waits for, if it is a certain one, is there.
fn has_goal_of(site: &ActiveSite, rule: &Rule) -> bool {
    rule.goal_id().is_none_or(|id| site.goals.iter().any(|goal| goal.id == id))
}

fn waits_for(rule: &Rule, id: GoalId) -> bool {
    rule.goal_id() == Some(id)
}

/// Of something that was there a moment ago.
fn outdated(error: StoreError, sentence: &'static str) -> ManageError {
    match error {
        StoreError::Gone => ManageError::Conflict("somebody else has changed it at the same moment: try again"),
        error => exists(error, sentence),
    }
}

fn exists(error: StoreError, sentence: &'static str) -> ManageError {
    match error {
        StoreError::Spread => Invalid::field("triggers", SPREAD).into(),
        StoreError::Exists => ManageError::Conflict(sentence),
        error => not_found(error),
    }
}

pub(crate) fn not_found(error: StoreError) -> ManageError {
    match error {
        StoreError::Gone => ManageError::NotFound,
        error => ManageError::Store(error),
    }
}
