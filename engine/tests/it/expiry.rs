//! Rows that expire: hidden at once, deleted soon, out of the files within their time. The clock is the test's.

mod by_row;
mod erase;
mod model;
mod proven;
mod purge;
mod reads;
mod switched_on;
mod world;
mod writes;
