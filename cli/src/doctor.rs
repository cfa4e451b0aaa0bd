//! `akidb doctor`: is everything that the database rests on fit for it?

use std::path::Path;

use akidb::{Db, DoctorReport, ErrorKind, examine_backend, examine_disk};
use clap::Args;

use crate::database::{Globals, holds_database};
use crate::failure::{Failure, Result};
use crate::output::printable;

/// Try out the disk and every backend: rights, conditional puts, clocks; whatever is made for it is removed
#[derive(Args, Debug)]
pub(crate) struct Doctor {}

impl Doctor {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let settings = globals.settings()?;
        let backends = globals.all_backends()?;
        let mut reports = Vec::new();
        // Where a database was it is not denied.
        let lost = if holds_database(&globals.db) { None } else { lost(&globals.db) };
        if lost.is_some() || holds_database(&globals.db) {
            reports.push(tell(globals, examine_disk(&globals.db, &settings.engine)?)?);
        }
        for backend in &backends {
            reports.push(tell(globals, examine_backend(backend, settings.engine.upload_attempts)?)?);
        }
        if let Some(lost) = lost {
            return Err(lost);
        }
        if reports.is_empty() {
            return Err(Failure::usage(
                "there is nothing to examine: no database in --db DIR, and no backend",
            )
            .help("name a settings file by --config FILE, or a backend by --backend NAME=URL"));
        }
        let failed: Vec<&str> = reports.iter().filter(|r| !r.ok).map(|r| r.name.as_str()).collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(Failure::unfit(format!("not fit to be used: {}", failed.join(", ")))
            .help("the findings above say what failed and what mends it"))
    }
}

/// Why the database that was in `dir` cannot be read there, if its manifests are gone.
fn lost(dir: &Path) -> Option<Failure> {
    let refused = Db::builder(dir).read_only(true).open().err()?;
    (refused.kind() == ErrorKind::Corrupt).then(|| refused.into())
}

/// One object a place, or one line a finding.
fn tell(globals: &Globals, report: DoctorReport) -> Result<DoctorReport> {
    let output = globals.output();
    if output.is_json() {
        output.object(&report)?;
        return Ok(report);
    }
    for finding in &report.findings {
        let help = finding.help.as_ref().map_or(String::new(), |help| format!("; {help}"));
        // A server's own words may have more lines than one.
        output.sentence(&printable(&format!(
            "{} {}: {} {}: {}{help}",
            report.kind, report.name, finding.check, finding.verdict, finding.said
        )))?;
    }
    Ok(report)
}
