//! The engine from an event to a webhook, on a real database of the engine that the crate names and real sockets, with a clock that is turned by hand.

mod addresses;
pub(crate) mod batches;
mod breaker;
mod clock;
mod configuration;
mod delivery;
pub(crate) mod detection;
mod history;
mod hosted;
mod log;
mod logging;
pub(crate) mod milestones;
pub(crate) mod operation;
mod people;
pub(crate) mod plausible;
mod replay;
pub(crate) mod restart;
mod retention;
pub(crate) mod rig;
mod secrets;
mod segments;
mod sending;
mod shapes;
mod sources;
mod templates;
