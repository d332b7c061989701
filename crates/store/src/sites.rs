//! Sites.

use bellwether_domain::id::SiteId;
use bellwether_domain::plausible::PlausibleId;
use bellwether_domain::site::Site;
use bellwether_domain::time::Timestamp;

use crate::revisions::note_change;
use crate::sql::{Connection, Row, values};
use crate::{Store, StoreError};

const COLUMNS: &str = "id, domain, name, timezone, created_at_us, updated_at_us, plausible_id";

impl Store {
    /// Every site that is not deleted, by domain; one statement.
    pub async fn sites(&self) -> Result<Vec<Site>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = format!("SELECT {COLUMNS} FROM sites WHERE deleted_at_us IS NULL ORDER BY domain");
            connection.query(&sql, &[], read_site)
        };
        self.read(all).await
    }

    /// Keeps a new site; one statement. Errors: `Exists` for the same domain.
    pub async fn add_site(&self, site: Site) -> Result<(), StoreError> {
        let add = move |connection: &Connection| {
            insert_site(connection, "", &site)?;
            note_change(connection, site.id)
        };
        self.write(add).await
    }

    /// Changes a site that was changed last at `before`; one transaction. Errors: `Exists` for another site's domain, `Gone`, also
    /// where it was changed since.
    pub async fn update_site(&self, site: Site, before: Timestamp) -> Result<(), StoreError> {
        let update = move |connection: &Connection| {
            let sql = "UPDATE sites SET domain = $1, name = $2, timezone = $3, updated_at_us = $4
                       WHERE id = $5 AND updated_at_us = $6 AND deleted_at_us IS NULL";
            let values = values![&site.domain, &site.name, &site.timezone, site.updated_at, site.id, before];
            changed_one(connection.execute(sql, &values)?)?;
            note_change(connection, site.id)
        };
        self.write(update).await
    }

    /// Marks a site and its webhooks as deleted, and takes its keys away; one transaction. Its domain is free again. Errors: `Gone`.
    pub async fn delete_site(&self, id: SiteId, now: Timestamp) -> Result<(), StoreError> {
        let delete = move |connection: &Connection| {
            let site = "UPDATE sites SET deleted_at_us = $1 WHERE id = $2 AND deleted_at_us IS NULL";
            changed_one(connection.execute(site, &values![now, id])?)?;
            let webhooks = "UPDATE webhooks SET deleted_at_us = $1 WHERE site_id = $2 AND deleted_at_us IS NULL";
            connection.execute(webhooks, &values![now, id])?;
            connection.execute("DELETE FROM keys WHERE site_id = $1", &values![id])?;
            note_change(connection, id)
        };
        self.write(delete).await
    }
}

pub(crate) fn select_site(connection: &Connection, id: SiteId) -> Result<Option<Site>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM sites WHERE id = $1 AND deleted_at_us IS NULL");
    connection.query_optional(&sql, &values![id], read_site)
}

pub(crate) fn insert_site(connection: &Connection, on_conflict: &str, site: &Site) -> Result<(), StoreError> {
    let sql = format!("INSERT INTO sites ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7) {on_conflict}");
    let plausible_id = site.plausible_id.map(|id| id.0);
    let (created_at, updated_at) = (site.created_at, site.updated_at);
    let values = values![site.id, &site.domain, &site.name, &site.timezone, created_at, updated_at, plausible_id];
    connection.execute(&sql, &values).map(|_| ())
}

pub(crate) fn changed_one(rows: usize) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::Gone) }
}

fn read_site(row: &Row<'_>) -> Result<Site, StoreError> {
    Ok(Site {
        id: row.get(0)?,
        domain: row.get(1)?,
        name: row.get(2)?,
        timezone: row.get(3)?,
        created_at: row.get(4)?,
        updated_at: row.get(5)?,
        plausible_id: row.get::<Option<u64>>(6)?.map(PlausibleId),
    })
}
