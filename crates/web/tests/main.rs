//! The HTTP interfaces through their router: no network, no port, and a clock that is turned by hand.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says why and fails")]

mod access;
mod batches;
mod deliveries;
mod events;
mod goals;
mod metrics;
mod openapi;
mod pages;
mod problems;
mod sites;
mod support;
mod templates;
mod trial;
mod webhooks;
