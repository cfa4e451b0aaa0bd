//! The multipart uploads under way on one backend, written down before their first part: what a crash leaves half-written
//! is aborted at the next start.
//!
//! ```text
//! uploads/<backend>.multipart.jsonl        one line an event; may be lost at any time: then a bucket's lifecycle rule
//!   {"c":"<crc32 of e's bytes>","e":{"begun":{"key":"…","id":"…"}}}\n           removes what nobody remembers
//!   {"c":"<8 hex digits>","e":{"ended":{"key":"…","id":"…"}}}\n
//! ```
//! `begun` is synced before the first part is sent, `ended` is not: aborting an upload that has ended does nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use akidb_host::{Access, File, Fs, publish_over, read_file};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::class::{Class, Op};
use crate::client::Client;
use crate::error::Error;

/// Above this the journal is emptied as soon as nothing is under way.
const LONG_LEN_BYTES: u64 = 64 << 10;
/// An upload that could not be aborted is tried again after this, doubling to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// So many refusals for good, of the right or of the request, and this process leaves it to the lifecycle rule.
const MOST_REFUSALS: u32 = 3;
/// Aborts tried at a time: a plan may be waiting behind them.
const MOST_ABORTS: usize = 10;

/// One upload that has begun.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Upload {
    key: String,
    id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Begun(Upload),
    Ended(Upload),
}

#[derive(Serialize, Deserialize)]
struct Line<'l> {
    c: &'l str,
    #[serde(borrow)]
    e: &'l RawValue,
}

/// The journal of the multipart uploads of one backend. A disk that cannot hold it stops no upload: what is under way
/// is then remembered by this process alone.
pub struct Multiparts {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    file: Option<Arc<dyn File>>,
    end: u64,
    under_way: BTreeSet<Upload>,
    /// Nobody works on these any more: to be aborted.
    left: BTreeMap<Upload, Left>,
    /// What was left and will not be aborted by this process.
    given_up: u64,
    is_degraded: bool,
}

/// How the aborts of one upload went so far.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    failures: u32,
    /// Those of them that were refusals for good.
    refusals: u32,
    /// Not before this; at once if none.
    due: Option<Instant>,
}

/// What [`Multiparts::abort_leftovers`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aborted {
    /// Uploads that were aborted.
    pub aborted: u64,
    /// Uploads that had ended already.
    pub gone: u64,
    /// Uploads whose abort failed: each is tried again by itself, later and later.
    pub failed: u64,
    /// Those of them that this process gives up: a bucket's lifecycle rule removes them, or the next open.
    pub given_up: u64,
}

impl Multiparts {
    /// Reads `<dir>/<backend>.multipart.jsonl`, where `dir` is the database's `uploads`. Blocks for a read and, if
    /// something was left, two syncs. Lines that are torn or changed are skipped; nothing here fails an open.
    #[must_use]
    pub fn open(fs: Arc<dyn Fs>, dir: &Path, backend: &str) -> Self {
        let path = dir.join(format!("{backend}.multipart.jsonl"));
        let mut state = State::default();
        match read(fs.as_ref(), &path) {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                let left = still_open(&bytes);
                // A file of whole lines again, and of no more than is left.
                let lines: String = left.iter().map(|upload| line(&Event::Begun(upload.clone()))).collect();
                state.left = left.into_iter().map(|upload| (upload, Left::default())).collect();
                let name =
                    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                if let Err(error) = publish_over(fs.as_ref(), dir, &name, lines.as_bytes()) {
                    state.degrade(&path, &error);
                }
            }
            Err(error) => state.degrade(&path, &error),
        }
        Self { fs, path, state: Mutex::new(state) }
    }

    /// Uploads that nobody works on any more, and that are still to be aborted.
    #[must_use]
    pub fn leftovers(&self) -> usize {
        self.lock().left.len()
    }

    /// Uploads that could not be aborted, and will not be by this process: why is in the log.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.lock().given_up
    }

    /// When the next of the leftovers is to be aborted; zero if now, `None` if there is none.
    #[must_use]
    pub fn due_in(&self, now: Instant) -> Option<Duration> {
        let due = |left: &Left| left.due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
        self.lock().left.values().map(due).min()
    }

    /// Uploads that somebody works on.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.lock().under_way.len()
    }

    /// Whether the journal could not be read or written: uploads go on, but a crash may leave parts behind.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.lock().is_degraded
    }

    /// Aborts what an earlier process, or a call that was dropped, left half-written, and is due. To be called at a start,
    /// and again whenever [`Multiparts::due_in`] says so: ten are tried at a time, once each, those that were tried least
    /// lately first. One that cannot be aborted holds up no other; it is due again later and later, and given up after three
    /// refusals for good. Dropped half-way it has lost nothing.
    pub async fn abort_leftovers(&self, client: &Client, now: Instant) -> Aborted {
        let mut done = Aborted::default();
        let Some(parts) = client.backend().parts() else { return done };
        let is_due = |left: &Left| left.due.is_none_or(|due| due <= now);
        let due = self
            .lock()
            .left
            .iter()
            .filter(|(_, left)| is_due(left))
            .map(|(u, l)| (l.due, u.clone()))
            .collect();
        let mut due: Vec<(Option<Instant>, Upload)> = due;
        due.sort();
        for (_, upload) in due.into_iter().take(MOST_ABORTS) {
            // It has pauses of its own, so the backend's retry budget is not asked.
            let aborted = async {
                let path = client.path(&upload.key)?;
                client.once(Op::Delete, &upload.key, 0, parts.abort_multipart(&path, &upload.id)).await
            };
            match aborted.await {
                Ok(()) => done.aborted += 1,
                Err(error) if error.class() == Class::NotFound => done.gone += 1,
                // Nothing was asked of the backend, nor will be of the rest.
                Err(error) if error.is_held() => break,
                Err(error) => {
                    done.failed += 1;
                    done.given_up += u64::from(self.failed(&upload, &error, now));
                    continue;
                }
            }
            self.end(&upload);
        }
        done
    }

    /// Notes an abort that failed. `true` if it was the last.
    fn failed(&self, upload: &Upload, error: &Error, now: Instant) -> bool {
        let mut state = self.lock();
        let Some(left) = state.left.get_mut(upload) else { return false };
        left.failures += 1;
        left.refusals += u32::from(matches!(error.class(), Class::Auth | Class::Permanent));
        if left.refusals < MOST_REFUSALS {
            let wait = FIRST_WAIT.saturating_mul(2u32.saturating_pow(left.failures - 1)).min(LONGEST_WAIT);
            left.due = Some(now + wait);
            tracing::warn!(key = %upload.key, %error, ?wait, "a half-written upload could not be aborted yet");
            return false;
        }
        tracing::warn!(
            key = %upload.key, id = %upload.id, %error,
            "a half-written upload will not be aborted; it is for the bucket's lifecycle rule, or for the next open"
        );
        // Still in the journal, unless that is emptied before.
        state.left.remove(upload);
        state.given_up += 1;
        true
    }

    /// Writes down an upload before its first part is sent; durable on return. Blocks for a sync.
    pub(crate) fn begin(self: &Arc<Self>, key: &str, id: &str) -> Begun {
        let upload = Upload { key: key.to_owned(), id: id.to_owned() };
        let mut state = self.lock();
        state.under_way.insert(upload.clone());
        self.append(&mut state, &Event::Begun(upload.clone()), true);
        Begun { journal: Arc::clone(self), upload: Some(upload) }
    }

    fn end(&self, upload: &Upload) {
        let mut state = self.lock();
        state.under_way.remove(upload);
        state.left.remove(upload);
        self.append(&mut state, &Event::Ended(upload.clone()), false);
        let is_idle = state.under_way.is_empty() && state.left.is_empty();
        if is_idle
            && state.end > LONG_LEN_BYTES
            && state.file.as_ref().is_some_and(|file| file.set_len(0).is_ok())
        {
            state.end = 0;
        }
    }

    fn append(&self, state: &mut State, event: &Event, is_durable: bool) {
        if state.is_degraded {
            return;
        }
        let written = self.file(state).and_then(|file| {
            let bytes = line(event);
            file.write_at(bytes.as_bytes(), state.end)?;
            state.end += bytes.len() as u64;
            if is_durable { file.sync_data() } else { Ok(()) }
        });
        if let Err(error) = written {
            state.degrade(&self.path, &error);
        }
    }

    /// The journal, opened or created on first use.
    fn file(&self, state: &mut State) -> io::Result<Arc<dyn File>> {
        if let Some(file) = &state.file {
            return Ok(Arc::clone(file));
        }
        let file = match self.fs.open(&self.path, Access::ReadWrite) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = self.path.parent().unwrap_or(Path::new("."));
                self.fs.create_dir_all(dir)?;
                let file = self.fs.create_new(&self.path)?;
                self.fs.sync_dir(dir)?;
                file
            }
            file => file?,
        };
        state.end = file.len()?;
        state.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn degrade(&mut self, path: &Path, error: &io::Error) {
        let path = path.display();
        tracing::warn!(%path, %error, "the journal of multipart uploads is out of use; a crash may leave parts behind");
        self.is_degraded = true;
    }
}

/// An upload that is under way. Dropped without an end it is left to [`Multiparts::abort_leftovers`].
#[derive(Debug)]
pub(crate) struct Begun {
    journal: Arc<Multiparts>,
    upload: Option<Upload>,
}

impl Begun {
    /// It is complete, or aborted.
    pub(crate) fn end(mut self) {
        if let Some(upload) = self.upload.take() {
            self.journal.end(&upload);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            let mut state = self.journal.lock();
            state.under_way.remove(&upload);
            state.left.insert(upload, Left::default());
        }
    }
}

fn read(fs: &dyn Fs, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read_file(fs, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some),
    }
}

fn line(event: &Event) -> String {
    let e = serde_json::value::to_raw_value(event).expect("only strings");
    let c = format!("{:08x}", crc32fast::hash(e.get().as_bytes()));
    let mut line = serde_json::to_string(&Line { c: &c, e: &e }).expect("only strings");
    line.push('\n');
    line
}

/// What was begun and not ended.
fn still_open(bytes: &[u8]) -> BTreeSet<Upload> {
    let mut open = BTreeSet::new();
    for bytes in bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        match event(bytes) {
            Some(Event::Begun(upload)) => drop(open.insert(upload)),
            Some(Event::Ended(upload)) => drop(open.remove(&upload)),
            None => tracing::warn!("a line of the journal of multipart uploads is unreadable and skipped"),
        }
    }
    open
}

fn event(bytes: &[u8]) -> Option<Event> {
    let Line { c, e } = serde_json::from_slice(bytes).ok()?;
    let is_right = c == format!("{:08x}", crc32fast::hash(e.get().as_bytes()));
    is_right.then(|| serde_json::from_str(e.get()).ok()).flatten()
}

impl fmt::Debug for Multiparts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Multiparts")
            .field("path", &self.path)
            .field("under_way", &state.under_way.len())
            .field("left", &state.left.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
