//! A checksummed, memory-mapped log of opaque records. Knows bytes and LSNs, nothing of vectors or tables.
#![forbid(unsafe_code)]

mod lsn;

pub use lsn::{Lsn, ParseLsnError};
