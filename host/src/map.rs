//! Memory maps: the one place in this crate where bytes of a file are memory.

use std::sync::Arc;

/// A read-only view of a whole file (or of a heap copy of it, where maps are simulated).
#[derive(Clone, Debug)]
pub struct Region(Arc<Vec<u8>>);

impl Region {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A log file's bytes, before they are split between the one appender and its readers.
#[derive(Debug)]
pub struct LogRegion(());

/// The only writer of a log region.
#[derive(Debug)]
pub struct Appender(());

/// A reader of the published part of a log region.
#[derive(Clone, Debug)]
pub struct Tail(());
