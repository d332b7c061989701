//! Every method of the store, and with them every statement, on a real database.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed, in a helper too")]

mod configuration;
mod history;
mod migrations;
mod outbox;
mod people;
mod retention;
mod rig;
mod traffic;
