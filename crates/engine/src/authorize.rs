//! Who is asking, and what they may do.

use bellwether_domain::ambient::Ambient;
use bellwether_domain::id::{KeyId, SiteId};
use bellwether_store::{Key, NewKey, Role, StoreError};
use sha2::{Digest, Sha256};

use crate::Engine;

const PREFIX: &str = "bw_";

/// Somebody whose credentials are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The one site they have a part in; none for all sites.
    pub site_id: Option<SiteId>,
    /// What they may do.
    pub role: Role,
}

impl Caller {
    /// Whether the site exists for them.
    pub fn sees(&self, site_id: SiteId) -> bool {
        self.site_id.is_none_or(|own| own == site_id)
    }

    /// Whether they may change what they see.
    pub fn may_write(&self) -> bool {
        self.role == Role::Admin
    }

    /// Whether they may add sites.
    pub fn may_add_sites(&self) -> bool {
        self.may_write() && self.site_id.is_none()
    }
}

impl Engine {
    /// Who bears this API key; none if it is no key.
    pub async fn caller(&self, key: &str) -> Result<Option<Caller>, StoreError> {
        let found = self.inner.store.find_key(hash(key)).await?;
        Ok(found.map(|key| Caller { site_id: key.site_id, role: key.role }))
    }
}

/// A new API key: its text, which is shown once, and what is kept of it.
pub fn new_key(ambient: &Ambient, name: String, site_id: Option<SiteId>, role: Role) -> (String, NewKey) {
    let text = format!("{PREFIX}{}", ambient.bytes::<32>().map(|byte| format!("{byte:02x}")).concat());
    let key = Key { id: KeyId::new(ambient), site_id, role };
    let new = NewKey { key, name, hash: hash(&text), created_at: ambient.now() };
    (text, new)
}

/// A key is random and long, so a plain hash is enough.
fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}
