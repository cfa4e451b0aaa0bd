//! `akidb compact`: merges now what the database would merge by itself a little later.

use std::time::Duration;

use clap::Args;

use crate::database::Globals;
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
        let uploaded = globals.has_backends()? && self.wait_secs > 0;
        if uploaded {
            db.wait_uploaded(Duration::from_secs(self.wait_secs))?;
        }
        let stats = db.stats()?;
        db.close()?;
        let segments: usize = stats.collections.iter().map(|c| c.segments).sum();
        let rows: u64 = stats.collections.iter().map(|c| c.rows).sum();
        let object = serde_json::json!({
            "merges": merges, "rows": rows, "segments": segments, "compaction": stats.compaction,
            "uploaded": uploaded,
        });
        let sentence = format!("{} rows in {segments} segments after {merges} merges", thousands(rows));
        globals.output().report(&object, &sentence)
    }
}
