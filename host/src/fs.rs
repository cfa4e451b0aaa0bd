//! The file system as the engine sees it: a small object-safe trait, the real one in `fs/real.rs`.
//!
//! Durability rules a caller may rely on: bytes written by [`File::write_at`] or through a map survive a power
//! cut once [`File::sync_data`] on that same handle returned `Ok`; a name (created, linked, renamed, unlinked)
//! survives once [`Fs::sync_dir`] of its directory returned `Ok`. After a failed sync nothing is known.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::map::{AtomicPage, LogRegion, Region};
use crate::seeded::seeded_bug;

mod real;

pub use real::RealFs;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing; the file must exist.
    ReadWrite,
}

/// What a caller is about to do with a file's pages; never changes what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Front to back.
    Sequential,
    /// No order.
    Random,
    /// The cached pages will not be needed again.
    DontNeed,
}

/// What stands behind a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// Anything else (links, sockets, devices).
    Other,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name within its directory; names that are not UTF-8 are shown with replacement characters.
    pub name: String,
    /// What it names.
    pub kind: EntryKind,
}

/// Facts about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// File, directory or other.
    pub kind: EntryKind,
    /// Length in bytes.
    pub len: u64,
    /// Last modification, microseconds since the Unix epoch (0 where unknown).
    pub modified_unix_micros: i64,
}

/// The kind of file system a path lies on, as far as promises depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsKind {
    /// A local disk (ext4, XFS, ...).
    Local,
    /// A local disk whose file system writes each block to a new place (btrfs, ZFS, bcachefs, F2FS): the first store to a page
    /// of a map takes room, and where there is none left it is a SIGBUS.
    CopyOnWrite,
    /// Memory only: nothing survives a reboot.
    Memory,
    /// NFS, CIFS, FUSE and the like: locks, maps and flushes are not what we promise.
    Network,
}

/// Space on the file system under a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsStats {
    /// Size of the file system in bytes.
    pub total_bytes: u64,
    /// Bytes an unprivileged writer may still take.
    pub available_bytes: u64,
    /// What kind it is.
    pub kind: FsKind,
}

/// An open file. One handle a file for its life where durability counts: an error that one handle has seen
/// another may never be told of.
pub trait File: Send + Sync + fmt::Debug {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads at most `buf.len()` bytes from `offset`; 0 at or past the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buf` from `offset`, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            let n = self.read_at(buf, offset)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf = &mut buf[n..];
            offset += n as u64;
        }
        Ok(())
    }

    /// Writes all of `bytes` at `offset`, growing the file if need be.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts or extends (with a hole) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Writes zeros over `from..to` in 4 KiB writes, so that every block exists and no page-cache folio is
    /// larger than a page (a store through a map dirties a whole folio).
    fn zero_fill(&self, from: u64, to: u64) -> io::Result<()>;

    /// Blocks until the bytes are on stable storage (`fdatasync`). A failure is final for this file.
    fn sync_data(&self) -> io::Result<()>;

    /// As [`File::sync_data`], with all metadata (`fsync`).
    fn sync_all(&self) -> io::Result<()>;

    /// Tells the page cache what comes; failures do not matter.
    fn advise(&self, advice: Advice);

    /// A read-only view of the file as long as it is now. The file must never be truncated while it lives, and bytes that
    /// somebody may have looked at must not be written again with others. (A hole may be filled that nobody looked at.)
    fn map(&self) -> io::Result<Region>;

    /// Has a part of a view of this file read from the disk, if it is not in memory: a page that the disk cannot give is an
    /// error here, and the end of the process for who looks at it. Where the kernel has no such call that is an error too;
    /// [`File::read_at`] then tells which page it is, and what it can read the view shows.
    fn populate(&self, region: &Region, range: Range<usize>) -> io::Result<()> {
        region.populate(range)
    }

    /// A view for the one appender of a log and its readers over the first `len` bytes, which must exist (no
    /// holes). See [`LogRegion`].
    fn map_log(&self, len: u64) -> io::Result<LogRegion>;

    /// The first page of the file as words that processes share; the page's blocks must exist (no hole). Like every
    /// store through a map, a word reaches the disk when the system likes, or with a sync. A file system that has no
    /// such maps answers `Unsupported`.
    fn map_atomics(&self) -> io::Result<AtomicPage> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A held lock; dropping it releases.
pub trait LockGuard: Send + Sync + fmt::Debug {
    /// Replaces the text inside the lock file: a message for people, never evidence.
    fn write_text(&self, text: &str) -> io::Result<()>;
}

/// A file system. All paths are absolute or relative to the process's directory; all calls may block.
pub trait Fs: Send + Sync + fmt::Debug {
    /// Opens an existing file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;

    /// Creates a file that must not exist yet (`AlreadyExists` otherwise), for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Creates a directory and its missing parents; each new name is synced into its parent. Names found present
    /// are not synced: one left by a process that died may need [`Fs::sync_dir`] of its parent.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Renames, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name; `AlreadyExists` if that is taken. The atomic "create if absent".
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Facts about a path (links followed).
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Blocks until the names in a directory are on stable storage.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Space and kind of the file system under a path.
    fn statfs(&self, path: &Path) -> io::Result<FsStats>;

    /// Takes the exclusive advisory lock of a file (created if missing) without waiting: `None` if another
    /// handle, in this process or another, holds it.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>>;

    /// As [`Fs::try_lock`], beside others that share it: `None` if a handle holds the lock for itself. The file must
    /// exist, may be read-only for this user, and stays as it is: the guard's text cannot be written.
    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>>;

    /// Bytes this process has caused to be written to storage so far, where the machine tells.
    fn written_bytes(&self) -> Option<u64> {
        None
    }
}

/// Creates `dir/name` holding `bytes`, whole or not at all, at every moment and after a power cut: temporary file,
/// sync, exclusive link, directory sync. Blocks for two syncs.
///
/// - `Ok`: the name is there and durable.
/// - `AlreadyExists`: the name was taken, and what stood there stands unchanged.
/// - Any other error: the name may be there or not, and if it is, a power cut may still take it away (the
///   directory sync may be what failed). A caller for whom that matters looks for the name; it is never there
///   with other bytes than `bytes`.
pub fn publish_new(fs: &dyn Fs, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let tmp = write_tmp(fs, dir, name, bytes)?;
    let linked = fs.hard_link(&tmp, &dir.join(name));
    let _ = fs.unlink(&tmp);
    linked?;
    if seeded_bug("published_name_not_synced") { Ok(()) } else { fs.sync_dir(dir) }
}

/// As [`publish_new`], replacing what stood under the name: temporary file, sync, rename, directory sync.
pub fn publish_over(fs: &dyn Fs, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let tmp = write_tmp(fs, dir, name, bytes)?;
    if let Err(e) = fs.rename(&tmp, &dir.join(name)) {
        let _ = fs.unlink(&tmp);
        return Err(e);
    }
    fs.sync_dir(dir)
}

/// All bytes of a file. Blocks.
///
/// # Errors
/// What the file system answers; `FileTooLarge` for one that memory cannot hold.
pub fn read_file(fs: &dyn Fs, path: &Path) -> io::Result<Vec<u8>> {
    let file = fs.open(path, Access::Read)?;
    let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Writes and syncs `dir/name.tmp`; a leftover of an earlier try is unlinked first, never written into, because
/// it may be a second name of a published file.
fn write_tmp(fs: &dyn Fs, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let tmp = dir.join(format!("{name}.tmp"));
    match fs.unlink(&tmp) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let file = fs.create_new(&tmp)?;
    let written = file.write_at(bytes, 0).and_then(|()| match () {
        () if seeded_bug("published_before_sync") => Ok(()),
        () => file.sync_all(),
    });
    if let Err(e) = written {
        let _ = fs.unlink(&tmp);
        return Err(e);
    }
    Ok(tmp)
}
