//! A file system that asks a test before each call whether it may go, must fail, or kills the process.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fs::{Access, Advice, DirEntry, File, Fs, FsKind, FsStats, LockGuard, Metadata};
use crate::map::{AtomicPage, LogRegion, Region};

/// The error number of a failed device.
pub const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
/// The error number of a full disk; its kind is `StorageFull`.
pub const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();

/// What a hooked call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `Fs::open`.
    Open,
    /// `File::read_at`, which `read_exact_at` calls.
    ReadAt,
    /// `File::map`.
    Map,
    /// `File::populate`.
    Populate,
    /// `File::map_log`.
    MapLog,
    /// `File::map_atomics`; stores into the page are not asked about.
    MapAtomics,
    /// `Fs::list`.
    List,
    /// `Fs::metadata`.
    Metadata,
    /// `Fs::try_lock` and `Fs::try_lock_shared`.
    Lock,
    /// `Fs::create_new`.
    CreateNew,
    /// `File::write_at`.
    WriteAt,
    /// `File::set_len`.
    SetLen,
    /// `File::zero_fill`.
    ZeroFill,
    /// `File::sync_data`.
    SyncData,
    /// `File::sync_all`.
    SyncAll,
    /// `Fs::create_dir_all`, with the syncs inside it.
    CreateDir,
    /// `Fs::rename`; the path is the new name.
    Rename,
    /// `Fs::hard_link`; the path is the new name.
    HardLink,
    /// `Fs::unlink`.
    Unlink,
    /// `Fs::remove_dir`.
    RemoveDir,
    /// `Fs::sync_dir`.
    SyncDir,
    /// `Appender::append` or `write_parts`: a copy into the log's map. Cannot fail.
    LogAppend,
    /// `Appender::publish`; the length is what it shows anew. Cannot fail.
    LogPublish,
}

impl Op {
    /// Whether the call changes a file or a directory, or syncs one: where a crash makes a difference.
    #[must_use]
    pub fn changes(self) -> bool {
        !matches!(
            self,
            Self::Open
                | Self::ReadAt
                | Self::Map
                | Self::Populate
                | Self::MapLog
                | Self::MapAtomics
                | Self::List
                | Self::Metadata
        )
    }

    /// Whether the call waits for stable storage.
    #[must_use]
    pub fn syncs(self) -> bool {
        matches!(self, Self::SyncData | Self::SyncAll | Self::SyncDir | Self::CreateDir)
    }

    /// Whether half of the call is something.
    fn has_a_middle(self) -> bool {
        matches!(self, Self::WriteAt | Self::LogAppend)
    }

    /// Whether the call can return an error: all but stores into a map.
    #[must_use]
    pub fn can_fail(self) -> bool {
        !matches!(self, Self::LogAppend | Self::LogPublish)
    }
}

/// One call about to happen.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its number among all hooked calls of this [`HookFs`], from 1.
    pub n: u64,
    /// What it does.
    pub op: Op,
    /// To what; a file keeps the name it was opened under.
    pub path: &'a Path,
    /// Where in the file reading or populating begins; 0 for other calls.
    pub offset: u64,
    /// How many bytes are read, written or filled; the new length for `SetLen`; otherwise 0.
    pub len: u64,
}

/// What shall happen to a call. Failures carry an `errno`, as the real ones do; where [`Op::can_fail`] is
/// `false` they are taken as [`Act::Go`], because a store into a map does not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Do it.
    Go,
    /// Do not do it, and fail.
    Fail(i32),
    /// `WriteAt`: write the first half, then fail. Other calls: as [`Act::Fail`].
    FailMidway(i32),
    /// Do it, then fail all the same.
    FailAfter(i32),
    /// Do not do it: SIGKILL to this process.
    Kill,
    /// `WriteAt` and `LogAppend`: the first half, then SIGKILL. Other calls: as [`Act::Kill`].
    KillMidway,
    /// Do it, then SIGKILL.
    KillAfter,
}

/// A test's say in every call. It may block, and it may be called by several threads at once.
pub type Hook = Arc<dyn Fn(&Call<'_>) -> Act + Send + Sync>;

/// Wraps a file system; see [`Op`] for the calls that are asked about. The others (`len`, `advise`, `statfs`,
/// `written_bytes`, the text in a lock file) pass through.
#[derive(Clone)]
pub struct HookFs {
    inner: Arc<dyn Fs>,
    asker: Arc<Asker>,
    kind: Option<FsKind>,
}

struct Asker {
    hook: Hook,
    calls: AtomicU64,
}

impl HookFs {
    /// A file system that asks `hook` before each call to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Fs>, hook: Hook) -> Self {
        Self { inner, asker: Arc::new(Asker { hook, calls: AtomicU64::new(0) }), kind: None }
    }

    /// The same, said to be of another kind.
    #[must_use]
    pub fn said_to_be(self, kind: FsKind) -> Self {
        Self { kind: Some(kind), ..self }
    }

    /// Hooked calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.asker.calls.load(Ordering::Relaxed)
    }

    fn file(&self, inner: Arc<dyn File>, path: &Path) -> Arc<dyn File> {
        Arc::new(HookFile { inner, path: path.to_owned(), asker: Arc::clone(&self.asker) })
    }
}

/// How much of its bytes a call shall move.
#[derive(Clone, Copy)]
enum Part {
    All,
    FirstHalf,
}

impl Part {
    fn of(self, len: usize) -> usize {
        match self {
            Self::All => len,
            Self::FirstHalf => len / 2,
        }
    }
}

impl Asker {
    fn ask(&self, op: Op, path: &Path, (offset, len): (u64, u64)) -> Act {
        let n = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        match (self.hook)(&Call { n, op, path, offset, len }) {
            Act::Fail(_) | Act::FailMidway(_) | Act::FailAfter(_) if !op.can_fail() => Act::Go,
            Act::FailMidway(errno) if !op.has_a_middle() => Act::Fail(errno),
            Act::KillMidway if !op.has_a_middle() => Act::Kill,
            act => act,
        }
    }

    fn run<T>(&self, op: Op, path: &Path, len: u64, run: impl FnMut(Part) -> io::Result<T>) -> io::Result<T> {
        self.run_at(op, path, (0, len), run)
    }

    /// As [`Asker::run`], of a call at this offset and of this length.
    fn run_at<T>(
        &self,
        op: Op,
        path: &Path,
        place: (u64, u64),
        mut run: impl FnMut(Part) -> io::Result<T>,
    ) -> io::Result<T> {
        let (part, errno) = match self.ask(op, path, place) {
            Act::Go => return run(Part::All),
            Act::Fail(errno) => return Err(io::Error::from_raw_os_error(errno)),
            Act::FailMidway(errno) => (Part::FirstHalf, Some(errno)),
            Act::FailAfter(errno) => (Part::All, Some(errno)),
            Act::Kill => kill(),
            Act::KillMidway => (Part::FirstHalf, None),
            Act::KillAfter => (Part::All, None),
        };
        let done = run(part);
        match errno {
            Some(errno) => done.and(Err(io::Error::from_raw_os_error(errno))),
            None => kill(),
        }
    }
}

/// Ends this process as `kill -9` does: no destructor, no buffer, no exit handler runs.
fn kill() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // Not reached: the signal is delivered before the call returns. Should it not be, this is as sudden.
    std::process::abort()
}

impl Fs for HookFs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let file = self.asker.run(Op::Open, path, 0, |_| self.inner.open(path, access))?;
        Ok(self.file(file, path))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.asker.run(Op::CreateNew, path, 0, |_| self.inner.create_new(path))?;
        Ok(self.file(file, path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.asker.run(Op::CreateDir, path, 0, |_| self.inner.create_dir_all(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.asker.run(Op::Rename, to, 0, |_| self.inner.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.asker.run(Op::HardLink, to, 0, |_| self.inner.hard_link(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.asker.run(Op::Unlink, path, 0, |_| self.inner.unlink(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.asker.run(Op::RemoveDir, path, 0, |_| self.inner.remove_dir(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.asker.run(Op::List, dir, 0, |_| self.inner.list(dir))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.asker.run(Op::Metadata, path, 0, |_| self.inner.metadata(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.asker.run(Op::SyncDir, dir, 0, |_| self.inner.sync_dir(dir))
    }

    fn statfs(&self, path: &Path) -> io::Result<FsStats> {
        let stats = self.inner.statfs(path)?;
        Ok(FsStats { kind: self.kind.unwrap_or(stats.kind), ..stats })
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.asker.run(Op::Lock, path, 0, |_| self.inner.try_lock(path))
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.asker.run(Op::Lock, path, 0, |_| self.inner.try_lock_shared(path))
    }

    fn written_bytes(&self) -> Option<u64> {
        self.inner.written_bytes()
    }
}

impl fmt::Debug for HookFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookFs").field("inner", &self.inner).field("calls", &self.calls()).finish()
    }
}

struct HookFile {
    inner: Arc<dyn File>,
    path: PathBuf,
    asker: Arc<Asker>,
}

impl File for HookFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let place = (offset, buf.len() as u64);
        self.asker.run_at(Op::ReadAt, &self.path, place, |_| self.inner.read_at(buf, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.asker.run(Op::WriteAt, &self.path, bytes.len() as u64, |part| {
            self.inner.write_at(&bytes[..part.of(bytes.len())], offset)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.asker.run(Op::SetLen, &self.path, len, |_| self.inner.set_len(len))
    }

    fn zero_fill(&self, from: u64, to: u64) -> io::Result<()> {
        let len = to.saturating_sub(from);
        self.asker.run(Op::ZeroFill, &self.path, len, |_| self.inner.zero_fill(from, to))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.asker.run(Op::SyncData, &self.path, 0, |_| self.inner.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.asker.run(Op::SyncAll, &self.path, 0, |_| self.inner.sync_all())
    }

    fn advise(&self, advice: Advice) {
        self.inner.advise(advice);
    }

    fn map(&self) -> io::Result<Region> {
        self.asker.run(Op::Map, &self.path, 0, |_| self.inner.map())
    }

    fn populate(&self, region: &Region, range: Range<usize>) -> io::Result<()> {
        let place = (range.start as u64, range.len() as u64);
        self.asker.run_at(Op::Populate, &self.path, place, |_| self.inner.populate(region, range.clone()))
    }

    fn map_log(&self, len: u64) -> io::Result<LogRegion> {
        let region = self.asker.run(Op::MapLog, &self.path, len, |_| self.inner.map_log(len))?;
        let (path, asker) = (self.path.clone(), Arc::clone(&self.asker));
        Ok(region.with_hook(Arc::new(move |op, len, step| {
            // Never an error: these two operations cannot fail.
            let _ = asker.run(op, &path, len as u64, |part| {
                step(part.of(len));
                Ok(())
            });
        })))
    }

    fn map_atomics(&self) -> io::Result<AtomicPage> {
        self.asker.run(Op::MapAtomics, &self.path, 0, |_| self.inner.map_atomics())
    }
}

impl fmt::Debug for HookFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookFile").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
