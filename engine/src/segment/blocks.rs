//! The bytes of an open segment: mapped, and each 16 KiB block checked by the first who touches it.
//!
//! Checking reads the block with `pread`, so that a disk that cannot deliver it is an error and not a SIGBUS, and so
//! that a file cut short after open is seen; later touches go to the map and cost one bit test.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use akidb_host::Region;
use bytes::Bytes;

use super::check::BLOCK_LEN;
use super::origin::Origin;
use crate::error::{Error, Result};

/// Blocks checked with one read.
const RUN_BLOCKS: usize = 16;
const BITS: usize = 64;

/// Keeps a map alive as long as any slice of it.
struct Mapped(Region);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// What stands where, to put names to damage.
pub(super) trait Describe {
    /// What the byte at `offset` belongs to, for people.
    fn describe(&self, offset: u64) -> String;

    /// What mends damage of the file at `path`.
    fn help(&self, path: &Path) -> String;
}

/// The checked part of a file, `[0, covered)`.
pub(super) struct Blocks {
    origin: Origin,
    bytes: Bytes,
    table: Vec<u32>,
    /// A bit a block: found right since open.
    verified: Box<[AtomicU64]>,
    verified_bytes: AtomicU64,
    touched_bytes: AtomicU64,
}

impl Blocks {
    /// Maps the file; `table` has the checksums of its first `covered` bytes.
    pub(super) fn new(origin: Origin, table: Vec<u32>, covered: u64, path: &Path) -> Result<Self> {
        let region = origin.map().map_err(|e| Error::io("AKI-0502", path, "mapping a segment", &e))?;
        let bytes = Bytes::from_owner(Mapped(region));
        let covered = usize::try_from(covered).unwrap_or(usize::MAX);
        if bytes.len() < covered {
            let message = format!("the file became shorter: {} bytes, {covered} needed", bytes.len());
            return Err(Error::corrupt("AKI-0503", path, bytes.len() as u64, message));
        }
        let bytes = bytes.slice(..covered);
        let verified = (0..table.len().div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect();
        let (verified_bytes, touched_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { origin, bytes, table, verified, verified_bytes, touched_bytes })
    }

    /// Bytes covered.
    pub(super) fn covered(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// All bytes, unchecked: slices of it may be kept, but are read only after [`Blocks::check`].
    pub(super) fn unchecked(&self) -> &Bytes {
        &self.bytes
    }

    /// The file or object.
    #[inline]
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Checksums of the blocks.
    pub(super) fn table(&self) -> &[u32] {
        &self.table
    }

    /// Bytes found right so far, and bytes asked for by the calls that had to check.
    pub(super) fn counters(&self) -> (u64, u64) {
        (self.verified_bytes.load(Ordering::Relaxed), self.touched_bytes.load(Ordering::Relaxed))
    }

    /// The bytes of `range` once its blocks are known to be right.
    #[inline]
    pub(super) fn get(&self, range: Range<u64>) -> Result<&[u8], Fault> {
        let range = self.check(range)?;
        Ok(&self.bytes[range])
    }

    /// Checks the blocks of `range` that nobody has checked yet; where all were, that is one load and a comparison.
    #[inline]
    pub(super) fn check(&self, range: Range<u64>) -> Result<Range<usize>, Fault> {
        match self.verified_range(&range) {
            Some(verified) => Ok(verified),
            None => self.check_cold(range),
        }
    }

    /// The range as positions if it lies in verified blocks whose bits share a word, as almost every short one does.
    #[inline]
    fn verified_range(&self, range: &Range<u64>) -> Option<Range<usize>> {
        let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
        if start >= end || end > self.bytes.len() {
            return None;
        }
        let (first, last) = (start / BLOCK_LEN, (end - 1) / BLOCK_LEN);
        if first / BITS != last / BITS {
            return None;
        }
        let wanted = (u64::MAX >> (BITS - 1 - (last - first))) << (first % BITS);
        (self.verified[first / BITS].load(Ordering::Acquire) & wanted == wanted).then_some(start..end)
    }

    #[cold]
    #[inline(never)]
    fn check_cold(&self, range: Range<u64>) -> Result<Range<usize>, Fault> {
        let (start, end) = (range.start, range.end);
        if end > self.covered() || start > end {
            return Err(Fault { offset: start.min(self.covered()), cause: Cause::OutOfFile });
        }
        let range = usize::try_from(start).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
        let blocks = range.start / BLOCK_LEN..range.end.div_ceil(BLOCK_LEN);
        let mut next = self.next_unverified(blocks.clone());
        if next < blocks.end && !range.is_empty() {
            self.touched_bytes.fetch_add(range.len() as u64, Ordering::Relaxed);
            let mut buffer = Vec::new();
            while next < blocks.end {
                let run_end = self.next_verified(next..blocks.end.min(next + RUN_BLOCKS));
                self.check_run(next..run_end, &mut buffer)?;
                next = self.next_unverified(run_end..blocks.end);
            }
        }
        Ok(range)
    }

    fn check_run(&self, blocks: Range<usize>, buffer: &mut Vec<u8>) -> Result<(), Fault> {
        let start = blocks.start * BLOCK_LEN;
        let end = (blocks.end * BLOCK_LEN).min(self.bytes.len());
        buffer.resize(end - start, 0);
        let read = self.origin.read_exact_at(buffer, start as u64);
        read.map_err(|e| Fault { offset: start as u64, cause: Cause::of(e) })?;
        for (block, bytes) in blocks.zip(buffer.chunks(BLOCK_LEN)) {
            if crc32fast::hash(bytes) != self.table[block] {
                self.mend(block, bytes.len())?;
            }
            let bit = 1 << (block % BITS);
            // Release pairs with the Acquire of a reader that skips the check: what it reads is what was checked.
            if self.verified[block / BITS].fetch_or(bit, Ordering::Release) & bit == 0 {
                self.verified_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Has a damaged block once more, where there is another place to have it from.
    #[cold]
    fn mend(&self, block: usize, len: usize) -> Result<(), Fault> {
        let offset = (block * BLOCK_LEN) as u64;
        let number = u32::try_from(block).expect("files are below 64 TiB");
        match self.origin.fetch_again(number, self.table[block], self.covered()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Fault { offset, cause: Cause::Mismatch(len) }),
            Err(error) => Err(Fault { offset, cause: Cause::Read(io::Error::other(error)) }),
        }
    }

    fn is_verified(&self, block: usize) -> bool {
        self.verified[block / BITS].load(Ordering::Acquire) >> (block % BITS) & 1 == 1
    }

    fn next_unverified(&self, blocks: Range<usize>) -> usize {
        let mut block = blocks.start;
        while block < blocks.end {
            let word = self.verified[block / BITS].load(Ordering::Acquire) >> (block % BITS);
            let ones = word.trailing_ones() as usize;
            if ones < BITS - block % BITS {
                return (block + ones).min(blocks.end);
            }
            block += ones;
        }
        blocks.end
    }

    fn next_verified(&self, mut blocks: Range<usize>) -> usize {
        let end = blocks.end;
        blocks.find(|block| self.is_verified(*block)).unwrap_or(end)
    }
}

/// Why bytes could not be had.
#[derive(Debug)]
pub(super) struct Fault {
    offset: u64,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    /// The block of so many bytes is not what was written.
    Mismatch(usize),
    /// The file ends before it.
    Short,
    /// Nobody has written there: the place asked for is wrong.
    OutOfFile,
    Read(io::Error),
}

impl Cause {
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Short,
            _ => Self::Read(error),
        }
    }
}

impl Fault {
    /// The error a caller sees; `places` names what is damaged.
    pub(super) fn into_error(self, path: &Path, places: &dyn Describe) -> Error {
        let what = places.describe(self.offset);
        match self.cause {
            Cause::Mismatch(len) => {
                let message = format!("{len} bytes of a segment do not match their checksum: {what}");
                Error::corrupt("AKI-0504", path, self.offset, message).help_is(places.help(path))
            }
            Cause::Short => {
                let message = format!("the file became shorter than when it was opened: {what}");
                Error::corrupt("AKI-0503", path, self.offset, message).help_is(places.help(path))
            }
            Cause::OutOfFile => {
                Error::corrupt("AKI-0503", path, self.offset, "a place named in the segment lies outside it")
            }
            Cause::Read(e) => match e.downcast::<Error>() {
                Ok(error) => error.about(&format!("reading {what}")),
                Err(e) => {
                    Error::io("AKI-0502", path, &format!("reading {what}"), &e).at(path, Some(self.offset))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use akidb_host::{Access, Fs, RealFs};

    use super::*;

    /// 200 blocks, the last one short: their bits take four words.
    fn blocks(dir: &Path) -> Blocks {
        let bytes: Vec<u8> = (0..200 * BLOCK_LEN - 100).map(|i| (i / 7).to_le_bytes()[0]).collect();
        let path = dir.join("x");
        std::fs::write(&path, &bytes).unwrap();
        let table = bytes.chunks(BLOCK_LEN).map(crc32fast::hash).collect();
        let file = RealFs.open(&path, Access::Read).unwrap();
        Blocks::new(Origin::Local(file), table, bytes.len() as u64, &path).unwrap()
    }

    #[test]
    fn the_short_way_says_verified_for_exactly_the_ranges_whose_blocks_all_are() {
        let dir = tempfile::tempdir().unwrap();
        let blocks = blocks(dir.path());
        let block = BLOCK_LEN as u64;
        for at in [0, 3, 4, 5, 62, 63, 64, 65, 127, 128, 199] {
            blocks.check(at * block..at * block + 1).unwrap();
        }
        for first in (0..8).chain(58..70).chain(120..132).chain(190..200) {
            for count in 1..=66_u64.min(200 - first) {
                let range = first * block..((first + count) * block).min(blocks.covered());
                let last = usize::try_from(first + count).unwrap() - 1;
                let first = usize::try_from(first).unwrap();
                let all = (first..=last).all(|at| blocks.is_verified(at));
                let short = blocks.verified_range(&range);
                assert_eq!(short.is_some(), all && first / BITS == last / BITS, "{range:?}");
            }
        }
        blocks.check(0..blocks.covered()).unwrap();
        assert_eq!(blocks.verified_range(&(64 * block..128 * block)), Some(64 * BLOCK_LEN..128 * BLOCK_LEN));
        assert_eq!(blocks.verified_range(&(3..blocks.covered())), None, "four words take the long way");
        assert_eq!(blocks.get(3..blocks.covered()).unwrap().len() as u64, blocks.covered() - 3);
        assert_eq!(blocks.verified_range(&(5..5)), None);
        assert_eq!(blocks.get(5..5).unwrap(), b"");
        assert_eq!(blocks.verified_range(&(1..blocks.covered() + 1)), None);
        assert!(blocks.get(1..blocks.covered() + 1).is_err());
    }
}
