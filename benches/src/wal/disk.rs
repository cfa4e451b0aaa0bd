//! A file system that counts the syncs of what lies above it, and can stand in for a disk of a known sync time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use akidb_host::{
    Access, Advice, AtomicPage, DirEntry, File, Fs, FsStats, LockGuard, LogRegion, Metadata, RealFs, Region,
};

/// The real file system with its syncs counted. With `sync_takes` it is a stand-in: `sync_data` sleeps so long and
/// does nothing else, so that a ratio measured on it holds for a disk of that speed. Every other call is real.
#[derive(Debug)]
pub(crate) struct CountedDisk {
    syncs: Arc<Syncs>,
    sync_takes: Option<Duration>,
}

/// Syncs so far.
#[derive(Debug, Default)]
pub(crate) struct Syncs {
    data: AtomicU64,
    other: AtomicU64,
}

impl Syncs {
    /// `fdatasync` calls.
    pub(crate) fn data(&self) -> u64 {
        self.data.load(Ordering::Relaxed)
    }

    /// Calls of every other sync: of whole files and of directories.
    pub(crate) fn other(&self) -> u64 {
        self.other.load(Ordering::Relaxed)
    }
}

impl CountedDisk {
    /// The real disk, or a stand-in whose `sync_data` takes so long.
    pub(crate) fn new(sync_takes: Option<Duration>) -> Self {
        Self { syncs: Arc::default(), sync_takes }
    }

    /// The counters, which outlive the disk.
    pub(crate) fn syncs(&self) -> Arc<Syncs> {
        Arc::clone(&self.syncs)
    }

    fn counted(&self, inner: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(CountedFile { inner, syncs: self.syncs(), sync_takes: self.sync_takes })
    }
}

impl Fs for CountedDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(self.counted(RealFs.open(path, access)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.counted(RealFs.create_new(path)?))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealFs.unlink(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        RealFs.list(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        RealFs.metadata(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.syncs.other.fetch_add(1, Ordering::Relaxed);
        RealFs.sync_dir(dir)
    }

    fn statfs(&self, path: &Path) -> io::Result<FsStats> {
        RealFs.statfs(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        RealFs.try_lock(path)
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        RealFs.try_lock_shared(path)
    }

    fn written_bytes(&self) -> Option<u64> {
        RealFs.written_bytes()
    }
}

#[derive(Debug)]
struct CountedFile {
    inner: Arc<dyn File>,
    syncs: Arc<Syncs>,
    sync_takes: Option<Duration>,
}

impl File for CountedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn zero_fill(&self, from: u64, to: u64) -> io::Result<()> {
        self.inner.zero_fill(from, to)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.data.fetch_add(1, Ordering::Relaxed);
        match self.sync_takes {
            Some(time) => {
                wait_as_a_disk(time);
                Ok(())
            }
            None => self.inner.sync_data(),
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.syncs.other.fetch_add(1, Ordering::Relaxed);
        self.inner.sync_all()
    }

    fn advise(&self, advice: Advice) {
        self.inner.advise(advice);
    }

    fn map(&self) -> io::Result<Region> {
        self.inner.map()
    }

    fn map_log(&self, len: u64) -> io::Result<LogRegion> {
        self.inner.map_log(len)
    }

    fn map_atomics(&self) -> io::Result<AtomicPage> {
        self.inner.map_atomics()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the stand-in is a disk: its caller must lose the processor for the time of a sync, which no clock of \
              ours does; nothing is waited for"
)]
fn wait_as_a_disk(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sync_is_counted_and_a_stand_in_keeps_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        for time in [None, Some(Duration::from_micros(1))] {
            let disk = CountedDisk::new(time);
            let path = dir.path().join(format!("file-{}", time.is_some()));
            let file = disk.create_new(&path).unwrap();
            file.write_at(b"abc", 0).unwrap();
            file.sync_data().unwrap();
            file.sync_data().unwrap();
            file.sync_all().unwrap();
            disk.sync_dir(dir.path()).unwrap();
            assert_eq!((disk.syncs().data(), disk.syncs().other()), (2, 2));
            assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        }
    }
}
