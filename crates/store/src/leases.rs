//! Which processes live, and so whose work is whose.
//!
//! A process that has deliveries in memory owns them, and gives a sign of life now and then: a number that it raises. Once it is
//! marked as dead it gets nothing any more, and what it had is freed.

use std::collections::BTreeSet;

use bellwether_domain::counting::CountedIn;
use bellwether_domain::id::{DeliveryId, OwnerId, WebhookId};
use bellwether_domain::roles::Roles;

use crate::partitions::open;
use crate::revisions::wait_for_changes;
use crate::sql::{Connection, Dialect, Row, values};
use crate::{Store, StoreError};

/// A process that is not marked as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub id: OwnerId,
    /// Its latest sign of life.
    pub sign: u64,
    /// What it does.
    pub roles: Roles,
    /// Where it counts, unless an earlier version began it.
    pub counted_in: Option<CountedIn>,
}

impl Store {
    /// Makes a process known, before it owns anything; one transaction. A change of what is configured is committed before, or finds
    /// the process. Errors: `HalfImported`.
    pub async fn add_owner(&self, owner: OwnerId, roles: Roles, counted_in: CountedIn) -> Result<(), StoreError> {
        let add = move |connection: &Connection| {
            must_be_whole(connection)?;
            wait_for_changes(connection)?;
            let sql = "INSERT INTO owners (id, sign, roles, counted_in) VALUES ($1, 0, $2, $3)";
            connection.execute(sql, &values![owner, &roles.to_string(), &counted_in.to_string()]).map(|_| ())
        };
        self.write(add).await
    }

    /// Gives a sign of life, and returns every other process that is not marked as dead, the eldest first; one transaction. Errors:
    /// `TakenForDead`.
    pub async fn give_sign_of_life(&self, owner: OwnerId) -> Result<Vec<Process>, StoreError> {
        let give = move |connection: &Connection| {
            let sql = "UPDATE owners SET sign = sign + 1 WHERE id = $1 AND NOT dead";
            if connection.execute(sql, &values![owner])? == 0 {
                return Err(StoreError::TakenForDead);
            }
            select_others(connection, owner)
        };
        self.write(give).await
    }

    /// Every process but `owner` that is not marked as dead, the eldest first; one statement.
    pub async fn other_processes(&self, owner: OwnerId) -> Result<Vec<Process>, StoreError> {
        self.read_apart(move |connection| select_others(connection, owner)).await
    }

    /// Marks processes as dead, those that have given no other sign of life since; one transaction.
    pub async fn bury(&self, dead: Vec<(OwnerId, u64)>) -> Result<(), StoreError> {
        let bury = move |connection: &Connection| {
            let sql = "UPDATE owners SET dead = TRUE WHERE id = $1 AND sign = $2";
            connection.execute_each(sql, dead.iter().map(|(id, sign)| values![*id, *sign])).map(|_| ())
        };
        self.write(bury).await
    }

    /// Marks every process but `owner` as dead; one statement. Only for one that has the database for itself.
    pub async fn bury_others(&self, owner: OwnerId) -> Result<(), StoreError> {
        let sql = "UPDATE owners SET dead = TRUE WHERE id <> $1";
        self.write(move |connection| connection.execute(sql, &values![owner]).map(|_| ())).await
    }

    /// Frees up to `limit` deliveries of the dead, and forgets those of them that have none left; one transaction. Returns how many
    /// were freed.
    pub async fn free_from_the_dead(&self, limit: usize) -> Result<usize, StoreError> {
        self.write(move |connection| free_from_the_dead(connection, limit)).await
    }

    /// What is `owner`'s work by the table, up to `limit`; one statement.
    pub async fn owned(&self, owner: OwnerId, limit: usize) -> Result<Vec<(WebhookId, DeliveryId)>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = format!("SELECT webhook_id, id FROM {} WHERE owner = $1 LIMIT $2", open(connection.dialect()));
            connection.query(&sql, &values![owner, limit], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        self.read_apart(all).await
    }

    /// Gives back those of these deliveries that `owner` owns; one transaction. Returns how many.
    pub async fn let_go(&self, owner: OwnerId, deliveries: Vec<(WebhookId, DeliveryId)>) -> Result<usize, StoreError> {
        let let_go = move |connection: &Connection| {
            let open = open(connection.dialect());
            let sql = format!("UPDATE {open} SET owner = NULL WHERE (owner = $1) IS TRUE AND webhook_id = $2 AND id = $3");
            let freed = connection.execute_each(&sql, deliveries.iter().map(|(webhook, id)| values![owner, *webhook, *id]))?;
            Ok(freed.into_iter().sum())
        };
        self.write(let_go).await
    }

    /// The numbers of the latest commits of everybody who has written, by an id of theirs; one statement.
    pub async fn latest_commits(&self) -> Result<Vec<(OwnerId, u64)>, StoreError> {
        let all = |connection: &Connection| {
            connection.query("SELECT process, number FROM commits", &[], |row| Ok((row.get(0)?, row.get(1)?)))
        };
        if self.is_shared() { self.read(all).await } else { Ok(Vec::new()) }
    }

    /// Forgets the latest commits of those who have committed nothing since; one transaction. Whoever of them still lives finds out.
    pub async fn forget_commits(&self, latest: Vec<(OwnerId, u64)>) -> Result<(), StoreError> {
        let forget = move |connection: &Connection| {
            let sql = "DELETE FROM commits WHERE process = (
                           SELECT process FROM commits WHERE process = $1 AND number = $2 FOR UPDATE SKIP LOCKED)";
            connection.execute_each(sql, latest.iter().map(|(id, number)| values![*id, *number])).map(|_| ())
        };
        self.write(forget).await
    }

    /// Gives back everything that `owner` owns, and forgets it; one transaction.
    pub async fn give_back(&self, owner: OwnerId) -> Result<(), StoreError> {
        let give_back = move |connection: &Connection| {
            let open = open(connection.dialect());
            let free = format!("UPDATE {open} SET owner = NULL WHERE owner = $1 AND completed_at_us IS NULL");
            connection.execute(&free, &values![owner])?;
            connection.execute("DELETE FROM owners WHERE id = $1", &values![owner]).map(|_| ())
        };
        self.write(give_back).await
    }
}

/// An import that begins waits until this transaction has ended. Errors: `HalfImported`.
pub(crate) fn must_be_whole(connection: &Connection) -> Result<(), StoreError> {
    if connection.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM imports WHERE NOT done)";
    let is_half_done = connection.query_one(sql, &[], |row| row.get(0))?;
    if is_half_done { Err(StoreError::HalfImported) } else { Ok(()) }
}

/// Nothing that has to be counted by one process may be configured where several take events. To be asked after the change was
/// numbered: until then a process may become known. Errors: `Spread`.
pub(crate) fn must_not_be_spread(connection: &Connection) -> Result<(), StoreError> {
    if connection.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let roles = connection.query("SELECT roles FROM owners WHERE NOT dead", &[], |row| read_roles(row, 0))?;
    if roles.iter().filter(|roles| roles.ingest).count() > 1 { Err(StoreError::Spread) } else { Ok(()) }
}

fn select_others(connection: &Connection, owner: OwnerId) -> Result<Vec<Process>, StoreError> {
    let sql = "SELECT id, sign, roles, counted_in FROM owners WHERE id <> $1 AND NOT dead ORDER BY id";
    connection.query(sql, &values![owner], read_process)
}

fn read_process(row: &Row<'_>) -> Result<Process, StoreError> {
    let counted_in = row.get::<Option<String>>(3)?.map(|place| place.parse()).transpose();
    let counted_in = counted_in.map_err(|_| StoreError::Unreadable("where a process counts".to_owned()))?;
    Ok(Process { id: row.get(0)?, sign: row.get(1)?, roles: read_roles(row, 2)?, counted_in })
}

fn read_roles(row: &Row<'_>, column: usize) -> Result<Roles, StoreError> {
    row.get::<String>(column)?.parse().map_err(|_| StoreError::Unreadable("the roles of a process".to_owned()))
}

/// Nothing becomes the work of somebody who is dead: nobody would free it. Whoever has the database alone cannot be taken for dead.
/// Errors: `TakenForDead`.
pub(crate) fn must_live(connection: &Connection, owners: impl Iterator<Item = OwnerId>) -> Result<(), StoreError> {
    if connection.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    for owner in owners.collect::<BTreeSet<_>>() {
        // Nobody can mark it as dead until the transaction ends.
        let sql = "SELECT sign FROM owners WHERE id = $1 AND NOT dead FOR SHARE";
        let sign = connection.query_optional(sql, &values![owner], |row| row.get::<u64>(0))?;
        sign.ok_or(StoreError::TakenForDead)?;
    }
    Ok(())
}

fn free_from_the_dead(connection: &Connection, limit: usize) -> Result<usize, StoreError> {
    let (mut freed, alone) = (0, connection.dialect().passing_over_locked("owners"));
    let open = open(connection.dialect());
    while freed < limit {
        let sql = format!("SELECT id FROM owners WHERE dead ORDER BY id LIMIT 1 {alone}");
        let Some(dead) = connection.query_optional(&sql, &[], |row| row.get::<OwnerId>(0))? else {
            break;
        };
        let sql = format!(
            "UPDATE {open} SET owner = NULL WHERE (webhook_id, id) IN (
                 SELECT webhook_id, id FROM {open} WHERE owner = $1 AND completed_at_us IS NULL LIMIT $2)"
        );
        let rows = connection.execute(&sql, &values![dead, limit - freed])?;
        if rows == 0 {
            connection.execute("DELETE FROM owners WHERE id = $1", &values![dead])?;
        }
        freed += rows;
    }
    Ok(freed)
}
