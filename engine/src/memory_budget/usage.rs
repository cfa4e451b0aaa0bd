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
    /// Unpacked pages of segments that are kept.
    PageCache,
    /// Writes of more than 64 KiB on their way into memtables: their rows and, until they are in the log, their records. What an
    /// open replays is one.
    Writes,
    /// What is decoded of segments once and stays in memory: their tables, the heads of their indexes, the keys of their rows.
    Segments,
    /// Of reads under way what takes more than 64 KiB: columns that are decoded, lists of rows that match. Not what they answer with.
    Reads,
}

impl MemoryUse {
    /// All of them, in the order of `stats`.
    pub const ALL: [Self; 10] = [
        Self::Memtables,
        Self::Snapshots,
        Self::Flushes,
        Self::Merges,
        Self::FilterCaches,
        Self::Uploads,
        Self::PageCache,
        Self::Writes,
        Self::Segments,
        Self::Reads,
    ];

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
            Self::PageCache => "page_cache",
            Self::Writes => "writes",
            Self::Segments => "segments",
            Self::Reads => "reads",
        }
    }

    /// Which part of the limit it may take: one in so many.
    pub(super) fn divisor(self) -> u64 {
        match self {
            Self::Memtables => 2,
            Self::Merges | Self::FilterCaches => 4,
            Self::Snapshots
            | Self::Flushes
            | Self::Uploads
            | Self::PageCache
            | Self::Writes
            | Self::Segments
            | Self::Reads => 8,
        }
    }

    /// Whether it is dropped when somebody needs the memory.
    pub(super) fn is_cache(self) -> bool {
        matches!(self, Self::FilterCaches | Self::PageCache)
    }

    /// Whether it never asks, and so holds up others up to its share only.
    pub(super) fn never_asks(self) -> bool {
        matches!(self, Self::Uploads | Self::Writes | Self::Segments | Self::Reads)
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
