//! Tests of the engine through its public face.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on fails where it stands"
)]

mod bad_input;
mod docs;
mod kill;
mod model;
mod promises;
mod review;
mod support;
mod tidy;
