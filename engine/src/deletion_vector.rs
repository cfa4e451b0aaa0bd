//! Deletion vectors: the dead rows of a segment, in Delta's serialization, framing and names.
//!
//! Serialized (what Delta calls a RoaringBitmapArray, portable):
//! ```text
//! 0   4  magic 1681511377, little endian
//! 4   8  bitmaps, little endian: 0 or 1, row numbers being below 2^32
//! 12  4  high half of the row numbers of the bitmap: 0
//! 16     a standard Roaring bitmap of the low halves
//! ```
//! Below 1 KiB the manifest holds the bytes itself, zero-padded to a multiple of four, as Z85; larger ones lie in files.

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

mod file;

pub(crate) use file::{VectorFile, Vectors, inline, read, write};

const MAGIC: u32 = 1_681_511_377;
/// Bytes before the bitmap of the only key.
const HEAD_LEN: usize = 16;

/// The deletion vector of a segment: in the manifest itself when small, else a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DeletionVectorRef {
    /// Delta's inline form: Z85 of the serialized bitmap.
    Inline {
        /// The text.
        z85: String,
        /// Bytes before Z85 padding.
        len: u32,
        /// Dead rows.
        count: u32,
    },
    /// A place in a file `dv/deletion_vector_<uuid>.bin`, which may hold those of other segments as well.
    File {
        /// File name inside the collection's `dv` directory.
        file: String,
        /// Offset of the framed bitmap in it.
        offset: u32,
        /// Bytes of the bitmap.
        len: u32,
        /// crc32 of the whole file.
        crc32: u32,
        /// Whole size in bytes of the file.
        size: u64,
        /// Dead rows.
        count: u32,
    },
}

impl DeletionVectorRef {
    /// Dead rows.
    pub(crate) fn count(&self) -> u32 {
        match self {
            Self::Inline { count, .. } | Self::File { count, .. } => *count,
        }
    }
}

/// A set of row numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DeletionVector(RoaringBitmap);

impl DeletionVector {
    /// No dead rows.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Marks `row` dead; false if it was already.
    pub(crate) fn insert(&mut self, row: u32) -> bool {
        self.0.insert(row)
    }

    /// Whether `row` is dead.
    pub(crate) fn contains(&self, row: u32) -> bool {
        self.0.contains(row)
    }

    /// Dead rows of `rows`.
    pub(crate) fn count_in(&self, rows: std::ops::Range<u32>) -> u64 {
        self.0.range_cardinality(rows)
    }

    /// Dead rows.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether no row is dead.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Rows dead in either.
    #[must_use]
    #[cfg_attr(not(test), expect(dead_code, reason = "merges of segments need it"))]
    pub(crate) fn union(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }

    /// Dead rows, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter()
    }

    /// Delta's bytes.
    pub(crate) fn serialize(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_LEN + self.0.serialized_size());
        out.extend_from_slice(&MAGIC.to_le_bytes());
        if self.0.is_empty() {
            out.extend_from_slice(&0_u64.to_le_bytes());
            return out;
        }
        out.extend_from_slice(&1_u64.to_le_bytes());
        out.extend_from_slice(&0_u32.to_le_bytes());
        self.0.serialize_into(&mut out).expect("writing to memory does not fail");
        out
    }

    /// Reads Delta's bytes; all row numbers must be below `rows`.
    fn deserialize(bytes: &[u8], rows: u32) -> Result<Self, &'static str> {
        let bytes = bytes.strip_prefix(&MAGIC.to_le_bytes()).ok_or("it does not begin with its magic")?;
        let (count, bytes) = bytes.split_first_chunk::<8>().ok_or("it is too short")?;
        let bitmap = match u64::from_le_bytes(*count) {
            0 if bytes.is_empty() => RoaringBitmap::new(),
            1 => {
                let mut bytes = bytes.strip_prefix(&[0; 4]).ok_or("it has row numbers above 2^32")?;
                let bitmap =
                    RoaringBitmap::deserialize_from(&mut bytes).map_err(|_| "its bitmap does not read")?;
                if !bytes.is_empty() {
                    return Err("bytes follow its bitmap");
                }
                bitmap
            }
            _ => return Err("it has row numbers above 2^32"),
        };
        if bitmap.max().is_some_and(|last| last >= rows) {
            return Err("it names rows the segment does not have");
        }
        Ok(Self(bitmap))
    }
}

impl FromIterator<u32> for DeletionVector {
    fn from_iter<I: IntoIterator<Item = u32>>(rows: I) -> Self {
        Self(rows.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
