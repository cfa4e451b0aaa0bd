//! Tests of the engine through its public face.

mod bad_input;
mod kill;
mod model;
mod promises;
mod support;
mod tidy;
