//! Everything that is kept: all SQL, and the schema's migrations.
//!
//! A [`Store`] is opened once. Each method is one statement or one transaction, and says so. The store decides nothing: it
//! never knows about HTTP, and what a delivery's outcome means is decided before it gets here.

mod access;
mod deliveries;
mod error;
mod goals;
mod outbox;
mod people;
mod replays;
mod retention;
mod salts;
mod sites;
mod sqlite;
mod traffic;
mod webhooks;

pub use access::{Key, NewKey, Role};
pub use deliveries::{DeliveryDetail, DeliveryFilter, DeliveryPage, PageNumber, RecordedAttempt, Stretch};
pub use error::StoreError;
pub use outbox::{AttemptRecord, Backlog, DueDelivery, NewDelivery, NewEvent, Settlement};
pub use people::{Invitation, Member, NewUser, Session, SignedIn, User};
pub use replays::{Replay, ReplayFilter};
pub use sqlite::{Migration, ProcessLock, Store};
pub use traffic::HourOfOutcomes;
pub use webhooks::{Sealed, SealedWebhook};
