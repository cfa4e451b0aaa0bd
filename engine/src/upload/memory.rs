//! What of the memory uploads take: the pieces of files that are read and under way.

use std::fmt;

use akidb_backends::{PieceMemory, PublishOptions};

use crate::config::Settings;
use crate::engine::Engine;
use crate::memory_budget::{Account, MemoryUse};

/// A backend has at least this much: smaller pieces would be too many.
const LEAST_BYTES: u64 = 8 << 20;

/// Holds pieces of files of this account. They are counted, and never wait for memory: their number is bounded already.
#[derive(Debug)]
pub(super) struct Pieces(pub(super) Account);

impl PieceMemory for Pieces {
    fn hold(&self, bytes: u64) -> Box<dyn fmt::Debug + Send + Sync> {
        Box::new(self.0.charge(MemoryUse::Uploads, bytes))
    }
}

/// How one of the backends publishes: within its part of the share of uploads.
pub(super) fn options(engine: &Engine, settings: &Settings) -> PublishOptions {
    let backends = settings.backends.len() + engine.place.stores.len();
    let share = engine.place.memory.share(MemoryUse::Uploads) / backends.max(1) as u64;
    let usual = PublishOptions::default();
    let memory_bytes = usual.memory_bytes.min(share.max(LEAST_BYTES));
    // No piece is larger than all there is.
    let part_len_bytes =
        usize::try_from(memory_bytes).map_or(usual.part_len_bytes, |bytes| bytes.min(usual.part_len_bytes));
    PublishOptions { memory_bytes, part_len_bytes, ..usual }
}
