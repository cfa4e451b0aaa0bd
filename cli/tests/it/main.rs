//! The built `akidb` command, run as people run it: every verb, exit code, JSON object and bad input.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

mod bad_input;
mod bench;
mod breaker;
mod commands_named;
mod damage;
mod demo;
mod dlq;
mod doctor;
mod drill;
mod imports;
mod log;
mod log_damage;
mod mending;
mod metrics;
mod names;
mod outage;
mod restores;
mod serve;
mod server;
mod snapshots;
mod support;
mod unheard;
mod verbs;
