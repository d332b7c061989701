//! The engine from an event to a webhook, on a real database and real sockets, with a clock that is turned by hand.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed, in a helper too")]

mod addresses;
mod breaker;
mod clock;
mod configuration;
mod delivery;
mod detection;
mod history;
mod log;
mod logging;
mod people;
mod replay;
mod restart;
mod retention;
mod rig;
mod secrets;
mod sending;
