//! The JSON Schemas of what is sent, a file for each type of event.
//!
//! Within a version fields are only added, so the schemas let pass what they do not know.

use crate::delivery::Contents;
use crate::trigger::EventType;

/// The version of all payloads. It rises when something is taken away, or means something else.
pub const PAYLOAD_VERSION: u32 = 1;

impl EventType {
    /// The JSON Schema, draft 2020-12, of payloads of the type.
    pub fn schema(self) -> &'static str {
        match self {
            Self::GoalCompletion => include_str!("../schemas/goal_completion.json"),
            Self::VisitorSpike => include_str!("../schemas/visitor_spike.json"),
            Self::VisitorSpikeResolved => include_str!("../schemas/visitor_spike_resolved.json"),
            Self::VisitorDrop => include_str!("../schemas/visitor_drop.json"),
            Self::VisitorDropResolved => include_str!("../schemas/visitor_drop_resolved.json"),
            Self::GoalRate => include_str!("../schemas/goal_rate.json"),
            Self::GoalRateResolved => include_str!("../schemas/goal_rate_resolved.json"),
            Self::Anomaly => include_str!("../schemas/anomaly.json"),
            Self::AnomalyResolved => include_str!("../schemas/anomaly_resolved.json"),
            Self::PageviewMilestone => include_str!("../schemas/pageview_milestone.json"),
            Self::WebhookDisabled => include_str!("../schemas/webhook_disabled.json"),
            Self::WebhookTest => include_str!("../schemas/webhook_test.json"),
            Self::NewSource => include_str!("../schemas/new_source.json"),
        }
    }
}

impl Contents {
    /// The JSON Schema of the body that brings them. That of a batch says of its events only what all have.
    pub fn schema(self) -> &'static str {
        match self {
            Self::Event(event_type) => event_type.schema(),
            Self::Batch => include_str!("../schemas/batch.json"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Everything in a schema that has fields, with its path.
    fn objects<'s>(path: String, schema: &'s Value, found: &mut Vec<(String, &'s Value)>) {
        if let Some(fields) = schema["properties"].as_object() {
            found.push((path.clone(), schema));
            fields.iter().for_each(|(name, field)| objects(format!("{path}.{name}"), field, found));
        }
        let parts = schema["oneOf"].as_array().into_iter().flatten().chain([&schema["items"]]);
        parts.filter(|part| part.is_object()).for_each(|part| objects(path.clone(), part, found));
    }

    #[test]
    fn every_type_has_a_schema_that_says_what_each_field_is() {
        for event_type in EventType::ALL {
            let name = event_type.name();
            let schema: Value = serde_json::from_str(event_type.schema()).expect(name);
            assert_eq!(schema["properties"]["event_type"]["const"], json!(name));
            assert_eq!(schema["$id"], json!(format!("urn:bellwether:payload:{PAYLOAD_VERSION}:{name}")));
            let mut found = Vec::new();
            objects(name.to_owned(), &schema, &mut found);
            assert!(found.len() >= 2, "{name}");
            for (path, object) in found {
                let fields = object["properties"].as_object().expect("fields");
                let names: Vec<_> = fields.keys().map(|name| json!(name)).collect();
                assert_eq!(object["required"], json!(names), "{path}: whoever reads it can rely on each");
                for (name, field) in fields {
                    let says = field["description"].as_str().is_some_and(|text| text.ends_with('.'));
                    let is_typed = ["type", "const", "oneOf"].iter().any(|word| !field[*word].is_null());
                    assert!(says && is_typed, "{path}.{name}");
                }
            }
        }
    }
    #[test]
    fn a_batch_has_what_all_of_its_events_have() {
        let schema = |contents: Contents| serde_json::from_str::<Value>(contents.schema()).expect("JSON");
        let batch = schema(Contents::Batch);
        assert_eq!(batch["$id"], json!(format!("urn:bellwether:payload:{PAYLOAD_VERSION}:batch")));
        assert_eq!(batch["required"], json!(["events"]));
        assert_eq!(batch["properties"]["events"]["maxItems"], json!(crate::batch::MAX_EVENTS));
        let of_event = &batch["properties"]["events"]["items"];
        for event_type in EventType::ALL {
            let one = schema(event_type.into());
            assert_eq!(of_event["required"], one["required"], "{}", event_type.name());
            for name in ["event_id", "site_id", "site_domain", "site_name", "timestamp"] {
                assert_eq!(of_event["properties"][name], one["properties"][name], "{}", event_type.name());
            }
        }
    }
}
