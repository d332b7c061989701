//! Reading JSON objects that people wrote: every mistake is named, in a sentence, with its field.
//!
//! A reader asks [`Fields`] for each field by name and type. Wrong types and unknown fields are collected, so that the
//! answer lists everything that is wrong at once.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Serialize;
use serde_json::{Map, Value};

/// What is wrong with an input: sentences by field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}", self.summary())]
#[serde(transparent)]
pub struct Invalid {
    errors: BTreeMap<String, Vec<String>>,
}

impl Invalid {
    /// One sentence about one field.
    pub fn field(name: &str, sentence: impl Into<String>) -> Self {
        let mut invalid = Self::default();
        invalid.add(name, sentence);
        invalid
    }

    /// Adds a sentence about a field.
    pub fn add(&mut self, name: &str, sentence: impl Into<String>) {
        self.errors.entry(name.to_owned()).or_default().push(sentence.into());
    }

    /// Adds everything that is wrong with a part of the input, under the part's name.
    pub fn nest(&mut self, name: &str, part: Self) {
        for (field, sentences) in part.errors {
            let path = if field.is_empty() { name.to_owned() } else { format!("{name}.{field}") };
            self.errors.entry(path).or_default().extend(sentences);
        }
    }

    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The sentences, by field.
    pub fn errors(&self) -> &BTreeMap<String, Vec<String>> {
        &self.errors
    }

    /// `value`, unless something is wrong.
    pub fn or<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }

    fn summary(&self) -> String {
        let part = |(field, sentences): (&String, &Vec<String>)| match field.as_str() {
            "" => sentences.join(", "),
            field => format!("{field} {}", sentences.join(", ")),
        };
        self.errors.iter().map(part).collect::<Vec<_>>().join("; ")
    }
}

/// A JSON object that is read field by field.
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    known: Vec<&'static str>,
    invalid: Invalid,
}

impl<'a> Fields<'a> {
    /// Starts to read `value`, which must be an object.
    pub fn of(value: &'a Value) -> Result<Self, Invalid> {
        match value {
            Value::Object(object) => Ok(Self { object, known: Vec::new(), invalid: Invalid::default() }),
            _ => Err(Invalid::field("", "must be a JSON object")),
        }
    }

    /// Whether the field is there, be it null.
    pub fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    /// The field as it is; none if absent or null.
    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A text, trimmed, of at most `max_chars` characters.
    pub fn text(&mut self, name: &'static str, max_chars: usize) -> Option<&'a str> {
        let text = match self.value(name)? {
            Value::String(text) => text.trim(),
            _ => return self.refuse(name, "must be a text"),
        };
        if text.chars().count() > max_chars {
            return self.refuse(name, format!("must be at most {max_chars} characters"));
        }
        if text.chars().any(char::is_control) {
            return self.refuse(name, "must not contain control characters");
        }
        Some(text)
    }

    /// A text that must not be blank, where it is there.
    pub fn filled_text(&mut self, name: &'static str, max_chars: usize) -> Option<&'a str> {
        match self.text(name, max_chars)? {
            "" => self.refuse(name, "can't be blank"),
            text => Some(text),
        }
    }

    /// A text that must be there and not be blank.
    pub fn required_text(&mut self, name: &'static str, max_chars: usize) -> Option<&'a str> {
        match self.object.get(name) {
            None | Some(Value::Null) => {
                self.known.push(name);
                self.require(name);
                None
            }
            Some(_) => self.filled_text(name, max_chars),
        }
    }

    /// Refuses the absence of a field, which may be of any type.
    pub fn require(&mut self, name: &str) {
        if self.object.get(name).is_none_or(Value::is_null) {
            self.refuse::<()>(name, "is required");
        }
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let value = self.value(name)?;
        let number = whole(value).and_then(|number| u32::try_from(number).ok());
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => self.refuse(name, format!("must be a whole number from {} to {}", range.start(), range.end())),
        }
    }

    /// A number with at most two decimals, in hundredths, within `range`.
    pub fn hundredths(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let number = hundredths_of(&self.value(name)?.to_string());
        number.filter(|number| range.contains(number)).or_else(|| {
            let [least, most] = [range.start(), range.end()].map(|hundredths| f64::from(*hundredths) / 100.0);
            self.refuse(name, format!("must be a number from {least} to {most} with at most two decimals"))
        })
    }

    /// True or false.
    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(value) => Some(*value),
            _ => self.refuse(name, "must be true or false"),
        }
    }

    /// A list of at most `max_items`.
    pub fn list(&mut self, name: &'static str, max_items: usize) -> Option<&'a [Value]> {
        match self.value(name)? {
            Value::Array(items) if items.len() <= max_items => Some(items),
            Value::Array(_) => self.refuse(name, format!("must have at most {max_items} entries")),
            _ => self.refuse(name, "must be a list"),
        }
    }

    /// Says what is wrong with a field; always none, so that it can end a reading.
    pub fn refuse<T>(&mut self, name: &str, sentence: impl Into<String>) -> Option<T> {
        self.invalid.add(name, sentence);
        None
    }

    /// Says what is wrong with a part.
    pub fn nest(&mut self, name: &str, part: Invalid) {
        self.invalid.nest(name, part);
    }

    /// Whether nothing is wrong so far.
    pub fn is_valid(&self) -> bool {
        self.invalid.is_empty()
    }

    /// What is wrong so far, where it cannot be told which fields there may be.
    pub fn into_invalid(self) -> Invalid {
        self.invalid
    }

    /// Ends the reading: fields that nobody asked for are unknown.
    pub fn finish(mut self) -> Result<(), Invalid> {
        for name in self.object.keys() {
            if !self.known.contains(&name.as_str()) {
                self.invalid.add(name, "is not a known field");
            }
        }
        self.invalid.or(())
    }
}

/// A decimal number in hundredths, if it is a whole number of them.
fn hundredths_of(number: &str) -> Option<u32> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > 2 || !whole.bytes().chain(decimals.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{decimals:0<2}").parse().ok()
}

/// A whole number, also where it is written with a fraction of zero.
fn whole(value: &Value) -> Option<u64> {
    let exact = |number: f64| (number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number)).then_some(number);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and within the range of u32")]
    let whole = |number: f64| number as u64;
    value.as_u64().or_else(|| value.as_f64().and_then(exact).map(whole))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_mistake_is_named() {
        let value = json!({"name": 5, "size": 11, "on": "yes", "list": {}, "typo": 1, "tab": "a\tb", "gone": null});
        let mut fields = Fields::of(&value).expect("an object");
        assert_eq!(fields.text("name", 5), None);
        assert_eq!(fields.integer("size", 1..=10), None);
        assert_eq!(fields.boolean("on"), None);
        assert_eq!(fields.list("list", 3), None);
        assert_eq!(fields.text("tab", 9), None);
        assert_eq!(fields.required_text("gone", 9), None);
        let invalid = fields.finish().expect_err("mistakes");
        assert_eq!(
            serde_json::to_value(&invalid).expect("JSON"),
            json!({
                "name": ["must be a text"],
                "size": ["must be a whole number from 1 to 10"],
                "on": ["must be true or false"],
                "list": ["must be a list"],
                "tab": ["must not contain control characters"],
                "gone": ["is required"],
                "typo": ["is not a known field"],
            })
        );
    }

    #[test]
    fn whole_numbers_may_have_a_fraction_of_zero() {
        let cases =
            [(json!(50), Some(50)), (json!(50.0), Some(50)), (json!(1e2), Some(100)), (json!(1.5), None), (json!(-1.0), None)];
        for (number, expected) in cases.into_iter().chain([(json!(1e30), None), (json!("5"), None), (json!(101), None)]) {
            let value = json!({"size": number});
            let mut fields = Fields::of(&value).expect("an object");
            assert_eq!(fields.integer("size", 1..=100), expected, "{number}");
        }
    }

    #[test]
    fn hundredths_are_read_exactly() {
        let cases = [
            (json!(2.5), Some(250)),
            (json!(2), Some(200)),
            (json!(0.01), Some(1)),
            (json!(0.29), Some(29)),
            (json!(2.50), Some(250)),
            (json!(0.005), None),
            (json!(0), None),
            (json!(-1), None),
            (json!(1e30), None),
            (json!(100.01), None),
            (json!("2.5"), None),
        ];
        for (number, expected) in cases {
            let value = json!({"rate": number});
            let mut fields = Fields::of(&value).expect("an object");
            assert_eq!(fields.hundredths("rate", 1..=10_000), expected, "{number}");
            assert_eq!(fields.is_valid(), expected.is_some());
        }
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        let value = json!({"name": "  äöü  "});
        let mut fields = Fields::of(&value).expect("an object");
        assert_eq!(fields.text("name", 3), Some("äöü"));
        assert_eq!(fields.text("name", 2), None);
    }

    #[test]
    fn a_summary_names_the_fields_there_are() {
        let mut invalid = Invalid::field("name", "is required");
        invalid.add("url", "must be a text");
        assert_eq!(invalid.to_string(), "name is required; url must be a text");
        assert_eq!(Invalid::field("", "must be a JSON object").to_string(), "must be a JSON object");
    }

    #[test]
    fn only_objects_are_read() {
        for value in [json!([]), json!("x"), json!(null), json!(1)] {
            assert!(Fields::of(&value).is_err());
        }
    }
}
