//! What a webhook sends, in its form: the usual payload, a preset, or a template of its own, with a preview.
//!
//! Which fields there are follows from what is chosen and from the parameters that the template names. Nothing of it is saved by
//! looking, so that it works without a script.

use bellwether_domain::fields::Invalid;
use bellwether_domain::preset::Preset;
use bellwether_domain::template::{ContentType, Template, TemplateError};
use bellwether_domain::webhook_template::{Method, TemplateChange, WebhookTemplate};
use bellwether_engine::Preview;
use bellwether_store::StoreError;
use serde_json::{Map, Value, json};

use super::form::Form;
use super::words;
use crate::App;
use crate::access::Access;

const PAYLOAD: &str = "payload";
/// What was chosen when the form was last shown.
const BEFORE: &str = "payload-before";
/// Chosen for a template of one's own.
const OWN: &str = "own";
const BODY: &str = "template-body";
const CONTENT_TYPE: &str = "template-content_type";
const METHOD: &str = "template-method";
const PARAMETER: &str = "parameter-";
/// The fields with fixed names.
pub(super) const FIELDS: [&str; 4] = [PAYLOAD, BODY, CONTENT_TYPE, METHOD];
const CONTENT_TYPES: [&str; 3] = ["application/json", "text/plain; charset=utf-8", "application/x-www-form-urlencoded"];

/// This part of the form, ready to be shown.
pub(super) struct Part {
    pub(super) choices: Vec<Choice>,
    pub(super) chosen: String,
    /// Where requests of the chosen preset go.
    pub(super) hint: Option<&'static str>,
    pub(super) is_own: bool,
    pub(super) content_types: Vec<Choice>,
    pub(super) methods: Vec<Choice>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) previews: Vec<Shown>,
    /// Why there is no preview.
    pub(super) error: Option<String>,
}

/// What can be chosen.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) is_chosen: bool,
}

/// A parameter of the template.
pub(super) struct Parameter {
    pub(super) field: String,
    pub(super) label: String,
    /// Whether there is a value that stays if nothing is typed.
    pub(super) is_kept: bool,
}

/// What the template makes of one event.
pub(super) struct Shown {
    pub(super) title: &'static str,
    pub(super) is_example: bool,
    pub(super) body: Result<String, TemplateError>,
}

/// Writes a webhook's template into a form.
pub(super) fn show(form: &mut Form, template: Option<&WebhookTemplate>) {
    let Some(template) = template else { return };
    match template.preset() {
        Some(preset) => form.set(PAYLOAD, preset.name()),
        None => {
            form.set(PAYLOAD, OWN);
            form.set(BODY, template.body());
            form.set(CONTENT_TYPE, template.content_type().as_str());
            form.set(METHOD, template.method().name());
        }
    }
}

/// Whoever turns to a template of their own begins with what was chosen before.
pub(super) fn begin(form: &mut Form) {
    if form.value(PAYLOAD) == OWN && form.value(BODY).trim().is_empty() {
        let before = Preset::from_name(form.value(BEFORE)).unwrap_or(Preset::Plain).template();
        form.set(BODY, before.source());
        form.set(CONTENT_TYPE, before.content_type().as_str());
    }
}

/// The template of a form as the REST API takes it.
pub(super) fn to_json(form: &Form) -> Value {
    let parameter = |name: String| {
        let value = form.value(&format!("{PARAMETER}{name}"));
        (name, if value.is_empty() { Value::Null } else { Value::from(value) })
    };
    let parameters: Map<_, _> = named(form).into_iter().map(parameter).collect();
    match form.value(PAYLOAD) {
        "" => Value::Null,
        OWN => json!({
            "body": body(form), "content_type": form.value(CONTENT_TYPE), "method": form.value(METHOD), "parameters": parameters,
        }),
        preset => json!({"preset": preset, "parameters": parameters}),
    }
}

/// What is wrong with `template.body` is wrong with the field `template-body`.
pub(super) fn beside_fields(invalid: &Invalid) -> Invalid {
    let mut beside = Invalid::default();
    for (path, sentences) in invalid.errors() {
        let name = match path.strip_prefix("template.") {
            Some("preset") => PAYLOAD.to_owned(),
            Some(rest) => {
                rest.strip_prefix("parameters.").map_or(format!("template-{rest}"), |name| format!("{PARAMETER}{name}"))
            }
            None => path.clone(),
        };
        sentences.iter().for_each(|sentence| beside.add(&name, sentence));
    }
    beside
}

/// The names of the parameters' fields.
pub(super) fn names(form: &Form) -> Vec<String> {
    named(form).into_iter().map(|name| format!("{PARAMETER}{name}")).collect()
}

/// This part, with what the template makes of events.
pub(super) async fn part(app: &App, access: &Access, form: &Form, before: Option<&WebhookTemplate>) -> Result<Part, StoreError> {
    let chosen = form.value(PAYLOAD);
    let (preset, is_own) = (Preset::from_name(chosen), chosen == OWN);
    let template = match to_json(form) {
        Value::Null => None,
        template => Some(TemplateChange::read(&template)),
    };
    let (previews, error) = match template {
        None => (Vec::new(), None),
        Some(Ok(change)) => (app.engine.preview(&access.site, &change.tried(before)).await?, None),
        Some(Err(invalid)) => (Vec::new(), Some(sentence(&invalid))),
    };
    Ok(Part {
        choices: choices(chosen),
        chosen: chosen.to_owned(),
        hint: preset.map(|preset| preset.title().1),
        is_own,
        content_types: content_types(form.value(CONTENT_TYPE)),
        methods: [Method::Post, Method::Put].map(|method| chosen_of(method.name(), form.value(METHOD))).into(),
        parameters: parameters(form, preset, before),
        previews: previews.into_iter().map(Shown::of).collect(),
        error,
    })
}

impl Shown {
    fn of(Preview { event_type, is_example, body, .. }: Preview) -> Self {
        Self { title: words::event_type(event_type), is_example, body }
    }
}

fn sentence(invalid: &Invalid) -> String {
    let sentences: Vec<_> = invalid.errors().values().flatten().map(String::as_str).collect();
    sentences.join("; ")
}

fn choices(chosen: &str) -> Vec<Choice> {
    let usual = ("", "The usual payload, as JSON");
    let presets = Preset::ALL.map(|preset| (preset.name(), preset.title().0));
    let all = [usual].into_iter().chain(presets).chain([(OWN, "A template of your own")]);
    all.map(|(value, label)| Choice { is_chosen: value == chosen, value: value.to_owned(), label: label.to_owned() }).collect()
}

/// The usual ones, and what was set by the API.
fn content_types(chosen: &str) -> Vec<Choice> {
    let other = Some(chosen).filter(|chosen| !chosen.is_empty() && !CONTENT_TYPES.contains(chosen));
    CONTENT_TYPES.into_iter().chain(other).map(|value| chosen_of(value, chosen)).collect()
}

fn chosen_of(value: &str, chosen: &str) -> Choice {
    Choice { value: value.to_owned(), label: value.to_owned(), is_chosen: value == chosen }
}

fn parameters(form: &Form, preset: Option<Preset>, before: Option<&WebhookTemplate>) -> Vec<Parameter> {
    let needed = preset.map(Preset::needs).unwrap_or_default();
    let parameter = |name: String| Parameter {
        label: needed.iter().find(|needed| needed.name == name).map_or_else(|| name.clone(), |needed| needed.title.to_owned()),
        is_kept: before.is_some_and(|before| before.parameters().any(|kept| kept == name)),
        field: format!("{PARAMETER}{name}"),
    };
    named(form).into_iter().map(parameter).collect()
}

/// The parameters that the template names; as long as it can't be read, those that there are fields for.
fn named(form: &Form) -> Vec<String> {
    match form.value(PAYLOAD) {
        OWN => match Template::read(&body(form), ContentType::default()) {
            Ok(template) => template.parameters().map(str::to_owned).collect(),
            Err(_) => form.names_after(PARAMETER).map(str::to_owned).collect(),
        },
        preset => Preset::from_name(preset).into_iter().flat_map(Preset::needs).map(|needed| needed.name.to_owned()).collect(),
    }
}

/// Browsers end lines with two characters.
fn body(form: &Form) -> String {
    form.value(BODY).replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(values: &[(&str, &str)]) -> Form {
        let mut form = Form::default();
        values.iter().for_each(|(name, value)| form.set(name, *value));
        form
    }

    #[test]
    fn forms_become_templates() {
        let cases = [
            (form(&[]), Value::Null),
            (form(&[(PAYLOAD, "slack"), (BODY, "x")]), json!({"preset": "slack", "parameters": {}})),
            (
                form(&[(PAYLOAD, "telegram"), ("parameter-chat_id", "5"), ("parameter-x", "6")]),
                json!({"preset": "telegram", "parameters": {"chat_id": "5"}}),
            ),
            (
                form(&[(PAYLOAD, OWN), (BODY, "a\r\n{{ parameters.b }}"), (CONTENT_TYPE, "text/plain"), (METHOD, "PUT")]),
                json!({"body": "a\n{{ parameters.b }}", "content_type": "text/plain", "method": "PUT", "parameters": {"b": null}}),
            ),
            (
                form(&[(PAYLOAD, OWN), (BODY, "{{"), ("parameter-b", "5")]),
                json!({"body": "{{", "content_type": "", "method": "", "parameters": {"b": "5"}}),
            ),
        ];
        for (form, expected) in cases {
            assert_eq!(to_json(&form), expected);
        }
    }

    #[test]
    fn what_is_shown_is_what_a_webhook_has() {
        let template = json!({"body": "{}", "content_type": "application/x+json", "method": "PUT", "parameters": {}});
        let template = TemplateChange::read(&template).expect("a change").applied(None).expect("a template");
        let mut form = Form::default();
        show(&mut form, Some(&template));
        let again = TemplateChange::read(&to_json(&form)).expect("a change").applied(Some(&template));
        assert_eq!(again, Ok(template));
        assert_eq!(content_types("application/x+json").iter().filter(|choice| choice.is_chosen).count(), 1);
    }

    #[test]
    fn a_template_of_ones_own_begins_with_what_was_chosen_before() {
        let mut of_slack = form(&[(PAYLOAD, OWN), (BEFORE, "slack")]);
        begin(&mut of_slack);
        assert!(of_slack.value(BODY).contains("mrkdwn"));
        let mut written = form(&[(PAYLOAD, OWN), (BEFORE, "slack"), (BODY, "mine")]);
        begin(&mut written);
        assert_eq!(written.value(BODY), "mine");
    }

    #[test]
    fn mistakes_stand_beside_their_fields() {
        let mut invalid = Invalid::field("template.body", "is wrong");
        for name in ["template.parameters.chat_id", "template.preset", "template.method", "url"] {
            invalid.add(name, "is wrong");
        }
        let beside = beside_fields(&invalid);
        let fields: Vec<_> = beside.errors().keys().map(String::as_str).collect();
        assert_eq!(fields, ["parameter-chat_id", "payload", "template-body", "template-method", "url"]);
    }
}
