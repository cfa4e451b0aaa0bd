//! One page of a file shared between processes, given out as atomic words and never as a slice.
//!
//! # Why this is sound
//!
//! The map is reached only through `AtomicU64`s at 8-aligned offsets inside it; no reference to its bytes exists. A
//! 4-byte word is one half of its 8-byte word, so no two accesses of different width can meet, which the memory
//! model leaves undefined. Whoever else writes the file (another process, a system call) is outside the language's
//! model: to us a word then has another value, and what a word says is checked by whoever reads it. Truncating the
//! file makes the next access a SIGBUS, as for every map (see `map.rs`).
//!
//! In a model (`--cfg akidb_loom`) the words are std's atomics all the same: loom's cannot lie at an address of a
//! map. A model sees their values, not their reorderings.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

/// Words of a shared page, little endian in the file. Cheap to clone; the map lives as long as the last clone, also
/// after the file's handle was closed or its name removed.
///
/// All offsets are bytes from the page's start. An offset outside of the page or not a multiple of the word is a
/// mistake of the caller and panics.
#[derive(Clone)]
pub struct AtomicPage(Arc<MmapRaw>);

impl AtomicPage {
    /// Size of a page in bytes.
    pub const BYTES: usize = 4096;

    /// Maps the first page of `file` for reading and writing. Its blocks must exist: a hole on a full disk would be a
    /// SIGBUS.
    pub(crate) fn of_file(file: &std::fs::File) -> io::Result<Self> {
        let have = file.metadata()?.len();
        if have < Self::BYTES as u64 {
            let text =
                format!("a page was asked of a file of {have} bytes: touching the rest would be a SIGBUS");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Self(Arc::new(MmapOptions::new().len(Self::BYTES).map_raw(file)?)))
    }

    /// A page of zeros that is in no file, for models and simulated disks. Its clones share it.
    #[cfg(any(test, akidb_loom, feature = "test-util"))]
    pub fn in_memory() -> io::Result<Self> {
        Ok(Self(Arc::new(MmapRaw::from(MmapOptions::new().len(Self::BYTES).map_anon()?))))
    }

    /// The page as it is now, word by word: words stored meanwhile may be there or not.
    #[must_use]
    pub fn copy(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (i, word) in bytes.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&self.load_u64(i * 8, Ordering::Acquire).to_le_bytes());
        }
        bytes
    }

    /// The 8-byte word at `offset`.
    #[must_use]
    pub fn load_u64(&self, offset: usize, order: Ordering) -> u64 {
        u64::from_le(self.word(offset).load(order))
    }

    /// Stores the 8-byte word at `offset`.
    pub fn store_u64(&self, offset: usize, value: u64, order: Ordering) {
        self.word(offset).store(value.to_le(), order);
    }

    /// Stores `new` at `offset` if `current` is there (`AcqRel`); otherwise gives what is there.
    pub fn compare_exchange(&self, offset: usize, current: u64, new: u64) -> Result<u64, u64> {
        let (current, new) = (current.to_le(), new.to_le());
        let swapped = self.word(offset).compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire);
        swapped.map(u64::from_le).map_err(u64::from_le)
    }

    /// The 4-byte word at `offset`.
    #[must_use]
    pub fn load_u32(&self, offset: usize, order: Ordering) -> u32 {
        let (at, half) = Half::of(offset);
        half.get(self.load_u64(at, order))
    }

    /// Stores the 4-byte word at `offset` (`AcqRel`); the other half of its 8 bytes keeps what it has.
    pub fn store_u32(&self, offset: usize, value: u32) {
        self.update_u32(offset, |_| value);
    }

    /// Adds to the 4-byte word at `offset` (`AcqRel`), wrapping around, and gives what was there.
    pub fn fetch_add_u32(&self, offset: usize, add: u32) -> u32 {
        self.update_u32(offset, |was| was.wrapping_add(add))
    }

    fn update_u32(&self, offset: usize, change: impl Fn(u32) -> u32) -> u32 {
        let (at, half) = Half::of(offset);
        let mut was = self.load_u64(at, Ordering::Acquire);
        loop {
            let now = half.put(was, change(half.get(was)));
            match self.compare_exchange(at, was, now) {
                Ok(_) => return half.get(was),
                Err(other) => was = other,
            }
        }
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset < Self::BYTES, "no word at offset {offset} of a page");
        // SAFETY: the map is `BYTES` long and page-aligned, so the 8 bytes at a checked multiple of 8 lie inside it
        // and are aligned; it is writable and lives as long as `self`, which the reference borrows; nothing in this
        // program reaches these bytes other than through this function, so every access is an atomic of 8 bytes.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().add(offset).cast()) }
    }
}

impl fmt::Debug for AtomicPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtomicPage").finish_non_exhaustive()
    }
}

/// Which half of an 8-byte word a 4-byte word is, counted in the little-endian value.
#[derive(Clone, Copy)]
enum Half {
    Low,
    High,
}

impl Half {
    /// The 8-byte word that holds the 4 bytes at `offset`, and the half they are.
    fn of(offset: usize) -> (usize, Self) {
        assert!(offset.is_multiple_of(4), "no word at offset {offset} of a page");
        (offset / 8 * 8, if offset.is_multiple_of(8) { Self::Low } else { Self::High })
    }

    fn get(self, word: u64) -> u32 {
        let bits = match self {
            Self::Low => word & u64::from(u32::MAX),
            Self::High => word >> 32,
        };
        u32::try_from(bits).expect("32 bits are left")
    }

    fn put(self, word: u64, value: u32) -> u64 {
        match self {
            Self::Low => word >> 32 << 32 | u64::from(value),
            Self::High => word << 32 >> 32 | u64::from(value) << 32,
        }
    }
}

#[cfg(test)]
#[cfg(not(akidb_loom))]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::{Access, Fs, RealFs};

    fn page_of(path: &Path) -> AtomicPage {
        RealFs.open(path, Access::ReadWrite).unwrap().map_atomics().unwrap()
    }

    #[test]
    fn words_are_the_files_bytes_and_two_maps_share_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        std::fs::write(&path, vec![0; AtomicPage::BYTES]).unwrap();
        let (one, other) = (page_of(&path), page_of(&path));
        one.store_u64(64, 0x0102_0304_0506_0708, Ordering::Release);
        assert_eq!(other.load_u64(64, Ordering::Acquire), 0x0102_0304_0506_0708);
        one.store_u32(72, 7);
        other.store_u32(76, u32::MAX);
        assert_eq!(one.fetch_add_u32(76, 2), u32::MAX);
        assert_eq!((one.load_u32(72, Ordering::Relaxed), one.load_u32(76, Ordering::Relaxed)), (7, 1));
        assert_eq!(one.compare_exchange(4088, 1, 2), Err(0));
        assert_eq!(other.compare_exchange(4088, 0, 2), Ok(0));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[64..80], [8, 7, 6, 5, 4, 3, 2, 1, 7, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!((bytes[4088], &bytes[..]), (2, &one.copy()[..]));
    }

    #[test]
    fn a_file_shorter_than_a_page_is_not_mapped_and_offsets_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page");
        std::fs::write(&path, vec![0; AtomicPage::BYTES - 1]).unwrap();
        let error = RealFs.open(&path, Access::ReadWrite).unwrap().map_atomics().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let page = AtomicPage::in_memory().unwrap();
        for offset in [4096, 4, 4092, usize::MAX & !7] {
            let load = || page.load_u64(offset, Ordering::Relaxed);
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)).is_err(), "{offset}");
        }
        assert_eq!(page.load_u32(4092, Ordering::Relaxed), 0);
    }

    #[test]
    fn halves_of_a_word_do_not_lose_each_others_stores() {
        let page = AtomicPage::in_memory().unwrap();
        std::thread::scope(|scope| {
            for offset in [8, 12] {
                let page = page.clone();
                scope.spawn(move || (0..10_000).for_each(|_| _ = page.fetch_add_u32(offset, 1)));
            }
        });
        assert_eq!(page.load_u64(8, Ordering::Acquire), 10_000 << 32 | 10_000);
    }
}
