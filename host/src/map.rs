//! Memory maps: the one place in this crate where bytes of a file are memory, and its only unsafe code.
//!
//! # Why this is sound
//!
//! A log region is a `MAP_SHARED` read-write map reached only through raw pointers; a `&mut [u8]` of it never
//! exists. It is cut in two at the *published end*, an atomic number that only grows:
//!
//! ```text
//! 0 ............. published end ............. private end ............. capacity
//! | readers (Tail): &[u8] of it | written, not yet shown | untouched             |
//! |                             | the Appender alone touches these two parts     |
//! ```
//!
//! - There is one [`Appender`] (not `Clone`, writes through `&mut self`), and it copies only to addresses at or
//!   above its private end, which is never below the published end: no byte a reader may hold is ever written.
//! - [`Appender::write_through`] lets the kernel do the copy (`pwrite` of the same file), to the same addresses and
//!   under the same `&mut self`. On Linux the pages of a shared map are the pages that `pwrite` fills, and the call
//!   has returned before the end is stored: for readers it is a copy like any other. One that failed midway left
//!   bytes above the private end only. Handed another file it changes that one, and readers here are shown what
//!   the map held: wrong bytes, but none that are written while they look.
//! - The end is stored with Release after the copy and loaded with Acquire by [`Tail::bytes`], which gives out
//!   bytes below it only: every byte a reader sees was fully written before.
//! - The map lives in an `Arc` held by the appender and by every tail; what `bytes` returns borrows the tail.
//! - The region is written from its start again only after [`Appender::reclaim`], which takes the `Arc` back by
//!   uniqueness: then no tail, hence no borrowed byte, is left.
//!
//! What the language cannot see: another process that *writes* to the mapped part breaks the rules above, and
//! one that *truncates* the file makes the next touch of the lost pages a SIGBUS, which kills the process (a
//! library must not own signal handlers, so none is installed). Hence the directory's lock file, the length
//! check before each map, and the advice to operators to leave live files alone. Unlinking a mapped file is
//! harmless. A hole is never mapped: on a full disk its first store would be a SIGBUS as well.

#![expect(unsafe_code, reason = "maps are this crate's purpose; every block names its invariant")]

use std::fmt;
use std::io;
use std::ops::Range;
#[cfg(feature = "test-util")]
use std::sync::Arc as StdArc;

use memmap2::{MmapOptions, MmapRaw};

use self::sync::{Arc, AtomicU64, Ordering};
use crate::fs::File;

mod atomic_page;
mod fork;
mod probe;
mod region;

pub use self::atomic_page::AtomicPage;
pub use self::fork::ForkMark;
#[cfg(feature = "test-util")]
pub use self::fork::in_forked_child;
pub use self::probe::probe_folio;
pub use self::region::Region;

/// Std's atomics and `Arc`, or loom's in a model.
mod sync {
    #[cfg(akidb_loom)]
    pub(super) use loom::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };
    #[cfg(not(akidb_loom))]
    pub(super) use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };
}

/// A test's say in a step of an appender of so many bytes. It runs the step once, telling it how many of the
/// bytes it may do, or never returns.
#[cfg(feature = "test-util")]
pub(crate) type AppendHook = StdArc<dyn Fn(crate::sim::Op, usize, &mut dyn FnMut(usize)) + Send + Sync>;

/// Told offset and bytes of each copy into a region without a file, so that a simulated file has them too.
#[cfg(feature = "test-util")]
pub(crate) type Mirror = Box<dyn Fn(u64, &[u8]) + Send + Sync>;

/// A log file's bytes, before they are split between the one appender and its readers.
pub struct LogRegion {
    shared: Shared,
    #[cfg(feature = "test-util")]
    hook: Option<AppendHook>,
}

impl LogRegion {
    /// Maps the first `len` bytes of `file` for reading and writing; the file must be that long already.
    pub(crate) fn of_file(file: &std::fs::File, len: u64) -> io::Result<Self> {
        let have = file.metadata()?.len();
        if have < len {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a map of {len} bytes was asked of a file of {have}: touching the rest would be a SIGBUS"
                ),
            ));
        }
        let bytes = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let map = MmapOptions::new().len(bytes).map_raw(file)?;
        // A store dirties a whole page of the cache, however large; failure changes speed, nothing else.
        let _ = map.advise(memmap2::Advice::NoHugePage);
        Ok(Self::over(map, bytes, Behind::File))
    }

    /// A region over zeroed anonymous memory, for models and simulated disks.
    #[cfg(any(test, akidb_loom, feature = "test-util"))]
    pub fn in_memory(len: usize) -> io::Result<Self> {
        Ok(Self::over(MmapRaw::from(MmapOptions::new().len(len).map_anon()?), len, Behind::Nothing))
    }

    /// A region that begins as a copy of `bytes`, for a simulated file, which `mirror` keeps equal to it.
    #[cfg(feature = "test-util")]
    pub fn mirrored(bytes: &[u8], mirror: Mirror) -> io::Result<Self> {
        let mut map = MmapOptions::new().len(bytes.len()).map_anon()?;
        map.copy_from_slice(bytes);
        Ok(Self::over(MmapRaw::from(map), bytes.len(), Behind::Mirror(mirror)))
    }

    fn over(map: MmapRaw, capacity: usize, behind: Behind) -> Self {
        Self {
            shared: Shared::new(map, capacity, behind),
            #[cfg(feature = "test-util")]
            hook: None,
        }
    }

    /// Puts `outer` in front of each append and publish, and of a hook that is there already.
    #[cfg(feature = "test-util")]
    pub(crate) fn with_hook(mut self, outer: AppendHook) -> Self {
        self.hook = Some(match self.hook.take() {
            None => outer,
            Some(inner) => StdArc::new(move |op, len, step: &mut dyn FnMut(usize)| {
                outer(op, len, &mut |most| inner(op, most, &mut *step));
            }),
        });
        self
    }

    /// The one appender, at offset 0, and a first reader to clone.
    #[must_use]
    pub fn split(self) -> (Appender, Tail) {
        let shared = Arc::new(self.shared);
        let tail = Tail { shared: Arc::clone(&shared) };
        let appender = Appender {
            shared,
            at: 0,
            published: 0,
            #[cfg(feature = "test-util")]
            hook: self.hook,
        };
        (appender, tail)
    }
}

impl fmt::Debug for LogRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogRegion").field("capacity", &self.shared.capacity).finish()
    }
}

/// The bytes do not fit behind the private end; nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// Bytes the append needs.
    pub needed: u64,
    /// Bytes left.
    pub left: u64,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes do not fit into the {} left in the log file", self.needed, self.left)
    }
}

impl std::error::Error for NoRoom {}

/// The only writer of a log region. What it appends is private until [`Appender::publish`].
pub struct Appender {
    shared: Arc<Shared>,
    /// Private end: the next byte goes here.
    at: usize,
    published: usize,
    #[cfg(feature = "test-util")]
    hook: Option<AppendHook>,
}

impl Appender {
    /// Size of the region in bytes.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.shared.capacity as u64
    }

    /// Offset of the next append: bytes appended so far, published or not.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.at as u64
    }

    /// Moves the private end, to start behind a header that the file already has. The bytes skipped are
    /// published as they are by the first [`Appender::publish`].
    ///
    /// # Panics
    /// After the first publish, or past the capacity: both are mistakes of the caller.
    pub fn seek(&mut self, end: u64) {
        assert!(self.published == 0, "seek after a publish would rewrite what readers see");
        let at = usize::try_from(end).ok().filter(|at| *at <= self.shared.capacity);
        self.at = at.expect("seek past the end of the log region");
    }

    /// Copies `bytes` behind the private end and gives their offset. Never blocks on readers, never syncs.
    pub fn append(&mut self, bytes: &[u8]) -> Result<u64, NoRoom> {
        self.write_parts(&[bytes])
    }

    /// As [`Appender::append`] of the parts one behind the other: all of them or none.
    pub fn write_parts(&mut self, parts: &[&[u8]]) -> Result<u64, NoRoom> {
        let left = self.shared.capacity - self.at;
        let needed = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
        if needed > left {
            return Err(NoRoom { needed: needed as u64, left: left as u64 });
        }
        let start = self.at as u64;
        #[cfg(feature = "test-util")]
        if let Some(hook) = self.hook.clone() {
            hook(crate::sim::Op::LogAppend, needed, &mut |most| self.copy(parts, most));
            return Ok(start);
        }
        self.copy(parts, needed);
        Ok(start)
    }

    /// Copies the first `most` bytes of the parts.
    fn copy(&mut self, parts: &[&[u8]], mut most: usize) {
        for part in parts {
            let part = &part[..part.len().min(most)];
            // SAFETY: `write_parts` checked that all parts fit; `at` is at or above the published end, because it
            // only grows after the first publish and publish stores `at` itself; `&mut self` of the one appender
            // makes this the only writer.
            unsafe { self.shared.put(self.at, part) };
            self.at += part.len();
            most -= part.len();
        }
    }

    /// As [`Appender::append`], by one positioned write to `file`, the file that was mapped. Blocks as a write does.
    ///
    /// # Errors
    /// Those of [`File::write_at`], and [`NoRoom`] as `StorageFull`: the private end stays where it was, and the
    /// bytes above it are unknown.
    pub fn write_through(&mut self, file: &dyn File, bytes: &[u8]) -> io::Result<u64> {
        let left = self.shared.capacity - self.at;
        if bytes.len() > left {
            let no_room = NoRoom { needed: bytes.len() as u64, left: left as u64 };
            return Err(io::Error::new(io::ErrorKind::StorageFull, no_room));
        }
        let start = self.at as u64;
        file.write_at(bytes, start)?;
        // SAFETY: it fits, `at` is at or above the published end, and this is the one appender (see `copy`).
        unsafe { self.shared.put_written(self.at, bytes) };
        self.at += bytes.len();
        Ok(start)
    }

    /// Shows everything appended so far to the readers.
    pub fn publish(&mut self) {
        #[cfg(feature = "test-util")]
        if let Some(hook) = self.hook.clone() {
            let len = self.at - self.published;
            hook(crate::sim::Op::LogPublish, len, &mut |_| self.show());
            return;
        }
        self.show();
    }

    fn show(&mut self) {
        self.published = self.at;
        // Release: a reader that sees this end sees every byte copied below it.
        let order = if crate::seeded::seeded_bug("map_publish_relaxed") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        self.shared.end.store(self.at as u64, order);
    }

    /// Takes the region back, to write it from its start again: only when no [`Tail`] of it is left, otherwise
    /// the appender comes back unchanged. The bytes stay as they are.
    pub fn reclaim(self) -> Result<LogRegion, Self> {
        let Self { shared, at, published, .. } = self;
        match Arc::try_unwrap(shared) {
            Ok(shared) => {
                shared.end.store(0, Ordering::Relaxed);
                Ok(LogRegion {
                    shared,
                    #[cfg(feature = "test-util")]
                    hook: self.hook,
                })
            }
            Err(shared) => Err(Self {
                shared,
                at,
                published,
                #[cfg(feature = "test-util")]
                hook: self.hook,
            }),
        }
    }
}

impl fmt::Debug for Appender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appender")
            .field("capacity", &self.shared.capacity)
            .field("end", &self.at)
            .field("published", &self.published)
            .finish()
    }
}

/// A reader of the published part of a log region; the mapping lives as long as any of its tails.
#[derive(Clone)]
pub struct Tail {
    shared: Arc<Shared>,
}

impl Tail {
    /// The published end in bytes; only grows.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.shared.end.load(Ordering::Acquire)
    }

    /// The bytes of `range`, or `None` if it is inverted or reaches past the published end.
    #[must_use]
    pub fn bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.end() {
            return None;
        }
        let start = usize::try_from(range.start).ok()?;
        let end = usize::try_from(range.end).ok()?;
        // SAFETY: the range lies below an end that was loaded with Acquire, so its bytes were written before and
        // nobody writes them again while this tail, which the slice borrows, keeps the region from being
        // reclaimed.
        Some(unsafe { self.shared.get(start, end - start) })
    }
}

impl fmt::Debug for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail").field("capacity", &self.shared.capacity).finish_non_exhaustive()
    }
}

#[cfg(akidb_loom)]
// SAFETY: a cell holds nothing; loom checks each touch of it against the others at run time, which is its purpose.
unsafe impl Sync for Shared {}

/// What has the bytes besides the map.
enum Behind {
    /// The file that is mapped.
    File,
    /// Nothing: a model.
    #[cfg(any(test, akidb_loom, feature = "test-util"))]
    Nothing,
    /// A simulated file.
    #[cfg(feature = "test-util")]
    Mirror(Mirror),
}

/// The map and its published end.
struct Shared {
    map: MmapRaw,
    behind: Behind,
    capacity: usize,
    end: AtomicU64,
    /// One cell for 8 bytes, through which a model sees a copy race a read. Frames start 8-aligned.
    #[cfg(akidb_loom)]
    cells: Vec<loom::cell::UnsafeCell<()>>,
}

impl Shared {
    fn new(map: MmapRaw, capacity: usize, behind: Behind) -> Self {
        Self {
            map,
            behind,
            capacity,
            end: AtomicU64::new(0),
            #[cfg(akidb_loom)]
            cells: (0..capacity.div_ceil(8)).map(|_| loom::cell::UnsafeCell::new(())).collect(),
        }
    }

    /// # Safety
    /// `at + bytes.len() <= capacity`, `at` is not below the published end, and the caller is the one appender.
    unsafe fn put(&self, at: usize, bytes: &[u8]) {
        // SAFETY: the caller's.
        unsafe { self.put_here(at, bytes) };
        #[cfg(feature = "test-util")]
        if let Behind::Mirror(mirror) = &self.behind {
            mirror(at as u64, bytes);
        }
    }

    /// Of bytes that were written to the file: they are in its map already.
    ///
    /// # Safety
    /// As for [`Shared::put`].
    unsafe fn put_written(&self, at: usize, bytes: &[u8]) {
        if matches!(self.behind, Behind::File) {
            return;
        }
        // SAFETY: the caller's.
        unsafe { self.put_here(at, bytes) };
    }

    /// # Safety
    /// As for [`Shared::put`].
    unsafe fn put_here(&self, at: usize, bytes: &[u8]) {
        debug_assert!(at + bytes.len() <= self.capacity, "append past the map");
        #[cfg(akidb_loom)]
        self.cells[at / 8..(at + bytes.len()).div_ceil(8)].iter().for_each(|cell| cell.with_mut(|_| ()));
        // SAFETY: the target lies inside the map (caller) where no reference points (nobody reads above the
        // published end), and `bytes` cannot overlap it for the same reason.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at), bytes.len()) };
    }

    /// # Safety
    /// `at + len` is at most a published end loaded with Acquire.
    unsafe fn get(&self, at: usize, len: usize) -> &[u8] {
        #[cfg(akidb_loom)]
        self.cells[at / 8..(at + len).div_ceil(8)].iter().for_each(|cell| cell.with(|_| ()));
        // SAFETY: inside the map and published (caller), so initialised and never written while borrowed.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(at), len) }
    }
}

#[cfg(test)]
#[cfg(akidb_loom)]
mod model;
#[cfg(test)]
#[cfg(not(akidb_loom))]
mod tests;
