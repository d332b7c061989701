//! Webhooks of a site, and their triggers.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get};
use bellwether_domain::breaker::Breaker;
use bellwether_domain::delivery::Delivery;
use bellwether_domain::fields::{Fields, Invalid};
use bellwether_domain::id::WebhookId;
use bellwether_domain::trigger::Rule;
use bellwether_domain::webhook::{Webhook, WebhookChange};
use bellwether_domain::webhook_template::{TemplateChange, WebhookTemplate};
use bellwether_engine::{NewWebhook, Preview};
use serde::Serialize;
use serde_json::Value;

use crate::App;
use crate::access::Access;
use crate::input::{JsonBody, JsonOrNothing};
use crate::problem::Problem;

const DEFAULT_GRACE_SECONDS: u32 = 24 * 60 * 60;
const MAX_GRACE_SECONDS: u32 = 7 * DEFAULT_GRACE_SECONDS;

/// Many webhooks.
#[derive(Serialize)]
pub(crate) struct Webhooks {
    webhooks: Vec<Shown>,
}

/// One webhook.
#[derive(Serialize)]
pub(crate) struct One {
    webhook: Shown,
}

/// One trigger.
#[derive(Serialize)]
pub(crate) struct OneTrigger {
    trigger: Value,
}

/// A webhook as it is shown.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    webhook: Webhook,
    /// How its endpoint has been doing.
    breaker: Breaker,
    last_delivery: Option<Delivery>,
    /// Only this one time, when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A secret that was just made, which is shown this one time.
#[derive(Serialize)]
pub(crate) struct NewSecret {
    secret: String,
}

/// What a template makes of events.
#[derive(Serialize)]
pub(crate) struct Previewed {
    content_type: String,
    method: &'static str,
    previews: Vec<ShownPreview>,
}

/// What a template makes of one event.
#[derive(Serialize)]
struct ShownPreview {
    event_type: &'static str,
    /// Whether there was no such event of late.
    is_example: bool,
    event: Value,
    /// None where it fails.
    body: Option<String>,
    error: Option<ShownError>,
}

/// Why a template fails, and where.
#[derive(Serialize)]
struct ShownError {
    message: String,
    line: Option<usize>,
    column: Option<usize>,
}

/// The routes of one webhook.
pub(crate) fn one() -> MethodRouter<App> {
    get(show).put(update).patch(update).delete(delete)
}

/// A site's webhooks, in the order they were made.
pub(crate) async fn list(State(app): State<App>, access: Access) -> Result<Json<Webhooks>, Problem> {
    let webhooks = access.site.webhooks.iter().filter(|webhook| webhook.deleted_at.is_none());
    let webhooks: Vec<_> = webhooks.map(|webhook| webhook.webhook.clone()).collect();
    let mut last = app.engine.store().last_deliveries(webhooks.iter().map(|webhook| webhook.id).collect()).await?;
    let shown = |webhook: Webhook| {
        let last_delivery = last.remove(&webhook.id);
        Shown { breaker: app.engine.breaker(webhook.id), last_delivery, webhook, secret: None }
    };
    Ok(Json(Webhooks { webhooks: webhooks.into_iter().map(shown).collect() }))
}

/// Adds a webhook, and shows its secret.
pub(crate) async fn create(
    State(app): State<App>,
    access: Access,
    JsonBody(change): JsonBody,
) -> Result<(StatusCode, Json<One>), Problem> {
    let change = WebhookChange::read_new(&change, app.engine.policy())?;
    let NewWebhook { webhook, secret } = app.engine.create_webhook(access.site.site.id, change).await?;
    let secret = Some(secret.reveal().to_owned());
    let webhook = Shown { webhook, breaker: Breaker::default(), last_delivery: None, secret };
    Ok((StatusCode::CREATED, Json(One { webhook })))
}

/// Gives a webhook a new secret, and shows it.
pub(crate) async fn rotate_secret(
    State(app): State<App>,
    access: Access,
    JsonOrNothing(body): JsonOrNothing,
) -> Result<Json<NewSecret>, Problem> {
    let (id, grace) = (access.webhook()?.webhook.id, read_grace(&body)?);
    let secret = app.engine.rotate_secret(access.site.site.id, id, grace).await?;
    Ok(Json(NewSecret { secret: secret.reveal().to_owned() }))
}

/// For how long the secret before still signs.
pub(crate) fn read_grace(body: &Value) -> Result<Duration, Invalid> {
    let mut fields = Fields::of(body)?;
    let seconds = fields.integer("grace_seconds", 0..=MAX_GRACE_SECONDS).unwrap_or(DEFAULT_GRACE_SECONDS);
    fields.finish().map(|()| Duration::from_secs(seconds.into()))
}

/// Renders a template that is not saved, with the latest event of each type or an example.
pub(crate) async fn preview(
    State(app): State<App>,
    access: Access,
    JsonBody(body): JsonBody,
) -> Result<Json<Previewed>, Problem> {
    let template = read_preview(&body, &access)?;
    let previews = app.engine.preview(&access.site, &template).await?;
    Ok(Json(Previewed {
        content_type: template.content_type().as_str().to_owned(),
        method: template.method().name(),
        previews: previews.into_iter().map(ShownPreview::of).collect(),
    }))
}

/// The template, with the parameters of the webhook that it is for where they are not given.
fn read_preview(body: &Value, access: &Access) -> Result<WebhookTemplate, Invalid> {
    let mut fields = Fields::of(body)?;
    fields.require("template");
    let template = fields.value("template").map(TemplateChange::read).transpose();
    let template = template.map_err(|invalid| fields.nest("template", invalid)).ok().flatten();
    let webhook = fields.text("webhook_id", 64).map(|id| {
        let webhook = id.parse().ok().and_then(|id| access.site.webhook(id)).filter(|webhook| webhook.deleted_at.is_none());
        webhook.ok_or_else(|| fields.refuse::<()>("webhook_id", "must be the id of a webhook of the site"))
    });
    fields.finish()?;
    let before = webhook.and_then(Result::ok).and_then(|webhook| webhook.webhook.template.as_deref());
    template.map(|template| template.tried(before)).ok_or_else(|| Invalid::field("template", "is required"))
}

impl ShownPreview {
    fn of(preview: Preview) -> Self {
        let error = preview.body.as_ref().err().map(|error| ShownError {
            message: error.sentence.clone(),
            line: error.place.map(|place| place.line),
            column: error.place.map(|place| place.column),
        });
        Self {
            event_type: preview.event_type.name(),
            is_example: preview.is_example,
            event: preview.event,
            body: preview.body.ok(),
            error,
        }
    }
}

/// Adds a trigger to a webhook.
pub(crate) async fn create_trigger(
    State(app): State<App>,
    access: Access,
    JsonBody(rule): JsonBody,
) -> Result<(StatusCode, Json<OneTrigger>), Problem> {
    let trigger = app.engine.create_trigger(access.site.site.id, access.id("webhook_id")?, Rule::read(&rule, None)?).await?;
    Ok((StatusCode::CREATED, Json(OneTrigger { trigger: trigger.to_json() })))
}

/// Removes a trigger from a webhook.
pub(crate) async fn delete_trigger(State(app): State<App>, access: Access) -> Result<StatusCode, Problem> {
    app.engine.delete_trigger(access.site.site.id, access.id("webhook_id")?, access.id("trigger_id")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show(State(app): State<App>, access: Access) -> Result<Json<One>, Problem> {
    let webhook = access.webhook()?.webhook.clone();
    let last_delivery = last_delivery(&app, webhook.id).await?;
    let breaker = app.engine.breaker(webhook.id);
    Ok(Json(One { webhook: Shown { webhook, breaker, last_delivery, secret: None } }))
}

/// Everything that may fail comes before the change: an error says that nothing was changed.
async fn update(State(app): State<App>, access: Access, JsonBody(change): JsonBody) -> Result<Json<One>, Problem> {
    let id = access.id("webhook_id")?;
    let change = WebhookChange::read(&change, app.engine.policy())?;
    let last_delivery = last_delivery(&app, id).await?;
    let webhook = app.engine.update_webhook(access.site.site.id, id, change).await?;
    let breaker = app.engine.breaker(webhook.id);
    Ok(Json(One { webhook: Shown { webhook, breaker, last_delivery, secret: None } }))
}

async fn delete(State(app): State<App>, access: Access) -> Result<StatusCode, Problem> {
    app.engine.delete_webhook(access.site.site.id, access.id("webhook_id")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn last_delivery(app: &App, id: WebhookId) -> Result<Option<Delivery>, Problem> {
    Ok(app.engine.store().last_deliveries(vec![id]).await?.remove(&id))
}
