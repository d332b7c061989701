//! From a delivery's place in its queue to a settlement: whose turn it is, one attempt, and what it says of the endpoint.
//!
//! Nothing here looks at tables. What becomes of a delivery is decided by the schedule, and written by the settler.

use std::sync::Arc;

use bellwether_domain::breaker::{Change, GIVEN_UP_AFTER};
use bellwether_domain::delivery::Status;
use bellwether_domain::id::WebhookId;
use bellwether_domain::time::Timestamp;
use bellwether_domain::trace::{SpanId, traceparent};
use bellwether_meters::label::{AttemptOutcome, Label as _};
use bellwether_meters::meters;
use bellwether_store::{AttemptRecord, DueDelivery, Settlement};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::places::{Ended, Pass};
use super::{Dispatcher, GivenUp, Held, paces};
use crate::registry::ActiveWebhook;
use crate::send::Answer;
use crate::trace::{Span, SpanKind};

/// Those requests under way that only the first worker of an endpoint may take.
const RESERVED_IN_FLIGHT: usize = 500;

impl Dispatcher {
    /// Puts a delivery into the queue of its webhook, with a worker if it needs one.
    pub(super) fn enqueue(self: &Arc<Self>, mut held: Held) {
        let webhook_id = held.delivery.webhook_id;
        held.place.is_for(held.delivery.id);
        if self.queues().push(webhook_id, held) {
            self.workers.spawn_task("delivery", self.clone().work_off(webhook_id));
        }
    }

    /// One of an endpoint's workers: sends what waits there, one after the other, until nothing does.
    async fn work_off(self: Arc<Self>, webhook_id: WebhookId) {
        loop {
            let few_are_left = self.in_flight.available_permits() <= RESERVED_IN_FLIGHT;
            if few_are_left && self.queues().leave_to_others(webhook_id) {
                return;
            }
            let Some(held) = self.queues().next(webhook_id) else {
                return;
            };
            let settlement = if self.is_barred(&held) {
                self.given_back(&held)
            } else {
                match self.turn(webhook_id).await {
                    Some(_) if self.is_barred(&held) => self.given_back(&held),
                    Some(_) if !self.is_ours(&held).await => continue,
                    Some(_under_way) => self.deliver(&held).await,
                    // It is given back to the table with everything else.
                    None => continue,
                }
            };
            self.settler.settle(settlement, held.place).await;
        }
    }

    /// Whether a delivery has to go back to the table, because its endpoint's breaker is open.
    fn is_barred(&self, held: &Held) -> bool {
        held.place.pass() == Pass::Usual && self.places.is_barred(held.delivery.webhook_id)
    }

    /// Whether a delivery may still be sent by this process. While it cannot tell, because it cannot give a sign of life, it waits, and
    /// while what is sent cannot be recorded.
    async fn is_ours(&self, held: &Held) -> bool {
        let told = async {
            self.settler.is_in_time().await;
            self.life.is_that_of(held.owner).await
        };
        self.workers.shutdown().run_until_cancelled(told).await.unwrap_or(false)
    }

    /// Waits until a request to an endpoint may begin; none at the shutdown.
    async fn turn(&self, webhook_id: WebhookId) -> Option<SemaphorePermit<'_>> {
        let webhook = self.registry.webhook_that_is_on(webhook_id);
        let limit = webhook.and_then(|webhook| webhook.webhook.rate_limit_per_second);
        let turn = async {
            let begin = match limit {
                Some(per_second) => self.pause(webhook_id, per_second).await,
                None => Instant::now(),
            };
            let under_way = self.in_flight.acquire().await.ok();
            match limit {
                // It had to wait for others, and now it would begin together with the next.
                Some(per_second) if begin.elapsed() > paces::interval(per_second) => {
                    self.pause(webhook_id, per_second).await;
                }
                _ => {}
            }
            under_way
        };
        self.workers.shutdown().run_until_cancelled(turn).await?
    }

    async fn pause(&self, webhook_id: WebhookId, per_second: u32) -> Instant {
        let begin = self.paces.reserve(webhook_id, per_second, Instant::now());
        sleep_until(begin).await;
        begin
    }

    async fn deliver(&self, held: &Held) -> Settlement {
        let delivery = &held.delivery;
        let Some(webhook) = self.registry.webhook_that_is_on(delivery.webhook_id) else {
            return self.cancelled(held);
        };
        let started_at = self.ambient.now();
        if delivery.attempt_count == 0 {
            meters().first_attempt_seconds.record(started_at.since(held.committed_at));
        }
        let span = self.span_of_attempt(delivery);
        let traceparent = span.map(|span| traceparent(delivery.event_id, span));
        let answer = self.sender.send(&webhook, delivery, started_at, traceparent).await;
        let settled_at = self.ambient.now();
        if let Some(span) = span {
            self.trace_attempt(span, delivery, (started_at, settled_at), &answer);
        }
        let ended = self.attempt_ended(&webhook, held.place.pass(), &answer, settled_at);
        let (schedule, counted) = (webhook.webhook.schedule(), delivery.counted_attempts.saturating_add(1));
        let (verdict, counted) = match ended.change {
            Change::StaysOpen(trial_at) => {
                (schedule.decide_trial(&answer.outcome, settled_at, trial_at), delivery.counted_attempts)
            }
            _ => (schedule.decide(counted, &answer.outcome, settled_at, self.ambient.fraction()), counted),
        };
        let is_on = self.registry.webhook_that_is_on(delivery.webhook_id).is_some();
        let (status, next_attempt_at) = Status::after(verdict, is_on);
        let number = delivery.attempt_count.saturating_add(1);
        log_attempt(&webhook, delivery, number, status, &answer);
        let (url, attempt) = (Some(webhook.webhook.url.clone()), Some(record((number, counted), started_at, answer)));
        Settlement { url, attempt, settled_at, ..settlement(held, status, next_attempt_at) }
    }

    /// Takes note of what the attempt says of the endpoint, unless the webhook has another one by now, or is off, or nothing was sent
    /// since its template failed.
    fn attempt_ended(&self, webhook: &ActiveWebhook, pass: Pass, answer: &Answer, now: Timestamp) -> Ended {
        let id = webhook.webhook.id;
        let is_current = self.registry.webhook_that_is_on(id).is_some_and(|current| current.webhook.url == webhook.webhook.url);
        if !is_current || answer.kind == AttemptOutcome::Template {
            return Ended { change: Change::Stays, is_hopeless: false };
        }
        let ended = self.places.attempt_ended(id, answer.outcome.is_success(), pass, now);
        let site = webhook.webhook.site_id;
        match ended.change {
            Change::Stays | Change::StaysOpen(_) => {}
            Change::Opens(trial_at) => {
                warn!(%site, webhook = %id, %trial_at, "the breaker opens: the endpoint fails again and again, and is only tried now and then");
            }
            Change::Closes => {
                self.wake.notify_one();
                info!(%site, webhook = %id, "the breaker closes: the endpoint works again");
            }
        }
        if let Some(reason) = reason_to_give_up(answer, ended.is_hopeless) {
            // Who finds no room asks again with the next failure.
            let _ = self.given_up.try_send(GivenUp { webhook_id: id, url: webhook.webhook.url.clone(), reason });
        }
        ended
    }

    /// It is not sent any more.
    pub(super) fn cancelled(&self, held: &Held) -> Settlement {
        Settlement { settled_at: self.ambient.now(), ..settlement(held, Status::Cancelled, None) }
    }

    /// Back into the table, as it was.
    fn given_back(&self, held: &Held) -> Settlement {
        let status = if held.delivery.attempt_count == 0 { Status::Pending } else { Status::Retrying };
        let now = self.ambient.now();
        Settlement { settled_at: now, ..settlement(held, status, Some(now)) }
    }

    /// The span of an attempt that begins, if its event is traced.
    fn span_of_attempt(&self, delivery: &DueDelivery) -> Option<SpanId> {
        let tracer = self.tracer.as_ref()?;
        tracer.traces(delivery.event_id).then(|| SpanId::new(&self.ambient))
    }

    fn trace_attempt(&self, id: SpanId, delivery: &DueDelivery, (begun_at, ended_at): (Timestamp, Timestamp), answer: &Answer) {
        let Some(tracer) = &self.tracer else { return };
        let mut attributes = vec![
            ("bellwether.event_type", delivery.contents.name().to_owned()),
            ("bellwether.webhook_id", delivery.webhook_id.to_string()),
            ("bellwether.delivery_id", delivery.id.to_string()),
            ("bellwether.attempt", delivery.attempt_count.saturating_add(1).to_string()),
        ];
        attributes.extend(answer.code().map(|code| ("http.response.status_code", code.to_string())));
        let error = (!answer.outcome.is_success()).then(|| answer.kind.name());
        tracer.record(Span { event_id: delivery.event_id, id, kind: SpanKind::Attempt, begun_at, ended_at, error, attributes });
    }
}

fn reason_to_give_up(answer: &Answer, is_hopeless: bool) -> Option<String> {
    match answer.outcome.is_gone() {
        true => Some("the endpoint answered 410: it is gone".to_owned()),
        false => is_hopeless.then(|| format!("all attempts failed for {} days", GIVEN_UP_AFTER.as_secs() / 86_400)),
    }
}

fn settlement(held: &Held, status: Status, next_attempt_at: Option<Timestamp>) -> Settlement {
    Settlement {
        owner: held.owner,
        delivery_id: held.delivery.id,
        webhook_id: held.delivery.webhook_id,
        url: None,
        status,
        attempt: None,
        next_attempt_at,
        settled_at: Timestamp::EPOCH,
    }
}

fn record((number, counted): (u32, u32), started_at: Timestamp, answer: Answer) -> AttemptRecord {
    AttemptRecord {
        number,
        counted,
        started_at,
        duration_ms: answer.duration_ms,
        response_code: answer.code(),
        request_headers: answer.request_headers,
        response_body: answer.body,
        error: answer.error,
    }
}

/// The one line for each attempt.
fn log_attempt(webhook: &ActiveWebhook, delivery: &DueDelivery, number: u32, status: Status, answer: &Answer) {
    info!(
        site = %webhook.webhook.site_id,
        webhook = %delivery.webhook_id,
        delivery = %delivery.id,
        event = %delivery.event_id,
        event_type = delivery.contents.name(),
        attempt = number,
        status = status.name(),
        response_code = answer.code(),
        duration_ms = answer.duration_ms,
        error = answer.error,
        "attempt"
    );
}
