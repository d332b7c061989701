//! Who may ask: API keys, and what they and people may do.

use bellwether_domain::id::{KeyId, SiteId};
use bellwether_domain::time::Timestamp;

use crate::sql::{Connection, Row, values};
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

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Viewer, Self::Admin].into_iter().find(|role| role.name() == name)
    }
}

impl Store {
    /// Keeps an API key; one statement. Errors: `Exists` for the same hash, `Gone` without its site.
    pub async fn add_key(&self, new: NewKey) -> Result<(), StoreError> {
        let insert = "INSERT INTO keys (id, name, hash, site_id, role, created_at_us) VALUES ($1, $2, $3, $4, $5, $6)";
        let add = move |connection: &Connection| {
            let NewKey { key, name, hash, created_at } = &new;
            connection.execute(insert, &values![key.id, name, hash, key.site_id, key.role, *created_at]).map(|_| ())
        };
        self.write(add).await
    }

    /// The API key of a hash; one statement.
    pub async fn find_key(&self, hash: [u8; 32]) -> Result<Option<Key>, StoreError> {
        let find = move |connection: &Connection| {
            let sql = "SELECT id, site_id, role FROM keys WHERE hash = $1";
            let key = |row: &Row<'_>| Ok(Key { id: row.get(0)?, site_id: row.get(1)?, role: row.get(2)? });
            connection.query_optional(sql, &values![&hash], key)
        };
        self.read(find).await
    }
}
