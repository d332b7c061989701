//! A site's webhooks: how they are doing, and everything that is done with them.

pub(crate) mod edit;

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bellwether_domain::delivery::{Attempt, Delivery};
use bellwether_domain::id::{DeliveryId, SiteId, WebhookId};
use bellwether_domain::signature::Secret;
use bellwether_domain::webhook::WebhookChange;
use bellwether_engine::{ActiveWebhook, HourOfOutcomes, ManageError};
use bellwether_store::{DeliveryDetail, SignedIn};
use serde_json::json;
use tokio::time::Instant;

use super::batch_form;
use super::charts::Health;
use super::form::{Form, Query, again};
use super::samples::{self, Sample};
use super::sites::shell_of;
use super::{Page, Shell, go_to, words};
use crate::App;
use crate::access::{Access, Person};
use crate::problem::Problem;

const DAY: Duration = Duration::from_secs(86_400);
/// For how long the answer to a test is waited for: a little longer than an endpoint may take.
const TEST_TIME: Duration = Duration::from_secs(18);
/// How often it is looked for the answer to a test that another process sends.
const TEST_INTERVAL: Duration = Duration::from_millis(250);
/// What may be chosen for how long the secret before still signs, in seconds.
const GRACES: [(u64, &str); 4] = [(86_400, "24 hours"), (3_600, "an hour"), (604_800, "7 days"), (0, "no time: it ends at once")];

#[derive(Template)]
#[template(path = "webhooks.html")]
struct Webhooks {
    shell: Shell,
    site_id: SiteId,
    domain: String,
    may_change: bool,
    has_goals: bool,
    webhooks: Vec<Card>,
}

/// A webhook in short.
struct Card {
    id: WebhookId,
    name: String,
    url: String,
    enabled: bool,
    /// Why it is off, where Bellwether switched it off.
    disabled_reason: Option<String>,
    is_failing: bool,
    chips: Vec<String>,
    health: Health,
    last_delivery: Option<Delivery>,
}

#[derive(Template)]
#[template(path = "webhook.html")]
struct One {
    shell: Shell,
    site_id: SiteId,
    domain: String,
    may_change: bool,
    card: Card,
    sentences: Vec<String>,
    /// What is sent instead of the usual payload.
    payload: Option<String>,
    /// How events are put together.
    batch: Option<String>,
    /// A secret that was just made.
    secret: Option<String>,
    /// What became of a test that was sent.
    test: Option<Tested>,
    graces: [(u64, &'static str); 4],
    samples: Vec<Sample>,
    form: Form,
}

/// A test and what was answered.
struct Tested {
    delivery: Delivery,
    /// The latest attempt; none while none has ended.
    attempt: Option<Attempt>,
}

/// What is shown beside the webhook itself.
#[derive(Default)]
struct Beside {
    secret: Option<String>,
    test: Option<Tested>,
    form: Form,
}

/// All webhooks of a site.
pub(crate) async fn list(State(app): State<App>, Person(who): Person, access: Access) -> Result<Response, Problem> {
    let site = &access.site;
    let webhooks: Vec<_> = site.webhooks.iter().filter(|webhook| webhook.deleted_at.is_none()).map(|one| &**one).collect();
    let page = Webhooks {
        shell: shell_of(&who, &access, "/webhooks"),
        site_id: site.site.id,
        domain: site.site.domain.to_string(),
        may_change: access.may_change,
        has_goals: !site.goals.is_empty(),
        webhooks: cards(&app, &access, &webhooks).await?,
    };
    Ok(Page(page).into_response())
}

/// One webhook, with a secret that was just made, or a test and its answer.
pub(crate) async fn show(
    State(app): State<App>,
    Person(who): Person,
    access: Access,
    Query(asked): Query,
) -> Result<Response, Problem> {
    let secret = app.once.take(app.engine.ambient(), who.session.id, asked.value("once"));
    let test = match asked.value("test").parse() {
        Ok(id) => test(&app, access.webhook()?.webhook.id, id).await?,
        Err(_) => None,
    };
    Ok(page(&app, &who, &access, Beside { secret, test, ..Beside::default() }).await?.into_response())
}

/// Switches a webhook on or off.
pub(crate) async fn switch(State(app): State<App>, access: Access, form: Form) -> Result<Response, Problem> {
    let enabled = match form.value("enabled") {
        "true" => true,
        "false" => false,
        _ => return Err(Problem::BadRequest("a webhook is on or off")),
    };
    let change = WebhookChange { enabled: Some(enabled), ..WebhookChange::default() };
    let webhook = app.engine.update_webhook(access.site.site.id, access.id("webhook_id")?, change).await?;
    let page = if form.value("from") == "list" { String::new() } else { format!("/{}", webhook.id) };
    Ok(go_to(&format!("/sites/{}/webhooks{page}", access.site.site.id)))
}

/// Sends a test, waits for its answer, and goes on to it.
pub(crate) async fn send_test(
    State(app): State<App>,
    Person(who): Person,
    access: Access,
    form: Form,
) -> Result<Response, Problem> {
    let (site_id, webhook_id) = (access.site.site.id, access.webhook()?.webhook.id);
    match app.engine.send_test(site_id, webhook_id).await {
        Ok(id) => {
            answered(&app, webhook_id, id).await?;
            Ok(go_to(&format!("/sites/{site_id}/webhooks/{webhook_id}?test={id}#test")))
        }
        Err(error) => Ok(again(page(&app, &who, &access, refused(form, error)?).await?)),
    }
}

/// Gives a webhook a new secret, and goes on to it.
pub(crate) async fn rotate_secret(
    State(app): State<App>,
    Person(who): Person,
    access: Access,
    form: Form,
) -> Result<Response, Problem> {
    let (site_id, webhook_id) = (access.site.site.id, access.webhook()?.webhook.id);
    let grace = json!({"grace_seconds": form.number("grace_seconds")});
    let rotated = match crate::webhooks::read_grace(&grace) {
        Ok(grace) => app.engine.rotate_secret(site_id, webhook_id, grace).await,
        Err(invalid) => Err(ManageError::Invalid(invalid)),
    };
    match rotated {
        Ok(secret) => Ok(shown_with_secret(&app, &who, site_id, webhook_id, &secret)),
        Err(error) => Ok(again(page(&app, &who, &access, refused(form, error)?).await?)),
    }
}

/// Deletes a webhook.
pub(crate) async fn delete(State(app): State<App>, access: Access, _: Form) -> Result<Response, Problem> {
    app.engine.delete_webhook(access.site.site.id, access.id("webhook_id")?).await?;
    Ok(go_to(&format!("/sites/{}/webhooks", access.site.site.id)))
}

/// Sends the browser on to a webhook, where its secret is shown this one time.
fn shown_with_secret(app: &App, who: &SignedIn, site_id: SiteId, webhook_id: WebhookId, secret: &Secret) -> Response {
    let token = app.once.keep(app.engine.ambient(), who.session.id, secret.reveal().to_owned());
    go_to(&format!("/sites/{site_id}/webhooks/{webhook_id}?once={token}"))
}

fn refused(form: Form, error: ManageError) -> Result<Beside, Problem> {
    Ok(Beside { form: form.refused(error, &[])?, ..Beside::default() })
}

async fn page(app: &App, who: &SignedIn, access: &Access, beside: Beside) -> Result<Page<One>, Problem> {
    let site = &access.site;
    let webhook = access.webhook()?;
    let card = cards(app, access, &[webhook]).await?.pop().ok_or(Problem::NotFound)?;
    let triggers = webhook.webhook.triggers.iter();
    Ok(Page(One {
        shell: shell_of(who, access, "/webhooks"),
        site_id: site.site.id,
        domain: site.site.domain.to_string(),
        may_change: access.may_change,
        sentences: triggers.map(|trigger| words::sentence(&trigger.rule, &site.goals)).collect(),
        payload: webhook.webhook.template.as_deref().map(words::template),
        batch: webhook.webhook.batch.map(batch_form::sentence),
        samples: samples::of(&card.url, beside.secret.as_deref()),
        secret: beside.secret,
        test: beside.test,
        form: beside.form,
        graces: GRACES,
        card,
    }))
}

async fn cards(app: &App, access: &Access, webhooks: &[&ActiveWebhook]) -> Result<Vec<Card>, Problem> {
    let now = app.engine.ambient().now();
    let ids: Vec<_> = webhooks.iter().map(|webhook| webhook.webhook.id).collect();
    let mut outcomes = app.engine.outcomes(&ids, now - DAY).await?;
    let mut last = app.engine.store().last_deliveries(ids).await?;
    let card = |webhook: &&ActiveWebhook| {
        let webhook = &webhook.webhook;
        let hours: Vec<HourOfOutcomes> = outcomes.remove(&webhook.id).unwrap_or_default();
        Card {
            id: webhook.id,
            name: webhook.name.clone(),
            url: webhook.url.to_string(),
            enabled: webhook.enabled,
            disabled_reason: webhook.disabled_reason.clone(),
            is_failing: webhook.enabled && app.engine.breaker(webhook.id).trial_at().is_some(),
            chips: webhook.triggers.iter().map(|trigger| words::chip(&trigger.rule, &access.site.goals)).collect(),
            health: Health::of(&hours, now),
            last_delivery: last.remove(&webhook.id),
        }
    };
    Ok(webhooks.iter().map(card).collect())
}

/// A test of this webhook, as far as it has come.
async fn test(app: &App, webhook_id: WebhookId, id: DeliveryId) -> Result<Option<Tested>, Problem> {
    let found = app.engine.store().delivery(webhook_id, id).await?;
    let found = found.filter(|found| found.delivery.test);
    Ok(found.map(|DeliveryDetail { delivery, mut attempts, .. }| {
        let attempt = attempts.pop().map(|recorded| recorded.attempt);
        Tested { delivery, attempt }
    }))
}

/// Waits until a test has been answered, whichever process sends it, for as long as an endpoint may take, and not beyond the shutdown.
async fn answered(app: &App, webhook_id: WebhookId, id: DeliveryId) -> Result<(), Problem> {
    let (mut watcher, until) = (app.engine.watch(&[webhook_id]), Instant::now() + TEST_TIME);
    loop {
        let tested = test(app, webhook_id, id).await?.ok_or(Problem::NotFound)?;
        let is_answered = tested.attempt.is_some() || tested.delivery.completed_at.is_some();
        let look_again = until.min(Instant::now() + TEST_INTERVAL);
        let change = app.shutdown.run_until_cancelled(tokio::time::timeout_at(look_again, watcher.changed()));
        if is_answered || change.await.is_none() || Instant::now() >= until {
            return Ok(());
        }
    }
}
