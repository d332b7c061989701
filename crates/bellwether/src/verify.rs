//! Whether a webhook was signed with a secret: what every receiver should do.
//!
//! Bellwether signs twice, with `X-Signature` and with `webhook-signature` of Standard Webhooks 1.0; both are checked. Nothing
//! here knows what a webhook says, nor whether it has come before.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue};
use bellwether_domain::signature::Secret;
use bellwether_domain::time::Timestamp;

/// How far a webhook's time may be from the receiver's, as Standard Webhooks 1.0 advises.
const TOLERANCE_SECONDS: u64 = 300;

/// What the two signatures of a webhook are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verification {
    /// `X-Signature`, or `X-Signature-Previous` where the secret is the one before.
    pub(crate) body: Check,
    /// `webhook-signature`.
    pub(crate) standard: Check,
}

/// What a signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The secret's owner has signed this.
    Valid,
    /// This header is missing.
    Missing(&'static str),
    /// Somebody else signed, or signed something else.
    Wrong,
    /// `webhook-timestamp` is no number.
    NoTime,
    /// It was signed too long before now, or after it: so many seconds.
    Stale(u64),
}

/// Checks both signatures of a request that came `now`.
pub(crate) fn verify(headers: &HeaderMap, body: &[u8], secret: &Secret, now: Timestamp) -> Verification {
    Verification { body: verify_body(headers, body, secret), standard: verify_standard(headers, body, secret, now) }
}

impl Verification {
    /// Whether both signatures are valid.
    pub(crate) fn is_valid(self) -> bool {
        self.body == Check::Valid && self.standard == Check::Valid
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid => write!(f, "valid"),
            Self::Missing(header) => write!(f, "missing: there is no {header}"),
            Self::Wrong => write!(f, "wrong: not made with this secret for this request"),
            Self::NoTime => write!(f, "wrong: webhook-timestamp is not a number of seconds"),
            Self::Stale(seconds) => write!(f, "stale: {seconds} s away from now, more than {TOLERANCE_SECONDS}"),
        }
    }
}

fn verify_body(headers: &HeaderMap, body: &[u8], secret: &Secret) -> Check {
    let signs = |name| text(headers, name).is_some_and(|signature| secret.verifies_body(signature, body));
    match text(headers, "x-signature") {
        None => Check::Missing("X-Signature"),
        Some(_) if signs("x-signature") || signs("x-signature-previous") => Check::Valid,
        Some(_) => Check::Wrong,
    }
}

fn verify_standard(headers: &HeaderMap, body: &[u8], secret: &Secret, now: Timestamp) -> Check {
    let [id, timestamp, signature] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| text(headers, name).ok_or(name));
    match (id, timestamp.map(str::parse::<i64>), signature) {
        (Err(name), ..) | (_, Err(name), _) | (.., Err(name)) => Check::Missing(name),
        (_, Ok(Err(_)), _) => Check::NoTime,
        (Ok(id), Ok(Ok(timestamp)), Ok(signature)) => {
            let away_seconds = now.as_seconds().abs_diff(timestamp);
            match secret.verifies_standard(signature, id, timestamp, body) {
                false => Check::Wrong,
                true if away_seconds > TOLERANCE_SECONDS => Check::Stale(away_seconds),
                true => Check::Valid,
            }
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(HeaderValue::to_str).and_then(Result::ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"event_id": "e"}"#;
    const SIGNED_AT: i64 = 1_772_029_800;

    fn secret(text: &str) -> Secret {
        Secret::parse(text).expect("a secret")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// As the sender signs, with a secret in its grace beside the new one.
    fn signed() -> HeaderMap {
        let [new, old] = ["the-new-secret-of-it", "the-old-secret-of-it"].map(secret);
        let timestamp = SIGNED_AT.to_string();
        let both = format!("{} {}", new.sign_standard("e", SIGNED_AT, BODY), old.sign_standard("e", SIGNED_AT, BODY));
        let headers = [
            ("x-signature", new.sign_body(BODY)),
            ("x-signature-previous", old.sign_body(BODY)),
            ("webhook-id", "e".to_owned()),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", both),
        ];
        headers.into_iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn secrets_bodies_and_times() {
        use Check::{Stale, Valid, Wrong};
        let cases = [
            ("the-new-secret-of-it", BODY, SIGNED_AT, Valid, Valid),
            ("the-old-secret-of-it", BODY, SIGNED_AT, Valid, Valid),
            ("another-secret-of-it", BODY, SIGNED_AT, Wrong, Wrong),
            ("the-new-secret-of-it", b"{}", SIGNED_AT, Wrong, Wrong),
            ("the-new-secret-of-it", BODY, SIGNED_AT + 300, Valid, Valid),
            ("the-new-secret-of-it", BODY, SIGNED_AT + 301, Valid, Stale(301)),
            ("the-new-secret-of-it", BODY, SIGNED_AT - 300, Valid, Valid),
            ("the-new-secret-of-it", BODY, SIGNED_AT - 301, Valid, Stale(301)),
        ];
        for (text, body, now, of_body, standard) in cases {
            let verification = verify(&signed(), body, &secret(text), at(now));
            assert_eq!(verification, Verification { body: of_body, standard }, "{text} {now}");
            assert_eq!(verification.is_valid(), of_body == Valid && standard == Valid);
        }
    }

    #[test]
    fn headers_missing_or_wrong() {
        use Check::{Missing, NoTime, Valid, Wrong};
        let cases = [
            ("x-signature-previous", None, Valid, Valid),
            ("x-signature", Some("sha256=00"), Wrong, Valid),
            ("x-signature", Some(""), Wrong, Valid),
            ("x-signature", None, Missing("X-Signature"), Valid),
            ("webhook-id", None, Valid, Missing("webhook-id")),
            ("webhook-id", Some("f"), Valid, Wrong),
            ("webhook-timestamp", None, Valid, Missing("webhook-timestamp")),
            ("webhook-timestamp", Some("now"), Valid, NoTime),
            ("webhook-timestamp", Some("9223372036854775807"), Valid, Wrong),
            ("webhook-timestamp", Some("-9223372036854775808"), Valid, Wrong),
            ("webhook-signature", None, Valid, Missing("webhook-signature")),
            ("webhook-signature", Some("v1,"), Valid, Wrong),
        ];
        for (name, value, body, standard) in cases {
            let mut headers = signed();
            headers.remove("x-signature-previous");
            match value {
                Some(value) => headers.insert(name, value.parse().expect("a value")),
                None => headers.remove(name),
            };
            let verification = verify(&headers, BODY, &secret("the-new-secret-of-it"), at(SIGNED_AT));
            assert_eq!(verification, Verification { body, standard }, "{name}: {value:?}");
        }
        let none = verify(&HeaderMap::new(), BODY, &secret("the-new-secret-of-it"), at(SIGNED_AT));
        assert_eq!(none, Verification { body: Missing("X-Signature"), standard: Missing("webhook-id") });
    }
}
