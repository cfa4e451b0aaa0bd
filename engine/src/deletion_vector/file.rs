//! Deletion vectors as they lie on disk: all that one change makes grow in one file, each in a frame of its own.
//!
//! A file `dv/deletion_vector_<uuid>.bin`: version byte 1; then frames. A frame: length of the serialized bytes, i32 big
//! endian; the bytes; their crc32, big endian. It is synced once, however many segments a change touches.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use akidb_host::{Fs, read_file as read_whole};
use uuid::Uuid;

use super::{DeletionVector, DeletionVectorRef};
use crate::error::{Error, ErrorKind, Fate, Result};

const FILE_VERSION: u8 = 1;
/// Serialized bytes from which a vector lies in a file.
const INLINE_LIMIT_BYTES: usize = 1_024;

/// Makes deletion vectors durable and gives what the manifest says of each. Small ones need no file, the others lie in one. `random`
/// names it; it is written under a temporary name, synced, linked, and its directory synced. Blocks.
///
/// # Errors
/// Nothing stays under the final name, except after a failed directory sync (`Poisoned`). After any other failure
/// the caller may write again, with new `random` bytes.
pub(crate) fn write(
    fs: &dyn Fs,
    dir: &Path,
    vectors: &[&DeletionVector],
    random: [u8; 16],
) -> Result<Vec<DeletionVectorRef>> {
    let name = file_name(uuid::Builder::from_random_bytes(random).into_uuid());
    let mut file = vec![FILE_VERSION];
    let mut named = Vec::with_capacity(vectors.len());
    for vector in vectors {
        named.push(place(vector, &name, &mut file)?);
    }
    if file.len() > 1 {
        publish(fs, dir, &name, &file)?;
    }
    let (whole, whole_size) = (crc32fast::hash(&file), file.len() as u64);
    for reference in &mut named {
        if let DeletionVectorRef::File { crc32, size, .. } = reference {
            (*crc32, *size) = (whole, whole_size);
        }
    }
    Ok(named)
}

/// Frames a vector at the end of the file, if it is not small; the checksum and size of the file come later.
fn place(vector: &DeletionVector, name: &str, file: &mut Vec<u8>) -> Result<DeletionVectorRef> {
    let bytes = vector.serialize();
    let internal = |_| Error::new(ErrorKind::Internal, "AKI-0601", "deletion vectors of over 2 GiB");
    let count = u32::try_from(vector.len()).map_err(internal)?;
    let len = u32::try_from(bytes.len()).map_err(internal)?;
    if bytes.len() < INLINE_LIMIT_BYTES {
        let mut padded = bytes;
        padded.resize(padded.len().next_multiple_of(4), 0);
        return Ok(DeletionVectorRef::Inline { z85: z85::encode(&padded), len, count });
    }
    let offset = u32::try_from(file.len()).map_err(internal)?;
    file.extend_from_slice(&len.to_be_bytes());
    file.extend_from_slice(&bytes);
    file.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    Ok(DeletionVectorRef::File { file: name.to_owned(), offset, len, crc32: 0, size: 0, count })
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

/// The deletion vectors of a collection, read one after the other: a file that holds several is read and checked once.
#[derive(Debug)]
pub(crate) struct Vectors<'a> {
    fs: &'a dyn Fs,
    dir: PathBuf,
    /// Whole files whose checksums match, by name.
    files: BTreeMap<String, Vec<u8>>,
}

impl<'a> Vectors<'a> {
    /// Those in `dir`, the collection's `dv` directory.
    pub(crate) fn new(fs: &'a dyn Fs, dir: PathBuf) -> Self {
        Self { fs, dir, files: BTreeMap::new() }
    }

    /// The deletion vector that `found` names; `rows` are the rows of its segment. Blocks.
    ///
    /// # Errors
    /// `Corrupt` with file and offset when anything differs from what was written; `NotFound`, `Unavailable`.
    pub(crate) fn read(&mut self, found: &DeletionVectorRef, rows: u32) -> Result<DeletionVector> {
        let DeletionVectorRef::File { file, crc32, size, .. } = found else {
            return decode(&self.dir, &[], found, rows);
        };
        let path = self.dir.join(file);
        let bytes = match self.files.entry(file.clone()) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(place) => {
                let bytes = read_file(self.fs, &path, *size)?;
                is_whole(&bytes, *crc32, *size).map_err(|wrong| damaged(Some(&path), wrong))?;
                place.insert(bytes)
            }
        };
        decode_whole(Some(&path), bytes, found, rows)
    }
}

/// Reads one deletion vector; as [`Vectors::read`].
pub(crate) fn read(fs: &dyn Fs, dir: &Path, found: &DeletionVectorRef, rows: u32) -> Result<DeletionVector> {
    Vectors::new(fs, dir.to_path_buf()).read(found, rows)
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
    match found {
        DeletionVectorRef::Inline { .. } => decode_whole(None, bytes, found, rows),
        DeletionVectorRef::File { crc32, size, .. } => {
            is_whole(bytes, *crc32, *size).map_err(|wrong| damaged(Some(path), wrong))?;
            decode_whole(Some(path), bytes, found, rows)
        }
    }
}

/// What is wrong, and at which offset.
type Wrong = (u64, &'static str);

fn decode_whole(
    path: Option<&Path>,
    file: &[u8],
    found: &DeletionVectorRef,
    rows: u32,
) -> Result<DeletionVector> {
    let decoded = match found {
        DeletionVectorRef::Inline { z85, len, .. } => inline(z85, *len)
            .and_then(|bytes| DeletionVector::deserialize(&bytes, rows).map_err(|what| (0, what))),
        DeletionVectorRef::File { offset, len, .. } => unframe(file, *offset, *len).and_then(|bytes| {
            DeletionVector::deserialize(bytes, rows).map_err(|what| (u64::from(*offset) + 4, what))
        }),
    };
    let counted = decoded.and_then(|vector| match vector.len() == u64::from(found.count()) {
        true => Ok(vector),
        false => Err((0, "it has another number of rows than the manifest says")),
    });
    counted.map_err(|wrong| damaged(path, wrong))
}

fn damaged(path: Option<&Path>, (offset, what): Wrong) -> Error {
    let message = format!("a deletion vector is damaged: {what}");
    match path {
        Some(path) => Error::corrupt("AKI-0604", path, offset, message).help_is(mending(path)),
        None => Error::new(ErrorKind::Corrupt, "AKI-0604", format!("{message} (it lies in the manifest)")),
    }
}

fn inline(z85: &str, len: u32) -> Result<Vec<u8>, Wrong> {
    let padded = (len as usize).next_multiple_of(4);
    let bytes = z85::decode(z85).ok().filter(|bytes| bytes.len() == padded);
    let mut bytes = bytes.ok_or((0, "its text is not Z85 of its length"))?;
    bytes.truncate(len as usize);
    Ok(bytes)
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
         up the segments whose dead rows it holds by `--drop`: `akidb verify` names them",
        path.display()
    )
}

/// Whether a file is the one the manifest names, byte by byte.
fn is_whole(file: &[u8], crc32: u32, size: u64) -> Result<(), Wrong> {
    if file.len() as u64 != size {
        return Err((0, "its file has another size than the manifest says"));
    }
    if crc32fast::hash(file) != crc32 {
        return Err((0, "the file does not match its checksum"));
    }
    if file.first() != Some(&FILE_VERSION) {
        return Err((0, "its version is not 1"));
    }
    Ok(())
}

/// The serialized bytes of the frame at `offset`.
fn unframe(file: &[u8], offset: u32, len: u32) -> Result<&[u8], Wrong> {
    let at = offset as usize;
    let framed = at.checked_add(len as usize).and_then(|end| file.get(at..end.checked_add(8)?));
    let framed = framed.ok_or((u64::from(offset), "it is shorter than its frame"))?;
    let (length, rest) = framed.split_at(4);
    if length != len.to_be_bytes() {
        return Err((u64::from(offset), "its length is not the one the manifest says"));
    }
    let (bytes, crc32) = rest.split_at(len as usize);
    if crc32 != crc32fast::hash(bytes).to_be_bytes() {
        return Err((u64::from(offset) + 4, "its bytes do not match their checksum"));
    }
    Ok(bytes)
}
