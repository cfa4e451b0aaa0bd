//! `akidb repair`: what only a person may order; each keeps a copy of what it takes away.

use std::path::PathBuf;

use akidb::RepairReport;
use clap::{ArgGroup, Args, Subcommand};

use crate::database::Globals;
use crate::failure::Result;

/// Repair by explicit order; a copy of what is taken away is kept
#[derive(Args, Debug)]
pub(crate) struct Repair {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Cut the log at a byte of one of its files: everything behind it is dropped from the log and kept beside it
    WalCut {
        /// The log file, as the error names it
        file: PathBuf,
        /// The offset, as the error names it
        offset: u64,
        /// Also where the log is sound: its records from there on are given up
        #[arg(long)]
        drop: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Step back from a damaged newest manifest to the newest whole one
    Manifest {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Mend a damaged or missing segment or deletion vector: take it back from a backend, or give the segment up
    #[command(group = ArgGroup::new("how").required(true))]
    Segment {
        /// The file, as the error names it
        file: PathBuf,
        /// Take it back from here: file:///path or s3://bucket/prefix, or the name of a backend in the --config file
        #[arg(long, value_name = "BACKEND", group = "how")]
        from: Option<String>,
        /// Give the segment up: its file is moved aside, and the ids of the rows lost are listed beside it
        #[arg(long, group = "how")]
        drop: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

impl Repair {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let report = match self.what {
            What::WalCut { file, offset, drop: true, dry_run } => {
                akidb::repair_wal_drop(file, offset, dry_run)?
            }
            What::WalCut { file, offset, drop: false, dry_run } => {
                akidb::repair_wal_cut(file, offset, dry_run)?
            }
            What::Segment { file, from: Some(from), dry_run, .. } => {
                akidb::repair_segment_from(&globals.backend_at(&from)?, file, dry_run)?
            }
            What::Segment { file, from: None, dry_run, .. } => akidb::repair_segment_drop(file, dry_run)?,
            What::Manifest { dry_run } => akidb::repair_manifest(&globals.db, dry_run)?,
        };
        tell(globals, &report)
    }
}

fn tell(globals: &Globals, report: &RepairReport) -> Result<()> {
    let output = globals.output();
    output.report(report, &report.done)?;
    if !output.is_json() {
        let verb = if report.dry_run { "would keep" } else { "kept" };
        if let Some(lost) = report.lost.as_ref().filter(|lost| !lost.ids.is_empty()) {
            let ids: Vec<String> = lost.ids.iter().map(ToString::to_string).collect();
            let end = if lost.rows > ids.len() as u64 { ", ..." } else { "" };
            output.sentence(&format!("lost: {}{end}", ids.join(", ")))?;
        }
        for copy in &report.kept {
            output.sentence(&format!("{verb} {}", copy.display()))?;
        }
    }
    Ok(())
}
