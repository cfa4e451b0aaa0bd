//! Simulated machines for tests.

mod hook;

pub use hook::Op;
