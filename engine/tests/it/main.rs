//! Tests of the engine through its public face.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails where it stands"
)]

mod arrow_and_async;
mod bad_disk;
mod bad_input;
mod docs;
mod flips;
mod kill;
mod model;
mod promises;
mod restore;
mod review;
mod sample;
mod spans;
mod support;
mod tidy;
