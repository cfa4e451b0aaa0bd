//! What a manifest says of one segment: enough to find, check and prune it without opening it.

use serde::{Deserialize, Serialize};

pub use crate::deletion_vector::DeletionVectorRef;
use crate::lsn::Lsn;

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// A segment as the manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentMeta {
    /// File name, `{epoch:08}-{seq:08}-{writer:08x}.parquet`, the same at rest and on every backend.
    pub file: String,
    /// Whole size in bytes.
    pub size: u64,
    /// crc32 of the whole file.
    pub crc32: u32,
    /// crc32 of the tail, with its own digits as zeros.
    pub tail_crc32: u32,
    /// 0 for a flushed segment.
    pub level: u8,
    /// Rows, dead ones included.
    pub rows: u32,
    /// Rows of every row group but the last, as a power of two.
    pub group_bits: u8,
    /// Version of the schema it was written under.
    pub schema: u16,
    /// Smallest and largest id: key bytes as text for text ids, decimal for integers.
    pub ids: [String; 2],
    /// Lowest row LSN.
    #[serde(with = "crate::lsn::text")]
    pub min_lsn: Lsn,
    /// Highest row LSN.
    #[serde(with = "crate::lsn::text")]
    pub max_lsn: Lsn,
    /// The check table.
    pub check: Place,
    /// First byte of the vector values of every row group; empty where vectors are not searched in place.
    pub vectors: Vec<u64>,
    /// Sorted id hashes (text ids only).
    pub id_index: Option<Place>,
    /// Head of the vector index; none where search is exact. Manifest format 1.1, as `codes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Place>,
    /// Codes of the vector index; there if `head` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Place>,
    /// Rows dead at the manifest's `flushed_lsn`.
    pub deletion_vector: Option<DeletionVectorRef>,
}

impl SegmentMeta {
    /// Rows dead at the manifest's `flushed_lsn`.
    pub(crate) fn dead_rows(&self) -> u32 {
        self.deletion_vector.as_ref().map_or(0, DeletionVectorRef::count)
    }
}
