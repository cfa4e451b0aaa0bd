//! Open files, maps and locks of a simulated disk.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::names::Ino;
use super::{CrashDisk, Inode, State};
use crate::fs::{Access, Advice, File, LockGuard};
use crate::map::{AtomicPage, LogRegion, Region};
use crate::rng::Rng;
use crate::sim::hook::EIO;

/// Of so many writes one is preceded by an early write-back.
const WRITES_PER_WRITE_BACK: u64 = 8;

/// A handle. The file lives as long as its last one.
pub(super) struct OpenFile {
    disk: CrashDisk,
    ino: Ino,
    writable: bool,
    /// Failed syncs of the file that this handle was told of, or that were before its time.
    errors_told: AtomicU64,
}

impl OpenFile {
    /// The caller has counted the handle.
    pub(super) fn new(disk: CrashDisk, ino: Ino, writable: bool, errors: u64) -> Self {
        Self { disk, ino, writable, errors_told: AtomicU64::new(errors) }
    }

    fn with<T>(&self, run: impl FnOnce(&mut State, &mut Inode) -> T) -> T {
        let mut state = self.disk.state();
        let mut inode = state.files.remove(&self.ino).expect("an open file exists");
        inode.absorb(&mut state.rng);
        let done = run(&mut state, &mut inode);
        state.files.insert(self.ino, inode);
        done
    }

    fn write(&self, run: impl FnOnce(&mut State, &mut Inode) -> io::Result<()>) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.with(|state, inode| {
            let done = run(state, inode);
            if let Some(page) = &inode.shared {
                let mut bytes = [0; AtomicPage::BYTES];
                inode.content.read(&mut bytes, 0);
                fill(page, &bytes);
            }
            done
        })
    }
}

impl Inode {
    pub(super) fn maybe_write_back(&mut self, offset: u64, rng: &mut Rng) {
        if rng.below(WRITES_PER_WRITE_BACK) == 0 {
            self.content.write_back_early(offset, rng);
        }
    }
}

impl File for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|_, inode| inode.content.len()))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.with(|_, inode| inode.content.read(buf, offset)))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(|state, inode| {
            inode.maybe_write_back(offset, &mut state.rng);
            inode.content.write(bytes, offset, &mut state.space)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write(|state, inode| {
            inode.content.set_len(len, &mut state.space);
            Ok(())
        })
    }

    fn zero_fill(&self, from: u64, to: u64) -> io::Result<()> {
        self.write(|state, inode| {
            inode.maybe_write_back(from, &mut state.rng);
            inode.content.zero_fill(from, to, &mut state.space)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state, inode| {
            if let Some(errno) = state.next_sync_error.take() {
                inode.content.fail_sync(&mut state.rng);
                self.errors_told.store(inode.content.errors, Ordering::Relaxed);
                return Err(io::Error::from_raw_os_error(errno));
            }
            inode.content.sync();
            // Each handle that was open at a failure is told of it, once.
            let told = self.errors_told.swap(inode.content.errors, Ordering::Relaxed);
            if told < inode.content.errors { Err(io::Error::from_raw_os_error(EIO)) } else { Ok(()) }
        })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn advise(&self, advice: Advice) {
        if advice == Advice::DontNeed {
            self.with(|_, inode| inode.content.forget_clean(|| true));
        }
    }

    fn map(&self) -> io::Result<Region> {
        Ok(self.with(|_, inode| Region::from_vec(inode.content.bytes(inode.content.len()))))
    }

    fn map_log(&self, len: u64) -> io::Result<LogRegion> {
        let (bytes, held) = self.with(|_, inode| {
            if inode.content.len() < len {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
            inode.handles += 1;
            Ok((inode.content.bytes(len), Self::new(self.disk.clone(), self.ino, true, inode.content.errors)))
        })?;
        LogRegion::mirrored(
            &bytes,
            Box::new(move |offset, bytes| {
                held.with(|state, inode| {
                    inode.maybe_write_back(offset, &mut state.rng);
                    inode.content.store(bytes, offset);
                });
            }),
        )
    }

    fn map_atomics(&self) -> io::Result<AtomicPage> {
        self.with(|_, inode| {
            if let Some(page) = &inode.shared {
                return Ok(page.clone());
            }
            let mut bytes = [0; AtomicPage::BYTES];
            if inode.content.read(&mut bytes, 0) < bytes.len() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let page = AtomicPage::in_memory()?;
            fill(&page, &bytes);
            inode.shared = Some(page.clone());
            Ok(page)
        })
    }
}

fn fill(page: &AtomicPage, bytes: &[u8; AtomicPage::BYTES]) {
    for (i, word) in bytes.as_chunks().0.iter().enumerate() {
        page.store_u64(i * 8, u64::from_le_bytes(*word), Ordering::Release);
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if let Some(inode) = state.files.get_mut(&self.ino) {
            inode.handles -= 1;
        }
        state.released(self.ino);
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFile").field("ino", &self.ino).finish_non_exhaustive()
    }
}

/// A held lock.
#[derive(Debug)]
struct Lock {
    disk: CrashDisk,
    ino: Ino,
    file: Arc<dyn File>,
}

/// By whom a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// One handle.
    Alone,
    /// So many that share it.
    Shared(u32),
}

impl CrashDisk {
    pub(super) fn lock_ino(
        &self,
        state: &mut State,
        ino: Ino,
        how: Held,
    ) -> io::Result<Option<Box<dyn LockGuard>>> {
        let held = match (state.locked.get(&ino), how) {
            (None, how) => how,
            (Some(Held::Shared(others)), Held::Shared(more)) => Held::Shared(others + more),
            (Some(_), _) => return Ok(None),
        };
        let access = if how == Held::Alone { Access::ReadWrite } else { Access::Read };
        let file = self.open_ino(state, ino, access)?;
        state.locked.insert(ino, held);
        Ok(Some(Box::new(Lock { disk: self.clone(), ino, file })))
    }
}

impl LockGuard for Lock {
    fn write_text(&self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_at(text.as_bytes(), 0)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        match state.locked.get_mut(&self.ino) {
            Some(Held::Shared(sharing @ 2..)) => *sharing -= 1,
            _ => {
                state.locked.remove(&self.ino);
            }
        }
    }
}
