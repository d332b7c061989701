//! What the tests share: a clock to turn by hand, temporary databases, an install of Plausible, a proxy, and a receiver that can misbehave.

pub mod ambient;
pub mod cable;
pub mod clickhouse;
pub mod database;
pub mod hosted;
mod payload;
pub mod plausible;
pub mod proxy;
pub mod receiver;
