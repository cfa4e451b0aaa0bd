//! Deletion vectors as they lie on disk: all that one change makes grow in one file, each in a frame of its own.
//!
//! A file `dv/deletion_vector_<uuid>.bin`: version byte 1; then frames. A frame: length of the serialized bytes, i32 big
//! endian; the bytes; their crc32, big endian. It is synced once, however many segments a change touches.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use akidb_host::{Fs, read_file as read_whole};
use bytes::Bytes;
use uuid::Uuid;

use super::{DeletionVector, DeletionVectorRef};
use crate::error::{Error, ErrorKind, Fate, Result, shell_word};

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
        .help_is("mend the disk: the deletes are where they were, and another file is written before long")
    })
}

/// A file of deletion vectors in memory.
#[derive(Debug)]
pub(crate) struct VectorFile {
    path: PathBuf,
    bytes: Bytes,
    /// Whether it is the very file that was written.
    is_whole: bool,
}

impl VectorFile {
    /// The file that `found` names, of these bytes. One that rotted may still hold vectors that did not.
    ///
    /// # Errors
    /// `Corrupt` with file and offset where none can be read: it has another size or version.
    pub(crate) fn new(path: PathBuf, bytes: Bytes, found: &DeletionVectorRef) -> Result<Self> {
        let DeletionVectorRef::File { crc32, size, .. } = found else {
            return Err(Error::new(ErrorKind::Internal, "AKI-0601", "a deletion vector that has no file"));
        };
        if bytes.len() as u64 != *size {
            let at = (*size).min(bytes.len() as u64);
            return Err(damaged(Some(&path), (at, "its file has another size than the manifest says")));
        }
        let is_whole = crc32fast::hash(&bytes) == *crc32;
        if is_whole && bytes.first() != Some(&FILE_VERSION) {
            return Err(damaged(Some(&path), (0, "its version is not 1")));
        }
        Ok(Self { path, bytes, is_whole })
    }

    /// The vector that `found` names in it; `rows` are the rows of its segment.
    ///
    /// # Errors
    /// `Corrupt` with file and offset when anything differs from what was written.
    pub(crate) fn read(&self, found: &DeletionVectorRef, rows: u32) -> Result<DeletionVector> {
        let DeletionVectorRef::File { offset, len, .. } = found else { return inline(found, rows) };
        let decoded = unframe(&self.bytes, *offset, *len).and_then(|bytes| {
            DeletionVector::deserialize(bytes, rows).map_err(|what| (u64::from(*offset) + 4, what))
        });
        counted(decoded, found).map_err(|wrong| damaged(Some(&self.path), wrong))
    }

    /// Refuses a file of which anything rotted, be it what no vector needs.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn check_whole(&self) -> Result<()> {
        if self.is_whole {
            return Ok(());
        }
        Err(damaged(Some(&self.path), (0, "the file does not match its checksum")))
    }
}

/// The deletion vectors of a collection, read one after the other: a file that holds several is read once.
#[derive(Debug)]
pub(crate) struct Vectors<'a> {
    fs: &'a dyn Fs,
    dir: PathBuf,
    files: BTreeMap<String, VectorFile>,
}

impl<'a> Vectors<'a> {
    /// Those in `dir`, the collection's `dv` directory.
    pub(crate) fn new(fs: &'a dyn Fs, dir: PathBuf) -> Self {
        Self { fs, dir, files: BTreeMap::new() }
    }

    /// The deletion vector that `found` names; `rows` are the rows of its segment. Blocks.
    ///
    /// # Errors
    /// `Corrupt` with file and offset when anything of it differs from what was written, or the file is not there;
    /// `Unavailable`.
    pub(crate) fn read(&mut self, found: &DeletionVectorRef, rows: u32) -> Result<DeletionVector> {
        match self.file(found)? {
            Some(file) => file.read(found, rows),
            None => inline(found, rows),
        }
    }

    /// The file that holds it, if one does.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt` if it is not there, and as [`VectorFile::new`].
    pub(crate) fn file(&mut self, found: &DeletionVectorRef) -> Result<Option<&VectorFile>> {
        let DeletionVectorRef::File { file, .. } = found else { return Ok(None) };
        let read = match self.files.entry(file.clone()) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(place) => {
                let path = self.dir.join(file);
                let io = |e: &std::io::Error| Error::io("AKI-0602", &path, "reading deletion vectors", e);
                let bytes = read_whole(self.fs, &path)
                    .map_err(|e| io(&e).of_named_file().mended_by(mending(&path)))?;
                place.insert(VectorFile::new(path.clone(), bytes.into(), found)?)
            }
        };
        Ok(Some(read))
    }
}

/// Reads one deletion vector; as [`Vectors::read`].
pub(crate) fn read(fs: &dyn Fs, dir: &Path, found: &DeletionVectorRef, rows: u32) -> Result<DeletionVector> {
    Vectors::new(fs, dir.to_path_buf()).read(found, rows)
}

/// What is wrong, and at which offset.
type Wrong = (u64, &'static str);

/// The vector that lies in the manifest.
///
/// # Errors
/// `Corrupt` when anything differs from what was written.
pub(crate) fn inline(found: &DeletionVectorRef, rows: u32) -> Result<DeletionVector> {
    let decoded = match found {
        DeletionVectorRef::Inline { z85, len, .. } => from_z85(z85, *len),
        DeletionVectorRef::File { .. } => Err((0, "it is said to lie in a file")),
    };
    let decoded =
        decoded.and_then(|bytes| DeletionVector::deserialize(&bytes, rows).map_err(|what| (0, what)));
    counted(decoded, found).map_err(|wrong| damaged(None, wrong))
}

fn counted(
    decoded: Result<DeletionVector, Wrong>,
    found: &DeletionVectorRef,
) -> Result<DeletionVector, Wrong> {
    decoded.and_then(|vector| match vector.len() == u64::from(found.count()) {
        true => Ok(vector),
        false => Err((0, "it has another number of rows than the manifest says")),
    })
}

fn damaged(path: Option<&Path>, (offset, what): Wrong) -> Error {
    let message = format!("a deletion vector is damaged: {what}");
    match path {
        Some(path) => Error::corrupt("AKI-0604", path, offset, message).help_is(mending(path)),
        None => Error::new(ErrorKind::Corrupt, "AKI-0604", format!("{message} (it lies in the manifest)")),
    }
}

fn from_z85(z85: &str, len: u32) -> Result<Vec<u8>, Wrong> {
    let padded = (len as usize).next_multiple_of(4);
    let bytes = z85::decode(z85).ok().filter(|bytes| bytes.len() == padded);
    let mut bytes = bytes.ok_or((0, "its text is not Z85 of its length"))?;
    bytes.truncate(len as usize);
    Ok(bytes)
}

/// What mends the damaged deletion vector at `path`. Without it the dead rows of its segment would live again.
fn mending(path: &Path) -> String {
    format!(
        "take the file back from a backend that has it: `akidb repair segment {} --from BACKEND`; if none has it, give \
         up the segments whose dead rows it holds by `--drop`: `akidb verify` names them",
        shell_word(path)
    )
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
