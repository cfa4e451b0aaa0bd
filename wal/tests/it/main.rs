//! The log from outside: every promise of its API, on real files, with a bad disk where it takes one.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that is surprised stops there"
)]

mod bad_days;
mod control;
mod cost;
mod damage;
mod faults;
mod flips;
mod golden;
mod idle_opens;
mod kill_then_cut;
mod life;
mod model;
mod power_cuts;
mod reader;
mod repair;
mod support;
mod unreadable;
mod wakers;
