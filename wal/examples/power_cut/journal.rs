//! What the writer knows, and since when: one line a fact, with the length of the disk's write log at that moment.
//! A fact at or before the cut was true before the power went.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use akidb_wal::Lsn;

use crate::Failure;
use crate::record::{Batch, Id};

/// The writing side.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Mutex<File>,
    write_log: PathBuf,
}

impl Journal {
    pub(crate) fn append_to(path: &Path, write_log: PathBuf) -> Result<Self, Failure> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file: Mutex::new(file), write_log })
    }

    /// What the disk has been told so far, in bytes of its write log.
    fn position(&self) -> Result<u64, Failure> {
        Ok(std::fs::metadata(&self.write_log)?.len())
    }

    fn line(&self, text: &str) -> Result<(), Failure> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(file.write_all(text.as_bytes())?)
    }

    /// About to append; before it no disk can hold this batch.
    pub(crate) fn intent(&self, batch: Batch) -> Result<(), Failure> {
        let Batch { run, thread, number, count } = batch;
        let position = self.position()?;
        self.line(&format!("intent {position} {run} {thread} {number} {count}\n"))
    }

    /// Acknowledged, or shown after an open: from now on no cut may take these records.
    pub(crate) fn acked(&self, records: &[(Lsn, Id)]) -> Result<(), Failure> {
        let position = self.position()?;
        let mut text = String::new();
        for (lsn, Id { batch: Batch { run, thread, number, count }, index }) in records {
            text += &format!("acked {position} {lsn} {run} {thread} {number} {count} {index}\n");
        }
        self.line(&text)
    }

    /// The log said that everything up to `lsn` is synced.
    pub(crate) fn synced(&self, lsn: Lsn) -> Result<(), Failure> {
        let position = self.position()?;
        self.line(&format!("synced {position} {lsn}\n"))
    }

    /// Records below are given up from now on; only then may the log be told.
    pub(crate) fn floor(&self, floor: Lsn) -> Result<(), Failure> {
        let position = self.position()?;
        self.line(&format!("floor {position} {floor}\n"))
    }

    /// An open for writing returned: of older epochs only what it showed exists from now on.
    pub(crate) fn opened(&self, epoch: u32) -> Result<(), Failure> {
        let position = self.position()?;
        self.line(&format!("opened {position} {epoch}\n"))
    }
}

/// What was true at a cut.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) begun: BTreeSet<Batch>,
    pub(crate) acked: BTreeMap<Lsn, Id>,
    pub(crate) synced: Lsn,
    pub(crate) floor: Lsn,
    /// The newest open that had returned.
    pub(crate) epoch: u32,
    /// Who got which LSN, as far as it was told before or after the cut.
    pub(crate) owners: BTreeMap<Lsn, Id>,
}

impl Known {
    pub(crate) fn at(path: &Path, cut: u64) -> Result<Self, Failure> {
        let mut known = Self::default();
        for line in std::fs::read_to_string(path)?.lines() {
            known.take(line, cut).ok_or_else(|| format!("journal line not understood: {line}"))?;
        }
        Ok(known)
    }

    fn take(&mut self, line: &str, cut: u64) -> Option<()> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let before = words.next()?.parse::<u64>().ok()? <= cut;
        match kind {
            "intent" => {
                let batch = batch(&mut words)?;
                if before {
                    self.begun.insert(batch);
                }
            }
            "acked" => {
                let lsn = words.next()?.parse().ok()?;
                let id = Id { batch: batch(&mut words)?, index: words.next()?.parse().ok()? };
                self.owners.insert(lsn, id);
                if before {
                    self.acked.insert(lsn, id);
                }
            }
            "synced" if before => self.synced = self.synced.max(words.next()?.parse().ok()?),
            "floor" if before => self.floor = self.floor.max(words.next()?.parse().ok()?),
            "opened" if before => self.epoch = self.epoch.max(words.next()?.parse().ok()?),
            "synced" | "floor" | "opened" => {}
            _ => return None,
        }
        Some(())
    }
}

fn batch<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Batch> {
    Some(Batch {
        run: words.next()?.parse().ok()?,
        thread: words.next()?.parse().ok()?,
        number: words.next()?.parse().ok()?,
        count: words.next()?.parse().ok()?,
    })
}
