//! The tables of an existing Plausible in PostgreSQL, which are only read, and what is kept here of what they say.
//!
//! [`PlausibleTables`] knows which of the columns there are in this version of it. Every reading is a transaction that may change
//! nothing, whatever the account may.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bellwether_domain::goal::Goal;
use bellwether_domain::id::{EventId, GoalId, SiteId, TriggerId};
use bellwether_domain::plausible::{Listed, ListedGoal, PlausibleId};
use bellwether_domain::reading::{LateCount, Progress, first_told};
use bellwether_domain::site::Site;
use bellwether_domain::time::Second;

use crate::columns::Columns;
use crate::database::Database;
use crate::goals::{columns_of, insert_goal, select_goals, unreadable};
use crate::readers::Readers;
use crate::revisions::note_change;
use crate::sites::insert_site;
use crate::sql::{Connection, Row, Server, values};
use crate::{Store, StoreError};

/// The columns that every version has.
const REQUIRED: [&str; 8] = [
    "sites.id",
    "sites.domain",
    "sites.inserted_at",
    "goals.id",
    "goals.site_id",
    "goals.event_name",
    "goals.page_path",
    "goals.inserted_at",
];
/// The columns that some versions lack, and what stands for each there.
static OPTIONAL: [(&str, &str); 5] = [
    ("sites.timezone", "'UTC'"),
    ("goals.display_name", "NULL::text"),
    ("goals.currency", "NULL::text"),
    ("goals.scroll_threshold", "-1"),
    ("goals.custom_props", "'{}'"),
];

/// The tables of a Plausible, behind a handle that is cheap to clone.
#[derive(Clone)]
pub struct PlausibleTables {
    readers: Arc<Readers>,
    columns: Columns<{ OPTIONAL.len() }>,
}

/// How far the events of a Plausible were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptReading {
    /// Until when; none before the first time.
    pub read_until: Option<Second>,
    /// The completions that were found in what is read again.
    pub told: Vec<EventId>,
    /// What triggers on several completions have counted.
    pub counts: HashMap<TriggerId, LateCount>,
}

/// What is kept of a stretch that was read.
#[derive(Clone, Debug)]
pub struct Read {
    /// How far it came, and what was found.
    pub progress: Progress,
    /// What triggers on several completions have counted now, where that changed.
    pub counts: Vec<(TriggerId, LateCount)>,
}

impl PlausibleTables {
    /// Finds out which columns there are. Errors: `NotPlausible` where one is missing that every version has.
    pub async fn open(server: Server) -> Result<Self, StoreError> {
        let readers = Readers::new(Database::Server(Box::new(server)), 1);
        let columns = |connection: &Connection| {
            let sql = "SELECT (table_name || '.' || column_name)::text FROM information_schema.columns
                       WHERE table_schema = 'public' AND table_name IN ('sites', 'goals')";
            connection.query(sql, &[], |row| row.get::<String>(0))
        };
        let there = readers.read(columns).await?;
        let columns = Columns::choose(&REQUIRED, &OPTIONAL, &there).map_err(StoreError::NotPlausible)?;
        Ok(Self { readers, columns })
    }

    /// The columns that this version lacks.
    pub fn lacks(&self) -> Vec<&'static str> {
        self.columns.lacking()
    }

    /// Every site with its goals, in the order they were made; one transaction.
    pub async fn listed(&self) -> Result<Vec<Listed>, StoreError> {
        let [timezone, name, currency, threshold, props] = self.columns.asked;
        let sites = format!("SELECT id, domain::text, {timezone}::text, {} FROM sites ORDER BY id", made_at("sites"));
        let goals = format!(
            "SELECT site_id, id, event_name::text, page_path::text, {name}::text, {currency}::text, {threshold}::bigint, {props}::text,
                    {}
             FROM goals ORDER BY id",
            made_at("goals")
        );
        let all = move |connection: &Connection| {
            let mut goals_of: HashMap<u64, Vec<ListedGoal>> = HashMap::new();
            for (site, goal) in connection.query(&goals, &[], read_goal)? {
                goals_of.entry(site).or_default().push(goal);
            }
            connection.query(&sites, &[], |row| {
                let id: u64 = row.get(0)?;
                let goals = goals_of.remove(&id).unwrap_or_default();
                let (domain, timezone, made_at) = (row.get(1)?, row.get(2)?, row.get(3)?);
                Ok(Listed { id: PlausibleId(id), domain, timezone, made_at, goals })
            })
        };
        self.readers.read(all).await
    }
}

/// Its times are without a zone, in UTC.
fn made_at(table: &str) -> String {
    format!("(extract(epoch FROM {table}.inserted_at) * 1000000)::bigint")
}

fn read_goal(row: &Row<'_>) -> Result<(u64, ListedGoal), StoreError> {
    let goal = ListedGoal {
        id: row.get(1)?,
        event_name: row.get(2)?,
        page_path: row.get(3)?,
        display_name: row.get(4)?,
        currency: row.get(5)?,
        scroll_threshold: row.get(6)?,
        custom_props: row.get(7)?,
        made_at: row.get(8)?,
    };
    Ok((row.get(0)?, goal))
}

impl Store {
    /// Keeps a site of a Plausible and its goals as they are there; one transaction. What waits for goals that are gone goes with them.
    /// Another site of that Plausible that had the domain loses it. Errors: `Exists` where one has it that was made here.
    pub async fn mirror_site(&self, site: Site, goals: Vec<Goal>) -> Result<(), StoreError> {
        let mirror = move |connection: &Connection| {
            let displaced = "UPDATE sites SET domain = $1 || domain WHERE domain = $2 AND id <> $3 AND plausible_id IS NOT NULL
                             AND deleted_at_us IS NULL";
            connection.execute(displaced, &values![&format!("{}:", site.id), &site.domain, site.id])?;
            let update = "ON CONFLICT (id) DO UPDATE SET domain = excluded.domain, name = excluded.name,
                              timezone = excluded.timezone, updated_at_us = excluded.updated_at_us, deleted_at_us = NULL";
            insert_site(connection, update, &site)?;
            mirror_goals(connection, site.id, &goals)?;
            note_change(connection, site.id)
        };
        self.write(mirror).await
    }

    /// How far the events of a Plausible were read; one transaction.
    pub async fn reading(&self) -> Result<KeptReading, StoreError> {
        let reading = |connection: &Connection| {
            let sql = "SELECT read_until FROM readings WHERE source = 'plausible'";
            let read_until = connection.query_optional(sql, &[], |row| row.get(0))?;
            let told = connection.query("SELECT id FROM told", &[], |row| row.get(0))?;
            Ok(KeptReading { read_until, told, counts: select_counts(connection)? })
        };
        self.read_apart(reading).await
    }
}

/// Goals may take each other's names, so all that change first get ones that nobody else has.
fn mirror_goals(connection: &Connection, site_id: SiteId, goals: &[Goal]) -> Result<(), StoreError> {
    let before: BTreeMap<GoalId, Goal> = select_goals(connection, site_id)?.into_iter().map(|goal| (goal.id, goal)).collect();
    let gone = before.keys().filter(|id| goals.iter().all(|goal| goal.id != **id));
    connection.execute_each("DELETE FROM goals WHERE id = $1", gone.map(|id| values![*id]))?;
    let changed = || goals.iter().filter(|goal| before.get(&goal.id).is_some_and(|other| other.spec != goal.spec));
    let aside: Vec<_> = changed().map(|goal| (goal.id.to_string(), goal.id)).collect();
    let sql = "UPDATE goals SET display_name = $1, custom_props = $1 WHERE id = $2";
    connection.execute_each(sql, aside.iter().map(|(name, id)| values![name, *id]))?;
    changed().try_for_each(|goal| update_goal(connection, goal))?;
    let mut new = goals.iter().filter(|goal| !before.contains_key(&goal.id));
    new.try_for_each(|goal| insert_goal(connection, site_id, goal))
}

fn update_goal(connection: &Connection, goal: &Goal) -> Result<(), StoreError> {
    let (event_name, page_path, threshold, currency) = columns_of(&goal.spec.kind);
    let props = serde_json::to_string(&goal.spec.custom_props).map_err(unreadable)?;
    let sql = "UPDATE goals SET display_name = $1, event_name = $2, page_path = $3, scroll_threshold = $4, custom_props = $5,
                   currency = $6
               WHERE id = $7";
    let values = values![&goal.spec.display_name, event_name, page_path, threshold, &props, currency, goal.id];
    connection.execute(sql, &values).map(|_| ())
}

/// Keeps how far the events of a Plausible were read, and what was counted in them.
pub(crate) fn keep_reading(connection: &Connection, read: &Read) -> Result<(), StoreError> {
    let Read { progress, counts } = read;
    let reading = "INSERT INTO readings (source, read_until) VALUES ('plausible', $1)
                   ON CONFLICT (source) DO UPDATE SET read_until = excluded.read_until";
    connection.execute(reading, &values![progress.read_until])?;
    let told = "INSERT INTO told (id) VALUES ($1) ON CONFLICT (id) DO NOTHING";
    connection.execute_each(told, progress.completed.iter().map(|id| values![*id]))?;
    connection.execute("DELETE FROM told WHERE id < $1", &values![first_told(progress.read_until)])?;
    keep_counts(connection, counts)
}

/// What triggers on several completions have counted.
pub(crate) fn select_counts(connection: &Connection) -> Result<HashMap<TriggerId, LateCount>, StoreError> {
    let counts = connection.query("SELECT trigger_id, seconds FROM counts", &[], |row| {
        let seconds = serde_json::from_str(&row.get::<String>(1)?).map_err(unreadable)?;
        Ok((row.get(0)?, LateCount::kept(seconds)))
    })?;
    Ok(counts.into_iter().collect())
}

/// Keeps what triggers on several completions have counted now.
pub(crate) fn keep_counts(connection: &Connection, counts: &[(TriggerId, LateCount)]) -> Result<(), StoreError> {
    if counts.is_empty() {
        return Ok(());
    }
    let count = "INSERT INTO counts (trigger_id, seconds) VALUES ($1, $2)
                 ON CONFLICT (trigger_id) DO UPDATE SET seconds = excluded.seconds";
    let seconds: Vec<_> = counts.iter().map(|(id, count)| (*id, in_json(count))).collect();
    connection.execute_each(count, seconds.iter().map(|(id, seconds)| values![*id, seconds]))?;
    let over = "DELETE FROM counts
                WHERE seconds = '[]' OR NOT EXISTS (SELECT 1 FROM triggers WHERE triggers.id = counts.trigger_id)";
    connection.execute(over, &[]).map(|_| ())
}

fn in_json(count: &LateCount) -> String {
    let seconds: Vec<_> = count.seconds().iter().map(Second::to_string).collect();
    format!("[{}]", seconds.join(","))
}
