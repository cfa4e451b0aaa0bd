//! Simulated machines for tests.
