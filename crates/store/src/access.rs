//! Who may ask: API keys, and what they and people may do.

use bellwether_domain::id::{KeyId, SiteId};
use bellwether_domain::time::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use crate::sqlite::prepare;
use crate::{Store, StoreError};

/// What somebody may do with a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look at it.
    Viewer,
    /// Change it.
    Admin,
}

/// An API key, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// The one site it is for; none for all sites.
    pub site_id: Option<SiteId>,
    /// What it allows.
    pub role: Role,
}

/// An API key to be kept.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The key, as it will be found.
    pub key: Key,
    /// What people call it.
    pub name: String,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
}

impl Role {
    /// Its name on the command line and in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn from_name(name: &str) -> Result<Self, StoreError> {
        let known = [Self::Viewer, Self::Admin].into_iter().find(|role| role.name() == name);
        known.ok_or_else(|| StoreError::Unreadable(format!("the role {name}")))
    }
}

impl Store {
    /// Keeps an API key; one statement. Errors: `Exists` for the same hash, `Gone` without its site.
    pub async fn add_key(&self, new: NewKey) -> Result<(), StoreError> {
        let insert = "INSERT INTO keys (id, name, hash, site_id, role, created_at_us) VALUES ($1, $2, $3, $4, $5, $6)";
        let add = move |connection: &rusqlite::Connection| {
            let site_id = new.key.site_id.as_ref().map(SiteId::as_bytes);
            let (id, role) = (new.key.id.as_bytes(), new.key.role.name());
            prepare(connection, insert)?.execute(params![id, new.name, new.hash, site_id, role, new.created_at.as_micros()])?;
            Ok(())
        };
        self.write(add).await
    }

    /// The API key of a hash; one statement.
    pub async fn find_key(&self, hash: [u8; 32]) -> Result<Option<Key>, StoreError> {
        let find = move |connection: &rusqlite::Connection| {
            let mut select = prepare(connection, "SELECT id, site_id, role FROM keys WHERE hash = $1")?;
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, Option<_>>(1)?, row.get::<_, String>(2)?));
            let Some((id, site_id, role)) = select.query_row([hash], row).optional()? else {
                return Ok(None);
            };
            let site_id = site_id.map(SiteId::from_bytes);
            Ok(Some(Key { id: KeyId::from_bytes(id), site_id, role: Role::from_name(&role)? }))
        };
        self.read(find).await
    }
}
