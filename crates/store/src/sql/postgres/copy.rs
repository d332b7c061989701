//! Many rows at once into a table, in the binary format of `COPY`.
//!
//! <https://www.postgresql.org/docs/current/sql-copy.html> describes it.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::SinkExt as _;
use tokio_postgres::types::{IsNull, ToSql as _, Type};

use super::Session;
use crate::StoreError;
use crate::sql::Row;

/// What is sent before the rows: the signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In place of the number of a row's columns: there are no more rows.
const TRAILER: i16 = -1;
/// In place of a value's length.
const NULL: i32 = -1;

/// Rows on their way into a table.
pub(crate) struct Rows {
    sql: String,
    kinds: Vec<Type>,
    count: u64,
    bytes: BytesMut,
}

impl Session {
    /// None yet, for columns of a table.
    pub(in crate::sql) fn rows(&self, table: &str, columns: &str) -> Result<Rows, StoreError> {
        let select = format!("SELECT {columns} FROM {table}");
        let statement = self.ask(async |open| open.client.prepare(&select).await)?;
        let kinds = statement.columns().iter().map(|column| column.type_().clone()).collect();
        let sql = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
        Ok(Rows { sql, kinds, count: 0, bytes: BytesMut::from(HEADER) })
    }

    pub(in crate::sql) fn copy(&self, rows: &mut Rows) -> Result<(), StoreError> {
        rows.bytes.put_i16(TRAILER);
        let bytes = std::mem::replace(&mut rows.bytes, BytesMut::from(HEADER)).freeze();
        rows.count = 0;
        self.ask(async |open| {
            let mut sink = Box::pin(open.client.copy_in::<_, Bytes>(&rows.sql).await?);
            sink.send(bytes).await?;
            sink.as_mut().finish().await.map(|_| ())
        })
    }
}

impl Rows {
    /// Adds a row that was read, with a value for each column. Errors: `Unreadable` for one that its column does not take.
    pub(crate) fn push(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        self.bytes.put_i16(i16::try_from(row.len()).unwrap_or(i16::MAX));
        for (column, kind) in self.kinds.iter().enumerate() {
            let at = self.bytes.len();
            self.bytes.put_i32(NULL);
            let value = row.value(column)?;
            let put = value.to_sql(kind, &mut self.bytes).map_err(|error| StoreError::Unreadable(error.to_string()))?;
            if let IsNull::No = put {
                let length = i32::try_from(self.bytes.len() - at - size_of::<i32>());
                let length = length.map_err(|_| StoreError::Unreadable("a value of gigabytes".to_owned()))?;
                self.bytes[at..at + size_of::<i32>()].copy_from_slice(&length.to_be_bytes());
            }
        }
        self.count += 1;
        Ok(())
    }

    /// How many they are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How much there is to be sent.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}
