//! A directory in memory: enough of a file system for one log, and nothing that can fail.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use akidb_host::{
    Access, Advice, AtomicPage, DirEntry, EntryKind, File, Fs, FsKind, FsStats, LockGuard, LogRegion,
    Metadata, Region,
};

/// Clones share the directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryFs(Arc<Mutex<BTreeMap<PathBuf, MemoryFile>>>);

#[derive(Clone, Default)]
struct MemoryFile(Arc<Mutex<Bytes>>);

/// What was written by calls, and the page of words that lies over it.
#[derive(Default)]
struct Bytes {
    written: Vec<u8>,
    page: Option<AtomicPage>,
}

impl Bytes {
    fn now(&self) -> Vec<u8> {
        let mut bytes = self.written.clone();
        if let Some(page) = &self.page {
            bytes[..AtomicPage::BYTES].copy_from_slice(&page.copy());
        }
        bytes
    }
}

impl MemoryFs {
    pub(crate) fn put(&self, path: &Path, bytes: Vec<u8>) {
        let file = MemoryFile(Arc::new(Mutex::new(Bytes { written: bytes, page: None })));
        self.files().insert(path.into(), file);
    }

    /// Every file with its bytes.
    pub(crate) fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.files().iter().map(|(path, file)| (path.clone(), file.bytes().now())).collect()
    }

    /// What a crash of the process leaves.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::default();
        self.content().into_iter().for_each(|(path, bytes)| copy.put(&path, bytes));
        copy
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<PathBuf, MemoryFile>> {
        self.0.lock().expect("nobody panics in here")
    }

    fn file(&self, path: &Path) -> io::Result<MemoryFile> {
        self.files().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl MemoryFile {
    fn bytes(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().expect("nobody panics in here")
    }
}

impl fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryFile").finish_non_exhaustive()
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().written.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes().now();
        let rest = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, new: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = self.bytes();
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let len = bytes.written.len().max(at + new.len());
        bytes.written.resize(len, 0);
        bytes.written[at..at + new.len()].copy_from_slice(new);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes().written.resize(usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?, 0);
        Ok(())
    }

    fn zero_fill(&self, from: u64, to: u64) -> io::Result<()> {
        let len = usize::try_from(to - from).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.write_at(&vec![0; len], from)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn advise(&self, _advice: Advice) {}

    fn map(&self) -> io::Result<Region> {
        Ok(Region::from_vec(self.bytes().now()))
    }

    fn map_log(&self, len: u64) -> io::Result<LogRegion> {
        // Frames come by `write_at`: the log is opened with positioned writes.
        LogRegion::in_memory(usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?)
    }

    fn map_atomics(&self) -> io::Result<AtomicPage> {
        let mut bytes = self.bytes();
        let page = AtomicPage::in_memory()?;
        for (i, word) in bytes.written[..AtomicPage::BYTES].chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(word.try_into().expect("8 bytes"));
            page.store_u64(i * 8, word, std::sync::atomic::Ordering::Release);
        }
        bytes.page = Some(page.clone());
        Ok(page)
    }
}

#[derive(Debug)]
struct Lock;

impl LockGuard for Lock {
    fn write_text(&self, _text: &str) -> io::Result<()> {
        Ok(())
    }
}

impl Fs for MemoryFs {
    fn open(&self, path: &Path, _access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(self.file(path)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        if self.file(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.put(path, Vec::new());
        Ok(Arc::new(self.file(path)?))
    }

    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.file(from)?;
        self.files().remove(from);
        self.files().insert(to.into(), file);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.file(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = self.file(from)?;
        self.files().insert(to.into(), file);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.files().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn remove_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let files = self.files();
        let names = files.keys().filter_map(|path| path.strip_prefix(dir).ok());
        let entry =
            |name: &Path| DirEntry { name: name.to_string_lossy().into_owned(), kind: EntryKind::File };
        Ok(names.map(entry).collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let len = self.file(path)?.len()?;
        Ok(Metadata { kind: EntryKind::File, len, modified_unix_micros: 0 })
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn statfs(&self, _path: &Path) -> io::Result<FsStats> {
        Ok(FsStats { total_bytes: 1 << 40, available_bytes: 1 << 39, kind: FsKind::Local })
    }

    fn try_lock(&self, _path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        Ok(Some(Box::new(Lock)))
    }

    fn try_lock_shared(&self, _path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        Ok(Some(Box::new(Lock)))
    }
}
