//! The contenders, and the rounds in which they take turns.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use akidb_wal::WritePath;

use super::floor::Floor;
use super::place::{BenchLog, grown};
use super::slot::{Slot, Work, blocking};
use super::{Error, Result, WalBench};

/// Sync time of the stand-in disk.
pub(crate) const STAND_IN: Duration = Duration::from_micros(300);
/// Threads that run the async tasks.
const WORKERS: usize = 2;

/// A contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One write and one fdatasync each, no log.
    Floor,
    /// So many blocking writers.
    Writers(usize),
    /// So many async tasks.
    Tasks(usize),
    /// So many blocking writers, on the stand-in.
    OnStandIn(usize),
}

/// Every contender, in the order of the table.
pub(crate) const KINDS: [Kind; 8] = [
    Kind::Floor,
    Kind::Writers(1),
    Kind::Writers(4),
    Kind::Writers(16),
    Kind::Writers(64),
    Kind::Tasks(256),
    Kind::OnStandIn(1),
    Kind::OnStandIn(16),
];

enum Runner {
    Floor(Arc<Mutex<Floor>>),
    Log(BenchLog),
}

/// The contenders with their files, one log each.
pub(crate) struct Cells {
    cells: Vec<(Kind, Runner)>,
}

impl Cells {
    /// Makes every file in `dir`.
    pub(crate) fn new(dir: &Path, options: &WalBench) -> Result<Self> {
        let mut cells = Vec::with_capacity(KINDS.len());
        for (at, kind) in KINDS.into_iter().enumerate() {
            let sync_takes = matches!(kind, Kind::OnStandIn(_)).then_some(STAND_IN);
            let runner = match kind {
                Kind::Floor => {
                    let floor = Floor::new(dir, options.record_bytes).map_err(Error::at("fill", dir))?;
                    Runner::Floor(Arc::new(Mutex::new(floor)))
                }
                _ => {
                    let (dir, config) = (dir.join(format!("log-{at}")), grown(options.write_path));
                    Runner::Log(BenchLog::new(&dir, config, sync_takes, options.record_bytes)?)
                }
            };
            cells.push((kind, runner));
        }
        Ok(Self { cells })
    }

    /// How many contenders there are.
    pub(crate) fn count(&self) -> usize {
        self.cells.len()
    }

    /// The write path that the logs took.
    pub(crate) fn write_path(&self) -> &'static str {
        let log = self.cells.iter().find_map(|(_, runner)| match runner {
            Runner::Log(log) => Some(log),
            Runner::Floor(_) => None,
        });
        match log.map(|log| log.log.counters().write_path) {
            Some(WritePath::Mapped) => "mapped",
            Some(WritePath::Positioned) => "positioned",
            _ => "unknown",
        }
    }

    fn run(&self, at: usize, time: Duration) -> Result<Slot> {
        let (kind, runner) = &self.cells[at];
        match (kind, runner) {
            (Kind::Writers(n) | Kind::OnStandIn(n), Runner::Log(log)) => log.writers(*n, time),
            (Kind::Tasks(n), Runner::Log(log)) => log.tasks(*n, WORKERS, time),
            (_, Runner::Floor(floor)) => {
                let floor = Arc::clone(floor);
                let write = move || {
                    let mut floor = floor.lock().unwrap_or_else(PoisonError::into_inner);
                    floor.write().map_err(Error::at("write and sync", "the floor's file"))
                };
                blocking(vec![Box::new(write) as Work], time)
            }
            (Kind::Floor, Runner::Log(_)) => unreachable!("the floor has no log"),
        }
    }
}

/// What each contender measured in each round, in the order of [`KINDS`].
pub(crate) type Measured = Vec<(Kind, Vec<Slot>)>;

/// A first round that is thrown away, then `rounds` rounds, each beginning with the next contender.
pub(crate) fn measure(cells: &mut Cells, rounds: usize, time: Duration) -> Result<Measured> {
    let mut measured: Measured = cells.cells.iter().map(|(kind, _)| (*kind, Vec::new())).collect();
    for at in 0..cells.count() {
        cells.run(at, time / 2)?;
    }
    for round in 0..rounds {
        for turn in 0..cells.count() {
            let at = (turn + round) % cells.count();
            measured[at].1.push(cells.run(at, time)?);
        }
    }
    Ok(measured)
}
