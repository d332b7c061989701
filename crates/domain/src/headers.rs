//! Headers of its own that a webhook sends beside those of every request.
//!
//! Their values may be credentials, so they are shown nowhere: whoever reads them back sees their names, each with null. In a
//! change null stands for the value that is there, so that what was read can be written again.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::fields::Invalid;

/// How many a webhook may have.
pub const MAX_HEADERS: usize = 20;
const MAX_NAME_BYTES: usize = 100;
const MAX_VALUE_BYTES: usize = 2_048;

/// What a webhook's own headers must not be: names that every request has anyway, and those that HTTP itself or a proxy acts on.
const RESERVED: [&str; 30] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
    "x-signature",
    "x-signature-previous",
    "x-webhook-event",
    "x-webhook-event-id",
    "x-webhook-signature",
    "x-webhook-version",
];

/// Headers by their names in lower case, in the order somebody wrote them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(Vec<(String, String)>);

/// All headers anew; without a value those that are there keep theirs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeadersChange(Vec<(String, Option<String>)>);

impl CustomHeaders {
    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one of this name, which is in lower case.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// What a change makes of them.
    pub fn changed(&self, change: HeadersChange) -> Result<Self, Invalid> {
        let mut invalid = Invalid::default();
        let mut headers = Vec::new();
        for (name, value) in change.0 {
            match value.or_else(|| self.value(&name).map(str::to_owned)) {
                Some(value) => headers.push((name, value)),
                None => invalid.add(&format!("headers.{name}"), "must have a value: there is none yet to keep"),
            }
        }
        invalid.or(Self(headers))
    }

    /// The names and values as a JSON object, to be encrypted.
    pub fn reveal(&self) -> String {
        let object: Map<_, _> = self.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        Value::Object(object).to_string()
    }

    /// What [`CustomHeaders::reveal`] made, by whatever rules headers were taken then; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let object: Map<String, Value> = serde_json::from_str(text).ok()?;
        let header = |(name, value): (String, Value)| Some((name, value.as_str()?.to_owned()));
        object.into_iter().map(header).collect::<Option<_>>().map(Self)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

impl HeadersChange {
    /// Reads an object of at most 20 names, each with a text, or with null for the text that is there already.
    pub fn read(value: &Value) -> Result<Self, Invalid> {
        let object = value.as_object().filter(|object| object.len() <= MAX_HEADERS);
        let object =
            object.ok_or_else(|| Invalid::field("", format!("must be an object of at most {MAX_HEADERS} names and values")))?;
        let (mut invalid, mut headers) = (Invalid::default(), Self::default());
        for (name, value) in object {
            match read_header(name, value, &headers) {
                Ok(header) => headers.0.push(header),
                Err(sentence) => invalid.add(name, sentence),
            }
        }
        invalid.or(headers)
    }
}

fn read_header(name: &str, value: &Value, before: &HeadersChange) -> Result<(String, Option<String>), &'static str> {
    let name = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_token) {
        return Err("must be a header's name of at most 100 characters");
    }
    if RESERVED.contains(&name.as_str()) {
        return Err("is reserved and can't be set");
    }
    if before.0.iter().any(|(known, _)| *known == name) {
        return Err("stands twice");
    }
    match value {
        Value::Null => Ok((name, None)),
        Value::String(value) if is_value(value) => Ok((name, Some(value.clone()))),
        _ => Err("must be a text of at most 2048 printable ASCII characters, without spaces around it"),
    }
}

/// What RFC 9110 lets names be made of.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_value(value: &str) -> bool {
    let printable = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    printable && value.len() <= MAX_VALUE_BYTES && value.trim() == value
}

impl Serialize for CustomHeaders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(name, _)| (name, ())))
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl fmt::Debug for HeadersChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(value: Value) -> CustomHeaders {
        CustomHeaders::default().changed(HeadersChange::read(&value).expect("headers")).expect("values")
    }

    #[test]
    fn what_was_read_can_be_written_again_and_shows_no_value() {
        let before = headers(json!({"X-Token": "sesame", "authorization": "Bearer a b"}));
        let shown = json!(before);
        assert_eq!(shown, json!({"x-token": null, "authorization": null}));
        assert_eq!(format!("{before:?}"), r#"["x-token", "authorization"]"#);
        let after = before.changed(HeadersChange::read(&shown).expect("headers")).expect("values");
        assert_eq!(after, before);
        assert_eq!(CustomHeaders::parse(&before.reveal()), Some(before));
    }

    #[test]
    fn all_headers_are_set_anew() {
        let before = headers(json!({"a": "1", "b": "2"}));
        let change = HeadersChange::read(&json!({"B": null, "c": "3"})).expect("headers");
        assert_eq!(before.changed(change).expect("values"), headers(json!({"b": "2", "c": "3"})));
        let change = HeadersChange::read(&json!({"d": null})).expect("headers");
        let invalid = before.changed(change).expect_err("no value");
        assert_eq!(invalid.errors().keys().collect::<Vec<_>>(), ["headers.d"]);
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (json!({"Content-Type": "x"}), "Content-Type"),
            (json!({"webhook-ID": "x"}), "webhook-ID"),
            (json!({"host": "x"}), "host"),
            (json!({"transfer-encoding": "chunked"}), "transfer-encoding"),
            (json!({"": "x"}), ""),
            (json!({"a b": "x"}), "a b"),
            (json!({"a:": "x"}), "a:"),
            (json!({"ü": "x"}), "ü"),
            (json!({"a\r\nb": "x"}), "a\r\nb"),
            (json!({"a": "x", "A": "y"}), "A"),
            (json!({"a": "x\r\nb: c"}), "a"),
            (json!({"a": " x"}), "a"),
            (json!({"a": "ü"}), "a"),
            (json!({"a": 5}), "a"),
            (json!({"a": "x".repeat(2_049)}), "a"),
            (json!(["a"]), ""),
            (json!((0..21).map(|number| (format!("x-{number}"), "x".into())).collect::<Map<_, _>>()), ""),
        ];
        for (value, field) in cases {
            let invalid = HeadersChange::read(&value).expect_err("a mistake");
            assert_eq!(invalid.errors().keys().collect::<Vec<_>>(), [field], "{value}");
        }
    }
}
