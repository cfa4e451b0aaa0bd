//! The log from outside: every promise of its API, on real files, with a bad disk where it takes one.

mod damage;
mod faults;
mod golden;
mod life;
mod model;
mod repair;
mod support;
