//! Everything that is kept: all SQL, and the schema's migrations.
//!
//! A [`Store`] is opened once. Each method is one statement or one transaction, and says so. The store decides nothing: it
//! never knows about HTTP, and what a delivery's outcome means is decided before it gets here.

mod access;
mod arrivals;
mod batches;
pub mod clickhouse;
mod columns;
mod database;
mod deliveries;
mod error;
mod goals;
mod import;
mod leases;
mod milestones;
mod outbox;
mod partitions;
mod people;
mod plausible;
mod polled;
mod process_lock;
mod readers;
mod replays;
mod retention;
mod revisions;
mod salts;
mod schema;
mod sites;
mod sources;
mod sql;
mod store;
mod ticks;
mod traffic;
mod webhooks;
mod writer;

pub use access::{Key, NewKey, Role};
pub use batches::{NewBatch, PutTogether};
pub use database::Database;
pub use deliveries::{DeliveryDetail, DeliveryFilter, DeliveryPage, PageNumber, RecordedAttempt, Stretch};
pub use error::StoreError;
pub use import::{Import, ImportError, Table};
pub use leases::Process;
pub use milestones::Milestone;
pub use outbox::{AttemptRecord, Backlog, DueDelivery, NewDelivery, NewEvent, Settlement};
pub use partitions::Partition;
pub use people::{Invitation, Member, NewUser, Session, SignedIn, User};
pub use plausible::{KeptReading, PlausibleTables, Read};
pub use polled::{KeptPolls, Polled, PolledVisitors};
pub use process_lock::ProcessLock;
pub use replays::{Replay, ReplayFilter};
pub use revisions::{Hints, WholeSite};
pub use schema::Migration;
pub use sources::{SourceNotes, SourceTold};
pub use sql::{Connection, InvalidUrl, Server};
pub use store::Store;
pub use ticks::{Crossed, Found, Learned, Tick};
pub use traffic::HourOfOutcomes;
pub use webhooks::{Sealed, SealedWebhook};
