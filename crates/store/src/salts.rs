//! The salts of visitors' ids.

use bellwether_domain::visitor::Salt;

use crate::sql::{Connection, values};
use crate::{Store, StoreError};

impl Store {
    /// Keeps `salt` unless its day has one already, forgets those before the day `oldest_day`, and returns what is kept; one
    /// transaction.
    pub async fn keep_salt(&self, salt: Salt, oldest_day: i64) -> Result<Vec<Salt>, StoreError> {
        let keep = move |connection: &Connection| {
            let insert = "INSERT INTO salts (day, key) VALUES ($1, $2) ON CONFLICT (day) DO NOTHING";
            connection.execute(insert, &values![salt.day, &salt.key])?;
            connection.execute("DELETE FROM salts WHERE day < $1", &values![oldest_day])?;
            let sql = "SELECT day, key FROM salts ORDER BY day";
            connection.query(sql, &[], |row| Ok(Salt { day: row.get(0)?, key: row.get(1)? }))
        };
        self.write(keep).await
    }
}
