//! The salts of visitors' ids.

use bellwether_domain::visitor::Salt;
use rusqlite::params;

use crate::sqlite::prepare;
use crate::{Store, StoreError};

impl Store {
    /// Keeps `salt` unless its day has one already, forgets those before the day `oldest_day`, and returns what is kept; one
    /// transaction.
    pub async fn keep_salt(&self, salt: Salt, oldest_day: i64) -> Result<Vec<Salt>, StoreError> {
        let keep = move |connection: &rusqlite::Connection| {
            let insert = "INSERT INTO salts (day, key) VALUES ($1, $2) ON CONFLICT (day) DO NOTHING";
            prepare(connection, insert)?.execute(params![salt.day, salt.key])?;
            prepare(connection, "DELETE FROM salts WHERE day < $1")?.execute([oldest_day])?;
            let mut select = prepare(connection, "SELECT day, key FROM salts ORDER BY day")?;
            let salts = select.query_map([], |row| Ok(Salt { day: row.get(0)?, key: row.get(1)? }))?;
            Ok(salts.collect::<Result<_, _>>()?)
        };
        self.write(keep).await
    }
}
