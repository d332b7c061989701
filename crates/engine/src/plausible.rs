//! An existing Plausible, from which events, sites and goals come.
//!
//! A [`Plausible`] is where it is; [`read`] finds completions in its events, and [`mirror`] takes over its sites and goals. Nothing is
//! ever written there.

mod mirror;
mod read;

use bellwether_store::clickhouse::{ClickHouse, ClickHouseError, ClickHouseUrl, PlausibleEvents};
use bellwether_store::{PlausibleTables, Server, StoreError};
use tracing::info;

pub(crate) use mirror::Mirror;
pub use mirror::MirrorError;
pub(crate) use read::{Log, Stretch};

/// Where a Plausible is, behind a handle that is cheap to clone.
#[derive(Clone)]
pub struct Plausible {
    pub(crate) events: PlausibleEvents,
    pub(crate) tables: PlausibleTables,
}

/// Why a Plausible cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlausibleError {
    /// Its ClickHouse.
    #[error(transparent)]
    Events(#[from] ClickHouseError),
    /// Its PostgreSQL.
    #[error(transparent)]
    Tables(#[from] StoreError),
}

impl Plausible {
    /// Finds out what its tables look like in this version of it. Errors: what is wrong with either database.
    pub async fn open(clickhouse: &ClickHouseUrl, postgres: Server) -> Result<Self, Vec<PlausibleError>> {
        let opened = tokio::join!(PlausibleEvents::open(ClickHouse::new(clickhouse)), PlausibleTables::open(postgres));
        let (events, tables) = match opened {
            (Ok(events), Ok(tables)) => (events, tables),
            (events, tables) => {
                let wrong = [events.err().map(PlausibleError::from), tables.err().map(PlausibleError::from)];
                return Err(wrong.into_iter().flatten().collect());
            }
        };
        let lacks: Vec<_> = events.lacks().into_iter().chain(tables.lacks()).collect();
        if !lacks.is_empty() {
            info!(columns = lacks.join(" "), "this version of Plausible lacks some columns: what they say is left out");
        }
        Ok(Self { events, tables })
    }
}
