//! What goes into statements and comes out of rows.

use std::sync::Arc;

use bellwether_domain::delivery::{Contents, Status};
use bellwether_domain::id::{
    DeliveryId, EventId, GoalId, InvitationId, KeyId, OwnerId, ReplayId, SessionId, SiteId, TrafficId, TriggerId, UserId,
    WebhookId,
};
use bellwether_domain::time::Timestamp;
use bytes::{BufMut as _, BytesMut};
use rusqlite::types::{ToSqlOutput, ValueRef};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::Role;

type Failure = Box<dyn std::error::Error + Sync + Send>;

/// A value of a statement or of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    /// A number, a time, or a truth as 0 or 1.
    Integer(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Id([u8; 16]),
}

/// The values of a statement, in the order of its placeholders.
macro_rules! values {
    ($($value:expr),* $(,)?) => { [$($crate::sql::Value::from($value)),*] };
}
pub(crate) use values;

/// What can be read from a row.
pub(crate) trait FromValue<'a>: Sized {
    /// None for a value that it cannot be.
    fn from_value(value: Value<'a>) -> Option<Self>;
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, T::into)
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Option<T> {
    fn from_value(value: Value<'a>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl From<$integer> for Value<'_> {
            fn from(value: $integer) -> Self {
                Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
            }
        }

        impl FromValue<'_> for $integer {
            fn from_value(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Integer(value) => value.try_into().ok(),
                    _ => None,
                }
            }
        }
    )*};
}

integers! { u16 u32 u64 usize i64 }

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Value::Integer(i64::from(value))
    }
}

impl FromValue<'_> for bool {
    fn from_value(value: Value<'_>) -> Option<Self> {
        i64::from_value(value).map(|value| value != 0)
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(value: Timestamp) -> Self {
        Value::Integer(value.as_micros())
    }
}

impl FromValue<'_> for Timestamp {
    fn from_value(value: Value<'_>) -> Option<Self> {
        i64::from_value(value).map(Timestamp::from_micros)
    }
}

macro_rules! texts {
    ($($text:ty)*) => {$(
        impl<'a> From<&'a $text> for Value<'a> {
            fn from(value: &'a $text) -> Self {
                Value::Text(value)
            }
        }

        impl<'a> FromValue<'a> for $text {
            fn from_value(value: Value<'a>) -> Option<Self> {
                match value {
                    Value::Text(text) => Some(text.into()),
                    _ => None,
                }
            }
        }
    )*};
}

texts! { String Arc<str> }

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::Text(value)
    }
}

macro_rules! names {
    ($($name:ty)*) => {$(
        impl From<$name> for Value<'_> {
            fn from(value: $name) -> Self {
                Value::Text(value.name())
            }
        }

        impl FromValue<'_> for $name {
            fn from_value(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Text(name) => <$name>::from_name(name),
                    _ => None,
                }
            }
        }
    )*};
}

names! { Status Contents Role }

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Value::Bytes(value)
    }
}

impl<'a> From<&'a Vec<u8>> for Value<'a> {
    fn from(value: &'a Vec<u8>) -> Self {
        Value::Bytes(value)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Value<'a> {
    fn from(value: &'a [u8; N]) -> Self {
        Value::Bytes(value)
    }
}

impl FromValue<'_> for Vec<u8> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }
}

impl<const N: usize> FromValue<'_> for [u8; N] {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => bytes.try_into().ok(),
            _ => None,
        }
    }
}

macro_rules! ids {
    ($($id:ty)*) => {$(
        impl From<$id> for Value<'_> {
            fn from(value: $id) -> Self {
                Value::Id(*value.as_bytes())
            }
        }

        impl FromValue<'_> for $id {
            fn from_value(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Id(bytes) => Some(<$id>::from_bytes(bytes)),
                    Value::Bytes(bytes) => bytes.try_into().ok().map(<$id>::from_bytes),
                    _ => None,
                }
            }
        }
    )*};
}

ids! { DeliveryId EventId GoalId InvitationId KeyId OwnerId ReplayId SessionId SiteId TrafficId TriggerId UserId WebhookId }

impl<'a> Value<'a> {
    /// An id is bytes there; what is no text and no whole number is nothing of ours.
    pub(crate) fn from_sqlite(value: ValueRef<'a>) -> Self {
        match value {
            ValueRef::Integer(value) => Value::Integer(value),
            ValueRef::Text(text) => std::str::from_utf8(text).map_or(Value::Bytes(text), Value::Text),
            ValueRef::Blob(bytes) => Value::Bytes(bytes),
            ValueRef::Null | ValueRef::Real(_) => Value::Null,
        }
    }
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
            Value::Id(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        match (self, kind) {
            (Value::Null, _) => return Ok(IsNull::Yes),
            (Value::Integer(value), &Type::INT8) => out.put_i64(*value),
            (Value::Integer(value), &Type::INT4) => out.put_i32((*value).try_into()?),
            (Value::Integer(value), &Type::INT2) => out.put_i16((*value).try_into()?),
            (Value::Integer(value), &Type::BOOL) => out.put_u8(u8::from(*value != 0)),
            (Value::Text(text), &Type::TEXT) => put_text(text, out),
            (Value::Bytes(bytes), &Type::BYTEA) => out.put_slice(bytes),
            (Value::Id(bytes), &Type::UUID) => out.put_slice(bytes),
            // As SQLite has it.
            (Value::Bytes(bytes), &Type::UUID) if bytes.len() == 16 => out.put_slice(bytes),
            (_, kind) => return Err(format!("a value that is no {kind}").into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// PostgreSQL keeps every character but U+0000.
fn put_text(text: &str, out: &mut BytesMut) {
    let mut parts = text.split('\0');
    out.put_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        out.put_slice("\u{fffd}".as_bytes());
        out.put_slice(part.as_bytes());
    }
}

impl<'a> FromSql<'a> for Value<'a> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Failure> {
        Ok(match *kind {
            Type::INT8 => Value::Integer(i64::from_be_bytes(raw.try_into()?)),
            Type::INT4 => Value::Integer(i32::from_be_bytes(raw.try_into()?).into()),
            Type::INT2 => Value::Integer(i16::from_be_bytes(raw.try_into()?).into()),
            Type::BOOL => Value::Integer(i64::from(raw != [0])),
            Type::UUID => Value::Id(raw.try_into()?),
            Type::BYTEA => Value::Bytes(raw),
            _ => Value::Text(std::str::from_utf8(raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failure> {
        Ok(Value::Null)
    }

    fn accepts(kind: &Type) -> bool {
        let known = [Type::INT8, Type::INT4, Type::INT2, Type::BOOL, Type::UUID, Type::BYTEA, Type::TEXT];
        known.contains(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL gets of a value, and what is read back of that.
    fn there_and_back<T: for<'a> FromValue<'a>>(value: Value<'_>, kind: &Type) -> Option<T> {
        let mut bytes = BytesMut::new();
        match ToSql::to_sql(&value, kind, &mut bytes).expect("a value of that type") {
            IsNull::Yes => T::from_value(Value::Null),
            IsNull::No => T::from_value(Value::from_sql(kind, &bytes).expect("a value")),
        }
    }

    #[test]
    fn values_come_back_from_columns_of_their_type() {
        assert_eq!(there_and_back(Value::from(7_u16), &Type::INT2), Some(7_u16));
        assert_eq!(there_and_back(Value::from(i64::MIN), &Type::INT8), Some(i64::MIN));
        assert_eq!(there_and_back(Value::from(u64::MAX), &Type::INT8), Some(i64::MAX));
        assert_eq!(there_and_back(Value::from(true), &Type::BOOL), Some(true));
        assert_eq!(there_and_back::<Option<u32>>(Value::from(None::<u32>), &Type::INT4), Some(None));
        assert_eq!(there_and_back(Value::from(Status::Failed), &Type::TEXT), Some(Status::Failed));
        assert_eq!(there_and_back(Value::from("a\0b\0"), &Type::TEXT), Some("a\u{fffd}b\u{fffd}".to_owned()));
        assert_eq!(there_and_back(Value::from(&[1_u8, 2]), &Type::BYTEA), Some([1_u8, 2]));
        let id = SiteId::from_bytes([9; 16]);
        assert_eq!(there_and_back(Value::from(id), &Type::UUID), Some(id));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut bytes = BytesMut::new();
        for (value, kind) in
            [(Value::from(70_000_u32), Type::INT2), (Value::from("a"), Type::INT8), (Value::from(1_u16), Type::TEXT)]
        {
            assert!(ToSql::to_sql(&value, &kind, &mut bytes).is_err(), "{value:?} {kind}");
        }
        assert_eq!(u16::from_value(Value::Integer(-1)), None);
        assert_eq!(u16::from_value(Value::Null), None);
        assert_eq!(Status::from_value(Value::Text("unheard of")), None);
        assert_eq!(SiteId::from_value(Value::Bytes(&[1])), None);
    }
}
