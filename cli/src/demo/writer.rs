//! The demo's child: writes rows one by one and says so on standard output after each acknowledgement, until it
//! is killed.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use akidb::Db;
use akidb_benches::sample;
use akidb_host::{Clock, RealClock, RealSpawn, Spawn};
use clap::Args;

use super::{COLLECTION, live};
use crate::failure::{Failure, Result};

/// Rows between two flushes, which run beside the writes.
const FLUSH_EVERY_ROWS: u64 = 150;

/// The child of `akidb demo`
#[derive(Args, Debug)]
pub(crate) struct DemoWriter {
    /// Directory of the database
    dir: PathBuf,
}

impl DemoWriter {
    pub(crate) fn run(self) -> Result<()> {
        let sample = sample();
        let db = Db::builder(&self.dir).create(false).open()?;
        let rows = db.collection(COLLECTION)?;
        let (due, flushes) = sync_channel(1);
        let flusher = db.clone();
        RealSpawn
            .job("demo-flush", Box::new(move || flush_when_due(&flusher, &flushes)))
            .map_err(|cause| Failure::io(&self.dir, "starting a thread", &cause))?;
        let clock: Arc<dyn Clock> = Arc::new(RealClock);
        let mut out = io::stdout().lock();
        for n in 0.. {
            let row = live::row(&sample, n);
            let started = clock.now();
            let lsn = rows.upsert(row.id.as_str(), &row.vector, row.payload)?;
            let micros = clock.now().duration_since(started).as_micros();
            // Only now: what the parent reads here has been acknowledged.
            writeln!(out, "{n} {lsn} {micros}")?;
            out.flush()?;
            if n % FLUSH_EVERY_ROWS == FLUSH_EVERY_ROWS - 1 {
                // A flush still running is enough.
                let _ = due.try_send(());
            }
        }
        Ok(())
    }
}

fn flush_when_due(db: &Db, due: &Receiver<()>) {
    while due.recv().is_ok() {
        if let Err(error) = db.flush() {
            let _ = writeln!(io::stderr(), "the demo's child could not flush: {error}");
        }
    }
}
