//! What a webhook sends instead of the usual payload: a preset or a template of its own, with parameters.
//!
//! Parameters may be credentials, so they are shown nowhere: whoever reads them back sees their names, each with null. In a change
//! null stands for the value that is there, so that what was read can be written again.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::fields::{Fields, Invalid};
use crate::preset::Preset;
use crate::template::{ContentType, Template, TemplateError};

const MAX_PARAMETERS: usize = 20;
const MAX_NAME_BYTES: usize = 64;
const MAX_VALUE_CHARS: usize = 2_048;
/// What stands for a parameter where people look at a body.
const HIDDEN: &str = "hidden";

/// A webhook's template.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookTemplate {
    source: Source,
    parameters: Parameters,
}

/// A template anew; parameters without a value keep the one that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateChange {
    source: Source,
    parameters: ParametersChange,
}

#[derive(Clone, Debug, PartialEq)]
enum Source {
    Preset(Preset),
    Own(Template, Method),
}

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// As usual.
    Post,
    /// For endpoints that want it.
    Put,
}

/// Values by their names, which are secret.
#[derive(Clone, Default, PartialEq)]
struct Parameters(BTreeMap<String, String>);

#[derive(Clone, Default, PartialEq)]
struct ParametersChange(BTreeMap<String, Option<String>>);

impl WebhookTemplate {
    /// The body that an event becomes. Errors: why it becomes none.
    pub fn render(&self, event: &Value) -> Result<String, TemplateError> {
        self.template().render(event, &self.parameters.to_json(|value| value))
    }

    /// The same for people to look at, without the values of parameters.
    pub fn render_hidden(&self, event: &Value) -> Result<String, TemplateError> {
        self.template().render(event, &self.parameters.to_json(|_| HIDDEN))
    }

    /// The body that an event's payload becomes, as it is kept.
    pub fn render_payload(&self, payload: &str) -> Result<String, TemplateError> {
        self.render(&read_payload(payload)?)
    }

    /// What the body is.
    pub fn content_type(&self) -> &ContentType {
        self.template().content_type()
    }

    /// How it is sent.
    pub fn method(&self) -> Method {
        match &self.source {
            Source::Preset(_) => Method::Post,
            Source::Own(_, method) => *method,
        }
    }

    /// The preset, if it is one.
    pub fn preset(&self) -> Option<Preset> {
        match &self.source {
            Source::Preset(preset) => Some(*preset),
            Source::Own(..) => None,
        }
    }

    /// The text of the template, a preset's as well.
    pub fn body(&self) -> &str {
        self.template().source()
    }

    /// The names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parameters.0.keys().map(String::as_str)
    }

    /// What of it is kept as it is, as JSON.
    pub fn to_kept(&self) -> String {
        self.source.to_json().to_string()
    }

    /// What [`WebhookTemplate::to_kept`] made, by whatever rules templates were taken then, without parameters; none for anything else.
    pub fn from_kept(text: &str) -> Option<Self> {
        let kept: Value = serde_json::from_str(text).ok()?;
        let source = match kept["preset"].as_str() {
            Some(name) => Source::Preset(Preset::from_name(name)?),
            None => {
                let content_type = ContentType::parse(kept["content_type"].as_str()?).ok()?;
                Source::Own(Template::kept(kept["body"].as_str()?, content_type), Method::from_name(kept["method"].as_str()?)?)
            }
        };
        Some(Self { source, parameters: Parameters::default() })
    }

    /// The parameters as a JSON object, to be encrypted; none when there are none.
    pub fn reveal_parameters(&self) -> Option<String> {
        (!self.parameters.0.is_empty()).then(|| self.parameters.to_json(|value| value).to_string())
    }

    /// The same with the parameters that [`WebhookTemplate::reveal_parameters`] made; none for anything else.
    pub fn with_parameters(self, text: &str) -> Option<Self> {
        Some(Self { parameters: Parameters(serde_json::from_str(text).ok()?), ..self })
    }

    fn template(&self) -> &Template {
        self.source.template()
    }
}

/// A payload as it is kept.
pub fn read_payload(payload: &str) -> Result<Value, TemplateError> {
    serde_json::from_str(payload)
        .map_err(|error| TemplateError { sentence: format!("the payload is not JSON: {error}"), place: None })
}

impl TemplateChange {
    /// Reads a preset, or a body with its content type and method, and parameters beside either.
    pub fn read(value: &Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        let parameters =
            fields.value("parameters").map(ParametersChange::read).unwrap_or_else(|| Ok(ParametersChange::default()));
        let parameters = parameters.map_err(|invalid| fields.nest("parameters", invalid)).ok();
        let source = match fields.text("preset", MAX_NAME_BYTES) {
            Some(name) => read_preset(&mut fields, name),
            None => read_own(&mut fields),
        };
        let change = source.zip(parameters).map(|(source, parameters)| Self { source, parameters });
        if let Some(change) = &change {
            change.check_names(&mut fields);
        }
        fields.finish()?;
        change.ok_or_else(|| Invalid::field("body", "is required"))
    }

    /// What it makes of the template that is there.
    pub fn applied(self, before: Option<&WebhookTemplate>) -> Result<WebhookTemplate, Invalid> {
        let mut invalid = Invalid::default();
        let mut parameters = BTreeMap::new();
        for (name, value) in self.parameters.0 {
            let kept = || before.and_then(|before| before.parameters.0.get(&name)).cloned();
            match value.or_else(kept) {
                Some(value) => drop(parameters.insert(name, value)),
                None => invalid.add(&format!("template.parameters.{name}"), "must have a value: there is none yet to keep"),
            }
        }
        invalid.or(WebhookTemplate { source: self.source, parameters: Parameters(parameters) })
    }

    /// The same with values in the place of those that are not known, so that it can be tried.
    pub fn tried(self, before: Option<&WebhookTemplate>) -> WebhookTemplate {
        let kept = |name: &str| before.and_then(|before| before.parameters.0.get(name)).cloned();
        let known = |(name, value): (String, Option<String>)| {
            let value = value.or_else(|| kept(&name)).unwrap_or_else(|| HIDDEN.to_owned());
            (name, value)
        };
        WebhookTemplate { source: self.source, parameters: Parameters(self.parameters.0.into_iter().map(known).collect()) }
    }

    /// A preset has just the parameters that it needs, and another template all that it names.
    fn check_names(&self, fields: &mut Fields<'_>) {
        let given = |name: &str| self.parameters.0.contains_key(name);
        for name in self.source.template().parameters().filter(|name| !given(name)) {
            fields.refuse::<()>(&format!("parameters.{name}"), "is required");
        }
        if let Source::Preset(preset) = &self.source {
            let needs = |name: &String| preset.needs().iter().any(|needed| needed.name == name);
            for name in self.parameters.0.keys().filter(|name| !needs(name)) {
                fields.refuse::<()>(&format!("parameters.{name}"), "is no parameter of this preset");
            }
        }
    }
}

impl Source {
    fn template(&self) -> &Template {
        match self {
            Self::Preset(preset) => preset.template(),
            Self::Own(template, _) => template,
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Preset(preset) => json!({"preset": preset.name()}),
            Self::Own(template, method) => json!({
                "body": template.source(), "content_type": template.content_type().as_str(), "method": method.name(),
            }),
        }
    }
}

fn read_preset(fields: &mut Fields<'_>, name: &str) -> Option<Source> {
    for field in ["body", "content_type", "method"] {
        if fields.value(field).is_some() {
            fields.refuse::<()>(field, "is the preset's own");
        }
    }
    let names = || Preset::ALL.map(Preset::name).join(", ");
    match Preset::from_name(name) {
        Some(preset) => Some(Source::Preset(preset)),
        None => fields.refuse("preset", format!("must be one of {}", names())),
    }
}

fn read_own(fields: &mut Fields<'_>) -> Option<Source> {
    let content_type = match fields.text("content_type", 255).map(ContentType::parse) {
        None => Some(ContentType::default()),
        Some(Ok(content_type)) => Some(content_type),
        Some(Err(sentence)) => fields.refuse("content_type", sentence),
    };
    let method = match fields.text("method", 16).map(Method::from_name) {
        None => Some(Method::Post),
        Some(Some(method)) => Some(method),
        Some(None) => fields.refuse("method", "must be POST or PUT"),
    };
    let body = match fields.value("body") {
        Some(Value::String(body)) if body.trim().is_empty() => fields.refuse("body", "can't be blank"),
        Some(Value::String(body)) => Some(body),
        Some(_) => fields.refuse("body", "must be a text"),
        None => fields.refuse("body", "is required, or preset"),
    };
    let content_type_or_usual = content_type.clone().unwrap_or_default();
    let template = body.and_then(|body| {
        Template::read(body, content_type_or_usual).map_err(|error| fields.refuse::<()>("body", error.to_string())).ok()
    });
    content_type.and(template).zip(method).map(|(template, method)| Source::Own(template, method))
}

impl Method {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    /// The method of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Post, Self::Put].into_iter().find(|method| method.name() == name)
    }
}

impl Parameters {
    fn to_json(&self, shown: impl Fn(&str) -> &str) -> Value {
        Value::Object(self.0.iter().map(|(name, value)| (name.clone(), Value::from(shown(value)))).collect::<Map<_, _>>())
    }
}

impl ParametersChange {
    /// Reads an object of at most 20 names, each with a text, or with null for the text that is there already.
    fn read(value: &Value) -> Result<Self, Invalid> {
        let object = value.as_object().filter(|object| object.len() <= MAX_PARAMETERS);
        let object = object
            .ok_or_else(|| Invalid::field("", format!("must be an object of at most {MAX_PARAMETERS} names and values")))?;
        let (mut invalid, mut parameters) = (Invalid::default(), Self::default());
        for (name, value) in object {
            match read_parameter(name, value) {
                Ok(value) => drop(parameters.0.insert(name.clone(), value)),
                Err(sentence) => invalid.add(name, sentence),
            }
        }
        invalid.or(parameters)
    }
}

fn read_parameter(name: &str, value: &Value) -> Result<Option<String>, &'static str> {
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !is_name || !(1..=MAX_NAME_BYTES).contains(&name.len()) || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("must be a name of at most 64 small letters, digits and underscores");
    }
    match value {
        Value::Null => Ok(None),
        Value::String(text) if !text.is_empty() && text.chars().count() <= MAX_VALUE_CHARS && !text.contains('\0') => {
            Ok(Some(text.clone()))
        }
        _ => Err("must be a text of 1 to 2048 characters"),
    }
}

impl Serialize for WebhookTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = self.source.to_json();
        shown["parameters"] = self.parameters().map(|name| (name.to_owned(), Value::Null)).collect::<Map<_, _>>().into();
        shown.serialize(serializer)
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl fmt::Debug for ParametersChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> WebhookTemplate {
        TemplateChange::read(&value).expect("a change").applied(None).expect("a template")
    }

    #[test]
    fn what_was_read_can_be_written_again_and_shows_no_parameter() {
        let own = json!({"body": "{{ parameters.token }}", "content_type": "text/plain", "method": "PUT", "parameters": {"token": "sesame"}});
        let pager = json!({"preset": "pagerduty", "parameters": {"routing_key": "sesame"}});
        for value in [own, pager] {
            let template = read(value.clone());
            let shown = json!(template);
            assert!(!shown.to_string().contains("sesame") && !format!("{template:?}").contains("sesame"), "{shown}");
            let again = TemplateChange::read(&shown).expect("a change").applied(Some(&template)).expect("a template");
            assert_eq!(again, template);
            let kept = WebhookTemplate::from_kept(&template.to_kept()).expect("what was kept");
            let revealed = template.reveal_parameters().expect("parameters");
            assert_eq!(kept.with_parameters(&revealed), Some(template));
        }
    }

    #[test]
    fn parameters_are_hidden_from_people_and_sent_to_endpoints() {
        let template =
            read(json!({"body": "a{{ parameters.token }}", "content_type": "text/plain", "parameters": {"token": "sesame"}}));
        assert_eq!(template.render_payload("{}").as_deref(), Ok("asesame"));
        assert_eq!(template.render_hidden(&json!({})).as_deref(), Ok("ahidden"));
        assert!(template.render_payload("{").is_err());
    }

    #[test]
    fn a_parameter_without_a_value_keeps_the_one_that_is_there() {
        let before = read(json!({"preset": "telegram", "parameters": {"chat_id": "5"}}));
        let change = TemplateChange::read(&json!({"body": "{}", "parameters": {"chat_id": null, "b": "2"}})).expect("a change");
        let after = change.clone().applied(Some(&before)).expect("a template");
        assert_eq!(after.reveal_parameters().as_deref(), Some(r#"{"b":"2","chat_id":"5"}"#));
        let invalid = change.clone().applied(None).expect_err("no value");
        assert_eq!(invalid.errors().keys().collect::<Vec<_>>(), ["template.parameters.chat_id"]);
        assert_eq!(change.tried(None).parameters().collect::<Vec<_>>(), ["b", "chat_id"]);
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (json!({}), "body"),
            (json!({"body": ""}), "body"),
            (json!({"body": 5}), "body"),
            (json!({"body": "{{"}), "body"),
            (json!({"body": "{{ nobody }}"}), "body"),
            (json!({"body": "x".repeat(20_000)}), "body"),
            (json!({"body": "{}", "content_type": "text/html"}), "content_type"),
            (json!({"body": "{}", "method": "GET"}), "method"),
            (json!({"body": "{}", "colour": "red"}), "colour"),
            (json!({"body": "{{ parameters.token }}"}), "parameters.token"),
            (json!({"body": "{}", "parameters": []}), "parameters"),
            (json!({"body": "{}", "parameters": {"A": "b"}}), "parameters.A"),
            (json!({"body": "{}", "parameters": {"": "b"}}), "parameters"),
            (json!({"body": "{}", "parameters": {"1a": "b"}}), "parameters.1a"),
            (json!({"body": "{}", "parameters": {"a": 5}}), "parameters.a"),
            (json!({"body": "{}", "parameters": {"a": ""}}), "parameters.a"),
            (json!({"body": "{}", "parameters": {"a": "x".repeat(2_049)}}), "parameters.a"),
            (json!({"preset": "fax"}), "preset"),
            (json!({"preset": "slack", "body": "{}"}), "body"),
            (json!({"preset": "slack", "method": "PUT"}), "method"),
            (json!({"preset": "slack", "parameters": {"a": "b"}}), "parameters.a"),
            (json!({"preset": "pagerduty"}), "parameters.routing_key"),
            (json!("slack"), ""),
        ];
        for (value, field) in cases {
            let invalid = TemplateChange::read(&value).expect_err("a mistake");
            assert_eq!(invalid.errors().keys().collect::<Vec<_>>(), [field], "{value:.99}");
        }
    }

    #[test]
    fn what_is_no_template_is_not_read_back() {
        for text in [
            "",
            "{}",
            "5",
            r#"{"preset":"fax"}"#,
            r#"{"body":"x"}"#,
            r#"{"body":"x","content_type":"text/html","method":"POST"}"#,
        ] {
            assert_eq!(WebhookTemplate::from_kept(text), None, "{text}");
        }
    }
}
