//! `akidb restore`: a directory rebuilt from a backend.

use std::path::PathBuf;

use clap::Args;

use crate::database::Globals;
use crate::failure::Result;
use crate::output::thousands;

/// Rebuild a database from a backend into a new directory
#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// file:///path or s3://bucket/prefix, or the name of a backend in the --config file
    from: String,
    /// Directory to restore into; it must hold no database
    dir: PathBuf,
}

impl Restore {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let report = akidb::restore(&globals.backend_at(&self.from)?, &self.dir)?;
        let sentence = format!(
            "restored {} collections, {} segments with {} rows, {} files, {} bytes, into {}",
            report.collections.len(),
            report.segments,
            thousands(report.segment_rows),
            report.files,
            thousands(report.bytes),
            self.dir.display()
        );
        let output = globals.output();
        output.report(&report, &sentence)?;
        if !report.snapshots_left_out.is_empty() {
            let names = report.snapshots_left_out.join(", ");
            output.aside(&format!(
                "left out, because a backend holds the newest state only: snapshots {names}"
            ));
        }
        Ok(())
    }
}
