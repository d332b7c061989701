//! A webhook's history: what was sent, what was answered, and what is sent again.

use std::str::FromStr;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bellwether_domain::batch::{Batch, Waiting};
use bellwether_domain::delivery::{Attempt, Contents, Delivery, Status};
use bellwether_domain::id::{DeliveryId, ReplayId, SiteId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_engine::{ManageError, SentBody};
use bellwether_store::{DeliveryDetail, DeliveryFilter, SignedIn};
use serde_json::{Map, Value};

use super::form::{Form, again};
use super::sites::shell_of;
use super::{Page, Shell, go_to, words};
use crate::App;
use crate::access::{Access, Person};
use crate::deliveries::{read_filter, replay_between};
use crate::problem::Problem;

/// Deliveries a page.
const LIMIT: usize = 25;
/// A box beside each dead letter bears this and its id.
const CHOSEN: &str = "delivery-";
/// The trigger of a filter. A replay takes dead letters of all triggers.
const EVENT_TYPE: &str = "event_type";
/// The event of a filter.
const EVENT_ID: &str = "event_id";
/// The parameters of a filter.
const FILTERS: [&str; 5] = ["status", EVENT_TYPE, EVENT_ID, "since", "until"];

#[derive(Template)]
#[template(path = "deliveries.html")]
struct Deliveries {
    shell: Shell,
    site_id: SiteId,
    webhook_id: WebhookId,
    domain: String,
    name: String,
    /// Where this page is.
    page: String,
    deliveries: Vec<Delivery>,
    /// The path of what is older than this page.
    older: Option<String>,
    /// Whether this is not the newest page.
    is_older: bool,
    statuses: Vec<(&'static str, bool)>,
    event_types: Vec<(&'static str, String, bool)>,
    /// What waits for the next batch.
    gathered: Option<Gathered>,
    may_change: bool,
    may_replay: bool,
    replays: Vec<ShownReplay>,
    form: Form,
}

/// Events that wait for each other.
struct Gathered {
    events: usize,
    /// When they go out, at the latest.
    due_at: Timestamp,
}

/// Dead letters on their way once more.
struct ShownReplay {
    id: ReplayId,
    status: &'static str,
    done: u64,
    total: u64,
}

#[derive(Template)]
#[template(path = "delivery.html")]
struct One {
    shell: Shell,
    site_id: SiteId,
    webhook_id: WebhookId,
    domain: String,
    name: String,
    may_resend: bool,
    delivery: Delivery,
    payload: String,
    /// What was sent instead of the payload.
    sent: Option<SentBody>,
    headers: Vec<(String, String)>,
    attempts: Vec<Attempt>,
}

/// What a page of the history is asked for.
#[derive(Default)]
struct Asked {
    filter: DeliveryFilter,
    before: Option<DeliveryId>,
    form: Form,
}

/// A webhook's deliveries, the newest first.
pub(crate) async fn list(
    State(app): State<App>,
    Person(who): Person,
    access: Access,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let asked = Asked::read(query.as_deref().unwrap_or_default());
    let is_right = asked.is_right();
    let page = page(&app, &who, &access, asked).await?;
    Ok(if is_right { page.into_response() } else { again(page) })
}

/// One delivery: what was sent, and every attempt.
pub(crate) async fn show(State(app): State<App>, Person(who): Person, access: Access) -> Result<Response, Problem> {
    let webhook = access.webhook_with_history()?;
    let found = app.engine.store().delivery(webhook.webhook.id, access.id("delivery_id")?).await?;
    let found = found.ok_or(Problem::NotFound)?;
    let sent = app.engine.sent_body(webhook, &found);
    let DeliveryDetail { delivery, payload, attempts } = found;
    let headers = attempts.last().map(|attempt| headers_of(&attempt.request_headers)).unwrap_or_default();
    let page = One {
        shell: shell_of(&who, &access, "/webhooks"),
        site_id: access.site.site.id,
        webhook_id: webhook.webhook.id,
        domain: access.site.site.domain.to_string(),
        name: webhook.webhook.name.clone(),
        may_resend: access.may_change && webhook.is_on(),
        delivery,
        payload: indented(payload),
        sent,
        headers,
        attempts: attempts.into_iter().map(|recorded| recorded.attempt).collect(),
    };
    Ok(Page(page).into_response())
}

/// Sends a delivery's event once more, and shows the new delivery.
pub(crate) async fn resend(State(app): State<App>, access: Access, _: Form) -> Result<Response, Problem> {
    let (site_id, webhook_id) = (access.site.site.id, access.webhook()?.webhook.id);
    let id = app.engine.resend(site_id, webhook_id, access.id("delivery_id")?).await?;
    Ok(go_to(&format!("{}/{id}", path(site_id, webhook_id))))
}

/// Sends dead letters again: those that were chosen, or all that the filter lets through.
pub(crate) async fn replay(State(app): State<App>, Person(who): Person, access: Access, form: Form) -> Result<Response, Problem> {
    let (site_id, webhook_id) = (access.site.site.id, access.webhook()?.webhook.id);
    let mut asked = Asked::of(form);
    if !asked.is_right() {
        return Ok(again(page(&app, &who, &access, asked).await?));
    }
    let status =
        asked.filter.status.filter(|status| is_lost(*status)).ok_or(Problem::BadRequest("no dead letters were chosen"))?;
    let replayed = match asked.form.has("all") {
        true => replay_all(&app, &access, (webhook_id, status), asked.filter).await,
        false => replay_chosen(&app, &access, (webhook_id, status), &asked.form).await,
    };
    match replayed {
        Ok(()) => Ok(go_to(&format!("{}{}", path(site_id, webhook_id), asked.query(None)))),
        Err(error) => {
            asked.form = asked.form.refused(error, &[])?;
            Ok(again(page(&app, &who, &access, asked).await?))
        }
    }
}

async fn replay_all(
    app: &App,
    access: &Access,
    (webhook_id, status): (WebhookId, Status),
    DeliveryFilter { contents, event_id, since, until, .. }: DeliveryFilter,
) -> Result<(), ManageError> {
    if contents.is_some() || event_id.is_some() {
        return Err(ManageError::Conflict("choose some, or look at those of all triggers and events first"));
    }
    let filter = replay_between(webhook_id, status, (since, until), app.engine.ambient().now());
    app.engine.replay(access.site.site.id, filter).await.map(drop)
}

async fn replay_chosen(app: &App, access: &Access, from: (WebhookId, Status), form: &Form) -> Result<(), ManageError> {
    let ids: Vec<_> = form.names_after(CHOSEN).filter_map(|id| DeliveryId::from_str(id).ok()).collect();
    if ids.is_empty() {
        return Err(ManageError::Conflict("choose some first"));
    }
    app.engine.replay_some(access.site.site.id, from, ids).await.map(drop)
}

/// Stops sending dead letters again.
pub(crate) async fn end_replay(State(app): State<App>, access: Access, _: Form) -> Result<Response, Problem> {
    let (site_id, webhook_id) = (access.site.site.id, access.webhook()?.webhook.id);
    app.engine.end_replay(webhook_id, access.id("replay_id")?).await?;
    Ok(go_to(&format!("{}?status=failed", path(site_id, webhook_id))))
}

impl Asked {
    fn read(query: &str) -> Self {
        Self::of(Form::read(query.as_bytes()))
    }

    /// Whether nothing is wrong.
    fn is_right(&self) -> bool {
        FILTERS.iter().all(|name| self.form.error(name).is_empty())
    }

    /// What is wrong stands beside its field, and counts for nothing.
    fn of(mut form: Form) -> Self {
        let mut filter = DeliveryFilter::default();
        for name in FILTERS {
            let value = moment(form.value(name));
            if !value.is_empty()
                && let Err(sentence) = read_filter(&mut filter, name, &value)
            {
                form = form.with_error(name, sentence);
            }
        }
        Self { before: form.value("before").parse().ok(), filter, form }
    }

    /// The same as a query, with what is to be older than that delivery.
    fn query(&self, before: Option<DeliveryId>) -> String {
        let filters = FILTERS.iter().map(|name| (*name, self.form.value(name).to_owned()));
        let before = before.map(|id| ("before", id.to_string()));
        let pairs = filters.chain(before).filter(|(_, value)| !value.is_empty());
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        if query.is_empty() { query } else { format!("?{query}") }
    }
}

async fn page(app: &App, who: &SignedIn, access: &Access, asked: Asked) -> Result<Page<Deliveries>, Problem> {
    let webhook = access.webhook_with_history()?;
    let (site_id, webhook_id) = (access.site.site.id, webhook.webhook.id);
    let stretch = app.engine.store().history(webhook_id, asked.filter, asked.before, LIMIT).await?;
    let replays = app.engine.store().replays_of(webhook_id).await?;
    let replays = replays.into_iter().map(|replay| ShownReplay {
        id: replay.id,
        status: replay.filter.status.name(),
        done: replay.done,
        total: replay.total,
    });
    let DeliveryFilter { status, contents, .. } = asked.filter;
    let event_types = Contents::all().map(|kind| (kind.name(), title_of(kind.name()), contents == Some(kind)));
    let waiting = app.engine.store().gathered_for(webhook_id).await?;
    let lost = status.filter(|status| is_lost(*status));
    Ok(Page(Deliveries {
        shell: shell_of(who, access, "/webhooks"),
        site_id,
        webhook_id,
        domain: access.site.site.domain.to_string(),
        name: webhook.webhook.name.clone(),
        page: format!("{}{}", path(site_id, webhook_id), asked.query(asked.before)),
        deliveries: stretch.deliveries,
        older: stretch.next.map(|before| format!("{}{}", path(site_id, webhook_id), asked.query(Some(before)))),
        is_older: asked.before.is_some(),
        statuses: Status::ALL.map(|one| (one.name(), status == Some(one))).into(),
        event_types: event_types.collect(),
        gathered: webhook.webhook.batch.zip(waiting).map(Gathered::of),
        may_change: access.may_change,
        may_replay: access.may_change && webhook.is_on() && lost.is_some(),
        replays: replays.collect(),
        form: asked.form,
    }))
}

impl Gathered {
    fn of((batch, waiting): (Batch, Waiting)) -> Self {
        Self { events: waiting.events, due_at: batch.due_at(waiting.since) }
    }
}

/// What people call what a delivery brings.
pub(crate) fn title(delivery: &Delivery) -> String {
    let is_batch = delivery.event_type == Contents::Batch.name();
    match delivery.event_count {
        1 if is_batch => "Batch of one event".to_owned(),
        events if is_batch => format!("Batch of {events} events"),
        _ => words::event_type_of(&delivery.event_type),
    }
}

fn title_of(name: &str) -> String {
    if name == Contents::Batch.name() { "Batch".to_owned() } else { words::event_type_of(name) }
}

fn path(site_id: SiteId, webhook_id: WebhookId) -> String {
    format!("/sites/{site_id}/webhooks/{webhook_id}/deliveries")
}

fn is_lost(status: Status) -> bool {
    matches!(status, Status::Failed | Status::Cancelled)
}

/// Fields for a time send it without seconds or zone; it is in UTC. Anything else is taken as it is.
fn moment(value: &str) -> String {
    let digits: String = value.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
    match digits.as_str() {
        "0000-00-00T00:00" => format!("{value}:00Z"),
        "0000-00-00T00:00:00" => format!("{value}Z"),
        _ => value.to_owned(),
    }
}

fn headers_of(json: &str) -> Vec<(String, String)> {
    let headers: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
    // The values of a webhook's own headers are secrets, and are not kept.
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Null => "hidden".to_owned(),
        other => other.to_string(),
    };
    headers.into_iter().map(|(name, value)| (name, text(value))).collect()
}

/// The payload for people; what was sent has no white space.
fn indented(payload: String) -> String {
    let value: Result<Value, _> = serde_json::from_str(&payload);
    value.and_then(|value| serde_json::to_string_pretty(&value)).unwrap_or(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_and_go_on_to_older_pages() {
        let asked = Asked::read("status=failed&event_type=&since=2026-02-25T14%3A30&until=soon&x=1");
        assert_eq!(asked.filter.status, Some(Status::Failed));
        assert_eq!(asked.filter.since.map(|since| since.to_string()).as_deref(), Some("2026-02-25T14:30:00.000Z"));
        assert_eq!(asked.form.error("until"), "must be a time like 2026-02-25T14:30:00Z");
        let id = DeliveryId::from_bytes([1; 16]);
        assert_eq!(asked.query(Some(id)), format!("?status=failed&since=2026-02-25T14%3A30&until=soon&before={id}"));
        assert_eq!(Asked::read("").query(None), "");
    }

    #[test]
    fn headers_that_are_hidden_say_so() {
        let headers = headers_of(r#"{"content-type":"application/json","authorization":null}"#);
        let shown: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(shown, [("content-type", "application/json"), ("authorization", "hidden")]);
    }

    #[test]
    fn payloads_are_indented_in_their_order() {
        assert_eq!(indented(r#"{"b":1,"a":[]}"#.to_owned()), "{\n  \"b\": 1,\n  \"a\": []\n}");
        assert_eq!(indented("no JSON".to_owned()), "no JSON");
    }
}
