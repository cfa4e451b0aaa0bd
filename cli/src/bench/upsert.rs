//! `akidb bench upsert`: single durable upserts beside the raw floor of their disk.

use std::path::PathBuf;

use akidb_benches::{UpsertError, bench_upsert};
use clap::Args;

use super::place;
use crate::failure::{Failure, Result};
use crate::output::Output;

/// Measure single durable upserts of 384-dimensional rows beside a bare write and fdatasync, taking turns
#[derive(Args, Debug)]
pub(crate) struct Upsert {
    /// Seconds of measured writing, shared by both
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Directory on the disk to be measured; everything made in it is removed (target, or the current directory)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Upsert {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let dir = place::of(self.dir)?;
        let home = tempfile::Builder::new()
            .prefix("bench-upsert-")
            .tempdir_in(&dir)
            .map_err(|cause| Failure::io(&dir, "making a directory", &cause))?;
        let machine = akidb_benches::machine(&dir);
        let figures = bench_upsert(home.path(), self.seconds).map_err(|error| match error {
            UpsertError::Database(error) => Failure::from(error),
            UpsertError::Floor(cause) => Failure::io(home.path(), "writing the floor's file", &cause),
        })?;
        if output.is_json() {
            return output.object(&figures);
        }
        output.sentence(&format!(
            "{machine}\nrows of {} bytes, one writer, each on disk when its call returns\n",
            figures.record_bytes
        ))?;
        let row = |name: &str, rate: f64, p50: f64, p99: f64| {
            vec![name.to_owned(), place::rate(rate), format!("{p50:.0}"), format!("{p99:.0}")]
        };
        let rows = [
            row(
                "raw floor: write + fdatasync",
                figures.floor_per_sec,
                figures.floor_p50_us,
                figures.floor_p99_us,
            ),
            row("upsert", figures.upserts_per_sec, figures.upsert_p50_us, figures.upsert_p99_us),
        ];
        output.table(&["who", "a second", "p50 us", "p99 us"], rows)?;
        output.sentence(&format!("upserts run at {} of the floor's rate", figures.ratio))
    }
}
