//! The history of a webhook.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use bellwether_domain::delivery::{Attempt, Contents, Delivery, Status};
use bellwether_domain::fields::{Fields, Invalid};
use bellwether_domain::id::{DeliveryId, WebhookId};
use bellwether_domain::time::Timestamp;
use bellwether_engine::SentBody;
use bellwether_store::{DeliveryDetail, DeliveryFilter, PageNumber, ReplayFilter, StoreError};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::App;
use crate::access::Access;
use crate::input::JsonOrNothing;
use crate::problem::Problem;

const DEFAULT_LIMIT: u32 = 20;
const LIMITS: RangeInclusive<u32> = 1..=100;
const PAGES: RangeInclusive<u32> = 1..=1_000_000;

/// A page of deliveries.
#[derive(Serialize)]
pub(crate) struct Deliveries {
    deliveries: Vec<Delivery>,
    pagination: Pagination,
}

/// One delivery.
#[derive(Serialize)]
pub(crate) struct One {
    delivery: Shown,
}

/// A delivery that was just made.
#[derive(Serialize)]
pub(crate) struct New {
    delivery: Delivery,
}

/// How many dead letters are sent again.
#[derive(Serialize)]
pub(crate) struct Queued {
    queued: u64,
}

#[derive(Serialize)]
struct Pagination {
    page: u32,
    limit: u32,
    total_count: u64,
    total_pages: u64,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    delivery: Delivery,
    /// What the webhook is told, to the byte: the body, unless the webhook has a template.
    payload: Box<RawValue>,
    /// What was sent instead; null where it was the payload.
    sent: Option<Sent>,
    /// Of the latest attempt; null before the first.
    request_headers: Option<Box<RawValue>>,
    attempts: Vec<Attempt>,
}

/// A body that a template made.
#[derive(Serialize)]
struct Sent {
    body: String,
    content_type: String,
    method: &'static str,
    /// False where the template, a parameter or the secret is another one by now: then this is what would be sent now.
    is_exact: bool,
}

impl Sent {
    fn of(sent: SentBody) -> Self {
        Self { body: sent.body, content_type: sent.content_type, method: sent.method.name(), is_exact: sent.is_exact }
    }
}

/// A page of a webhook's deliveries, the newest first.
pub(crate) async fn list(State(app): State<App>, access: Access, RawQuery(query): RawQuery) -> Result<Json<Deliveries>, Problem> {
    let webhook_id = access.webhook_with_history()?.webhook.id;
    let (filter, number) = read_query(query.as_deref().unwrap_or_default())?;
    let page = app.engine.store().deliveries(webhook_id, filter, number).await?;
    let (limit, total_count) = (number.limit, page.total_count);
    let total_pages = total_count.div_ceil(u64::from(limit));
    Ok(Json(Deliveries {
        deliveries: page.deliveries,
        pagination: Pagination { page: number.page, limit, total_count, total_pages },
    }))
}

/// One delivery with its payload and every attempt.
pub(crate) async fn show(State(app): State<App>, access: Access) -> Result<Json<One>, Problem> {
    let webhook = access.webhook_with_history()?;
    let found = app.engine.store().delivery(webhook.webhook.id, access.id("delivery_id")?).await?;
    let found = found.ok_or(Problem::NotFound)?;
    let sent = app.engine.sent_body(webhook, &found).map(Sent::of);
    let DeliveryDetail { delivery, payload, attempts } = found;
    let headers = attempts.last().map(|attempt| attempt.request_headers.clone());
    let shown = Shown {
        delivery,
        sent,
        payload: raw(payload)?,
        request_headers: headers.map(raw).transpose()?,
        attempts: attempts.into_iter().map(|recorded| recorded.attempt).collect(),
    };
    Ok(Json(One { delivery: shown }))
}

/// Sends a delivery's event once more, and shows the new delivery.
pub(crate) async fn resend(State(app): State<App>, access: Access) -> Result<(StatusCode, Json<New>), Problem> {
    let webhook_id = access.webhook()?.webhook.id;
    let id = app.engine.resend(access.site.site.id, webhook_id, access.id("delivery_id")?).await?;
    accepted(&app, webhook_id, id).await
}

/// Sends a test, and shows its delivery.
pub(crate) async fn send_test(State(app): State<App>, access: Access) -> Result<(StatusCode, Json<New>), Problem> {
    let webhook_id = access.webhook()?.webhook.id;
    let id = app.engine.send_test(access.site.site.id, webhook_id).await?;
    accepted(&app, webhook_id, id).await
}

/// Sends dead letters again.
pub(crate) async fn replay(
    State(app): State<App>,
    access: Access,
    JsonOrNothing(body): JsonOrNothing,
) -> Result<(StatusCode, Json<Queued>), Problem> {
    let webhook_id = access.webhook()?.webhook.id;
    let filter = read_replay(&body, webhook_id, app.engine.ambient().now())?;
    let queued = app.engine.replay(access.site.site.id, filter).await?;
    Ok((StatusCode::ACCEPTED, Json(Queued { queued })))
}

fn read_replay(body: &Value, webhook_id: WebhookId, now: Timestamp) -> Result<ReplayFilter, Invalid> {
    let mut fields = Fields::of(body)?;
    let status = match fields.text("status", 64) {
        None | Some("failed") => Status::Failed,
        Some("cancelled") => Status::Cancelled,
        Some(_) => fields.refuse("status", "must be failed or cancelled").unwrap_or(Status::Failed),
    };
    let mut moment = |name| {
        let text = fields.text(name, 64)?;
        time(text).map_err(|sentence| fields.refuse::<()>(name, sentence)).ok()
    };
    let (since, until) = (moment("since"), moment("until"));
    fields.finish()?;
    Ok(replay_between(webhook_id, status, (since, until), now))
}

/// A webhook's dead letters between two moments. What is made later than now is none of them.
pub(crate) fn replay_between(
    webhook_id: WebhookId,
    status: Status,
    (since, until): (Option<Timestamp>, Option<Timestamp>),
    now: Timestamp,
) -> ReplayFilter {
    let after_now = now + Duration::from_millis(1);
    let until = until.map_or(after_now, |until| until.min(after_now));
    ReplayFilter { webhook_id, status, since: since.unwrap_or(Timestamp::EPOCH), until }
}

async fn accepted(app: &App, webhook_id: WebhookId, id: DeliveryId) -> Result<(StatusCode, Json<New>), Problem> {
    let found = app.engine.store().delivery(webhook_id, id).await?;
    let delivery = found.ok_or(Problem::NotFound)?.delivery;
    Ok((StatusCode::ACCEPTED, Json(New { delivery })))
}

fn raw(json: String) -> Result<Box<RawValue>, StoreError> {
    RawValue::from_string(json).map_err(|error| StoreError::Unreadable(error.to_string()))
}

fn read_query(query: &str) -> Result<(DeliveryFilter, PageNumber), Invalid> {
    let (mut filter, mut number) = (DeliveryFilter::default(), PageNumber { page: 1, limit: DEFAULT_LIMIT });
    let mut invalid = Invalid::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let read = match &*name {
            "page" => whole(&value, PAGES).map(|page| number.page = page),
            "limit" => whole(&value, LIMITS).map(|limit| number.limit = limit),
            name => read_filter(&mut filter, name, &value),
        };
        if let Err(sentence) = read {
            invalid.add(&name, sentence);
        }
    }
    invalid.or((filter, number))
}

/// Reads one parameter of a filter.
pub(crate) fn read_filter(filter: &mut DeliveryFilter, name: &str, value: &str) -> Result<(), String> {
    let statuses = || one_of(Status::ALL.map(Status::name).as_slice());
    let contents = || one_of(&Contents::all().map(Contents::name).collect::<Vec<_>>());
    match name {
        "status" => filter.status = Some(Status::from_name(value).ok_or_else(statuses)?),
        "event_type" => filter.contents = Some(Contents::from_name(value).ok_or_else(contents)?),
        "event_id" => filter.event_id = Some(value.trim().parse().map_err(|_| "must be the id of an event or a batch")?),
        "since" => filter.since = Some(time(value)?),
        "until" => filter.until = Some(time(value)?),
        _ => return Err("is not a known parameter".to_owned()),
    }
    Ok(())
}

fn whole(value: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
}

fn time(value: &str) -> Result<Timestamp, String> {
    value.parse().map_err(|error: bellwether_domain::time::NotATime| error.to_string())
}

fn one_of(names: &[&str]) -> String {
    format!("must be one of {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use bellwether_domain::trigger::EventType;

    use super::*;

    #[test]
    fn queries_are_read_and_mistakes_named() {
        let (filter, number) =
            read_query("page=3&limit=100&status=failed&event_type=visitor_spike&since=2026-01-01T00:00:00%2B01:00")
                .expect("a filter");
        assert_eq!((number.page, number.limit, filter.status), (3, 100, Some(Status::Failed)));
        assert_eq!((filter.contents, filter.until), (Some(Contents::Event(EventType::VisitorSpike)), None));
        assert_eq!(filter.since.map(|since| since.to_string()).as_deref(), Some("2025-12-31T23:00:00.000Z"));
        let (filter, _) = read_query("event_type=batch&event_id=01a20091-7fad-702d-a5a3-3c3da56cf487").expect("a filter");
        assert_eq!((filter.contents, filter.event_id.is_some()), (Some(Contents::Batch), true));
        for bad in [
            "page=0",
            "page=x",
            "page=-1",
            "page=1000001",
            "limit=0",
            "limit=101",
            "status=x",
            "event_type=",
            "since=now",
            "event_id=5",
            "x=1",
        ] {
            let invalid = read_query(bad).expect_err(bad);
            assert_eq!(invalid.errors().len(), 1, "{bad}");
        }
    }
}
