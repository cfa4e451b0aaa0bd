//! Reading the files: the snapshot, then what the journal tells since; what cannot be read is kept aside.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use akidb_host::{Fs, read_file};

use super::letter::{Letter, LetterId};
use super::line::{self, Told};
use super::{packed, snapshot};

#[cfg(test)]
mod tests;

/// Copies of damaged files that are kept.
const KEPT_ASIDE: usize = 8;

/// What an open or a look at the files found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded {
    /// Letters in the list.
    pub letters: u64,
    /// Lines that were skipped because their checksum or their content is wrong.
    pub corrupt_lines: u64,
    /// The journal ends within a line: its writer died there, and nobody was told that the line is safe.
    pub is_torn: bool,
    /// The snapshot was written by a newer AkiDB and was not read.
    pub is_newer: bool,
    /// Damaged files as they were found. Empty if files were only read, not opened.
    pub kept_aside: Vec<PathBuf>,
    /// Files that could not be read at all, and why.
    pub unreadable: Vec<String>,
}

/// Where the files of a queue lie.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) snapshot: PathBuf,
    pub(crate) journal: PathBuf,
    pub(crate) evicted: PathBuf,
}

impl Paths {
    /// `dlq.json` has `dlq.journal.jsonl` and `dlq.evicted.jsonl` beside it.
    pub(crate) fn of(snapshot: &Path) -> Self {
        let stem = snapshot.file_stem().unwrap_or_default().to_string_lossy();
        let beside = |end: &str| snapshot.with_file_name(format!("{stem}.{end}"));
        Self {
            snapshot: snapshot.to_owned(),
            journal: beside("journal.jsonl"),
            evicted: beside("evicted.jsonl"),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        match self.snapshot.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        }
    }
}

/// What the files tell.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// By id.
    pub(crate) letters: Vec<Letter>,
    /// Number of the last change in them.
    pub(crate) last: u64,
    /// The journal's length in bytes; `None` if there is none.
    pub(crate) journal_len: Option<u64>,
    /// The journal cannot be appended to: it is torn or damaged.
    pub(crate) is_journal_bad: bool,
    pub(crate) is_snapshot_bad: bool,
    /// Bad files without a second name yet: they must not be written over.
    pub(crate) not_kept: Vec<PathBuf>,
    pub(crate) loaded: Loaded,
}

/// Reads both files. The journal first: if a running process replaces both in between, the newer snapshot holds
/// what the older journal told.
pub(crate) fn find(fs: &dyn Fs, paths: &Paths) -> Found {
    let mut loaded = Loaded::default();
    let journal = contents(fs, &paths.journal, &mut loaded);
    let snapshot = contents(fs, &paths.snapshot, &mut loaded);
    let (is_journal_bad, is_snapshot_bad) = (journal.is_err(), snapshot.is_err());
    let mut found = of_bytes(snapshot.ok().flatten().as_deref(), journal.ok().flatten().as_deref());
    found.is_journal_bad |= is_journal_bad;
    found.is_snapshot_bad |= is_snapshot_bad;
    found.loaded.unreadable = loaded.unreadable;
    found
}

/// What the two files tell, each `None` if it is not there. Never fails.
pub(crate) fn of_bytes(snapshot: Option<&[u8]>, journal: Option<&[u8]>) -> Found {
    let mut found = Found::default();
    let mut list = BTreeMap::new();
    if let Some(bytes) = snapshot {
        take_snapshot(bytes, &mut list, &mut found);
    }
    if let Some(bytes) = journal {
        found.journal_len = Some(bytes.len() as u64);
        take_journal(bytes, &mut list, &mut found);
    }
    found.letters = list.into_values().collect();
    found.loaded.letters = found.letters.len() as u64;
    found
}

/// A file's bytes, `None` if it is not there.
fn contents(fs: &dyn Fs, path: &Path, loaded: &mut Loaded) -> Result<Option<Vec<u8>>, ()> {
    match read_file(fs, path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => {
            loaded.unreadable.push(format!("{}: {e}", path.display()));
            Err(())
        }
    }
}

fn take_snapshot(bytes: &[u8], list: &mut BTreeMap<LetterId, Letter>, found: &mut Found) {
    let read = snapshot::read(&packed::unpack(bytes));
    list.extend(read.letters.into_iter().map(|letter| (letter.id.clone(), letter)));
    found.last = read.last;
    found.loaded.corrupt_lines += read.bad_lines;
    found.loaded.is_newer = read.is_newer;
    found.is_snapshot_bad = !read.is_intact;
}

fn take_journal(bytes: &[u8], list: &mut BTreeMap<LetterId, Letter>, found: &mut Found) {
    let covered = found.last;
    let mut lines = bytes.split(|&byte| byte == b'\n').peekable();
    while let Some(text) = lines.next() {
        let is_tail = lines.peek().is_none();
        if text.is_empty() && is_tail {
            break;
        }
        let Some((n, told)) = line::read(text) else {
            found.loaded.corrupt_lines += u64::from(!is_tail);
            found.loaded.is_torn |= is_tail;
            found.is_journal_bad = true;
            continue;
        };
        // Whole, but for its newline: what is appended would stick to it.
        found.is_journal_bad |= is_tail;
        if n <= covered {
            continue;
        }
        found.last = found.last.max(n);
        match told {
            Told::Is(letter) => {
                list.insert(letter.id.clone(), *letter);
            }
            Told::Gone(id) => {
                list.remove(&id);
            }
        }
    }
}

/// Gives the damaged files a second name, under which nobody writes.
pub(crate) fn keep_aside(fs: &dyn Fs, paths: &Paths, found: &mut Found, now_unix_secs: i64) {
    // A torn end is what a death leaves; nothing in it was promised.
    let is_journal_odd =
        found.is_journal_bad && (found.loaded.corrupt_lines > 0 || !found.loaded.unreadable.is_empty());
    let odd = [(found.is_snapshot_bad, &paths.snapshot), (is_journal_odd, &paths.journal)];
    for (_, path) in odd.into_iter().filter(|(is_odd, _)| *is_odd) {
        match link_aside(fs, path, now_unix_secs) {
            Ok(kept) => found.loaded.kept_aside.push(kept),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                tracing::warn!(file = %path.display(), error = %e, "a damaged file is not kept aside yet");
                found.not_kept.push(path.clone());
            }
        }
        forget_oldest_aside(fs, path);
    }
}

/// The second name; `NotFound` if there is no such file.
pub(crate) fn link_aside(fs: &dyn Fs, path: &Path, now_unix_secs: i64) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut second = now_unix_secs;
    loop {
        let kept = path.with_file_name(format!("{name}.corrupt-{second}"));
        match fs.hard_link(path, &kept) {
            Ok(()) => return Ok(kept),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && second < now_unix_secs + 60 => second += 1,
            Err(e) => return Err(e),
        }
    }
}

fn forget_oldest_aside(fs: &dyn Fs, path: &Path) {
    let Some(dir) = path.parent() else { return };
    let start = format!("{}.corrupt-", path.file_name().unwrap_or_default().to_string_lossy());
    let Ok(entries) = fs.list(dir) else { return };
    let mut kept: Vec<_> =
        entries.into_iter().map(|e| e.name).filter(|name| name.starts_with(&start)).collect();
    kept.sort_by_key(|name| name[start.len()..].parse().unwrap_or(0_i64));
    for name in kept.iter().rev().skip(KEPT_ASIDE) {
        if let Err(e) = fs.unlink(&dir.join(name)) {
            tracing::warn!(file = %name, error = %e, "an old damaged file is not removed");
        }
    }
}
