//! What of a mapped file is known to be in memory: asked for before each first look, so that a page the disk cannot give is
//! an error with its place, where a look at it would end the process (SIGBUS).

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use akidb_host::{File, Region};

use crate::error::{Error, ErrorKind, Fate, Result};
use crate::sync::{AtomicU64, Ordering};

/// What is asked for at once where a file is read from its start.
const STEP_BYTES: usize = 256 << 10;
/// In pieces of this size the place is looked for that cannot be read.
const PAGE_BYTES: usize = 4096;

/// One file's; clones share what they know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded {
    /// `None`: bytes that never lay on a disk.
    file: Option<Arc<dyn File>>,
    /// Everything before it was asked for.
    until: Arc<AtomicU64>,
}

impl Loaded {
    pub(crate) fn new(file: Arc<dyn File>) -> Self {
        Self { file: Some(file), until: Arc::default() }
    }

    /// Whether everything before `end` was asked for.
    pub(crate) fn reaches(&self, end: usize) -> bool {
        self.file.is_none() || end as u64 <= self.until.load(Ordering::Relaxed)
    }

    /// Has the bytes of `range` read, as far as the map goes, and some of those behind them.
    ///
    /// # Errors
    /// `Unreadable`, with the place in `path`.
    pub(crate) fn ask(&self, region: &Region, range: Range<usize>, path: &Path) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let len = region.bytes().len();
        let (from, to) = (range.start, range.end.min(len));
        let until = usize::try_from(self.until.load(Ordering::Relaxed)).expect("an offset in the map");
        if from >= to || to <= until {
            return Ok(());
        }
        let goes_on = from <= until;
        let step = if goes_on { until..to.max(until + STEP_BYTES).min(len) } else { from..to };
        let known = match file.populate(region, step.clone()) {
            Ok(()) => step.end,
            // The kernel does not know the call, or cannot read a page, perhaps one that nobody asked for.
            Err(_) if read_through(&**file, step.clone(), path).is_ok() => step.end,
            Err(_) => {
                let asked = if goes_on { until..to } else { from..to };
                read_through(&**file, asked, path)?;
                to
            }
        };
        if goes_on {
            self.until.fetch_max(known as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Reads the range by calls: what they can read is in the page cache, which the map shows.
fn read_through(file: &dyn File, range: Range<usize>, path: &Path) -> Result<()> {
    let mut page = [0; PAGE_BYTES];
    let mut at = range.start / PAGE_BYTES * PAGE_BYTES;
    while at < range.end {
        match file.read_at(&mut page, at as u64) {
            // Shorter than its map: somebody cut the file since.
            Ok(0) => return Err(unreadable(path, at as u64, io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => at += PAGE_BYTES,
            Err(e) => return Err(unreadable(path, at as u64, e)),
        }
    }
    Ok(())
}

fn unreadable(path: &Path, offset: u64, source: io::Error) -> Error {
    let kind = ErrorKind::Unreadable { file: path.into(), offset, source: Arc::new(source) };
    Error::new(kind, Fate::Untouched)
}
