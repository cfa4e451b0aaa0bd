//! A checksummed, memory-mapped log of opaque records. Knows bytes and LSNs, nothing of vectors or tables.
//!
//! [`Log::append`] puts a batch into the mapped file as one frame and gives its LSNs; [`Log::wait`] returns when
//! they survive a power cut. [`Log::open`] finds exactly those records again: a torn tail is cut and reported,
//! damage is an error that names file and offset. The formats are drawn at the top of `frame.rs` and `header.rs`
//! and in docs/formats/wal.md.
#![forbid(unsafe_code)]

mod commit;
mod config;
mod control;
mod error;
mod findings;
mod frame;
mod header;
mod inner;
mod inspect;
mod linger;
mod loaded;
mod log;
mod log_file;
#[cfg(test)]
#[cfg(akidb_loom)]
mod loom_tests;
mod lsn;
mod open;
mod reader;
mod recover;
mod repair;
mod replay;
mod rest;
mod scout;
mod search;
mod spares;
mod sync;
mod synced;
mod threads;
mod truncate;
mod wakers;
mod watermark;

pub use config::{Config, Durability, Options, WritePath};
pub use control::{ControlFacts, ControlState, read_control};
#[doc(hidden)]
pub use error::shell_word;
pub use error::{Error, ErrorKind, Fate, Result};
pub use findings::Cut;
#[cfg(feature = "test-util")]
pub use frame::fuzz_frame;
pub use inspect::{FrameFacts, HeaderFacts, Inspection, inspect, inspect_records};
pub use log::{Appended, Counters, Log, State, Watermarks};
pub use log_file::OVERHEAD_BYTES;
pub use lsn::{Lsn, ParseLsnError};
pub use reader::{Reader, Step};
pub use repair::{CutReport, cut_at};
pub use replay::{Record, Records, RecordsIter, Recovered};
pub use synced::Synced;
