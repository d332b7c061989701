//! Secrets at rest: XChaCha20-Poly1305, bound to the webhook they belong to.
//!
//! A sealed secret is the id of the key (4 bytes), a random nonce (24 bytes) and the ciphertext with its tag.

use bellwether_domain::ambient::Ambient;
use bellwether_domain::id::WebhookId;
use bellwether_domain::signature::Secret;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;

pub(crate) struct Sealer {
    key_id: [u8; KEY_ID_BYTES],
    cipher: XChaCha20Poly1305,
}

impl Sealer {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let mut key_id = [0; KEY_ID_BYTES];
        key_id.copy_from_slice(&Sha256::digest(key)[..KEY_ID_BYTES]);
        Self { key_id, cipher: XChaCha20Poly1305::new(key.into()) }
    }

    pub(crate) fn seal(&self, secret: &Secret, webhook_id: WebhookId, ambient: &Ambient) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = ambient.bytes();
        let payload = Payload { msg: secret.reveal().as_bytes(), aad: webhook_id.as_bytes() };
        #[expect(clippy::expect_used, reason = "encrypting fails only for messages of gigabytes")]
        let ciphertext = self.cipher.encrypt(&XNonce::from(nonce), payload).expect("a short secret");
        [&self.key_id[..], &nonce, &ciphertext].concat()
    }

    /// None when the secret was sealed with another key or for another webhook, or was changed.
    pub(crate) fn open(&self, sealed: &[u8], webhook_id: WebhookId) -> Option<Secret> {
        let (key_id, rest) = sealed.split_at_checked(KEY_ID_BYTES)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_BYTES)?;
        if key_id != self.key_id {
            return None;
        }
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
        let payload = Payload { msg: ciphertext, aad: webhook_id.as_bytes() };
        let plain = self.cipher.decrypt(&XNonce::from(nonce), payload).ok()?;
        Secret::parse(std::str::from_utf8(&plain).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use bellwether_testkit::ambient::manual;

    use super::*;

    #[test]
    fn only_the_same_key_and_webhook_open_it() {
        let (ambient, _) = manual();
        let (sealer, webhook, secret) = (Sealer::new(&[1; 32]), WebhookId::new(&ambient), Secret::generate(&ambient));
        let sealed = sealer.seal(&secret, webhook, &ambient);
        assert!(sealer.open(&sealed, webhook) == Some(secret.clone()));
        assert!(sealer.open(&sealed, WebhookId::new(&ambient)).is_none());
        assert!(Sealer::new(&[2; 32]).open(&sealed, webhook).is_none());
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(sealer.open(&changed, webhook).is_none(), "byte {index}");
            assert!(sealer.open(&sealed[..index], webhook).is_none(), "cut at {index}");
        }
        assert!(!sealed.windows(8).any(|part| secret.reveal().as_bytes().windows(8).any(|plain| plain == part)));
    }
}
