//! Goals of sites.

use bellwether_domain::goal::{Goal, GoalKind, GoalSpec, MAX_GOALS_PER_SITE, PathPattern};
use bellwether_domain::id::{GoalId, SiteId};

use crate::revisions::note_change;
use crate::sites::changed_one;
use crate::sql::{Connection, Row, values};
use crate::{Store, StoreError};

const COLUMNS: &str = "id, site_id, display_name, event_name, page_path, scroll_threshold, custom_props, currency, created_at_us";
const NO_THRESHOLD: i64 = -1;

impl Store {
    /// Every goal of every site, in the order they were made; one statement.
    pub async fn goals(&self) -> Result<Vec<(SiteId, Goal)>, StoreError> {
        let all =
            move |connection: &Connection| connection.query(&format!("SELECT {COLUMNS} FROM goals ORDER BY id"), &[], read_goal);
        self.read(all).await
    }

    /// Keeps a new goal; one transaction. Errors: `Exists` for a goal of the same name or completed by the same events, `TooMany`,
    /// `Gone` without its site.
    pub async fn add_goal(&self, site_id: SiteId, goal: Goal) -> Result<(), StoreError> {
        let add = move |connection: &Connection| {
            let count = "SELECT COUNT(*) FROM goals WHERE site_id = $1";
            let goals: usize = connection.query_one(count, &values![site_id], |row| row.get(0))?;
            if goals >= MAX_GOALS_PER_SITE {
                return Err(StoreError::TooMany(MAX_GOALS_PER_SITE));
            }
            insert_goal(connection, site_id, &goal)?;
            note_change(connection, site_id)
        };
        self.write(add).await
    }

    /// Removes a goal, and the triggers that wait for it; one transaction. Errors: `Gone`.
    pub async fn delete_goal(&self, site_id: SiteId, id: GoalId) -> Result<(), StoreError> {
        let delete = move |connection: &Connection| {
            let sql = "DELETE FROM goals WHERE id = $1 AND site_id = $2";
            changed_one(connection.execute(sql, &values![id, site_id])?)?;
            note_change(connection, site_id)
        };
        self.write(delete).await
    }
}

pub(crate) fn insert_goal(connection: &Connection, site_id: SiteId, goal: &Goal) -> Result<(), StoreError> {
    let sql = format!("INSERT INTO goals ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
    let (event_name, page_path, threshold, currency) = columns_of(&goal.spec.kind);
    let props = serde_json::to_string(&goal.spec.custom_props).map_err(unreadable)?;
    let name = &goal.spec.display_name;
    let values = values![goal.id, site_id, name, event_name, page_path, threshold, &props, currency, goal.created_at];
    connection.execute(&sql, &values).map(|_| ())
}

pub(crate) fn select_goals(connection: &Connection, site_id: SiteId) -> Result<Vec<Goal>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM goals WHERE site_id = $1 ORDER BY id");
    connection.query(&sql, &values![site_id], |row| read_goal(row).map(|(_, goal)| goal))
}

/// Event name, page path, scroll threshold, currency.
pub(crate) fn columns_of(kind: &GoalKind) -> (Option<&str>, Option<&str>, i64, Option<&str>) {
    match kind {
        GoalKind::Event { name, currency } => (Some(name), None, NO_THRESHOLD, currency.as_deref()),
        GoalKind::Page { path } => (None, Some(path.as_str()), NO_THRESHOLD, None),
        GoalKind::Scroll { path, threshold } => (None, Some(path.as_str()), i64::from(*threshold), None),
    }
}

fn read_goal(row: &Row<'_>) -> Result<(SiteId, Goal), StoreError> {
    let event_name: Option<String> = row.get(3)?;
    let path = row.get::<Option<String>>(4)?.map(|path| PathPattern::new(&path));
    let kind = match (event_name, path, row.get::<i64>(5)?) {
        (Some(name), _, _) => GoalKind::Event { name, currency: row.get(7)? },
        (None, Some(path), NO_THRESHOLD) => GoalKind::Page { path },
        (None, Some(path), threshold) => GoalKind::Scroll { path, threshold: u8::try_from(threshold).map_err(unreadable)? },
        (None, None, _) => return Err(StoreError::Unreadable("a goal without event and page".to_owned())),
    };
    let custom_props = serde_json::from_str(&row.get::<String>(6)?).map_err(unreadable)?;
    let spec = GoalSpec { display_name: row.get(2)?, kind, custom_props };
    let goal = Goal { id: row.get(0)?, spec, created_at: row.get(8)? };
    Ok((row.get(1)?, goal))
}

pub(crate) fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unreadable(error.to_string())
}
