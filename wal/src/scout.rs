//! Where the empty end of each file of the last session begins: looked at from behind while the frames are checked
//! from the front, on a thread of its own where there is enough to look at.
//!
//! Most of a log's bytes are the zeros that its files were made with, and the rule of recovery wants them seen. Both
//! threads take pieces from one list, so the one that checks frames helps once it is done. What comes out is the same
//! whoever looked at what. Files that were never in use are left to a search that needs them.
//!
//! A thread that is done early reads on from behind, towards the one that checks: reading 64 MiB for the first time
//! takes as long as their checksums, and is half done when that one comes by.

use std::hint::black_box;
use std::sync::Arc;

use akidb_host::{Job, Spawn};

use crate::error::{Error, Result};
use crate::header::HEADER_PAGE_BYTES;
use crate::log_file::View;
use crate::search::{is_zero, may_hold_salt};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering, lock};

/// What is looked at between two looks at the list.
const PIECE_BYTES: usize = 256 << 10;
/// One byte read of a line brings all of it.
const LINE_BYTES: usize = 64;
/// Below so many bytes of files a thread costs more than it saves.
const WORTH_A_THREAD_BYTES: u64 = 4 << 20;

/// A search for empty ends under way. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Scout {
    files: Vec<Found>,
    ground: Arc<Ground>,
    job: Option<Box<dyn Job>>,
}

/// What is known of a file's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// What lies from here on is empty: zeros, or in a recycled file nothing with its salt, not even in words that
    /// differ from it in one bit. What lies before may be empty as well.
    pub(crate) empty_from: usize,
    /// The place of its first frame is empty: a spare.
    pub(crate) unused: bool,
}

#[derive(Debug)]
struct Ground {
    stretches: Vec<Stretch>,
    /// The next piece: it ends here in the stretch of that index. From the last file to the first, each from behind.
    next: Mutex<(usize, usize)>,
    /// How far the frames were checked, counted through all stretches.
    checked: AtomicU64,
    stop: AtomicBool,
    /// What the disk could not read.
    failed: Mutex<Option<Error>>,
}

#[derive(Debug)]
struct Stretch {
    view: View,
    /// Bytes of the stretches before it.
    base: u64,
    /// What lies from here on is empty; final once every piece was looked at.
    empty_from: AtomicU64,
    /// A piece that is not empty was found: those before it are not asked for.
    found: AtomicBool,
}

impl Scout {
    /// Begins to look at `views`.
    pub(crate) fn send(views: &[View], spawn: &dyn Spawn) -> Self {
        let failed = Mutex::default();
        let found = |view: &View| {
            let len = view.bytes().len();
            let unused = is_empty(view, HEADER_PAGE_BYTES, (2 * HEADER_PAGE_BYTES).min(len));
            Found { empty_from: len, unused: unused.unwrap_or_else(|e| note(&failed, e)) }
        };
        let files: Vec<Found> = views.iter().map(found).collect();
        let mut bytes = 0;
        let stretch = |view: &View| {
            let base = bytes;
            bytes += view.bytes().len() as u64;
            let (empty_from, found) = (AtomicU64::new(0), AtomicBool::new(false));
            Stretch { view: view.clone(), base, empty_from, found }
        };
        let used = views.iter().zip(&files).filter(|(_, found)| !found.unused);
        let stretches: Vec<Stretch> = used.map(|(view, _)| view).map(stretch).collect();
        let next = Mutex::new((stretches.len().saturating_sub(1), stretches.last().map_or(0, Stretch::len)));
        let (checked, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let ground = Arc::new(Ground { stretches, next, checked, stop, failed });
        let job = (bytes >= WORTH_A_THREAD_BYTES)
            .then(|| {
                let ground = Arc::clone(&ground);
                // Without a thread the caller of `ends` looks at everything.
                spawn.job("wal-scout", Box::new(move || ground.scout())).ok()
            })
            .flatten();
        Self { files, ground, job }
    }

    /// The frames of the view at `index` were checked up to `at`.
    pub(crate) fn checked(&self, index: usize, at: usize) {
        if !self.files[index].unused {
            let used = self.files[..index].iter().filter(|found| !found.unused).count();
            self.ground.checked.store(self.ground.stretches[used].base + at as u64, Ordering::Relaxed);
        }
    }

    /// What is known of each view, once all is known: looks at what is still left. An unused one was not looked at.
    ///
    /// # Errors
    /// `Unreadable`.
    pub(crate) fn ends(&mut self) -> Result<&[Found]> {
        self.ground.checked.store(u64::MAX, Ordering::Relaxed);
        self.ground.look();
        self.wait();
        if let Some(failed) = lock(&self.ground.failed).clone() {
            return Err(failed);
        }
        let used = self.files.iter_mut().filter(|found| !found.unused);
        for (found, stretch) in used.zip(&self.ground.stretches) {
            let end = stretch.empty_from.load(Ordering::Acquire);
            found.empty_from = usize::try_from(end).expect("an offset in the file");
        }
        Ok(&self.files)
    }

    fn wait(&mut self) {
        if let Some(job) = self.job.take() {
            assert!(job.join(), "looking at bytes does not panic");
        }
    }
}

impl Drop for Scout {
    fn drop(&mut self) {
        self.ground.stop.store(true, Ordering::Release);
        if let Some(job) = self.job.take() {
            job.join();
        }
    }
}

impl Stretch {
    fn len(&self) -> usize {
        self.view.bytes().len()
    }
}

impl Ground {
    fn scout(&self) {
        self.look();
        self.warm();
    }

    /// Reads what was not checked yet, from behind: then it is mapped, and in the cache if that is large enough.
    fn warm(&self) {
        for stretch in self.stretches.iter().rev() {
            let end =
                usize::try_from(stretch.empty_from.load(Ordering::Acquire)).expect("an offset in the file");
            let mut left = end as u64;
            for piece in stretch.view.bytes()[..end].rchunks(PIECE_BYTES) {
                left -= piece.len() as u64;
                let checked = self.checked.load(Ordering::Relaxed);
                if checked >= stretch.base + left || self.stop.load(Ordering::Acquire) {
                    return;
                }
                // Whoever checks comes to it as well, and says so.
                let from = usize::try_from(left).expect("an offset in the file");
                if stretch.view.load(from..from + piece.len()).is_err() {
                    return;
                }
                black_box(piece.iter().step_by(LINE_BYTES).fold(0, |any, byte| any | byte));
            }
        }
    }

    fn look(&self) {
        while let Some((stretch, from, to)) = self.take().filter(|_| !self.stop.load(Ordering::Acquire)) {
            if !is_empty(&stretch.view, from, to).unwrap_or_else(|e| note(&self.failed, e)) {
                stretch.found.store(true, Ordering::Release);
                stretch.empty_from.fetch_max(to as u64, Ordering::AcqRel);
            }
        }
    }

    /// The next piece. Each is given out once.
    fn take(&self) -> Option<(&Stretch, usize, usize)> {
        let mut next = lock(&self.next);
        loop {
            let (index, to) = *next;
            let stretch = self.stretches.get(index)?;
            if to > HEADER_PAGE_BYTES && !stretch.found.load(Ordering::Acquire) {
                let from = (to - 1) / PIECE_BYTES * PIECE_BYTES;
                let from = from.max(HEADER_PAGE_BYTES);
                next.1 = from;
                return Some((stretch, from, to));
            }
            let before = index.checked_sub(1);
            *next = before.map_or((usize::MAX, 0), |before| (before, self.stretches[before].len()));
        }
    }
}

/// # Errors
/// `Unreadable`.
fn is_empty(view: &View, from: usize, to: usize) -> Result<bool> {
    let Some(bytes) = view.bytes().get(from..to) else { return Ok(true) };
    view.load(from..to)?;
    Ok(if view.is_recycled() { !may_hold_salt(bytes, view.header.salt) } else { is_zero(bytes) })
}

/// Keeps the first error; whether what it hides is empty: it is not known to be.
fn note(failed: &Mutex<Option<Error>>, error: Error) -> bool {
    lock(failed).get_or_insert(error);
    false
}

#[cfg(test)]
mod tests;
