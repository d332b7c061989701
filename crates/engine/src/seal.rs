//! Secrets at rest: XChaCha20-Poly1305, bound to the webhook and the use they belong to.
//!
//! What is sealed is the id of the key (4 bytes), a random nonce (24 bytes) and the ciphertext with its tag. New seals are made with
//! one key; what others sealed is opened as well, so that a key can be replaced.

use std::sync::Arc;

use bellwether_domain::ambient::Ambient;
use bellwether_domain::headers::CustomHeaders;
use bellwether_domain::id::WebhookId;
use bellwether_domain::signature::Secret;
use bellwether_domain::webhook_template::WebhookTemplate;
use bellwether_store::{Sealed, SealedWebhook};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};

use crate::registry::ActiveWebhook;

const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
/// What is sealed, as associated data behind the webhook's id. Secrets have none.
const SECRET: &[u8] = b"";
const HEADERS: &[u8] = b"headers";
const PARAMETERS: &[u8] = b"parameters";

pub(crate) struct Sealer {
    current: Key,
    former: Vec<Key>,
}

struct Key {
    id: [u8; KEY_ID_BYTES],
    cipher: XChaCha20Poly1305,
}

impl Key {
    fn new(key: &[u8; 32]) -> Self {
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&Sha256::digest(key)[..KEY_ID_BYTES]);
        Self { id, cipher: XChaCha20Poly1305::new(key.into()) }
    }
}

impl Sealer {
    /// Seals with the key `current`, and opens what the `former` ones sealed too.
    pub(crate) fn new(current: &[u8; 32], former: &[[u8; 32]]) -> Self {
        Self { current: Key::new(current), former: former.iter().map(Key::new).collect() }
    }

    /// A webhook as it is to be kept.
    pub(crate) fn seal(&self, active: &ActiveWebhook, ambient: &Ambient) -> Sealed {
        let id = active.webhook.id;
        let seal = |secret: &Secret| self.seal_text(secret.reveal(), id, SECRET, ambient);
        let headers =
            (!active.webhook.headers.is_empty()).then(|| self.seal_text(&active.webhook.headers.reveal(), id, HEADERS, ambient));
        let parameters = active.webhook.template.as_ref().and_then(|template| template.reveal_parameters());
        Sealed {
            secret: seal(&active.secret),
            previous: active.previous.as_deref().map(|(secret, until)| (seal(secret), *until)),
            headers,
            parameters: parameters.map(|parameters| self.seal_text(&parameters, id, PARAMETERS, ambient)),
        }
    }

    /// None when something was sealed with an unknown key or for another webhook, or was changed.
    pub(crate) fn open(&self, kept: SealedWebhook) -> Option<ActiveWebhook> {
        let SealedWebhook { mut webhook, sealed, deleted_at, .. } = kept;
        let open = |bytes: &[u8]| Secret::parse(&self.open_text(bytes, webhook.id, SECRET)?).ok();
        let secret = open(&sealed.secret)?;
        let previous = match &sealed.previous {
            Some((previous, until)) => Some(Box::new((open(previous)?, *until))),
            None => None,
        };
        if let Some(headers) = &sealed.headers {
            webhook.headers = CustomHeaders::parse(&self.open_text(headers, webhook.id, HEADERS)?)?;
        }
        if let (Some(template), Some(parameters)) = (&webhook.template, &sealed.parameters) {
            let parameters = self.open_text(parameters, webhook.id, PARAMETERS)?;
            webhook.template = Some(Arc::new(WebhookTemplate::clone(template).with_parameters(&parameters)?));
        }
        Some(ActiveWebhook { previous, deleted_at, ..ActiveWebhook::new(webhook, secret) })
    }

    /// Whether everything of a webhook was sealed with the current key.
    pub(crate) fn is_current(&self, sealed: &Sealed) -> bool {
        let previous = sealed.previous.as_ref().map(|(secret, _)| secret);
        let parts = [Some(&sealed.secret), previous, sealed.headers.as_ref(), sealed.parameters.as_ref()];
        parts.into_iter().flatten().all(|part| part.starts_with(&self.current.id))
    }

    /// The id of the current key, in hex.
    pub(crate) fn key_id(&self) -> String {
        self.current.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn seal_text(&self, text: &str, webhook_id: WebhookId, usage: &[u8], ambient: &Ambient) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = ambient.bytes();
        let aad = [webhook_id.as_bytes(), usage].concat();
        let payload = Payload { msg: text.as_bytes(), aad: &aad };
        #[expect(clippy::expect_used, reason = "encrypting fails only for messages of gigabytes")]
        let ciphertext = self.current.cipher.encrypt(&XNonce::from(nonce), payload).expect("a short text");
        [&self.current.id[..], &nonce, &ciphertext].concat()
    }

    fn open_text(&self, sealed: &[u8], webhook_id: WebhookId, usage: &[u8]) -> Option<String> {
        let (key_id, rest) = sealed.split_at_checked(KEY_ID_BYTES)?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_BYTES)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
        let aad = [webhook_id.as_bytes(), usage].concat();
        let mut keys = std::iter::once(&self.current).chain(&self.former).filter(|key| key.id == key_id);
        let open = |key: &Key| key.cipher.decrypt(&XNonce::from(nonce), Payload { msg: ciphertext, aad: &aad }).ok();
        String::from_utf8(keys.find_map(open)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use bellwether_testkit::ambient::manual;

    use super::*;

    #[test]
    fn only_the_same_key_webhook_and_use_open_it() {
        let (ambient, _) = manual();
        let (sealer, webhook, text) = (Sealer::new(&[1; 32], &[]), WebhookId::new(&ambient), "correct-horse-battery-staple");
        let sealed = sealer.seal_text(text, webhook, SECRET, &ambient);
        let opened = |sealer: &Sealer, webhook, usage| sealer.open_text(&sealed, webhook, usage);
        assert_eq!(opened(&sealer, webhook, SECRET).as_deref(), Some(text));
        assert_eq!(opened(&sealer, WebhookId::new(&ambient), SECRET), None);
        assert_eq!(opened(&sealer, webhook, HEADERS), None);
        assert_eq!(opened(&Sealer::new(&[2; 32], &[]), webhook, SECRET), None);
        assert_eq!(opened(&Sealer::new(&[2; 32], &[[3; 32], [1; 32]]), webhook, SECRET).as_deref(), Some(text));
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(sealer.open_text(&changed, webhook, SECRET), None, "byte {index}");
            assert_eq!(sealer.open_text(&sealed[..index], webhook, SECRET), None, "cut at {index}");
        }
        assert!(!sealed.windows(8).any(|part| text.as_bytes().windows(8).any(|plain| plain == part)));
    }

    #[test]
    fn what_another_key_sealed_is_not_current() {
        let (ambient, _) = manual();
        let (old, new) = (Sealer::new(&[1; 32], &[]), Sealer::new(&[2; 32], &[[1; 32]]));
        let seal = |sealer: &Sealer| sealer.seal_text("x", WebhookId::new(&ambient), SECRET, &ambient);
        let sealed = |by: [&Sealer; 4]| {
            let [secret, previous, headers, parameters] = by.map(seal);
            Sealed { secret, previous: Some((previous, ambient.now())), headers: Some(headers), parameters: Some(parameters) }
        };
        assert!(new.is_current(&sealed([&new; 4])));
        for index in 0..4 {
            let mut by = [&new; 4];
            by[index] = &old;
            assert!(!new.is_current(&sealed(by)), "{index}");
        }
    }
}
