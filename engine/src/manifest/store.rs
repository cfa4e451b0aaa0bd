//! The directory `manifest/`: which manifests there are, reading the newest, committing the next, letting old ones go.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use akidb_host::{Access, EntryKind, Fs, publish_new};

use super::format::repair_help;
use super::seen::Seen;
use super::{Committed, Manifest, check_commit, file_name, number_of};
use crate::error::{EIO, Error, ErrorKind, Fate, Result};

/// A manifest larger than this is not read: a wrong length must not become a huge allocation.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Which manifests are kept beside the newest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// At most so many, the newest first.
    pub count: usize,
    /// None that is older.
    pub for_secs: u64,
}

impl Default for Kept {
    /// 100 manifests of the last 24 hours: enough to look back over a bad day, a few MiB of files.
    fn default() -> Self {
        Self { count: 100, for_secs: 24 * 3600 }
    }
}

/// The manifests of one database. All calls block on the file system. There is one committer; the lock of the
/// database directory sees to that.
#[derive(Debug)]
pub struct Store {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// Of those that were read or written here, so that retention and gc read a file once.
    seen: Mutex<Seen>,
}

impl Store {
    /// The manifests in `dir` (the directory `manifest` of a database). Touches nothing.
    #[must_use]
    pub fn new(fs: Arc<dyn Fs>, dir: PathBuf) -> Self {
        Self { fs, dir, seen: Mutex::default() }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file of manifest `number`.
    #[must_use]
    pub fn path(&self, number: u64) -> PathBuf {
        self.dir.join(file_name(number))
    }

    /// The numbers of all manifests there, ascending; other names are ignored. Empty if there is no directory.
    ///
    /// # Errors
    /// `Unavailable`: the directory cannot be read.
    pub fn numbers(&self) -> Result<Vec<u64>> {
        let mut numbers: Vec<u64> = self.file_names()?.iter().filter_map(|name| number_of(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Temporary files that a crash during a commit left; nobody reads them.
    ///
    /// # Errors
    /// `Unavailable`: the directory cannot be read.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let names = self.file_names()?;
        Ok(names.iter().filter(|name| name.ends_with(".tmp")).map(|name| self.dir.join(name)).collect())
    }

    fn file_names(&self) -> Result<Vec<String>> {
        match self.fs.list(&self.dir) {
            Ok(entries) => {
                Ok(entries.into_iter().filter(|e| e.kind == EntryKind::File).map(|e| e.name).collect())
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(Error::io("AKI-0310", &self.dir, "listing manifests", &e)),
        }
    }

    /// The newest manifest; `None` if there is none at all. A damaged newest manifest is an error, never a
    /// silent step back to the one before: the log below its floor is gone.
    ///
    /// # Errors
    /// `Corrupt` with file, offset and the command that mends it; `NewerFormat`; `Unavailable`.
    pub fn newest(&self) -> Result<Option<Committed>> {
        let mut looked_for = None;
        loop {
            let Some(number) = self.numbers()?.last().copied() else { return Ok(None) };
            match self.load(number) {
                // Beside a writer: it expired between the two.
                Err(error) if error.kind() == ErrorKind::NotFound && looked_for < Some(number) => {
                    looked_for = Some(number);
                }
                loaded => return loaded.map(Some),
            }
        }
    }

    /// Manifest `number`.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`, `NewerFormat`, `Unavailable`.
    pub fn load(&self, number: u64) -> Result<Committed> {
        let path = self.path(number);
        let committed = Manifest::decode(&path, &self.read(&path)?)?;
        if committed.manifest.number != number {
            let message = format!("the file holds manifest {}", committed.manifest.number);
            return Err(Error::corrupt("AKI-0309", &path, 0, message).help_is(repair_help(&path)));
        }
        self.lock_seen().note(&committed.manifest);
        Ok(committed)
    }

    /// The directories and files that manifest `number` names, below `collections/`. Reads it unless it was read or
    /// written here before: then it is enough that it is still there, whatever became of its bytes.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub(crate) fn files_of(&self, number: u64) -> Result<Arc<[Arc<str>]>> {
        let seen = self.lock_seen().files(number);
        if let Some(files) = seen {
            return Ok(files);
        }
        let committed = self.load(number)?;
        Ok(self.lock_seen().note(&committed.manifest))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let read = || -> io::Result<Option<Vec<u8>>> {
            let file = self.fs.open(path, Access::Read)?;
            let len = file.len()?;
            if len > MAX_FILE_BYTES {
                return Ok(None);
            }
            let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, 0)?;
            Ok(Some(bytes))
        };
        match read() {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => {
                let message = format!("the file is larger than {MAX_FILE_BYTES} bytes, no manifest is");
                Err(Error::corrupt("AKI-0304", path, 0, message).help_is(repair_help(path)))
            }
            Err(e) if e.raw_os_error() == Some(EIO) => {
                let message = format!("the disk cannot read the manifest back: {e}");
                Err(Error::corrupt("AKI-0304", path, 0, message).help_is(repair_help(path)))
            }
            Err(e) => Err(Error::io("AKI-0310", path, "reading a manifest", &e)),
        }
    }

    /// Commits `next` after `parent` (`None` for the first of a database): raises its minor format if it uses newer
    /// fields, checks every rule, writes the file
    /// under a temporary name, syncs it, links it to its final name, syncs the directory.
    ///
    /// # Errors
    /// All but the last with fate `NotWritten`. `Internal`: `next` breaks a rule. `Fenced`: another writer has
    /// committed under this number or a later one. `Conflict`: this process did. `NoSpace`, `Unavailable`: the
    /// file could not be written. `Poisoned` with fate `Unknown`: the name exists now, but the directory could
    /// not be synced; no more may be committed, reopening tells.
    pub fn commit(&self, parent: Option<&Committed>, mut next: Manifest) -> Result<Committed> {
        next.format.minor = next.format.minor.max(next.minor_needed());
        check_commit(parent, &next)
            .map_err(|broken| Error::new(ErrorKind::Internal, "AKI-0311", broken.to_string()))?;
        let (bytes, crc32) = next.encode()?;
        let name = file_name(next.number);
        if let Some(there) = self.numbers()?.into_iter().rev().find(|n| *n >= next.number) {
            return Err(self.taken(there, &next));
        }
        match publish_new(&*self.fs, &self.dir, &name, &bytes) {
            Ok(()) => {}
            Err(e) => return Err(self.failed(&next, &e)),
        }
        self.lock_seen().note(&next);
        Ok(Committed { manifest: next, crc32 })
    }

    /// Manifest `number`, committed just now, is so old by the clock that is asked for what [`Store::expired`] answers; its
    /// file says what the wall clock said.
    pub(crate) fn grows_old_from(&self, number: u64, unix_micros: i64) {
        self.lock_seen().grows_old_from(number, unix_micros);
    }

    /// The dropped collections of a manifest whose directory is gone: no manifest that is kept names anything in it.
    pub(crate) fn gone<'a>(&'a self, manifest: &'a Manifest) -> impl Iterator<Item = u32> + 'a {
        let root = self.dir.with_file_name("collections");
        let is_gone = move |dir: &str| {
            self.fs.metadata(&root.join(dir)).is_err_and(|cause| cause.kind() == io::ErrorKind::NotFound)
        };
        manifest.dropped.iter().filter(move |dropped| is_gone(&dropped.dir)).map(|dropped| dropped.id)
    }

    /// What a failed commit means; the name tells how far it came.
    fn failed(&self, next: &Manifest, e: &io::Error) -> Error {
        let path = self.path(next.number);
        match self.fs.metadata(&path) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {
                Error::io("AKI-0312", &path, "writing a manifest", e)
            }
            Ok(_) if e.kind() == io::ErrorKind::AlreadyExists => self.taken(next.number, next),
            _ => {
                let message = format!("syncing the directory of a new manifest: {e}");
                Error::new(ErrorKind::Poisoned, "AKI-0313", message)
                    .at(&path, None)
                    .fate_is(Fate::Unknown)
                    .help_is("reopen the database: it then has either this manifest or the one before it")
            }
        }
    }

    /// The error for a number that is taken: by whom?
    fn taken(&self, there: u64, next: &Manifest) -> Error {
        let path = self.path(there);
        let (kind, code, who) = match self.load(there) {
            Ok(Committed { manifest: m, .. }) if m.writer_id == next.writer_id => {
                (ErrorKind::Conflict, "AKI-0314", "by this writer".to_owned())
            }
            Ok(Committed { manifest: m, .. }) => (
                ErrorKind::Fenced,
                "AKI-0315",
                format!("by writer {:08x} in epoch {}", m.writer_id, m.writer_epoch),
            ),
            Err(e) => (ErrorKind::Conflict, "AKI-0314", format!("and cannot be read ({})", e.message())),
        };
        let message = format!("manifest {} cannot be committed: {there} is there, {who}", next.number);
        Error::new(kind, code, message).at(&path, None).help_is("stop the other writer, then reopen")
    }

    /// The numbers that may go: all but the newest `kept.count` that are younger than `kept.for_secs`, the
    /// newest of all, and `pinned` ones (in use, or named by a person). A manifest whose age cannot be read
    /// is as old as the next newer one of which it can.
    ///
    /// # Errors
    /// `Unavailable`: the directory cannot be read.
    pub fn expired(&self, kept: Kept, unix_micros: i64, pinned: &BTreeSet<u64>) -> Result<Vec<u64>> {
        let numbers = self.numbers()?;
        let (mut expired, mut is_older) = (Vec::new(), false);
        for (rank, number) in numbers.iter().rev().enumerate().skip(1) {
            // The age of one that is too many is not asked: its file would be read for it.
            if rank < kept.count && kept.for_secs < u64::MAX {
                is_older = self.is_older(*number, kept.for_secs, unix_micros).unwrap_or(is_older);
            }
            let goes = rank >= kept.count || is_older;
            if goes && !pinned.contains(number) {
                expired.push(*number);
            }
        }
        expired.reverse();
        Ok(expired)
    }

    fn is_older(&self, number: u64, secs: u64, now_unix_micros: i64) -> Option<bool> {
        let known = self.lock_seen().created_at(number);
        let created =
            known.or_else(|| self.load(number).ok().map(|c| c.manifest.created_at.as_microsecond()));
        let limit = i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1_000_000);
        created.map(|at| now_unix_micros.saturating_sub(at) > limit)
    }

    /// Removes the files of these manifests and syncs the directory; ones already gone do not matter.
    ///
    /// # Errors
    /// `Unavailable`: the first file that could not be removed, or the sync. Nothing else is held up; calling again is safe.
    pub fn delete(&self, numbers: &[u64]) -> Result<()> {
        self.remove(numbers)?.map_or(Ok(()), Err)
    }

    /// As [`Store::delete`], and answers apart why one is still there: that the others are gone is durable on return.
    ///
    /// # Errors
    /// `Unavailable`: the directory could not be synced. What they name has to stay.
    pub(crate) fn remove(&self, numbers: &[u64]) -> Result<Option<Error>> {
        let (mut gone, mut failure) = (Vec::new(), None);
        for number in numbers {
            let path = self.path(*number);
            match self.fs.unlink(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    failure.get_or_insert(Error::io("AKI-0316", &path, "removing an old manifest", &e));
                }
                _ => gone.push(*number),
            }
        }
        self.lock_seen().forget(&gone);
        if !gone.is_empty() {
            let synced = self.fs.sync_dir(&self.dir);
            synced
                .map_err(|e| Error::io("AKI-0316", &self.dir, "syncing after removing old manifests", &e))?;
        }
        Ok(failure)
    }

    fn lock_seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
