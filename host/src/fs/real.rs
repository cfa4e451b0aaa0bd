//! The real file system.

use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use super::{Access, Advice, DirEntry, EntryKind, File, Fs, FsKind, FsStats, LockGuard, Metadata};
use crate::map::{AtomicPage, LogRegion, Region};

const PAGE_BYTES: usize = 4096;

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

/// One open file of [`RealFs`].
#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn zero_fill(&self, from: u64, to: u64) -> io::Result<()> {
        const PAGE: u64 = PAGE_BYTES as u64;
        let zeros = [0_u8; PAGE_BYTES];
        let mut at = from;
        while at < to {
            let page_end = (at / PAGE + 1) * PAGE;
            let len = usize::try_from(page_end.min(to) - at).expect("at most one page");
            self.0.write_all_at(&zeros[..len], at)?;
            at += len as u64;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn advise(&self, advice: Advice) {
        let advice = match advice {
            Advice::Sequential => rustix::fs::Advice::Sequential,
            Advice::Random => rustix::fs::Advice::Random,
            Advice::DontNeed => rustix::fs::Advice::DontNeed,
        };
        let _ = rustix::fs::fadvise(&self.0, 0, None, advice);
    }

    fn map(&self) -> io::Result<Region> {
        Region::of_file(&self.0, self.len()?)
    }

    fn map_log(&self, len: u64) -> io::Result<LogRegion> {
        LogRegion::of_file(&self.0, len)
    }

    fn map_atomics(&self) -> io::Result<AtomicPage> {
        AtomicPage::of_file(&self.0)
    }
}

/// An flock; the kernel releases it when the handle closes, also at the death of the process.
#[derive(Debug)]
struct RealLock(fs::File);

impl LockGuard for RealLock {
    fn write_text(&self, text: &str) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.write_all_at(text.as_bytes(), 0)
    }
}

impl Fs for RealFs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let write = access == Access::ReadWrite;
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(write).open(path)?)))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(OpenOptions::new().read(true).write(true).create_new(true).open(path)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        match fs::create_dir(path) {
            Ok(()) => self.sync_dir(parent_of(path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.create_dir_all(path.parent().ok_or(e)?)?;
                match fs::create_dir(path) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => Err(e),
                    _ => self.sync_dir(parent_of(path)),
                }
            }
            Err(_) if path.is_dir() => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(DirEntry { name, kind: kind_of(entry.file_type()?) });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let meta = fs::metadata(path)?;
        let modified_unix_micros = meta.mtime() * 1_000_000 + meta.mtime_nsec() / 1_000;
        Ok(Metadata { kind: kind_of(meta.file_type()), len: meta.len(), modified_unix_micros })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        fs::File::open(dir)?.sync_all()
    }

    fn statfs(&self, path: &Path) -> io::Result<FsStats> {
        // Blocks are counted in fragments, which only statvfs names; only statfs names the type.
        let space = rustix::fs::statvfs(path)?;
        let magic = rustix::fs::statfs(path)?.f_type;
        Ok(FsStats {
            total_bytes: space.f_blocks.saturating_mul(space.f_frsize),
            available_bytes: space.f_bavail.saturating_mul(space.f_frsize),
            kind: kind_of_magic(magic),
        })
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let tried = file.try_lock();
        guarded(file, tried)
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let file = fs::File::open(path)?;
        let tried = file.try_lock_shared();
        guarded(file, tried)
    }

    fn written_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string("/proc/self/io").ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix("write_bytes:"))?;
        value.trim().parse().ok()
    }
}

fn guarded(file: fs::File, tried: Result<(), TryLockError>) -> io::Result<Option<Box<dyn LockGuard>>> {
    match tried {
        Ok(()) => Ok(Some(Box::new(RealLock(file)))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// The directory that holds the name `path`; a bare name lies in the current one.
fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn kind_of(file_type: fs::FileType) -> EntryKind {
    if file_type.is_file() {
        EntryKind::File
    } else if file_type.is_dir() {
        EntryKind::Dir
    } else {
        EntryKind::Other
    }
}

/// The kernel's magic numbers (`linux/magic.h` and the file systems' own headers).
fn kind_of_magic(magic: i64) -> FsKind {
    match magic & 0xffff_ffff {
        // nfs, smb, cifs, smb2, fuse, 9p, ceph, afs (two)
        0x6969 | 0x517b | 0xff53_4d42 | 0xfe53_4d42 | 0x6573_5546 | 0x0102_1997 | 0x00c3_6400
        | 0x5346_414f | 0x6b41_4653 => FsKind::Network,
        // btrfs, zfs, bcachefs, f2fs
        0x9123_683e | 0x2fc1_2fc1 | 0xca45_1a4e | 0xf2f5_2010 => FsKind::CopyOnWrite,
        // tmpfs, ramfs
        0x0102_1994 | 0x8584_58f6 => FsKind::Memory,
        _ => FsKind::Local,
    }
}

#[cfg(test)]
mod tests;
