//! Answers as snapshots hold them, without what is random, so that a change of who draws randomness when changes no snapshot.

use bellwether_domain::id::EventId;
use serde_json::Value;

/// The answer with its ids numbered in the order they appear, the same id with the same number, and generated secrets named.
pub(crate) fn numbered(answer: &Value) -> Value {
    number(answer, &mut Vec::new())
}

fn number(value: &Value, ids: &mut Vec<String>) -> Value {
    match value {
        Value::String(text) => Value::from(number_text(text, ids)),
        Value::Array(items) => items.iter().map(|item| number(item, ids)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), number(value, ids))).collect(),
        other => other.clone(),
    }
}

fn number_text(text: &str, ids: &mut Vec<String>) -> String {
    if text.starts_with("whsec_") {
        return "[generated secret]".to_owned();
    }
    if text.parse::<EventId>().is_err() {
        return text.to_owned();
    }
    let index = ids.iter().position(|id| id == text).unwrap_or_else(|| {
        ids.push(text.to_owned());
        ids.len() - 1
    });
    format!("[id {}]", index + 1)
}
