//! Every method of the store, and with them every statement, on a real database of the engine that the crate names.

mod batches;
mod configuration;
mod history;
mod milestones;
mod outbox;
pub(crate) mod people;
mod plausible;
mod polled;
mod retention;
pub(crate) mod rig;
mod sources;
mod ticks;
mod traffic;
