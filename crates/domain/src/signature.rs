//! Secrets, and the two signatures that every request bears.
//!
//! `X-Signature` is the hex of an HMAC-SHA256 over the body, keyed with the secret's characters. `webhook-signature` follows
//! Standard Webhooks 1.0: base64 of an HMAC-SHA256 over `id.timestamp.body`, keyed with the bytes behind `whsec_`, or with
//! the characters of a secret that somebody chose.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::ambient::Ambient;

const PREFIX: &str = "whsec_";

/// What signs a webhook's requests. It shows itself nowhere: not in logs, not in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// `whsec_` and the base64 of 32 random bytes.
    pub fn generate(ambient: &Ambient) -> Self {
        Self(format!("{PREFIX}{}", STANDARD.encode(ambient.bytes::<32>())))
    }

    /// A secret that somebody chose: 16 to 255 printable ASCII characters. After `whsec_` it must be the base64 of 24 to 64
    /// bytes, as Standard Webhooks asks, since verifiers will decode it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !(16..=255).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be 16 to 255 printable ASCII characters");
        }
        if let Some(encoded) = text.strip_prefix(PREFIX) {
            let bytes = STANDARD.decode(encoded).map_err(|_| "must be base64 after whsec_")?;
            if !(24..=64).contains(&bytes.len()) {
                return Err("must be the base64 of 24 to 64 bytes after whsec_");
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The characters, to store them encrypted or to show them the one time.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The value of `X-Signature`.
    pub fn sign_body(&self, body: &[u8]) -> String {
        format!("sha256={}", hex::encode(mac(self.0.as_bytes(), &[body])))
    }

    /// The value of `webhook-signature`. `timestamp` is in Unix seconds.
    pub fn sign_standard(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let timestamp = timestamp.to_string();
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        format!("v1,{}", STANDARD.encode(mac(&self.standard_key(), &signed)))
    }

    /// Whether `header`, a value of `X-Signature`, signs `body`. Takes as long for wrong signatures as for right ones.
    pub fn verifies_body(&self, header: &str, body: &[u8]) -> bool {
        equal(&self.sign_body(body), header)
    }

    /// Whether one of the signatures in `header`, a value of `webhook-signature`, signs the rest.
    pub fn verifies_standard(&self, header: &str, id: &str, timestamp: i64, body: &[u8]) -> bool {
        let right = self.sign_standard(id, timestamp, body);
        header.split(' ').any(|signature| equal(&right, signature))
    }

    fn standard_key(&self) -> Vec<u8> {
        let decoded = self.0.strip_prefix(PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
        decoded.unwrap_or_else(|| self.0.as_bytes().to_vec())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn equal(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    /// The test vector of Standard Webhooks 1.0.
    #[test]
    fn standard_webhooks_vector() {
        let secret = Secret::parse(SECRET).expect("a secret");
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(secret.sign_standard(ID, 1_614_265_330, BODY), signature);
        assert!(secret.verifies_standard(signature, ID, 1_614_265_330, BODY));
        assert!(secret.verifies_standard(&format!("v1,AAAA {signature}"), ID, 1_614_265_330, BODY));
        assert!(!secret.verifies_standard(signature, ID, 1_614_265_331, BODY));
        assert!(!secret.verifies_standard(signature, ID, 1_614_265_330, br#"{"test": 2432232315}"#));
    }

    /// The expected value was computed with `openssl dgst -sha256 -hmac`.
    #[test]
    fn body_signature_is_keyed_with_the_characters() {
        let secret = Secret::parse("correct-horse-battery").expect("a secret");
        let signature = "sha256=12f745030f697f1fb11d1924272793598cde8356788d32d663a8ec645d03004a";
        assert_eq!(secret.sign_body(BODY), signature);
        assert!(secret.verifies_body(signature, BODY));
        assert!(!secret.verifies_body(signature, b"{}"));
        assert!(!secret.verifies_body("", BODY));
    }

    #[test]
    fn the_reference_implementation_agrees() {
        let secret = Secret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("a secret");
        let oracle = standardwebhooks::Webhook::new(secret.reveal()).expect("an oracle");
        for body in ["", "{}", "{\"ü\": 1}"] {
            let theirs = oracle.sign("evt.1", 1_700_000_000, body.as_bytes()).expect("a signature");
            assert_eq!(secret.sign_standard("evt.1", 1_700_000_000, body.as_bytes()), theirs);
        }
    }

    #[test]
    fn secrets_are_checked_and_never_shown() {
        let long = "x".repeat(256);
        let bad = ["short", &long, "with space in it …", "whsec_not~base64~at~all", "whsec_c2hvcnQ=", "tab\tin the secret"];
        for text in bad {
            assert!(Secret::parse(text).is_err(), "{text}");
        }
        let secret = Secret::parse("a-secret-of-my-own").expect("a secret");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(secret.standard_key(), b"a-secret-of-my-own");
    }
}
