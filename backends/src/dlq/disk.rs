//! The files being written: appends to the journal, snapshots, and the letters that were evicted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Access, File, Fs, publish_over};

use super::ledger::{Sink, Trouble};
use super::letter::Letter;
use super::letters::{Change, What, Why};
use super::load::{Found, Paths, link_aside};
use super::{line, packed, snapshot};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// At this length the file of evicted letters gives way to a new one; one older is kept.
const EVICTED_BYTES: u64 = 1 << 20;

/// The files of a queue.
#[derive(Debug)]
pub(crate) struct Disk {
    fs: Arc<dyn Fs>,
    paths: Paths,
    journal: Mutex<Journal>,
    /// The journal's length as of the last write.
    journal_len: AtomicU64,
    /// Files the open found bad, to be kept aside before they are written over.
    not_kept: Mutex<Vec<PathBuf>>,
    opened_unix_secs: i64,
    compress: bool,
}

#[derive(Debug)]
enum Journal {
    /// As the open found it.
    Closed {
        len: Option<u64>,
    },
    Open {
        file: Arc<dyn File>,
        len: u64,
    },
    /// Its end is not known, or is no line's end: only a new one will do.
    Unusable,
}

impl Disk {
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        paths: Paths,
        found: &Found,
        opened_unix_secs: i64,
        compress: bool,
    ) -> Self {
        let journal = match found.is_journal_bad {
            true => Journal::Unusable,
            false => Journal::Closed { len: found.journal_len },
        };
        let journal_len = AtomicU64::new(found.journal_len.unwrap_or(0));
        let (journal, not_kept) = (Mutex::new(journal), Mutex::new(found.not_kept.clone()));
        Self { fs, paths, journal, journal_len, not_kept, opened_unix_secs, compress }
    }

    /// In bytes.
    pub(crate) fn journal_len(&self) -> u64 {
        self.journal_len.load(Ordering::Relaxed)
    }

    /// The journal to append to, and its length. The first call of a process makes sure of the names.
    fn open_journal(&self, journal: &mut Journal) -> Result<(Arc<dyn File>, u64), Trouble> {
        let path = &self.paths.journal;
        let opened = match &*journal {
            Journal::Open { file, len } => return Ok((Arc::clone(file), *len)),
            Journal::Unusable => {
                return Err(Trouble::new("an earlier write", path, io::ErrorKind::Other.into()));
            }
            Journal::Closed { len: None } => self.create_journal(),
            Journal::Closed { len: Some(len) } => self.reopen_journal(*len),
        };
        let (file, len) = opened.map_err(|e| {
            *journal = Journal::Unusable;
            Trouble::new("the opening", path, e)
        })?;
        *journal = Journal::Open { file: Arc::clone(&file), len };
        Ok((file, len))
    }

    fn create_journal(&self) -> io::Result<(Arc<dyn File>, u64)> {
        self.fs.create_dir_all(self.paths.dir())?;
        let file = self.fs.create_new(&self.paths.journal)?;
        self.sync_names()?;
        Ok((file, 0))
    }

    fn reopen_journal(&self, len: u64) -> io::Result<(Arc<dyn File>, u64)> {
        let file = self.fs.open(&self.paths.journal, Access::ReadWrite)?;
        if file.len()? != len {
            return Err(io::Error::other("somebody else has written to it"));
        }
        self.sync_names()?;
        Ok((file, len))
    }

    /// A name that was found may be one that nobody has synced.
    fn sync_names(&self) -> io::Result<()> {
        let dir = self.paths.dir();
        self.fs.sync_dir(dir)?;
        match dir.parent() {
            Some(above) if !above.as_os_str().is_empty() => self.fs.sync_dir(above),
            _ => Ok(()),
        }
    }

    fn write_evicted(&self, changes: &[Change]) {
        let mut lines = Vec::new();
        for change in changes {
            if let What::Gone(letter, Why::Evicted) = &change.what {
                tracing::warn!(
                    backend = letter.backend,
                    key = letter.key,
                    reason = letter.error_message,
                    "the list of dead letters is full: its oldest entry goes, its upload stays pending"
                );
                line::write_evicted(letter, &mut lines);
            }
        }
        if lines.is_empty() {
            return;
        }
        if let Err(e) = self.append_evicted(&lines) {
            tracing::warn!(file = %self.paths.evicted.display(), error = %e, "evicted letters are not written");
        }
    }

    /// For people: not synced, and nobody waits for it.
    fn append_evicted(&self, lines: &[u8]) -> io::Result<()> {
        let path = &self.paths.evicted;
        let open = match self.fs.open(path, Access::ReadWrite) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            open => Some(open?),
        };
        let mut file = match open {
            Some(file) => file,
            None => self.fs.create_new(path)?,
        };
        let mut len = file.len()?;
        if len > 0 && len + lines.len() as u64 > EVICTED_BYTES {
            self.fs.rename(path, &path.with_extension("jsonl.1"))?;
            (file, len) = (self.fs.create_new(path)?, 0);
        }
        file.write_at(lines, len)
    }

    fn keep_aside(&self) -> Result<(), Trouble> {
        let mut not_kept = self.not_kept.lock();
        while let Some(path) = not_kept.last() {
            match link_aside(&*self.fs, path, self.opened_unix_secs) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Trouble::new("the keeping", path, e));
                }
                _ => not_kept.pop(),
            };
        }
        Ok(())
    }

    fn publish(&self, path: &Path, bytes: &[u8]) -> Result<(), Trouble> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        publish_over(&*self.fs, self.paths.dir(), &name, bytes)
            .map_err(|e| Trouble::new("the writing", path, e))
    }
}

impl Sink for Disk {
    fn append(&self, changes: &[Change]) -> Result<(), Trouble> {
        let mut journal = self.journal.lock();
        let (file, len) = self.open_journal(&mut journal)?;
        let mut lines = Vec::with_capacity(changes.len() * 768);
        changes.iter().for_each(|change| line::write(change, &mut lines));
        self.write_evicted(changes);
        let path = &self.paths.journal;
        let written = file.write_at(&lines, len).map_err(|e| Trouble::new("an append to the end", path, e));
        if let Err(trouble) =
            written.and_then(|()| file.sync_data().map_err(|e| Trouble::new("the sync", path, e)))
        {
            *journal = Journal::Unusable;
            return Err(trouble);
        }
        let len = len + lines.len() as u64;
        *journal = Journal::Open { file, len };
        self.journal_len.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn replace(&self, letters: &[Arc<Letter>], last: u64, since: &[Change]) -> Result<(), Trouble> {
        let mut journal = self.journal.lock();
        let dir = self.paths.dir();
        if !matches!(*journal, Journal::Open { .. }) {
            let made = self.fs.create_dir_all(dir).and_then(|()| self.sync_names());
            made.map_err(|e| Trouble::new("the making", dir, e))?;
        }
        self.keep_aside()?;
        self.write_evicted(since);
        // In this order: until the snapshot is durable the journal tells what it holds; after that its lines are
        // skipped by their numbers, whether it is there or not.
        let plain = snapshot::write(letters, last);
        let bytes = if self.compress { packed::pack(&plain) } else { plain };
        self.publish(&self.paths.snapshot, &bytes)?;
        if matches!(*journal, Journal::Closed { len: None }) {
            return Ok(());
        }
        *journal = Journal::Unusable;
        let path = &self.paths.journal;
        self.publish(path, b"")?;
        let file = self.fs.open(path, Access::ReadWrite).map_err(|e| Trouble::new("the opening", path, e))?;
        *journal = Journal::Open { file, len: 0 };
        self.journal_len.store(0, Ordering::Relaxed);
        Ok(())
    }
}
