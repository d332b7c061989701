//! The REST API for those who write programs: the description that programs read, for people.

use askama::Template;
use axum::extract::State;
use serde_json::{Map, Value};

use super::{Page, Shell};
use crate::App;
use crate::access::Person;
use crate::openapi;

/// No schema lies deeper within others.
const MAX_DEPTH: usize = 8;

#[derive(Template)]
#[template(path = "api.html")]
pub(crate) struct Api {
    shell: Shell,
    description: String,
    groups: Vec<Group>,
}

/// What belongs together.
struct Group {
    name: String,
    description: String,
    operations: Vec<Operation>,
}

/// One thing that can be asked for, or that is sent.
struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    description: String,
    /// How to ask for it on a command line; none for what is sent.
    example: Option<String>,
    parameters: Vec<Row>,
    body: Vec<Row>,
    answers: Vec<Answer>,
}

/// A status and what it means.
struct Answer {
    status: String,
    description: String,
    fields: Vec<Row>,
}

/// A field or a parameter.
struct Row {
    name: String,
    kind: String,
    is_required: bool,
    meaning: String,
}

/// The page.
pub(crate) async fn show(State(app): State<App>, who: Option<Person>) -> Page<Api> {
    let description = openapi::description(&app);
    let reader = Reader { description: &description, server: app.url("") };
    Page(Api {
        shell: Shell::of(who.map(|Person(who)| who.user.email)),
        description: text(&description["info"]["description"]),
        groups: reader.groups(),
    })
}

struct Reader<'a> {
    description: &'a Value,
    server: String,
}

impl Reader<'_> {
    fn groups(&self) -> Vec<Group> {
        let group = |tag: &Value| Group {
            name: text(&tag["name"]),
            description: text(&tag["description"]),
            operations: self.operations(&tag["name"]),
        };
        items(&self.description["tags"]).map(group).collect()
    }

    /// What can be asked for, and what is sent.
    fn operations(&self, tag: &Value) -> Vec<Operation> {
        let mut operations = Vec::new();
        for (part, is_sent) in [("paths", false), ("webhooks", true)] {
            for (path, methods) in pairs(&self.description[part]) {
                let tagged = pairs(methods).filter(|(_, one)| one["tags"][0] == *tag);
                operations.extend(tagged.map(|(method, one)| self.operation(path, method, one, is_sent)));
            }
        }
        operations
    }

    fn operation(&self, path: &str, method: &str, one: &Value, is_sent: bool) -> Operation {
        let body = &one["requestBody"]["content"]["application/json"]["schema"];
        let method = method.to_uppercase();
        let parameters = items(&one["parameters"]).map(|parameter| {
            let parameter = self.resolved(parameter);
            Row {
                name: text(&parameter["name"]),
                kind: self.kind(&parameter["schema"], 0),
                is_required: parameter["required"] == true,
                meaning: text(&parameter["description"]),
            }
        });
        let answers = pairs(&one["responses"]).map(|(status, answer)| {
            let answer = self.resolved(answer);
            Answer {
                status: status.to_owned(),
                description: text(&answer["description"]),
                fields: self.rows(&answer["content"]["application/json"]["schema"], "", 0),
            }
        });
        Operation {
            id: text(&one["operationId"]),
            example: (!is_sent).then(|| self.example(&method, path, one)),
            path: path.to_owned(),
            summary: text(&one["summary"]),
            description: text(&one["description"]),
            parameters: parameters.collect(),
            body: self.rows(body, "", 0),
            answers: answers.collect(),
            method,
        }
    }

    fn example(&self, method: &str, path: &str, one: &Value) -> String {
        let url = format!("{}{path}", self.server.trim_end_matches('/'));
        let mut words = vec!["curl".to_owned()];
        if method != "GET" {
            words.push(format!("-X {method}"));
        }
        if !items(&one["security"]).collect::<Vec<_>>().is_empty() {
            words.push("-H \"Authorization: Bearer $KEY\"".to_owned());
        }
        if one["requestBody"].is_object() {
            words.push("-H 'Content-Type: application/json' -d '{…}'".to_owned());
        }
        words.push(format!("'{url}'"));
        words.join(" ")
    }

    /// What a reference stands for.
    fn resolved<'b>(&'b self, value: &'b Value) -> &'b Value {
        let target = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        target.and_then(|pointer| self.description.pointer(pointer)).unwrap_or(value)
    }

    /// The fields of a schema, those of its parts below them.
    fn rows(&self, schema: &Value, before: &str, depth: usize) -> Vec<Row> {
        let schema = self.resolved(schema);
        if depth > MAX_DEPTH {
            return Vec::new();
        }
        let mut rows = Vec::new();
        for (name, field) in pairs(&schema["properties"]) {
            let (path, field) = (format!("{before}{name}"), self.resolved(field));
            let is_required = items(&schema["required"]).any(|required| required == name);
            let row =
                Row { name: path.clone(), kind: self.kind(field, depth), is_required, meaning: text(&field["description"]) };
            // Choices have a field in common, which is said once.
            if rows.iter().all(|known: &Row| known.name != row.name) {
                rows.push(row);
            }
            let inner = if field["items"].is_object() { (&field["items"], "[].") } else { (field, ".") };
            rows.extend(self.rows(inner.0, &format!("{path}{}", inner.1), depth + 1));
        }
        for choice in items(&schema["oneOf"]) {
            for row in self.rows(choice, before, depth + 1) {
                if rows.iter().all(|known: &Row| known.name != row.name) {
                    rows.push(row);
                }
            }
        }
        rows
    }

    /// A type in words, with its limits.
    fn kind(&self, schema: &Value, depth: usize) -> String {
        let schema = self.resolved(schema);
        if depth > MAX_DEPTH {
            return String::new();
        }
        let mut parts = Vec::new();
        match &schema["type"] {
            Value::Array(kinds) => parts.push(kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")),
            Value::String(kind) if kind == "array" => parts.push(format!("array of {}", self.kind(&schema["items"], depth + 1))),
            Value::String(kind) => parts.push(kind.clone()),
            _ => {}
        }
        if let Some(constant) = schema.get("const") {
            parts.push(text(constant));
        }
        if let Some(choices) = schema["enum"].as_array() {
            parts.push(format!("one of {}", choices.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")));
        }
        let choices: Vec<_> = items(&schema["oneOf"]).map(|choice| self.kind(choice, depth + 1)).collect();
        if !choices.is_empty() {
            let mut choices = choices;
            choices.dedup();
            parts.push(choices.join(" or "));
        }
        let limits = [
            ("minimum", "at least "),
            ("maximum", "at most "),
            ("maxLength", "characters up to "),
            ("maxItems", "items up to "),
            ("default", "default "),
        ];
        for (name, words) in limits {
            if let Some(limit) = schema.get(name) {
                parts.push(format!("{words}{}", text(limit)));
            }
        }
        if schema["format"].is_string() {
            parts.push(text(&schema["format"]));
        }
        parts.retain(|part| !part.is_empty());
        parts.join(", ")
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn pairs(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}
