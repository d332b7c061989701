//! The fields of an event's JSON, read in one pass: short names and long ones, and whatever else is there ignored.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// The fields that mean something, by their own names; the last of a name counts.
pub(super) struct Sent<'a> {
    fields: [Option<Field<'a>>; FieldName::COUNT],
}

/// A field's value.
pub(super) enum Field<'a> {
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    Object(Object<'a>),
    List,
}

/// The entries of a JSON object in their order, also those whose name came before; null is none.
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, Option<Field<'a>>)>);

/// A field's name.
#[derive(Clone, Copy)]
pub(super) enum FieldName {
    N,
    Name,
    U,
    Url,
    D,
    Domain,
    R,
    Referrer,
    M,
    Meta,
    P,
    Props,
    H,
    HashMode,
    Sd,
    E,
    Revenue,
    Dollar,
}

impl FieldName {
    const COUNT: usize = Self::Dollar as usize + 1;

    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "n" => Self::N,
            "name" => Self::Name,
            "u" => Self::U,
            "url" => Self::Url,
            "d" => Self::D,
            "domain" => Self::Domain,
            "r" => Self::R,
            "referrer" => Self::Referrer,
            "m" => Self::M,
            "meta" => Self::Meta,
            "p" => Self::P,
            "props" => Self::Props,
            "h" => Self::H,
            "hashMode" => Self::HashMode,
            "sd" => Self::Sd,
            "e" => Self::E,
            "revenue" => Self::Revenue,
            "$" => Self::Dollar,
            _ => return None,
        })
    }
}

impl<'a> Sent<'a> {
    /// A field; none if it is absent or null.
    pub(super) fn get(&self, name: FieldName) -> Option<&Field<'a>> {
        self.fields[name as usize].as_ref()
    }

    /// The first of these fields that is neither absent, null nor false.
    pub(super) fn first(&self, names: &[FieldName]) -> Option<&Field<'a>> {
        names.iter().find_map(|name| self.get(*name).filter(|field| !matches!(field, Field::Bool(false))))
    }
}

impl Field<'_> {
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What `read` makes of an object, given as one or as a text that holds one.
    pub(super) fn read_object<T>(&self, read: impl FnOnce(&Object<'_>) -> T) -> Option<T> {
        match self {
            Self::Object(object) => Some(read(object)),
            Self::Text(text) => serde_json::from_str(text).ok().map(|object| read(&object)),
            _ => None,
        }
    }
}

impl<'a> Object<'a> {
    /// The last field of this name; none if it is absent or null.
    pub(super) fn get(&self, name: &str) -> Option<&Field<'a>> {
        self.0.iter().rev().find(|(key, _)| key == name)?.1.as_ref()
    }

    /// All entries; a null is none.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, Option<&Field<'a>>)> {
        self.0.iter().map(|(key, field)| (key.as_ref(), field.as_ref()))
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Field::deserialize(deserializer)? {
            Field::Object(object) => Ok(object),
            _ => Err(serde::de::Error::custom("it is no object")),
        }
    }
}

impl<'de> Deserialize<'de> for Sent<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SentVisitor)
    }
}

struct SentVisitor;

impl<'de> Visitor<'de> for SentVisitor {
    type Value = Sent<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sent<'de>, A::Error> {
        let mut sent = Sent { fields: [const { None }; FieldName::COUNT] };
        while let Some(Key(name)) = map.next_key()? {
            match name {
                Some(name) => sent.fields[name as usize] = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(sent)
    }
}

/// A key, by the name that it is.
struct Key(Option<FieldName>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, text: &str) -> Result<Key, E> {
                Ok(Key(FieldName::of(text)))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

impl<'de> Deserialize<'de> for Field<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Field<'de>, E> {
        Ok(Field::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Field<'de>, E> {
        Ok(Field::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Field<'de>, E> {
        Ok(Field::Number(value.into()))
    }

    /// JSON has no numbers that are not finite.
    fn visit_f64<E>(self, value: f64) -> Result<Field<'de>, E> {
        Ok(Number::from_f64(value).map_or(Field::List, Field::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry()? {
            if let Field::Text(key) = key {
                entries.push((key, value));
            }
        }
        Ok(Field::Object(Object(entries)))
    }
}
