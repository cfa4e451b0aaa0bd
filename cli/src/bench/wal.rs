//! `akidb bench wal`: the log beside the raw floor of its disk.

use std::path::PathBuf;

use akidb_benches::wal::{CellFigures, RECORD_BYTES, WalBench, WalReport, WritePath, bench_wal};
use clap::{Args, ValueEnum};

use super::place;
use crate::failure::Result;
use crate::output::Output;

/// Measure the log: 1 to 64 writers and 256 async tasks beside a bare write and fdatasync, taking turns
#[derive(Args, Debug)]
pub(crate) struct Wal {
    /// Seconds of measured writing, shared by all contenders; preparing files and the replay come on top
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// How frames get into the log's files
    #[arg(long, value_enum, default_value_t = Path::Auto)]
    write_path: Path,
    /// Directory on the disk to be measured; everything made in it is removed (target, or the current directory)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Path {
    /// As a database does
    Auto,
    /// Stores into the map
    Mapped,
    /// One write call a group
    Positioned,
}

impl Wal {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let dir = place::of(self.dir)?;
        output.progress(&format!(
            "measuring on the disk of {}, {} s and a few more",
            dir.display(),
            self.seconds
        ));
        let options = WalBench {
            dir,
            seconds: self.seconds,
            record_bytes: RECORD_BYTES,
            write_path: match self.write_path {
                Path::Auto => WritePath::Auto,
                Path::Mapped => WritePath::Mapped,
                Path::Positioned => WritePath::Positioned,
            },
        };
        let report = bench_wal(&options).map_err(|error| place::failure(&options.dir, error))?;
        if output.is_json() {
            return output.object(&report.figures);
        }
        tell(output, &report)
    }
}

fn tell(output: Output, report: &WalReport) -> Result<()> {
    let figures = &report.figures;
    output.sentence(&format!(
        "{}\nrecords of {RECORD_BYTES} bytes, {} rounds, medians; write path: {}\n",
        report.machine, figures.rounds, figures.write_path
    ))?;
    let row = |cell: &CellFigures| {
        vec![
            cell.name.clone(),
            place::rate(cell.rate),
            format!("{:.0}", cell.p50_us),
            format!("{:.0}", cell.p99_us),
            cell.batch.map_or_else(String::new, |batch| format!("{batch:.1}")),
            cell.ratio.map_or_else(String::new, |(ratio, of)| format!("{ratio:.2} {of}")),
        ]
    };
    let header = ["who", "acks/s", "p50 us", "p99 us", "records a sync", "ratio"];
    output.table(&header, report.cells.iter().map(row))?;
    let other =
        report.cells.iter().find(|cell| cell.name == "1 writer").map_or(0.0, |c| c.other_syncs_per_ack);
    let device = match figures.device_kib_per_ack {
        Some(kib) => format!("{kib} KiB to the device"),
        None => "bytes to the device not told by this machine or file system".to_owned(),
    };
    output.sentence(&format!(
        "\none writer, one acknowledgement: {} fdatasync, {other:.4} other syncs, {device}",
        figures.syncs_per_ack_1
    ))?;
    output.sentence(&format!(
        "acknowledged from memory: {}/s into one file, {}/s over four",
        place::rate(figures.memory_per_sec),
        place::rate(figures.memory_sustained_per_sec)
    ))?;
    output.sentence(&format!(
        "replay: {} GB/s; reopen with 64 MiB live, no close before: {} ms; rotation: p99.9 is {} x p50",
        figures.replay_gb_per_sec, figures.reopen_64mib_ms, figures.rotation_p999_ratio
    ))
}
