//! `akidb compact`: merges now what the database would merge by itself a little later.

use clap::Args;

use crate::database::{Globals, Upload};
use crate::failure::Result;
use crate::output::thousands;

/// Merge segments and drop dead rows now; the database does it by itself, a little later
#[derive(Args, Debug)]
pub(crate) struct Compact {
    /// Seconds to wait for the backends; 0 does not wait
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    wait_secs: u64,
}

impl Compact {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let db = globals.open_for_writing()?;
        db.flush()?;
        let merges = db.compact()?;
        let upload = Upload::wait(&db, globals, self.wait_secs)?;
        let stats = db.stats()?;
        db.close()?;
        let segments: usize = stats.collections.iter().map(|c| c.segments).sum();
        let rows: u64 = stats.collections.iter().map(|c| c.rows).sum();
        let object = serde_json::json!({
            "merges": merges, "rows": rows, "segments": segments, "compaction": stats.compaction,
            "uploaded": upload.is_done,
        });
        let sentence = format!("{} rows in {segments} segments after {merges} merges", thousands(rows));
        globals.output().report(&object, &sentence)?;
        upload.outcome()
    }
}
