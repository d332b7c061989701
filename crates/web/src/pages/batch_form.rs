//! How a webhook's events are put together, in its form, and in words.

use bellwether_domain::batch::Batch;
use bellwether_domain::fields::Invalid;
use serde_json::{Value, json};

use super::form::Form;

const BATCH: &str = "batch";
/// Chosen for events that are put together.
const TOGETHER: &str = "together";
const MAX_EVENTS: &str = "batch-max_events";
const MAX_WAIT: &str = "batch-max_wait_seconds";
/// All fields.
pub(super) const FIELDS: [&str; 3] = [BATCH, MAX_EVENTS, MAX_WAIT];

/// Writes how a webhook's events are put together into a form.
pub(super) fn show(form: &mut Form, batch: Option<Batch>) {
    let Some(batch) = batch else { return };
    form.set(BATCH, TOGETHER);
    form.set(MAX_EVENTS, batch.max_events.to_string());
    form.set(MAX_WAIT, batch.max_wait_seconds.to_string());
}

/// Whether events are put together.
pub(super) fn is_chosen(form: &Form) -> bool {
    form.value(BATCH) == TOGETHER
}

/// The same as the REST API takes it.
pub(super) fn to_json(form: &Form) -> Value {
    match is_chosen(form) {
        true => json!({"max_events": form.number(MAX_EVENTS), "max_wait_seconds": form.number(MAX_WAIT)}),
        false => Value::Null,
    }
}

/// What is wrong with `batch.max_events` is wrong with the field `batch-max_events`.
pub(super) fn beside_fields(invalid: &Invalid) -> Invalid {
    let mut beside = Invalid::default();
    for (path, sentences) in invalid.errors() {
        let name = path.strip_prefix("batch.").map_or_else(|| path.clone(), |rest| format!("batch-{rest}"));
        sentences.iter().for_each(|sentence| beside.add(&name, sentence));
    }
    beside
}

/// For people, in a sentence.
pub(super) fn sentence(batch: Batch) -> String {
    let Batch { max_events, max_wait_seconds } = batch;
    let wait = if max_wait_seconds == 1 { "1 second".to_owned() } else { format!("{max_wait_seconds} seconds") };
    format!("Its events go out together, at most {max_events} in a request and {wait} after the first of them.")
}
