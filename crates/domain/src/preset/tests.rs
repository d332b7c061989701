use std::fs;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::*;
use crate::payload::Data;
use crate::trigger::EventType;
use crate::webhook_template::{TemplateChange, WebhookTemplate};

/// What ntfy takes of a message: https://docs.ntfy.sh/publish/#limitations
const NTFY_BYTES: usize = 4_096;
/// What a message of Teams, Discord or PagerDuty may be as a whole.
const TEAMS_BYTES: usize = 28 * 1_024;
const GOOGLE_CHAT_BYTES: usize = 32_000;
const DISCORD_EMBED_CHARS: usize = 6_000;
const PAGERDUTY_BYTES: usize = 512 * 1_024;

fn template(preset: Preset) -> WebhookTemplate {
    let parameter = |needed: &Needed| (needed.name.to_owned(), json!("0123456789abcdef0123456789abcdef"));
    let parameters: serde_json::Map<_, _> = preset.needs().iter().map(parameter).collect();
    let change = TemplateChange::read(&json!({"preset": preset.name(), "parameters": parameters}));
    change.expect("a change").applied(None).expect("a template")
}

fn event(kind: &str, data: Value) -> Value {
    json!({
        "event_id": "01a20091-7fad-702d-a5a3-3c3da56cf487", "event_type": kind, "site_id": "01a20091-7eb2-7553-9936-2f0bd8b63b60",
        "site_domain": "example.com", "site_name": "Example", "timestamp": "2026-02-25T14:30:00.123Z", "data": data,
    })
}

/// One of each type there is, and of types that are yet to come.
fn events() -> Vec<Value> {
    let known = EventType::ALL.map(|kind| event(kind.name(), json!(Data::example(kind))));
    let coming = [
        event("queue_length", json!({"threshold": 5, "current": 3, "baseline": "typical", "usual": {"length": 30.5}})),
        event("queue_length_resolved", json!({"threshold": 5, "baseline": "typical", "current": 31})),
        event("something", json!({"source": "example.org", "visitors": [], "nested": {"deep": {"deeper": [1, 2, {"a": null}]}}})),
        event("empty", json!({})),
    ];
    known.into_iter().chain(coming).collect()
}

/// Texts that nobody else has a say in.
const OUR_WORDS: [&str; 7] = ["weekday", "how_unusual", "metric", "direction", "sensitivity", "unit", "baseline"];

/// Each text of an event in place of which a visitor, or somebody who may configure a site, has put this.
fn with_texts(event: &Value, text: &str) -> Value {
    fn replace(value: &mut Value, text: &str) {
        match value {
            Value::String(old) => *old = text.to_owned(),
            Value::Array(items) => items.iter_mut().for_each(|item| replace(item, text)),
            Value::Object(object) => {
                let others = object.iter_mut().filter(|(name, _)| !OUR_WORDS.contains(&name.as_str()));
                others.for_each(|(_, value)| replace(value, text));
            }
            _ => {}
        }
    }
    let mut event = event.clone();
    replace(&mut event["data"], text);
    event["site_name"] = json!(text.chars().take(255).collect::<String>());
    for number in 0..15 {
        event["data"][format!("more_{number}")] = json!(text.chars().take(200).collect::<String>());
    }
    event
}

fn hostile_texts() -> Vec<String> {
    let short = [
        "\"",
        "\\",
        "\\\"",
        "\"},{\"a\":\"",
        "\n\r\t",
        "\u{0}\u{1f}",
        "</script><script>alert(1)</script>",
        "<!channel> <@U1>",
        "<users/all>",
        "@everyone @here @all @channel",
        "[click](https://evil.example)",
        "{{ 7 * 7 }}{% for x in y %}",
        "*_~`>#|",
        "ü😀\u{202e}\u{2028}",
        " ",
    ];
    let long = ["\"", "\\", "<", "&", "*", "@", "漢", "😀", "a"].map(|text| text.repeat(10_000 / text.len()));
    short.map(str::to_owned).into_iter().chain(long).collect()
}

fn validator(preset: Preset) -> Option<Validator> {
    let path = format!("{}/presets/schemas/{}.json", env!("CARGO_MANIFEST_DIR"), preset.name());
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).ok()?).expect("JSON");
    Some(jsonschema::draft202012::new(&schema).expect("a schema"))
}

/// Everything that a service says of what it takes, and that a schema can't.
fn check_size(preset: Preset, body: &str) {
    let most = match preset {
        Preset::Ntfy => NTFY_BYTES,
        Preset::Teams => TEAMS_BYTES,
        Preset::GoogleChat => GOOGLE_CHAT_BYTES,
        Preset::Pagerduty => PAGERDUTY_BYTES,
        _ => usize::MAX,
    };
    assert!(!body.trim().is_empty() && body.len() <= most, "{preset:?}: {} bytes", body.len());
    if preset == Preset::Discord {
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert!(chars_of(&body["embeds"]) <= DISCORD_EMBED_CHARS, "{}", chars_of(&body["embeds"]));
    }
    if preset == Preset::Telegram {
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert!(body["text"].as_str().expect("a text").encode_utf16().count() <= 4_096);
    }
}

fn chars_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.encode_utf16().count(),
        Value::Array(items) => items.iter().map(chars_of).sum(),
        Value::Object(object) => object.values().map(chars_of).sum(),
        _ => 0,
    }
}

#[test]
fn every_preset_makes_of_every_event_what_its_service_documents() {
    for preset in Preset::ALL {
        let (template, validator) = (template(preset), validator(preset));
        assert_eq!(validator.is_none(), preset == Preset::Ntfy);
        let hostile = || hostile_texts().into_iter();
        for event in events().iter().flat_map(|event| hostile().map(|text| with_texts(event, &text)).chain([event.clone()])) {
            let body = template.render(&event).unwrap_or_else(|error| panic!("{preset:?}: {error}"));
            check_size(preset, &body);
            if let Some(validator) = &validator {
                let body: Value = serde_json::from_str(&body).expect("JSON");
                let errors: Vec<_> =
                    validator.iter_errors(&body).map(|error| format!("{} {error}", error.instance_path())).collect();
                assert!(errors.is_empty(), "{preset:?}: {errors:.300?}\n{body:.600}");
            }
        }
    }
}

#[test]
fn every_preset_says_a_sentence_of_every_event() {
    for preset in Preset::ALL {
        let template = template(preset);
        for event in events() {
            let (body, said) = (template.render(&event).expect("a body"), crate::message::Message::of(&event).text);
            // Markdown has underscores in it.
            assert!(body.replace('\\', "").contains(&said.replace('\\', "")), "{preset:?}: {said}\n{body}");
        }
    }
}

#[test]
fn what_ends_resolves_what_began() {
    let body = |preset: Preset, event: &Value| -> Value {
        serde_json::from_str(&template(preset).render(event).expect("a body")).expect("JSON")
    };
    for kind in ["visitor_spike", "visitor_drop", "goal_rate", "anomaly", "queue_length"] {
        let (began, ended) = (&of_type(kind), &of_type(&format!("{kind}_resolved")));
        let (trigger, resolve) = (body(Preset::Pagerduty, began), body(Preset::Pagerduty, ended));
        assert_eq!((&trigger["event_action"], &resolve["event_action"]), (&json!("trigger"), &json!("resolve")));
        assert_eq!(trigger["dedup_key"], resolve["dedup_key"]);
        assert_eq!(body(Preset::Opsgenie, began)["alias"], body(Preset::Opsgenie, ended)["alias"]);
    }
    let completion = of_type("goal_completion");
    let completions = [completion.clone(), with_id(&completion, "another")].map(|event| body(Preset::Pagerduty, &event));
    assert_ne!(completions[0]["dedup_key"], completions[1]["dedup_key"]);
}

fn of_type(kind: &str) -> Value {
    events().into_iter().find(|event| event["event_type"] == kind).expect(kind)
}

fn with_id(event: &Value, id: &str) -> Value {
    let mut event = event.clone();
    event["event_id"] = json!(id);
    event
}

#[test]
fn names_lead_back_to_their_presets() {
    for preset in Preset::ALL {
        assert_eq!(Preset::from_name(preset.name()), Some(preset));
        let needed: Vec<_> = preset.needs().iter().map(|needed| needed.name).collect();
        assert_eq!(preset.template().parameters().collect::<Vec<_>>(), needed, "{preset:?}");
    }
    assert_eq!(Preset::from_name("Slack"), None);
}

#[test]
fn the_documentation_has_every_preset_and_what_each_needs() {
    let documentation = include_str!("../../../../docs/templates.md");
    for preset in Preset::ALL {
        let row = documentation.lines().find(|line| line.starts_with(&format!("| `{}` |", preset.name())));
        let row = row.unwrap_or_else(|| panic!("{preset:?}"));
        assert!(preset.needs().iter().all(|needed| row.contains(&format!("`{}`", needed.name))), "{row}");
    }
}
