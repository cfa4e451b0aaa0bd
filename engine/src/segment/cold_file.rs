//! The bytes of a segment that lies on a backend: a sparse file here, as long as the object, filled where it is read.
//!
//! A block of the file is filled once, before its bit says so, and after that only with bytes that match its checksum;
//! nobody looks at a block through the map before it was found right. The file has no name: the system takes its space
//! back with the last handle, also after a crash.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use akidb_host::{File, Fs};
use bytes::Bytes;

use super::check::BLOCK_LEN;
use crate::error::{Error, Result};

const BITS: u32 = 64;
/// Bytes of one request; a longer piece is asked for in several.
const PIECE_BLOCKS: u32 = 1 << 10;
/// Longer than any segment, and as many blocks as 32 bits number.
const MAX_LEN: u64 = 1 << 44;
/// Bytes in memory at the same time; a larger round is several.
const ROUND_BLOCKS: u32 = 4 << 10;

/// Where objects are read.
pub(crate) trait Remote: Send + Sync + fmt::Debug {
    /// Bytes of objects, in the order asked for; all are asked for at the same time. Blocks.
    ///
    /// # Errors
    /// `Unavailable`; `NotFound` and `Corrupt` with the object's key.
    fn fetch(&self, pieces: Vec<(Arc<str>, Range<u64>)>) -> Result<Vec<Bytes>>;
}

/// What a thread has fetched so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// Times it waited for a backend: requests of one round go out together.
    pub(crate) rounds: u64,
    /// Requests.
    pub(crate) gets: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

thread_local! {
    static FETCHED: Cell<Fetched> = Cell::default();
}

impl Fetched {
    /// Of this thread: the difference of two says what was fetched between.
    pub(crate) fn by_this_thread() -> Self {
        FETCHED.get()
    }

    /// What was fetched since.
    pub(crate) fn since(self) -> Self {
        let now = Self::by_this_thread();
        let (rounds, gets) = (now.rounds - self.rounds, now.gets - self.gets);
        Self { rounds, gets, bytes: now.bytes - self.bytes }
    }
}

/// The object of a segment and what is here of it.
pub(crate) struct ColdFile {
    remote: Arc<dyn Remote>,
    key: Arc<str>,
    /// As errors name it.
    place: PathBuf,
    len: u64,
    here: Arc<dyn File>,
    /// A bit a block.
    filled: Box<[AtomicU64]>,
    /// Held while a block is filled.
    filling: Mutex<()>,
    /// Whether its codes were searched before.
    searched: AtomicBool,
}

impl ColdFile {
    /// An object of `len` bytes, nothing of it here yet. `path` is where its sparse file is made; it has lost that name
    /// again when this returns. `place` is the object as errors name it.
    ///
    /// # Errors
    /// What the local disk refuses.
    pub(crate) fn create(
        fs: &dyn Fs,
        path: &Path,
        remote: Arc<dyn Remote>,
        key: &str,
        place: PathBuf,
        len: u64,
    ) -> Result<Self> {
        if len > MAX_LEN {
            let message = format!("a segment of {len} bytes; none is longer than {MAX_LEN}");
            return Err(Error::corrupt("AKI-0503", &place, MAX_LEN, message));
        }
        let made = fs.create_new(path).and_then(|file| {
            let sized = file.set_len(len);
            fs.unlink(path)?;
            sized.map(|()| file)
        });
        let here = made.map_err(|e| Error::io("AKI-0517", path, "making room for a segment", &e))?;
        let blocks = len.div_ceil(BLOCK_LEN as u64);
        let filled = (0..blocks.div_ceil(u64::from(BITS))).map(|_| AtomicU64::new(0)).collect();
        let (filling, searched) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { remote, key: key.into(), place, len, here, filled, filling, searched })
    }

    /// The object as errors name it.
    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The file here, holes and all.
    pub(super) fn here(&self) -> &Arc<dyn File> {
        &self.here
    }

    /// Whether its codes were searched before; from now on they were.
    pub(super) fn was_searched(&self) -> bool {
        self.searched.swap(true, Ordering::Relaxed)
    }

    /// Fills `buffer`; what of it is not here is fetched, in one round.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let blocks = blocks_of(&(offset..offset + buffer.len() as u64));
        if offset + buffer.len() as u64 <= self.len {
            let ranges = runs(self.missing(blocks));
            let wanted: Vec<_> = ranges.into_iter().map(|range| (self, range)).collect();
            fetch(&wanted).map_err(io::Error::other)?;
        }
        self.here.read_exact_at(buffer, offset)
    }

    /// Those of `blocks` that are not here.
    pub(super) fn missing(&self, blocks: Range<u32>) -> impl Iterator<Item = u32> {
        blocks.filter(|block| !self.is_filled(*block))
    }

    /// Asks once more for a block that is not what it should be; whether it is right now.
    ///
    /// # Errors
    /// The backend's, or the local disk's.
    pub(super) fn fetch_again(&self, block: u32, crc32: u32, covered: u64) -> Result<bool> {
        tracing::warn!(object = %self.place.display(), block, "a block does not match its checksum; it is fetched again");
        let range = self.bytes_of(&(block..block + 1));
        let bytes = self.ask(vec![(Arc::clone(&self.key), range.clone())])?.pop().unwrap_or_default();
        // The last block of those that have checksums ends before the file does.
        let checked = bytes.slice(..bytes.len().min(to_usize(covered - range.start)));
        if crc32fast::hash(&checked) != crc32 {
            return Ok(false);
        }
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(&bytes, range.start)?;
        Ok(true)
    }

    /// Forgets what is here from `start` on: only before anybody else has this file.
    pub(super) fn forget_from(&self, start: u64) {
        for block in blocks_of(&(start..self.len)) {
            self.filled[(block / BITS) as usize].fetch_and(!(1 << (block % BITS)), Ordering::Relaxed);
        }
    }

    fn is_filled(&self, block: u32) -> bool {
        self.filled[(block / BITS) as usize].load(Ordering::Acquire) >> (block % BITS) & 1 == 1
    }

    fn bytes_of(&self, blocks: &Range<u32>) -> Range<u64> {
        let block = BLOCK_LEN as u64;
        u64::from(blocks.start) * block..(u64::from(blocks.end) * block).min(self.len)
    }

    fn ask(&self, pieces: Vec<(Arc<str>, Range<u64>)>) -> Result<Vec<Bytes>> {
        let (gets, before) = (pieces.len() as u64, FETCHED.get());
        let fetched = self.remote.fetch(pieces)?;
        let bytes = fetched.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        let Fetched { rounds, gets: gets_before, bytes: bytes_before } = before;
        FETCHED.set(Fetched { rounds: rounds + 1, gets: gets_before + gets, bytes: bytes_before + bytes });
        Ok(fetched)
    }

    /// Fills the blocks from `first` on that are not here yet.
    fn fill(&self, first: u32, bytes: &Bytes) -> Result<()> {
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        for (block, chunk) in (first..).zip(bytes.chunks(BLOCK_LEN)) {
            if !self.is_filled(block) {
                self.write(chunk, u64::from(block) * BLOCK_LEN as u64)?;
                // Release pairs with the Acquire of `is_filled`: who sees the bit reads what was written.
                self.filled[(block / BITS) as usize].fetch_or(1 << (block % BITS), Ordering::Release);
            }
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let written = self.here.write_at(bytes, offset);
        written.map_err(|e| Error::io("AKI-0517", &self.place, "keeping what was fetched", &e))
    }
}

impl fmt::Debug for ColdFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ColdFile").field("place", &self.place).field("len", &self.len).finish_non_exhaustive()
    }
}

/// Fetches ranges of blocks of one or more files of the same backend: in one round, if it is not a very large one.
pub(super) fn fetch(wanted: &[(&ColdFile, Range<u32>)]) -> Result<()> {
    let pieces = wanted.iter().flat_map(|(file, range)| {
        let starts = range.clone().step_by(PIECE_BLOCKS as usize);
        starts.map(move |start| (*file, start..range.end.min(start + PIECE_BLOCKS)))
    });
    let (mut round, mut blocks) = (Vec::new(), 0);
    for (file, range) in pieces {
        let len = range.end - range.start;
        if blocks + len > ROUND_BLOCKS {
            fetch_round(&round)?;
            (round, blocks) = (Vec::new(), 0);
        }
        blocks += len;
        round.push((file, range));
    }
    fetch_round(&round)
}

fn fetch_round(round: &[(&ColdFile, Range<u32>)]) -> Result<()> {
    let Some((first, _)) = round.first() else { return Ok(()) };
    let piece = |(file, range): &(&ColdFile, Range<u32>)| (Arc::clone(&file.key), file.bytes_of(range));
    let fetched = first.ask(round.iter().map(piece).collect())?;
    for ((file, range), bytes) in round.iter().zip(fetched) {
        file.fill(range.start, &bytes)?;
    }
    Ok(())
}

/// The blocks that hold these bytes.
pub(super) fn blocks_of(bytes: &Range<u64>) -> Range<u32> {
    let block = BLOCK_LEN as u64;
    let number = |block: u64| u32::try_from(block).expect("files are below 64 TiB");
    number(bytes.start / block)..number(bytes.end.div_ceil(block))
}

fn runs(blocks: impl Iterator<Item = u32>) -> Vec<Range<u32>> {
    let mut out: Vec<Range<u32>> = Vec::new();
    for block in blocks {
        match out.last_mut() {
            Some(range) if range.end == block => range.end += 1,
            _ => out.push(block..block + 1),
        }
    }
    out
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
