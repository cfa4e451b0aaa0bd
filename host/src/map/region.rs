//! Read-only views of files that no longer change.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use memmap2::{Mmap, MmapOptions};

/// A read-only view of a whole file (or of a heap copy of it, where maps are simulated). Cheap to clone; the
/// mapping lives as long as the last clone.
#[derive(Clone)]
pub struct Region(Arc<Bytes>);

enum Bytes {
    Map(Mmap),
    Heap(Vec<u8>),
}

impl Region {
    /// A region over bytes in memory.
    #[must_use]
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Bytes::Heap(bytes)))
    }

    /// Maps the first `len` bytes of `file`; an empty file needs no map.
    pub(crate) fn of_file(file: &std::fs::File, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if len == 0 {
            return Ok(Self::from_vec(Vec::new()));
        }
        // SAFETY: the caller (`File::map`) took `len` from the file just now and promises, as its contract says,
        // that the file is neither truncated nor rewritten while the region lives; files mapped this way are
        // immutable once published, and the directory's lock keeps a second writer out. A sparse file that is filled
        // while it is mapped is neither: its owner lets nobody look at a hole before it was filled, and fills it once.
        let map = unsafe { MmapOptions::new().len(len).map(file)? };
        Ok(Self(Arc::new(Bytes::Map(map))))
    }

    /// Has the bytes of `range` read from the disk, if they are not in memory: a page that it cannot give is an error here,
    /// and a SIGBUS for who looks at it. Kernels before 5.14 do not know the call.
    pub(crate) fn populate(&self, range: Range<usize>) -> io::Result<()> {
        match &*self.0 {
            Bytes::Heap(_) => Ok(()),
            #[cfg(target_os = "linux")]
            Bytes::Map(map) => map.advise_range(memmap2::Advice::PopulateRead, range.start, range.len()),
            #[cfg(not(target_os = "linux"))]
            Bytes::Map(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &*self.0 {
            Bytes::Map(map) => map,
            Bytes::Heap(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("len", &self.bytes().len()).finish()
    }
}
