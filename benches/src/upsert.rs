//! Single durable upserts of the sample's rows beside the raw floor of their disk: `akidb bench upsert` and the
//! criterion bench of the same.

use std::path::Path;

use akidb::{Collection, Db};
use serde::Serialize;

use crate::report::{load, median, per_mille, scheduling, timed};
use crate::wal::Floor;
use crate::{SAMPLE_DIM, Sample, sample, sample_schema};

/// Upserts, and floor writes, in one turn.
const IN_A_TURN: usize = 50;

/// A database that rows of the sample are upserted into, one call each, over and over.
#[derive(Debug)]
pub struct Upserts {
    db: Db,
    docs: Collection,
    sample: Sample,
    next: usize,
}

impl Upserts {
    /// A new database in `dir`, which must be empty or not there.
    ///
    /// # Errors
    /// Whatever the database says.
    pub fn new(dir: &Path) -> akidb::Result<Self> {
        let db = Db::open(dir)?;
        let docs = db.create_collection("wordnet", sample_schema())?;
        Ok(Self { db, docs, sample: sample(), next: 0 })
    }

    /// Upserts the next row; when it returns, the row is on disk.
    ///
    /// # Errors
    /// Whatever the database says.
    pub fn upsert(&mut self) -> akidb::Result<()> {
        let row = &self.sample.rows[self.next % self.sample.rows.len()];
        self.next += 1;
        self.docs.upsert(&row.id, &row.vector, row.payload.clone())?;
        Ok(())
    }

    /// Bytes of a record in the log, on average: what the floor has to write.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        let payloads = self.sample.rows.iter().map(|row| serde_json::json!(row.payload).to_string().len());
        payloads.sum::<usize>() / self.sample.rows.len() + usize::from(SAMPLE_DIM) * 4 + 80
    }

    /// Closes the database.
    ///
    /// # Errors
    /// Whatever the database says.
    pub fn close(self) -> akidb::Result<()> {
        self.db.close()
    }
}

/// The figures of [`bench_upsert`]: medians of the turns, the ratio taken inside a turn.
#[derive(Clone, Debug, Serialize)]
pub struct UpsertFigures {
    /// Median of one write and one fdatasync, microseconds.
    pub floor_p50_us: f64,
    /// Median of one upsert, microseconds.
    pub upsert_p50_us: f64,
    /// 99th percentile of the floor, microseconds.
    pub floor_p99_us: f64,
    /// 99th percentile of an upsert, microseconds.
    pub upsert_p99_us: f64,
    /// Floor writes a second.
    pub floor_per_sec: f64,
    /// Upserts a second.
    pub upserts_per_sec: f64,
    /// Upserts' rate over the floor's.
    pub ratio: f64,
    /// Bytes of a record.
    pub record_bytes: usize,
    /// Upserts made.
    pub upserts: usize,
    /// Load average before the run.
    pub load: f64,
    /// `SCHED_FIFO`, `SCHED_RR` or `normal`.
    pub scheduling: &'static str,
}

/// Turns of 50 floor writes and 50 upserts, by one writer, in the directories `floor` and `db` of `dir`, for about so
/// many seconds.
///
/// # Errors
/// Whatever the database says; a failure of the floor's file is `Machine`.
pub fn bench_upsert(dir: &Path, seconds: f64) -> Result<UpsertFigures, UpsertError> {
    let load = load();
    let mut upserts = Upserts::new(&dir.join("db"))?;
    let record_bytes = upserts.record_bytes();
    let mut floor = Floor::new(dir, record_bytes)?;
    let (mut floors, mut ours) = (Turns::default(), Turns::default());
    floors.turn(|| Ok(floor.write()?))?;
    ours.turn(|| Ok(upserts.upsert()?))?;
    (floors, ours) = (Turns::default(), Turns::default());
    while floors.total() + ours.total() < seconds || ours.seconds.is_empty() {
        floors.turn(|| Ok(floor.write()?))?;
        ours.turn(|| Ok(upserts.upsert()?))?;
    }
    upserts.close()?;
    let mut ratios: Vec<f64> = floors.seconds.iter().zip(&ours.seconds).map(|(f, u)| f / u).collect();
    Ok(UpsertFigures {
        floor_p50_us: tenths(per_mille(&mut floors.micros, 500)),
        upsert_p50_us: tenths(per_mille(&mut ours.micros, 500)),
        floor_p99_us: tenths(per_mille(&mut floors.micros, 990)),
        upsert_p99_us: tenths(per_mille(&mut ours.micros, 990)),
        floor_per_sec: (IN_A_TURN as f64 / median(&mut floors.seconds)).round(),
        upserts_per_sec: (IN_A_TURN as f64 / median(&mut ours.seconds)).round(),
        ratio: (median(&mut ratios) * 1e3).round() / 1e3,
        record_bytes,
        upserts: ours.micros.len(),
        load,
        scheduling: scheduling(),
    })
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// What can end [`bench_upsert`].
#[derive(Debug, thiserror::Error)]
pub enum UpsertError {
    /// The database said no.
    #[error(transparent)]
    Database(#[from] akidb::Error),
    /// The floor's file could not be made, written or synced.
    #[error("the floor's file: {0}")]
    Floor(#[from] std::io::Error),
}

#[derive(Default)]
struct Turns {
    seconds: Vec<f64>,
    micros: Vec<f64>,
}

impl Turns {
    fn turn(&mut self, mut write: impl FnMut() -> Result<(), UpsertError>) -> Result<(), UpsertError> {
        let mut turn = 0.0;
        for _ in 0..IN_A_TURN {
            let mut answer = Ok(());
            let took = timed(|| answer = write()).as_secs_f64();
            answer?;
            self.micros.push(took * 1e6);
            turn += took;
        }
        self.seconds.push(turn);
        Ok(())
    }

    fn total(&self) -> f64 {
        self.seconds.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_fills_every_figure() {
        let dir = tempfile::tempdir().unwrap();
        let figures = bench_upsert(dir.path(), 0.01).unwrap();
        assert!(figures.upserts >= IN_A_TURN && figures.ratio > 0.0, "{figures:?}");
        assert!(figures.floor_p50_us <= figures.floor_p99_us && figures.upsert_p50_us > 0.0, "{figures:?}");
    }
}
