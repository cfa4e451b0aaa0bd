//! What bytes of a budget are held for, and the part of it that each use may take.

/// What bytes are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MemoryUse {
    /// Rows that are not flushed yet.
    Memtables,
    /// Rows that are flushed, and that snapshots or reads under way still hold.
    Snapshots,
    /// What flushes need for the segments they write, with their indexes.
    Flushes,
    /// The same of merges.
    Merges,
    /// Columns and results of filters that are kept.
    FilterCaches,
    /// Pieces of files on their way to backends.
    Uploads,
}

impl MemoryUse {
    /// All of them, in the order of `stats`.
    pub const ALL: [Self; 6] =
        [Self::Memtables, Self::Snapshots, Self::Flushes, Self::Merges, Self::FilterCaches, Self::Uploads];

    /// The word for it in `stats` and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memtables => "memtables",
            Self::Snapshots => "snapshots",
            Self::Flushes => "flushes",
            Self::Merges => "merges",
            Self::FilterCaches => "filter_caches",
            Self::Uploads => "uploads",
        }
    }

    /// Which part of the limit it may take: one in so many.
    pub(super) fn divisor(self) -> u64 {
        match self {
            Self::Memtables => 2,
            Self::Merges | Self::FilterCaches => 4,
            Self::Snapshots | Self::Flushes | Self::Uploads => 8,
        }
    }
}

/// What a use of memory holds, and what it waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUsage {
    /// Bytes now.
    pub bytes: u64,
    /// Bytes at most, since the budget was made.
    pub peak_bytes: u64,
    /// How often somebody found no room.
    pub waits: u64,
    /// Microseconds they waited, all together.
    pub waited_micros: u64,
}
