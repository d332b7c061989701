//! An endpoint that a site's people registered, and what it wants to hear of.

use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Serialize, Serializer, ser::SerializeStruct};
use serde_json::Value;

use crate::batch::Batch;
use crate::endpoint::{EndpointPolicy, EndpointUrl, MAX_URL_CHARS};
use crate::fields::{Fields, Invalid};
use crate::headers::{CustomHeaders, HeadersChange};
use crate::id::{SiteId, WebhookId};
use crate::retry::Schedule;
use crate::signature::Secret;
use crate::time::Timestamp;
use crate::trigger::{MAX_TRIGGERS_PER_WEBHOOK, Rule, Trigger};
use crate::webhook_template::{TemplateChange, WebhookTemplate};

const MAX_NAME_CHARS: usize = 255;
/// What the API answers but does not take.
const READ_ONLY: [&str; 7] = ["id", "site_id", "disabled_reason", "created_at", "updated_at", "last_delivery", "breaker"];
const BESIDE_TEMPLATE: &str = "can't be set where there is a template: that makes a body of a single event";
/// Requests a second.
const RATE_LIMITS: RangeInclusive<u32> = 1..=1_000;

/// A webhook of a site. Its secret is kept apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Its site.
    pub site_id: SiteId,
    /// What people call it.
    pub name: String,
    /// Where it is sent.
    pub url: Arc<str>,
    /// Whether anything is sent.
    pub enabled: bool,
    /// Why Bellwether itself switched it off.
    pub disabled_reason: Option<String>,
    /// What it wants to hear of.
    pub triggers: Vec<Trigger>,
    /// Headers of its own.
    pub headers: CustomHeaders,
    /// What it sends instead of the usual payload.
    pub template: Option<Arc<WebhookTemplate>>,
    /// How its events are put together, if they do not go out one by one.
    pub batch: Option<Batch>,
    /// Its own retry schedule.
    pub retry_schedule: Option<Schedule>,
    /// At most so many requests a second, in even steps.
    pub rate_limit_per_second: Option<u32>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What may be set of a webhook; what is absent stays or gets its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WebhookChange {
    /// See [`Webhook::url`].
    pub url: Option<EndpointUrl>,
    /// See [`Webhook::name`].
    pub name: Option<String>,
    /// What signs its requests; only for a new webhook.
    pub secret: Option<Secret>,
    /// See [`Webhook::enabled`].
    pub enabled: Option<bool>,
    /// All triggers anew.
    pub triggers: Option<Vec<Rule>>,
    /// All headers anew.
    pub headers: Option<HeadersChange>,
    /// A template, or none any more.
    pub template: Option<Option<TemplateChange>>,
    /// A batch, or none any more.
    pub batch: Option<Option<Batch>>,
    /// A schedule, or none any more.
    pub retry_schedule: Option<Option<Schedule>>,
    /// A limit, or none any more.
    pub rate_limit_per_second: Option<Option<u32>>,
}

impl WebhookChange {
    /// Reads a new webhook from JSON.
    pub fn read_new(value: &Value, policy: &EndpointPolicy) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        fields.require("url");
        let secret = match fields.value("secret") {
            Some(Value::String(secret)) => Secret::parse(secret).map_err(|sentence| fields.refuse::<()>("secret", sentence)).ok(),
            Some(_) => fields.refuse("secret", "must be a text"),
            None => None,
        };
        Self::read_fields(fields, policy).map(|change| Self { secret, ..change })
    }

    /// Reads a change of a webhook from JSON.
    pub fn read(value: &Value, policy: &EndpointPolicy) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        if fields.value("secret").is_some() {
            fields.refuse::<()>("secret", "can't be changed here");
        }
        Self::read_fields(fields, policy)
    }

    /// Reads what people set of a webhook from JSON, where an absent URL is missing: without a name it bears the URL's host.
    pub fn read_whole(value: &Value, policy: &EndpointPolicy) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        fields.require("url");
        let change = Self::read_fields(fields, policy)?;
        let name = change.name.or_else(|| change.url.as_ref().map(|url| url.host().to_owned()));
        Ok(Self { name, ..change })
    }

    fn read_fields(mut fields: Fields<'_>, policy: &EndpointPolicy) -> Result<Self, Invalid> {
        for name in READ_ONLY {
            if fields.value(name).is_some() {
                fields.refuse::<()>(name, "can't be set");
            }
        }
        let change = Self {
            url: read_url(&mut fields, policy),
            name: fields.text("name", MAX_NAME_CHARS).filter(|name| !name.is_empty()).map(str::to_owned),
            secret: None,
            enabled: fields.boolean("enabled"),
            triggers: read_triggers(&mut fields),
            headers: read_headers(&mut fields),
            template: read_or_reset(&mut fields, "template", read_template),
            batch: read_or_reset(&mut fields, "batch", read_batch),
            retry_schedule: read_or_reset(&mut fields, "retry_schedule", read_retry_schedule),
            rate_limit_per_second: read_or_reset(&mut fields, "rate_limit_per_second", |fields| {
                fields.integer("rate_limit_per_second", RATE_LIMITS)
            }),
        };
        fields.finish().map(|()| change)
    }
}

impl Webhook {
    /// A schedule of retries, its own or the usual one.
    pub fn schedule(&self) -> Schedule {
        self.retry_schedule.clone().unwrap_or_default()
    }

    /// Whether its fields go together.
    pub fn check(&self) -> Result<(), Invalid> {
        match (&self.batch, &self.template) {
            (Some(_), Some(_)) => Err(Invalid::field("batch", BESIDE_TEMPLATE)),
            _ => Ok(()),
        }
    }
}

fn read_url(fields: &mut Fields<'_>, policy: &EndpointPolicy) -> Option<EndpointUrl> {
    let text = fields.text("url", MAX_URL_CHARS)?;
    policy.parse(text).map_err(|sentence| fields.refuse::<()>("url", sentence)).ok()
}

/// `thresholds` gives thresholds by type to triggers that do not state their own.
fn read_triggers(fields: &mut Fields<'_>) -> Option<Vec<Rule>> {
    let triggers = fields.list("triggers", MAX_TRIGGERS_PER_WEBHOOK);
    let thresholds = match fields.value("thresholds") {
        Some(Value::Object(thresholds)) => Some(thresholds),
        Some(_) => return fields.refuse("thresholds", "must be an object of numbers by type of trigger"),
        None => None,
    };
    if thresholds.is_some() && fields.value("triggers").is_none() {
        return fields.refuse("thresholds", "needs triggers beside it");
    }
    let triggers = triggers?;
    let named = |value: &Value| value.as_str().or_else(|| value.get("type")?.as_str()).map(str::to_owned);
    for name in thresholds.into_iter().flat_map(|thresholds| thresholds.keys()) {
        if !triggers.iter().any(|trigger| named(trigger).as_ref() == Some(name)) {
            fields.refuse::<()>(&format!("thresholds.{name}"), "has no trigger of this type beside it");
        }
    }
    let mut rules = Vec::new();
    for (index, trigger) in triggers.iter().enumerate() {
        let threshold = thresholds.and_then(|thresholds| thresholds.get(&named(trigger)?));
        match Rule::read(trigger, threshold) {
            Ok(rule) => rules.push(rule),
            Err(invalid) => fields.nest(&format!("triggers[{index}]"), invalid),
        }
    }
    Some(rules)
}

fn read_headers(fields: &mut Fields<'_>) -> Option<HeadersChange> {
    let headers = HeadersChange::read(fields.value("headers")?);
    headers.map_err(|invalid| fields.nest("headers", invalid)).ok()
}

fn read_template(fields: &mut Fields<'_>) -> Option<TemplateChange> {
    let template = TemplateChange::read(fields.value("template")?);
    template.map_err(|invalid| fields.nest("template", invalid)).ok()
}

fn read_batch(fields: &mut Fields<'_>) -> Option<Batch> {
    let batch = Batch::read(fields.value("batch")?);
    batch.map_err(|invalid| fields.nest("batch", invalid)).ok()
}

fn read_retry_schedule(fields: &mut Fields<'_>) -> Option<Schedule> {
    let schedule = Schedule::read(fields.value("retry_schedule")?);
    schedule.map_err(|invalid| fields.nest("retry_schedule", invalid)).ok()
}

/// A field that may be set, and reset by null. None when it is absent.
fn read_or_reset<T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Option<Option<T>> {
    fields.has(name).then(|| read(fields))
}

impl Serialize for Webhook {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let triggers: Vec<Value> = self.triggers.iter().map(|trigger| trigger.to_json()).collect();
        let mut webhook = serializer.serialize_struct("Webhook", 14)?;
        webhook.serialize_field("id", &self.id)?;
        webhook.serialize_field("site_id", &self.site_id)?;
        webhook.serialize_field("name", &self.name)?;
        webhook.serialize_field("url", &self.url)?;
        webhook.serialize_field("enabled", &self.enabled)?;
        webhook.serialize_field("disabled_reason", &self.disabled_reason)?;
        webhook.serialize_field("triggers", &triggers)?;
        webhook.serialize_field("headers", &self.headers)?;
        webhook.serialize_field("template", &self.template)?;
        webhook.serialize_field("batch", &self.batch)?;
        webhook.serialize_field("retry_schedule", &self.retry_schedule.as_ref().map(Schedule::delays_seconds))?;
        webhook.serialize_field("rate_limit_per_second", &self.rate_limit_per_second)?;
        webhook.serialize_field("created_at", &self.created_at)?;
        webhook.serialize_field("updated_at", &self.updated_at)?;
        webhook.end()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<WebhookChange, Invalid> {
        WebhookChange::read_new(&value, &EndpointPolicy::default())
    }

    #[test]
    fn the_short_form_with_thresholds() {
        let change = read(
            json!({"url": "https://a.com/x", "triggers": ["goal_completion", "visitor_spike"], "thresholds": {"visitor_spike": 80}}),
        );
        let thresholds: Vec<_> = change
            .expect("a webhook")
            .triggers
            .expect("triggers")
            .into_iter()
            .map(|rule| rule.to_json()["threshold"].clone())
            .collect();
        assert_eq!(thresholds, [json!(1), json!(80)]);
    }

    #[test]
    fn absent_is_not_null() {
        let change = |value: Value| WebhookChange::read(&value, &EndpointPolicy::default()).expect("a change");
        assert_eq!(change(json!({})), WebhookChange::default());
        assert_eq!(change(json!({"retry_schedule": null})).retry_schedule, Some(None));
        assert_eq!(change(json!({"rate_limit_per_second": null})).rate_limit_per_second, Some(None));
        assert_eq!(change(json!({"template": null})).template, Some(None));
        assert_eq!(change(json!({"batch": null})).batch, Some(None));
        assert_eq!(change(json!({"headers": null})).headers, None);
        assert_eq!(change(json!({"headers": {}})).headers, Some(HeadersChange::default()));
        assert_eq!(change(json!({"triggers": []})).triggers, Some(vec![]));
    }

    #[test]
    fn what_is_missing_of_a_whole_is_no_part_that_stays() {
        let whole = |value: Value| WebhookChange::read_whole(&value, &EndpointPolicy::default());
        let named = |value: Value| whole(value).expect("a webhook").name;
        assert_eq!(named(json!({"url": "https://a.com/x", "name": null})).as_deref(), Some("a.com"));
        assert_eq!(named(json!({"url": "https://a.com/x", "name": "A"})).as_deref(), Some("A"));
        assert_eq!(whole(json!({"url": null, "name": "A"})).expect_err("no URL").to_string(), "url is required");
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (json!({}), "url"),
            (json!({"url": 5}), "url"),
            (json!({"url": "https://a.com", "name": "x".repeat(256)}), "name"),
            (json!({"url": "https://a.com", "secret": "short"}), "secret"),
            (json!({"url": "https://a.com", "secret": 5}), "secret"),
            (json!({"url": "https://a.com", "id": "x"}), "id"),
            (json!({"url": "https://a.com", "colour": "x"}), "colour"),
            (json!({"url": "https://a.com", "enabled": 1}), "enabled"),
            (json!({"url": "https://a.com", "triggers": [{"type": "x"}]}), "triggers[0].type"),
            (json!({"url": "https://a.com", "triggers": [5]}), "triggers[0]"),
            (json!({"url": "https://a.com", "triggers": vec!["goal_completion"; 101]}), "triggers"),
            (
                json!({"url": "https://a.com", "triggers": ["goal_completion"], "thresholds": {"visitor_spike": 5}}),
                "thresholds.visitor_spike",
            ),
            (json!({"url": "https://a.com", "thresholds": {"visitor_spike": 5}}), "thresholds"),
            (json!({"url": "https://a.com", "triggers": ["visitor_spike"], "thresholds": 5}), "thresholds"),
            (json!({"url": "https://a.com", "triggers": "visitor_spike", "thresholds": {"visitor_spike": 5}}), "triggers"),
            (json!({"url": "https://a.com", "retry_schedule": [0]}), "retry_schedule"),
            (json!({"url": "https://a.com", "rate_limit_per_second": 0}), "rate_limit_per_second"),
            (json!({"url": "https://a.com", "rate_limit_per_second": 0.5}), "rate_limit_per_second"),
            (json!({"url": "https://a.com", "batch": 5}), "batch"),
            (json!({"url": "https://a.com", "batch": {"max_events": 0}}), "batch.max_events"),
            (json!({"url": "https://a.com", "headers": {"Host": "x"}}), "headers.Host"),
            (json!({"url": "https://a.com", "headers": []}), "headers"),
            (json!({"url": "https://a.com", "template": "slack"}), "template"),
            (json!({"url": "https://a.com", "template": {"body": "{{ nobody }}"}}), "template.body"),
        ];
        for (value, field) in cases {
            let invalid = read(value.clone()).expect_err("a mistake");
            assert_eq!(invalid.errors().keys().collect::<Vec<_>>(), [field], "{value}");
        }
        let change = WebhookChange::read(&json!({"secret": "a-new-secret-of-mine"}), &EndpointPolicy::default());
        assert!(change.expect_err("a mistake").errors().contains_key("secret"));
    }
}
