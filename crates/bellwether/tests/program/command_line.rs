//! What operators see: the help, what is refused and how, and what every command does to the data.

mod commands;
mod refusals;
mod serving;
