//! Rows that expire: hidden at once, deleted soon, out of the files within their time. The clock is the test's.

mod erase;
mod model;
mod purge;
mod reads;
mod world;
mod writes;
