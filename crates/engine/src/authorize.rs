//! Who is asking, and what they may do.

use bellwether_domain::ambient::Ambient;
use bellwether_domain::id::{KeyId, SiteId};
use bellwether_store::{Key, NewKey, Role, SignedIn, StoreError};

use crate::{Engine, token};

const PREFIX: &str = "bw_";

/// Somebody whose credentials are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What they may do on every site.
    everywhere: Option<Role>,
    /// What they may do on single sites.
    sites: Vec<(SiteId, Role)>,
}

impl Caller {
    /// Whoever bears a key.
    pub fn of_key(key: &Key) -> Self {
        match key.site_id {
            Some(site_id) => Self { everywhere: None, sites: vec![(site_id, key.role)] },
            None => Self { everywhere: Some(key.role), sites: Vec::new() },
        }
    }

    /// A person: owners may do everything.
    pub fn of_person(person: &SignedIn) -> Self {
        Self { everywhere: person.user.owner.then_some(Role::Admin), sites: person.sites.clone() }
    }

    /// What they may do on a site; none if it does not exist for them.
    pub fn role_on(&self, site_id: SiteId) -> Option<Role> {
        let own = self.sites.iter().filter(|(own, _)| *own == site_id).map(|(_, role)| *role);
        own.chain(self.everywhere).max()
    }

    /// Whether a site exists for them.
    pub fn sees(&self, site_id: SiteId) -> bool {
        self.role_on(site_id).is_some()
    }

    /// Whether they may change a site.
    pub fn may_change(&self, site_id: SiteId) -> bool {
        self.role_on(site_id) == Some(Role::Admin)
    }

    /// Whether every site exists for them.
    pub fn sees_everything(&self) -> bool {
        self.everywhere.is_some()
    }

    /// Whether they may add sites.
    pub fn may_add_sites(&self) -> bool {
        self.everywhere == Some(Role::Admin)
    }
}

impl Engine {
    /// Who bears this API key; none if it is no key.
    pub async fn caller(&self, key: &str) -> Result<Option<Caller>, StoreError> {
        let found = self.inner.store.find_key(token::hash(key)).await?;
        Ok(found.map(|key| Caller::of_key(&key)))
    }
}

/// A new API key: its text, which is shown once, and what is kept of it.
pub fn new_key(ambient: &Ambient, name: String, site_id: Option<SiteId>, role: Role) -> (String, NewKey) {
    let text = format!("{PREFIX}{}", token::new(ambient));
    let key = Key { id: KeyId::new(ambient), site_id, role };
    let new = NewKey { key, name, hash: token::hash(&text), created_at: ambient.now() };
    (text, new)
}
