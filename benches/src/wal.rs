//! The log beside the raw floor of its disk: `akidb bench wal` and the criterion benches of the log.
//!
//! Every figure is a median over rounds in which all contenders take turns, each round in another order: disks and
//! neighbours change by the minute, and only what ran interleaved may be compared.

use std::path::{Path, PathBuf};
use std::time::Duration;

mod cells;
mod disk;
mod figures;
mod floor;
mod memory;
mod place;
mod replay;
mod rotation;
mod slot;
mod tasks;

pub use akidb_wal::WritePath;
pub use figures::{CellFigures, WalFigures, WalReport};
pub use floor::Floor;
pub use memory::MemoryAppends;
pub use place::LogWriters;
pub use replay::FilledLog;

use cells::{Cells, measure};

/// What can end a bench of the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log said no.
    #[error(transparent)]
    Log(#[from] akidb_wal::Error),
    /// The machine said no.
    #[error("cannot {action} {}: {source}", at.display())]
    Machine {
        /// What was tried.
        action: &'static str,
        /// On what.
        at: PathBuf,
        /// The machine's answer.
        source: std::io::Error,
    },
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn at(action: &'static str, at: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let at = at.as_ref().to_path_buf();
        move |source| Self::Machine { action, at, source }
    }
}

/// What to measure, and for how long.
#[derive(Clone, Debug)]
pub struct WalBench {
    /// Directory for the log files; it must exist, and lie on the disk to be measured. Everything made in it is
    /// removed again.
    pub dir: PathBuf,
    /// Seconds of measured writing, shared by the contenders. Filling files and the replay come on top.
    pub seconds: f64,
    /// Bytes of a record.
    pub record_bytes: usize,
    /// How frames get into the files.
    pub write_path: WritePath,
}

/// Bytes of a record with a 384-dimensional vector and a short text: what the goals speak of.
pub const RECORD_BYTES: usize = 1_640;
/// Rounds, at least; more when a slot would last over a second.
const ROUNDS: usize = 7;
/// Rounds of what takes a log of its own each.
const REPLAY_ROUNDS: usize = 3;

/// The measurement.
///
/// # Errors
/// Whatever the disk or the log say.
pub fn bench_wal(options: &WalBench) -> std::result::Result<WalReport, Error> {
    let machine = crate::report::machine(&options.dir);
    let load = crate::report::load();
    let home = tempfile::Builder::new()
        .prefix("bench-wal-")
        .tempdir_in(&options.dir)
        .map_err(Error::at("make a directory in", &options.dir))?;
    let mut cells = Cells::new(home.path(), options)?;
    let (rounds, slot) = rounds_of(options.seconds, cells.count());
    let measured = measure(&mut cells, rounds, slot)?;
    let write_path = cells.write_path();
    drop(cells);
    let dir = home.path().join("one");
    let mut once = figures::Once::default();
    for _ in 0..REPLAY_ROUNDS {
        once.memory.push(memory::memory_rate(&dir, options.record_bytes, options.write_path)?);
        once.replay.push(replay::replay_rate(&dir, options.record_bytes)?);
        once.rotation.push(rotation::rotation_tail(&dir, options.record_bytes, options.write_path)?);
    }
    Ok(WalReport::of(&measured, &once, figures::Setting { machine, load, write_path, rounds, slot }))
}

/// Rounds, and the time of one slot.
fn rounds_of(seconds: f64, cells: usize) -> (usize, Duration) {
    let total = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let least = usize::try_from(total.as_secs()).map_or(0, |secs| secs / cells + 1);
    let rounds = ROUNDS.max(least) | 1;
    let slot = total.div_f64((rounds * cells) as f64).max(Duration::from_millis(5));
    (rounds, slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_never_longer_than_a_second_and_rounds_are_odd() {
        let (rounds, slot) = rounds_of(8.0, 8);
        assert!(rounds == 7 && (slot.as_secs_f64() - 8.0 / 56.0).abs() < 1e-6, "{rounds} {slot:?}");
        let (rounds, slot) = rounds_of(80.0, 8);
        assert!(rounds % 2 == 1 && slot <= Duration::from_secs(1), "{rounds} {slot:?}");
        for none in [0.0, -1.0, f64::NAN] {
            assert_eq!(rounds_of(none, 8), (7, Duration::from_millis(5)));
        }
    }

    #[test]
    fn a_short_run_fills_every_figure() {
        let dir = tempfile::tempdir().unwrap();
        let options = WalBench {
            dir: dir.path().into(),
            seconds: 0.3,
            record_bytes: RECORD_BYTES,
            write_path: WritePath::Auto,
        };
        let report = bench_wal(&options).unwrap();
        let object = serde_json::to_value(&report.figures).unwrap();
        for (key, value) in object.as_object().unwrap() {
            let good = value.as_f64().is_none_or(|number| number.is_finite() && number >= 0.0);
            assert!(good && !value.is_null() || key == "device_kib_per_ack", "{key}: {value}");
        }
        assert!(report.figures.ratio_1 > 0.0 && report.figures.batch_16 >= 1.0, "{report:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "everything is removed");
    }
}
