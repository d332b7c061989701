//! Another key for the secrets of webhooks at rest.

use bellwether_domain::ambient::Ambient;
use bellwether_store::Store;

use crate::{Settings, StartError};

/// What was encrypted anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// How many webhooks.
    pub webhooks: usize,
    /// How many there are.
    pub of: usize,
    /// The id of the key that encrypts everything now, in hex.
    pub key_id: String,
}

/// Encrypts everything anew, with the current key, that another one encrypted; one transaction, so that it is all or nothing. No
/// other process may use the database.
pub async fn reseal(store: &Store, ambient: &Ambient, settings: &Settings) -> Result<Resealed, StartError> {
    let sealer = settings.sealer();
    let kept = store.all_webhooks().await?;
    let of = kept.len();
    let mut anew = Vec::new();
    for webhook in kept {
        let is_current = sealer.is_current(&webhook.sealed);
        let opened = sealer.open(webhook).ok_or(StartError::WrongKey)?;
        if !is_current {
            anew.push((opened.webhook.id, sealer.seal(&opened, ambient)));
        }
    }
    let webhooks = anew.len();
    store.reseal(anew).await?;
    Ok(Resealed { webhooks, of, key_id: sealer.key_id() })
}
