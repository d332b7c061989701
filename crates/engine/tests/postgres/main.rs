//! The engine on PostgreSQL.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed, in a helper too")]

mod counting;
mod many;
mod milestones;
mod new_sources;
mod plausible;
#[path = "../suite/mod.rs"]
mod suite;

use bellwether_testkit::database::Engine;

const ENGINE: Engine = Engine::Postgres;
