//! A disk for models: what was stored, what of it a power cut would leave, and syncs that other threads run into.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use akidb_host::{
    Access, Advice, DirEntry, EntryKind, File, Fs, FsKind, FsStats, LockGuard, LogRegion, Metadata, Region,
};
use loom::sync::atomic::{AtomicU64, Ordering};

use crate::frame::{FrameType, read_frame};
use crate::header::{HEADER_PAGE_BYTES, Header};

/// Its own locks are std's: no step of a model lies inside them, so no thread of a model ever waits for one. The model
/// would not see them either, and it tries only the orders of what it sees: so each look at what a power cut leaves,
/// and each change of it, begins with a step. Steps are relaxed, to order no more than the log does, and no `yield_now`:
/// to loom that means that the thread runs again only when no other can, which hides interleavings.
#[derive(Debug)]
pub(super) struct Disk {
    names: Mutex<BTreeMap<PathBuf, Arc<DiskFile>>>,
    device: Arc<Device>,
}

#[derive(Debug)]
struct Device {
    steps: AtomicU64,
    failing: AtomicBool,
    refusing: AtomicBool,
}

#[derive(Debug)]
pub(super) struct DiskFile {
    image: Arc<Mutex<Image>>,
    /// How often a header was written: the lives of a recycled file.
    lives: AtomicU64,
    device: Arc<Device>,
}

#[derive(Debug, Default)]
struct Image {
    stored: Vec<u8>,
    durable: Vec<u8>,
    /// Syncs begun, and the one whose bytes are durable: an older sync that ends later takes nothing away.
    begun: u64,
    kept: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Device {
    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Image {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at).unwrap();
        let end = (at + bytes.len()).max(self.stored.len());
        self.stored.resize(end, 0);
        self.stored[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Disk {
    pub(super) fn new() -> Arc<Self> {
        let device = Device {
            steps: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            refusing: AtomicBool::new(false),
        };
        Arc::new(Self { names: Mutex::default(), device: Arc::new(device) })
    }

    /// From now on syncs of content fail.
    pub(super) fn fail(&self) {
        self.device.failing.store(true, Ordering::SeqCst);
    }

    /// The next write call of frames fails, and only that one.
    pub(super) fn refuse_next_write(&self) {
        self.device.refusing.store(true, Ordering::SeqCst);
    }

    /// The log files, in order.
    pub(super) fn log_files(&self) -> Vec<Arc<DiskFile>> {
        let is_log = |path: &Path| path.extension().is_some_and(|ext| ext == "wal");
        lock(&self.names).iter().filter(|(path, _)| is_log(path)).map(|(_, file)| Arc::clone(file)).collect()
    }

    /// How many records, from the first on and with none missing, a power cut would leave now.
    pub(super) fn durable_records(&self) -> u64 {
        self.device.step();
        let mut records = 0;
        for file in self.log_files() {
            let image = lock(&file.image);
            let Ok(header) = Header::decode(&image.durable) else { break };
            let mut at = HEADER_PAGE_BYTES;
            while let Ok(frame) = read_frame(&image.durable, at, header.salt) {
                at += usize::try_from(frame.head.frame_bytes()).unwrap();
                if frame.head.kind == FrameType::Batch && frame.head.lsn.counter() == records + 1 {
                    records = frame.head.last().counter();
                }
            }
        }
        records
    }

    fn named(&self, path: &Path) -> io::Result<Arc<DiskFile>> {
        lock(&self.names).get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl DiskFile {
    pub(super) fn lives(&self) -> u64 {
        self.lives.fetch_add(0, Ordering::Relaxed)
    }
}

impl File for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.image).stored.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let image = lock(&self.image);
        let from = usize::try_from(offset).unwrap().min(image.stored.len());
        let len = buf.len().min(image.stored.len() - from);
        buf[..len].copy_from_slice(&image.stored[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if offset > 0 && self.device.refusing.swap(false, Ordering::SeqCst) {
            return Err(io::Error::other("the disk of the model refuses a write"));
        }
        if offset == 0 {
            self.lives.fetch_add(1, Ordering::Relaxed);
        }
        lock(&self.image).put(offset, bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.image).stored.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn zero_fill(&self, from: u64, to: u64) -> io::Result<()> {
        lock(&self.image).put(from, &vec![0; usize::try_from(to - from).unwrap()]);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.device.step();
        let (number, covered) = {
            let mut image = lock(&self.image);
            image.begun += 1;
            (image.begun, image.stored.clone())
        };
        // What is appended from here on is not covered.
        self.device.step();
        if self.device.failing.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk of the model fails"));
        }
        let mut image = lock(&self.image);
        if number > image.kept {
            image.kept = number;
            image.durable = covered;
        }
        Ok(())
    }

    /// Of headers only: nothing else happens to the file meanwhile.
    fn sync_all(&self) -> io::Result<()> {
        let mut image = lock(&self.image);
        image.durable = image.stored.clone();
        Ok(())
    }

    fn advise(&self, _: Advice) {}

    fn map(&self) -> io::Result<Region> {
        Ok(Region::from_vec(lock(&self.image).stored.clone()))
    }

    fn map_log(&self, len: u64) -> io::Result<LogRegion> {
        let image = Arc::clone(&self.image);
        let bytes = lock(&image).stored[..usize::try_from(len).unwrap()].to_vec();
        LogRegion::mirrored(&bytes, Box::new(move |at, bytes| lock(&image).put(at, bytes)))
    }
}

impl Fs for Disk {
    fn open(&self, path: &Path, _: Access) -> io::Result<Arc<dyn File>> {
        Ok(self.named(path)?)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = Arc::new(DiskFile {
            image: Arc::default(),
            lives: AtomicU64::new(0),
            device: Arc::clone(&self.device),
        });
        lock(&self.names).insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.hard_link(from, to)?;
        self.unlink(from)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.named(from)?;
        lock(&self.names).insert(to.to_owned(), file);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        lock(&self.names).remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<DirEntry>> {
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let names = lock(&self.names);
        Ok(names.keys().map(|path| DirEntry { name: name(path), kind: EntryKind::File }).collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let len = self.named(path)?.len()?;
        Ok(Metadata { kind: EntryKind::File, len, modified_unix_micros: 0 })
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn statfs(&self, _: &Path) -> io::Result<FsStats> {
        Ok(FsStats { total_bytes: 1 << 30, available_bytes: 1 << 30, kind: FsKind::Local })
    }

    fn try_lock(&self, _: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn try_lock_shared(&self, _: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
