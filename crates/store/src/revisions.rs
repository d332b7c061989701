//! What other processes have to hear of: changes of sites, and deliveries for those that send.
//!
//! Each change of what is configured for a site gives it the next number, in the change's own transaction and one after the other:
//! whoever has seen a number has seen all before. On SQLite there are no other processes, and so no numbers.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::goal::Goal;
use bellwether_domain::id::SiteId;
use bellwether_domain::site::Site;
use tokio::sync::Notify;

use crate::database::Database;
use crate::goals::select_goals;
use crate::sites::select_site;
use crate::sql::{Connection, Dialect, values};
use crate::webhooks::select_webhooks;
use crate::{SealedWebhook, Store, StoreError};

/// What servers call the word that a site was changed.
const SITES: &str = "bellwether_sites";
/// And the word that there are deliveries that are nobody's.
const DELIVERIES: &str = "bellwether_deliveries";
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Who is woken by word of other processes. Nothing rests on it: word may be lost.
#[derive(Debug, Default)]
pub struct Hints {
    /// A site was changed.
    pub sites: Notify,
    /// There are deliveries that are nobody's.
    pub deliveries: Notify,
}

/// A site with everything that is configured for it.
#[derive(Clone, Debug)]
pub struct WholeSite {
    /// The site.
    pub site: Site,
    /// Its goals, in the order they were made.
    pub goals: Vec<Goal>,
    /// Its webhooks, in the order they were made, those that were deleted and have a history among them.
    pub webhooks: Vec<SealedWebhook>,
}

impl Store {
    /// The number of the latest change; one statement. Only where the database is shared.
    pub async fn revision(&self) -> Result<u64, StoreError> {
        self.read(|connection| connection.query_one("SELECT number FROM revisions", &[], |row| row.get(0))).await
    }

    /// The sites whose latest change has a number after `revision`, with it, the earliest first, up to `limit`; one statement. Only
    /// where the database is shared.
    pub async fn sites_changed_after(&self, revision: u64, limit: usize) -> Result<Vec<(SiteId, u64)>, StoreError> {
        let some = move |connection: &Connection| {
            let sql = "SELECT id, revision FROM sites WHERE revision > $1 ORDER BY revision LIMIT $2";
            connection.query(sql, &values![revision, limit], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        self.read_apart(some).await
    }

    /// A site with everything that is configured for it, unless it is deleted; one transaction.
    pub async fn whole_site(&self, id: SiteId) -> Result<Option<WholeSite>, StoreError> {
        let whole = move |connection: &Connection| {
            let Some(site) = select_site(connection, id)? else {
                return Ok(None);
            };
            Ok(Some(WholeSite { site, goals: select_goals(connection, id)?, webhooks: select_webhooks(connection, id)? }))
        };
        self.read_apart(whole).await
    }

    /// Tells other processes that there are deliveries that are nobody's; one statement.
    pub async fn hint_at_deliveries(&self) -> Result<(), StoreError> {
        self.append(|connection| hint(connection, DELIVERIES)).await
    }

    /// Wakes whom word of others concerns, and all of them whenever some may have been missed. It ends only by being dropped.
    pub async fn listen(&self, hints: Arc<Hints>) {
        let Database::Server(server) = self.database() else {
            return std::future::pending().await;
        };
        loop {
            // Whatever ends it, it begins anew: nothing rests on it.
            let _ = server.listen(&[(SITES, &hints.sites), (DELIVERIES, &hints.deliveries)]).await;
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
}

/// Gives a site's change its number, and spreads the word of it.
pub(crate) fn note_change(connection: &Connection, site_id: SiteId) -> Result<(), StoreError> {
    if connection.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let number =
        connection.query_one("UPDATE revisions SET number = number + 1 RETURNING number", &[], |row| row.get::<u64>(0))?;
    connection.execute("UPDATE sites SET revision = $1 WHERE id = $2", &values![number, site_id])?;
    hint(connection, SITES)
}

/// Waits until changes that have their number already are committed; others wait until this transaction has ended.
pub(crate) fn wait_for_changes(connection: &Connection) -> Result<(), StoreError> {
    match connection.dialect() {
        Dialect::Sqlite => Ok(()),
        Dialect::Postgres => {
            connection.query_one("SELECT number FROM revisions FOR UPDATE", &[], |row| row.get::<u64>(0)).map(|_| ())
        }
    }
}

fn hint(connection: &Connection, channel: &str) -> Result<(), StoreError> {
    match connection.dialect() {
        Dialect::Sqlite => Ok(()),
        Dialect::Postgres => connection.run_all(&format!("NOTIFY {channel}")),
    }
}
