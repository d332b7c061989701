//! What is true whatever the storage or the network.
//!
//! An [`event`] comes in from a [`client`]; a [`visitor`] is behind it, who came from a [`source`]; [`traffic`] counts
//! visitors in sliding [`window`]s; a [`goal`] may be completed and a [`trigger`] may fire; the [`detector`] of a site puts
//! these together and answers with firings; a [`watch`] does where counts are shared; what a site has seen before is known of a [`new_source`]. A firing becomes a [`payload`], or
//! what a [`template`] makes of it and its [`message`], with a [`signature`], sent to an [`endpoint`] by itself or in a [`batch`], and tried again as [`retry`] decides; a [`breaker`] spares an endpoint that fails. A process
//! does so while it has a [`lease`], if that is among its [`roles`]. Where events come from an existing [`plausible`], a [`reading`]
//! knows how far its log was read; Plausible's [`hosted`] service is asked by a [`polling`] schedule, and what it counts are
//! [`differences`]. What is over is kept and dropped by [`period`].
//!
//! Everything here is pure: no SQL, no HTTP, no tasks. The time and randomness are arguments, or come through
//! [`ambient`]'s two traits.

pub mod account;
pub mod alert;
pub mod ambient;
pub mod baseline;
pub mod batch;
pub mod bot;
pub mod breaker;
pub mod client;
pub mod condition;
pub mod counting;
pub mod delivery;
pub mod detector;
pub mod differences;
pub mod endpoint;
pub mod event;
pub mod fields;
pub mod goal;
pub mod guess;
pub mod headers;
pub mod history;
pub mod hosted;
pub mod id;
pub mod lease;
pub mod message;
pub mod milestone;
pub mod new_source;
pub mod payload;
pub mod period;
pub mod plausible;
pub mod polling;
pub mod preset;
pub mod reading;
pub mod retry;
pub mod roles;
pub mod schema;
pub mod segment;
pub mod signature;
pub mod site;
pub mod source;
pub mod template;
pub mod time;
pub mod trace;
pub mod traffic;
pub mod trial;
pub mod trigger;
pub mod visitor;
pub mod watch;
pub mod webhook;
pub mod webhook_template;
pub mod window;
