//! `akidb restore`: a directory rebuilt from a backend.

use std::path::PathBuf;

use akidb::BackendSettings;
use clap::Args;

use crate::database::Globals;
use crate::failure::{Failure, Result};
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
        let report = akidb::restore(&self.backend(globals)?, &self.dir)?;
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

    fn backend(&self, globals: &Globals) -> Result<BackendSettings> {
        let configured = globals.settings()?.backends;
        if let Some(backend) = configured.iter().find(|b| b.name == self.from || b.url == self.from) {
            return Ok(backend.clone());
        }
        if !self.from.contains("://") {
            let names: Vec<&str> = configured.iter().map(|b| b.name.as_str()).collect();
            let message = match names.is_empty() {
                true => format!("{:?} is no URL, and no --config names a backend so", self.from),
                false => {
                    format!("{:?} is no URL and no backend of the settings ({})", self.from, names.join(", "))
                }
            };
            return Err(Failure::usage(message).help("write file:///path or s3://bucket/prefix"));
        }
        Ok(BackendSettings::new("restore", &self.from)?)
    }
}
