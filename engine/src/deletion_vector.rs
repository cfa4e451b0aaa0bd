//! Deletion vectors: the dead rows of a segment, in Delta's serialization, framing and names.
//!
//! Serialized (what Delta calls a RoaringBitmapArray, portable):
//! ```text
//! 0   4  magic 1681511377, little endian
//! 4   8  bitmaps, little endian: 0 or 1, row numbers being below 2^32
//! 12  4  high half of the row numbers of the bitmap: 0
//! 16     a standard Roaring bitmap of the low halves
//! ```
//! A file `dv/deletion_vector_<uuid>.bin`: version byte 1; then length of the serialized bytes, i32 big endian; the
//! bytes; their crc32, big endian. Below 1 KiB the manifest holds the bytes itself, zero-padded to a multiple of
//! four, as Z85.

use std::path::Path;

use akidb_host::{Fs, read_file as read_whole};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Fate, Result};

const MAGIC: u32 = 1_681_511_377;
const FILE_VERSION: u8 = 1;
/// Bytes before the bitmap of the only key.
const HEAD_LEN: usize = 16;
/// Version byte and length before the bytes in a file, and the checksum after them.
const FRAME_LEN: usize = 1 + 4 + 4;
/// Serialized bytes from which a file of its own is written.
const INLINE_LIMIT_BYTES: usize = 1_024;

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
    /// A file `dv/deletion_vector_<uuid>.bin`.
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

/// Makes `dv` durable and gives what the manifest says of it. Small ones need no file. `random` names the file; it
/// is written under a temporary name, synced, linked, and its directory synced. Blocks.
///
/// # Errors
/// Nothing stays under the final name, except after a failed directory sync (`Poisoned`). After any other failure
/// the caller may write again, with new `random` bytes.
pub(crate) fn write(
    fs: &dyn Fs,
    dir: &Path,
    dv: &DeletionVector,
    random: [u8; 16],
) -> Result<DeletionVectorRef> {
    let bytes = dv.serialize();
    let internal = |_| Error::new(ErrorKind::Internal, "AKI-0601", "a deletion vector of over 2 GiB");
    let count = u32::try_from(dv.len()).map_err(internal)?;
    let len = u32::try_from(bytes.len()).map_err(internal)?;
    if bytes.len() < INLINE_LIMIT_BYTES {
        let mut padded = bytes;
        padded.resize(padded.len().next_multiple_of(4), 0);
        return Ok(DeletionVectorRef::Inline { z85: z85::encode(&padded), len, count });
    }
    let mut framed = Vec::with_capacity(bytes.len() + FRAME_LEN);
    framed.push(FILE_VERSION);
    framed.extend_from_slice(&len.to_be_bytes());
    framed.extend_from_slice(&bytes);
    framed.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    let uuid = uuid::Builder::from_random_bytes(random).into_uuid();
    let file = file_name(uuid);
    publish(fs, dir, &file, &framed)?;
    let crc32 = crc32fast::hash(&framed);
    Ok(DeletionVectorRef::File { file, offset: 1, len, crc32, size: framed.len() as u64, count })
}

fn file_name(uuid: Uuid) -> String {
    format!("deletion_vector_{uuid}.bin")
}

fn publish(fs: &dyn Fs, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let tmp = dir.join(format!("{name}.tmp"));
    let written = (|| {
        let file = fs.create_new(&tmp)?;
        file.write_at(bytes, 0)?;
        file.sync_data()?;
        fs.hard_link(&tmp, &path)
    })();
    let _ = fs.unlink(&tmp);
    written.map_err(|e| Error::io("AKI-0602", &path, "writing a deletion vector", &e))?;
    fs.sync_dir(dir).map_err(|e| {
        Error::new(
            ErrorKind::Poisoned,
            "AKI-0603",
            format!("syncing the directory of a deletion vector: {e}"),
        )
        .at(dir, None)
        .fate_is(Fate::Unknown)
        .help_is("reopen the database: its log still has the deletes")
    })
}

/// Reads the deletion vector that `found` names; `dir` is the collection's `dv` directory, `rows` the rows of its
/// segment. Blocks.
///
/// # Errors
/// `Corrupt` with file and offset when anything differs from what was written; `NotFound`, `Unavailable`.
pub(crate) fn read(fs: &dyn Fs, dir: &Path, found: &DeletionVectorRef, rows: u32) -> Result<DeletionVector> {
    match found {
        DeletionVectorRef::Inline { .. } => decode(dir, &[], found, rows),
        DeletionVectorRef::File { file, size, .. } => {
            let path = dir.join(file);
            decode(&path, &read_file(fs, &path, *size)?, found, rows)
        }
    }
}

/// The deletion vector that `found` names, of the bytes of its file at `path`; of none if it lies in the manifest.
///
/// # Errors
/// `Corrupt` with file and offset when anything differs from what was written.
pub(crate) fn decode(
    path: &Path,
    bytes: &[u8],
    found: &DeletionVectorRef,
    rows: u32,
) -> Result<DeletionVector> {
    let (dv, count, at) = match found {
        DeletionVectorRef::Inline { z85, len, count } => {
            let bytes = z85::decode(z85).ok().filter(|b| b.len() == (*len as usize).next_multiple_of(4));
            let bytes = bytes.ok_or("its text is not Z85 of its length").map(|mut b| {
                b.truncate(*len as usize);
                b
            });
            let dv = bytes.and_then(|b| DeletionVector::deserialize(&b, rows));
            (dv.map_err(|what| (0, what)), *count, None)
        }
        DeletionVectorRef::File { offset, len, crc32, size, count, .. } => {
            let dv = unframe(bytes, *offset, *len, *crc32, *size)
                .and_then(|bytes| DeletionVector::deserialize(bytes, rows).map_err(|what| (5, what)));
            (dv, *count, Some(path))
        }
    };
    let counted = dv.and_then(|dv| match dv.len() == u64::from(count) {
        true => Ok(dv),
        false => Err((0, "it has another number of rows than the manifest says")),
    });
    counted.map_err(|(offset, what)| {
        let message = format!("a deletion vector is damaged: {what}");
        match &at {
            Some(path) => Error::corrupt("AKI-0604", path, offset, message).help_is(mending(path)),
            None => {
                Error::new(ErrorKind::Corrupt, "AKI-0604", format!("{message} (it lies in the manifest)"))
            }
        }
    })
}

/// Reads a file that should have `size` bytes, and one more if there is one.
fn read_file(fs: &dyn Fs, path: &Path, size: u64) -> Result<Vec<u8>> {
    let io = |doing: &str, e: &std::io::Error| Error::io("AKI-0602", path, doing, e);
    let len = fs.metadata(path).map_err(|e| io("opening a deletion vector", &e).help_is(mending(path)))?.len;
    if len != size {
        let message = format!("a deletion vector has {len} bytes, the manifest says {size}");
        return Err(Error::corrupt("AKI-0604", path, len.min(size), message).help_is(mending(path)));
    }
    read_whole(fs, path).map_err(|e| io("reading a deletion vector", &e))
}

/// What mends the damaged deletion vector at `path`. Without it the dead rows of its segment would live again.
fn mending(path: &Path) -> String {
    format!(
        "take the file back from a backend that has it: `akidb repair segment {} --from BACKEND`; if none has it, give \
         its segment up by `--drop`",
        path.display()
    )
}

/// The serialized bytes inside a file whose frame is right.
fn unframe(file: &[u8], offset: u32, len: u32, crc32: u32, size: u64) -> Result<&[u8], (u64, &'static str)> {
    let start = offset as usize + 4;
    let end =
        start.checked_add(len as usize).filter(|end| file.len() as u64 == size && end + 4 <= file.len());
    let end = end.ok_or((0, "it is shorter than its frame"))?;
    if crc32fast::hash(file) != crc32 {
        return Err((0, "the file does not match its checksum"));
    }
    if file.first() != Some(&FILE_VERSION) {
        return Err((0, "its version is not 1"));
    }
    if file[start - 4..start] != len.to_be_bytes() {
        return Err((u64::from(offset), "its length is not the one the manifest says"));
    }
    if file[end..end + 4] != crc32fast::hash(&file[start..end]).to_be_bytes() {
        return Err((start as u64, "its bytes do not match their checksum"));
    }
    Ok(&file[start..end])
}

#[cfg(test)]
mod tests;
