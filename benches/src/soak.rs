//! `akidb bench soak`: files, memory, bytes, opens and searches of a database that is written to for long, killed now and
//! then, and compared row by row with what it had acknowledged.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use serde::{Deserialize, Serialize};

use crate::report::load;
use crate::search::{SearchError, SearchSource};
use crate::wal::Floor;

mod child;
mod figures;
mod given;
mod judge;
mod latencies;
mod model;
mod rows;
mod run;
mod said;
mod seen;
mod watch;
mod writer;

pub use figures::{SoakFigures, SoakSample, SoakSearches};
pub use said::SoakOpened;
pub use writer::soak_writer;

/// Rows of a batch, for the floor.
const BATCH_ROWS: u64 = 10;

/// Which changes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SoakWorkload {
    /// Upserts in batches of ten; three of ten overwrite a row, any row.
    Insert,
    /// Rows to begin with, then nothing but overwrites of them, in batches of ten.
    Overwrite,
    /// Rows to begin with, then ten new ones in a batch and ten deletes of any, one by one, in turn.
    Delete,
}

/// A soak.
#[derive(Clone, Debug)]
pub struct SoakBench {
    /// An empty directory on the disk to work on.
    pub dir: PathBuf,
    /// Which changes are made.
    pub workload: SoakWorkload,
    /// Upserts in all; with [`SoakWorkload::Overwrite`] and [`SoakWorkload::Delete`] rows to begin with.
    pub rows: u32,
    /// How long changes are made, for those two after the rows to begin with. None: `rows` of
    /// [`SoakWorkload::Insert`], three times as many changes of the others.
    pub minutes: Option<f64>,
    /// Numbers in a vector, where none are given.
    pub dim: u16,
    /// Times the writer is killed.
    pub kills: u32,
    /// The setting of that name.
    pub manifest_keep: u32,
    /// Of changes, vectors and kills.
    pub seed: u64,
    /// What is run, with these arguments, as the writer: it calls [`soak_writer`].
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// Plays a soak, and tells of a sample every five seconds. Blocks until all is done; what is made in `dir` stays there.
///
/// # Errors
/// Whatever ends it early: the database's words, in this process or the writer's, a source that is no good, the machine.
/// Lost rows are figures.
pub fn bench_soak(
    plan: &SoakBench,
    source: Option<&SearchSource>,
    tell: &mut dyn FnMut(&SoakSample),
) -> Result<SoakFigures, SoakError> {
    let load = load();
    let given = source.map(|source| given::write_given(source, &plan.dir)).transpose()?;
    let (dim, given) = given.map_or((plan.dim, None), |(dim, given)| (dim, Some(given)));
    let rows = rows::RowsPlan { dim, seed: plan.seed, given };
    let batch_bytes = usize::try_from(rows.raw_bytes() * BATCH_ROWS).unwrap_or(usize::MAX);
    let failed = |cause| SoakError::file(&plan.dir, "writing the floor's file below", cause);
    let floor = Floor::new(&plan.dir, batch_bytes).map_err(failed)?;
    let ended = run::Run::new(plan, rows, floor, tell).play()?;
    Ok(SoakFigures::of(plan, &ended, load))
}

/// What can end a soak early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SoakError {
    /// The database said no.
    #[error(transparent)]
    Database(#[from] akidb::Error),
    /// The given vectors are no good.
    #[error(transparent)]
    Source(#[from] SearchError),
    /// The writer ended without being killed or having closed the database; why, it said on standard error.
    #[error("the writer ended by itself: {0}")]
    Writer(ExitStatus),
    /// A file, a process or a pipe could not be used.
    #[error("{doing} {}: {source}", path.display())]
    Machine {
        /// Which.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the machine said.
        source: io::Error,
    },
}

impl SoakError {
    fn file(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Self::Machine { path: path.to_path_buf(), doing, source }
    }
}
