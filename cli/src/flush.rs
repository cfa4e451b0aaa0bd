//! `akidb flush`: everything visible into segments, and onto the backends.

use clap::Args;

use crate::database::{Globals, flush_and_upload};
use crate::failure::Result;
use crate::output::thousands;

/// Write everything to segments, and wait until the backends have them
#[derive(Args, Debug)]
pub(crate) struct Flush {
    /// Seconds to wait for the backends; 0 does not wait
    #[arg(long, value_name = "SECS", default_value_t = 60)]
    wait_secs: u64,
}

impl Flush {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let db = globals.open_for_writing()?;
        let upload = flush_and_upload(&db, globals, self.wait_secs)?;
        let stats = db.stats()?;
        db.close()?;
        let segments: usize = stats.collections.iter().map(|c| c.segments).sum();
        let rows: u64 = stats.collections.iter().map(|c| c.rows).sum();
        let object = serde_json::json!({
            "rows": rows, "segments": segments, "flushed": stats.watermarks.flushed, "uploaded": upload.is_done,
            "backends": stats.backends,
        });
        let end = if upload.is_done { ", all on every backend" } else { "" };
        let sentence = format!("{} rows in {segments} segments{end}", thousands(rows));
        globals.output().report(&object, &sentence)?;
        for backend in stats.backends.iter().filter(|backend| backend.found_empty) {
            globals.output().aside(&format!(
                "note: backend {} was empty, and this database had published there; is its disk mounted? ({})",
                backend.name, backend.url
            ));
        }
        upload.outcome()
    }
}
