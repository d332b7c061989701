//! Whether what is sent is as its schema has it.

use std::collections::HashMap;
use std::sync::LazyLock;

use bellwether_domain::delivery::Contents;
use bellwether_domain::schema::PAYLOAD_VERSION;
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::receiver::Received;

/// The fields of every payload, by which one is told from what a template makes.
const FIELDS: [&str; 3] = ["event_id", "event_type", "data"];

static VALIDATORS: LazyLock<HashMap<Contents, Validator>> =
    LazyLock::new(|| Contents::all().map(|contents| (contents, validator(contents))).collect());

#[expect(clippy::expect_used, reason = "without the schemas no test can go on")]
fn validator(contents: Contents) -> Validator {
    let mut schema = serde_json::from_str(contents.schema()).expect("JSON");
    allow_nothing_else(&mut schema);
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema).expect("a schema")
}

/// Receivers let pass what they do not know. What we send ourselves we know.
fn allow_nothing_else(schema: &mut Value) {
    if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        fields.values_mut().for_each(allow_nothing_else);
        schema["additionalProperties"] = json!(false);
    }
    for part in ["items", "oneOf"] {
        match schema.get_mut(part) {
            Some(Value::Array(schemas)) => schemas.iter_mut().for_each(allow_nothing_else),
            Some(schema) => allow_nothing_else(schema),
            None => {}
        }
    }
}

/// What is wrong with a request that brings a payload, or a batch of them; nothing of any other.
pub(crate) fn faults(request: &Received) -> Vec<String> {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else { return Vec::new() };
    let (contents, events) = match body["events"].as_array() {
        Some(events) if events.iter().all(is_payload) => (Some(Contents::Batch), &events[..]),
        _ if is_payload(&body) => (contents_of(&body), &[][..]),
        _ => return Vec::new(),
    };
    let Some(contents) = contents else { return vec![format!("{} is no type of event", body["event_type"])] };
    let mut faults = faults_of(contents, &body);
    for event in events {
        match contents_of(event) {
            Some(contents @ Contents::Event(_)) => faults.extend(faults_of(contents, event)),
            _ => faults.push(format!("{} is no type of event", event["event_type"])),
        }
    }
    for (header, expected) in [("x-webhook-event", contents.name()), ("x-webhook-version", &PAYLOAD_VERSION.to_string())] {
        if request.header(header) != expected {
            faults.push(format!("{header} is {:?} and not {expected}", request.header(header)));
        }
    }
    faults
}

fn is_payload(body: &Value) -> bool {
    FIELDS.iter().all(|field| body.get(field).is_some())
}

fn contents_of(payload: &Value) -> Option<Contents> {
    payload["event_type"].as_str().and_then(Contents::from_name)
}

fn faults_of(contents: Contents, body: &Value) -> Vec<String> {
    VALIDATORS[&contents].iter_errors(body).map(|error| format!("{} {error}", error.instance_path())).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    fn received(body: &Value, headers: &[(&'static str, &'static str)]) -> Received {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| _ = map.insert(*name, value.parse().expect("a value")));
        Received {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            headers: map,
            body: Bytes::from(body.to_string()),
            answered: None,
        }
    }

    #[test]
    fn what_is_not_as_the_schema_has_it_is_found() {
        let good = json!({
            "event_id": "01a20092-70cb-7379-a143-b63c22da42ed", "event_type": "webhook_test",
            "site_id": "01a20092-3272-7768-8eb0-fefa15adc1f8", "site_domain": "a.example", "site_name": "A",
            "timestamp": "2026-11-22T00:05:26.859Z", "data": {"message": "Hello."},
        });
        let headers = [("x-webhook-event", "webhook_test"), ("x-webhook-version", "1")];
        assert_eq!(faults(&received(&good, &headers)), [""; 0]);
        assert_eq!(faults(&received(&json!({"text": "made by a template"}), &[])), [""; 0]);
        assert_eq!(faults(&received(&good, &headers[..1])).len(), 1);
        let changed = |pointer: &str, value: Value| {
            let mut payload = good.clone();
            *payload.pointer_mut(pointer).expect(pointer) = value;
            faults(&received(&payload, &headers))
        };
        for (pointer, value) in [
            ("/event_id", json!("5")),
            ("/event_type", json!("nothing")),
            ("/timestamp", json!("yesterday")),
            ("/data", json!({})),
            ("/data", json!({"message": "Hello.", "more": 1})),
            ("/data/message", json!(5)),
        ] {
            assert_eq!(changed(pointer, value).len(), 1, "{pointer}");
        }
    }
    #[test]
    fn each_event_of_a_batch_is_held_against_its_own_schema() {
        let good = json!({
            "event_id": "01a20092-70cb-7379-a143-b63c22da42ed", "event_type": "webhook_test",
            "site_id": "01a20092-3272-7768-8eb0-fefa15adc1f8", "site_domain": "a.example", "site_name": "A",
            "timestamp": "2026-11-22T00:05:26.859Z", "data": {"message": "Hello."},
        });
        let headers = [("x-webhook-event", "batch"), ("x-webhook-version", "1")];
        let batch = json!({"events": [good, good]});
        assert_eq!(faults(&received(&batch, &headers)), [""; 0]);
        assert_eq!(faults(&received(&json!({"events": ["made", "by a template"]}), &[])), [""; 0]);
        assert_eq!(faults(&received(&json!({"events": []}), &headers)).len(), 1);
        assert_eq!(faults(&received(&batch, &[("x-webhook-event", "webhook_test"), headers[1]])).len(), 1);
        for (pointer, value, expected) in
            [("/events/1/data", json!({}), 1), ("/events/1/event_type", json!("batch"), 1), ("/events/0/event_id", json!("5"), 2)]
        {
            let mut batch = batch.clone();
            *batch.pointer_mut(pointer).expect(pointer) = value;
            assert_eq!(faults(&received(&batch, &headers)).len(), expected, "{pointer}");
        }
    }
}
