//! Files of the dead letters in memory: what a power cut would leave, writes that fail, and what a sink may count on.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::chance;
use crate::dlq::{Change, Letter, LetterId, Sink, Trouble, What};
use crate::sync::Mutex;

#[derive(Default)]
struct Image {
    snapshot: BTreeSet<LetterId>,
    /// Number of the last change in the snapshot.
    last: u64,
    journal: Vec<Change>,
    /// Writes that may still fail.
    fails: u32,
    failed: u64,
    /// Nothing is known of the journal's end.
    is_torn: bool,
    is_busy: bool,
}

impl Image {
    /// Number of the last change that a load would find.
    fn covered(&self) -> u64 {
        self.journal.last().map_or(0, |change| change.n).max(self.last)
    }

    fn letters(&self) -> BTreeSet<LetterId> {
        let mut letters = self.snapshot.clone();
        for change in self.journal.iter().filter(|change| change.n > self.last) {
            match &change.what {
                What::Added(letter) | What::Updated(letter) => letters.insert(letter.id.clone()),
                What::Gone(letter, _) => letters.remove(&letter.id),
            };
        }
        letters
    }

    fn begin(&mut self) {
        assert!(!self.is_busy, "two write the files at once");
        self.is_busy = true;
    }

    fn end(&mut self) -> Result<(), Trouble> {
        self.is_busy = false;
        if self.fails == 0 || !chance(3) {
            return Ok(());
        }
        self.fails -= 1;
        self.failed += 1;
        Err(Trouble::new("the sync", Path::new("journal"), io::ErrorKind::Other.into()))
    }
}

pub(super) struct Files(Mutex<Image>);

impl Files {
    /// So many writes may fail.
    pub(super) fn failing(fails: u32) -> Self {
        Self(Mutex::new(Image { fails, ..Image::default() }))
    }

    /// No more writes fail; how many did.
    pub(super) fn mend(&self) -> u64 {
        let mut image = self.0.lock();
        image.fails = 0;
        image.failed
    }

    pub(super) fn covered(&self) -> u64 {
        self.0.lock().covered()
    }

    pub(super) fn letters(&self) -> BTreeSet<LetterId> {
        self.0.lock().letters()
    }
}

impl Sink for Files {
    fn append(&self, changes: &[Change]) -> Result<(), Trouble> {
        {
            let mut image = self.0.lock();
            image.begin();
            assert!(!image.is_torn, "appended behind a torn end");
            let first = changes.first().map_or(0, |change| change.n);
            assert!(first <= image.covered() + 1, "{first} after {}: a gap", image.covered());
        }
        let mut image = self.0.lock();
        let done = image.end();
        image.is_torn = done.is_err();
        let whole = if done.is_ok() { changes.len() } else { changes.len() / 2 };
        image.journal.extend_from_slice(&changes[..whole]);
        done
    }

    fn replace(&self, letters: &[Arc<Letter>], last: u64, _since: &[Change]) -> Result<(), Trouble> {
        self.0.lock().begin();
        let mut image = self.0.lock();
        let done = image.end();
        // One that fails may have written the snapshot, and not have started the journal.
        if done.is_ok() || chance(2) {
            image.snapshot = letters.iter().map(|letter| letter.id.clone()).collect();
            image.last = last;
        }
        if done.is_ok() {
            image.journal.clear();
            image.is_torn = false;
        }
        done
    }
}
