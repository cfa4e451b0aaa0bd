//! The figures of a run: medians over the rounds, ratios taken inside a round.

use std::time::Duration;

use serde::Serialize;

use super::cells::{Kind, Measured};
use super::memory::MemoryRate;
use super::replay::ReplayRate;
use super::rotation::RotationTail;
use super::slot::Slot;
use crate::report::{median, scheduling};

/// One contender's row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct CellFigures {
    /// Who: "raw floor", "16 writers", ...
    pub name: String,
    /// Acknowledged records a second.
    pub rate: f64,
    /// Median acknowledgement, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// Records a sync; `None` for the floor, which syncs each.
    pub batch: Option<f64>,
    /// Syncs a record that are no `fdatasync`: what new log files cost.
    pub other_syncs_per_ack: f64,
    /// This contender's rate over what it is compared with, and that in words.
    pub ratio: Option<(f64, &'static str)>,
}

/// The figures that scripts read: the last line of `akidb bench wal --json`. Ratios and counts are what a goal can be
/// set for; microseconds are worth what `load` and `scheduling` say.
#[derive(Clone, Debug, Serialize)]
pub struct WalFigures {
    /// Median of one write and one fdatasync, microseconds.
    pub floor_p50_us: f64,
    /// Median acknowledgement of one writer, microseconds.
    pub ack_p50_us: f64,
    /// 99th percentile of the floor, microseconds.
    pub floor_p99_us: f64,
    /// 99th percentile of one writer's acknowledgements, microseconds.
    pub ack_p99_us: f64,
    /// One writer's rate over the floor's.
    pub ratio_1: f64,
    /// Records a sync of 16 writers.
    pub batch_16: f64,
    /// 16 writers' rate over one writer's.
    pub ratio_16: f64,
    /// The same on a stand-in whose sync takes 300 microseconds.
    pub ratio_16_sim300us: f64,
    /// 64 writers' rate over one writer's.
    pub ratio_64: f64,
    /// 256 async tasks' rate over one writer's.
    pub ratio_256_async: f64,
    /// `fdatasync` calls an acknowledgement, one writer.
    pub syncs_per_ack_1: f64,
    /// KiB written to storage for an acknowledgement of one writer; `None` where the machine does not tell.
    pub device_kib_per_ack: Option<f64>,
    /// How frames got into the files: `mapped` or `positioned`.
    pub write_path: &'static str,
    /// Load average of the last minute before the run.
    pub load: f64,
    /// Appends a second acknowledged from memory, into one log file.
    pub memory_per_sec: f64,
    /// The same over four files, made while the appends run.
    pub memory_sustained_per_sec: f64,
    /// Frame bytes replayed a second, in GB, from the page cache.
    pub replay_gb_per_sec: f64,
    /// Reopen with 64 MiB live after an end without a close, all records read, milliseconds.
    pub reopen_64mib_ms: f64,
    /// 99.9th percentile over the median, one writer, over ten files of 1 MiB.
    pub rotation_p999_ratio: f64,
    /// `SCHED_FIFO`, `SCHED_RR` or `normal`.
    pub scheduling: &'static str,
    /// Seconds of measured writing.
    pub seconds: f64,
    /// Rounds the medians are of.
    pub rounds: usize,
}

/// A run's figures, for people and for scripts.
#[derive(Clone, Debug)]
pub struct WalReport {
    /// Machine, disk, scheduling and load, as lines.
    pub machine: String,
    /// One row a contender.
    pub cells: Vec<CellFigures>,
    /// What scripts read.
    pub figures: WalFigures,
}

/// What stands around the figures.
pub(crate) struct Setting {
    pub(crate) machine: String,
    pub(crate) load: f64,
    pub(crate) write_path: &'static str,
    pub(crate) rounds: usize,
    pub(crate) slot: Duration,
}

/// The rounds of what takes no turns.
#[derive(Default)]
pub(crate) struct Once {
    pub(crate) memory: Vec<MemoryRate>,
    pub(crate) replay: Vec<ReplayRate>,
    pub(crate) rotation: Vec<RotationTail>,
}

impl WalReport {
    pub(crate) fn of(measured: &Measured, once: &Once, setting: Setting) -> Self {
        let find = |kind| measured.iter().find(|(k, _)| *k == kind).map_or(&[][..], |(_, slots)| slots);
        let (floor, one) = (find(Kind::Floor), find(Kind::Writers(1)));
        let times_one = |kind| round(ratio(find(kind), one), 2);
        let figures = WalFigures {
            floor_p50_us: round(of(floor, |s| s.p50_us), 1),
            ack_p50_us: round(of(one, |s| s.p50_us), 1),
            floor_p99_us: round(of(floor, |s| s.p99_us), 1),
            ack_p99_us: round(of(one, |s| s.p99_us), 1),
            ratio_1: round(ratio(one, floor), 3),
            batch_16: round(of(find(Kind::Writers(16)), Slot::batch), 2),
            ratio_16: times_one(Kind::Writers(16)),
            ratio_16_sim300us: round(ratio(find(Kind::OnStandIn(16)), find(Kind::OnStandIn(1))), 2),
            ratio_64: times_one(Kind::Writers(64)),
            ratio_256_async: times_one(Kind::Tasks(256)),
            syncs_per_ack_1: round(of(one, |s| 1.0 / s.batch()), 4),
            device_kib_per_ack: kib_per_ack(one),
            write_path: setting.write_path,
            load: setting.load,
            memory_per_sec: round(of(&once.memory, |m| m.in_a_file_per_sec), 0),
            memory_sustained_per_sec: round(of(&once.memory, |m| m.sustained_per_sec), 0),
            replay_gb_per_sec: round(of(&once.replay, |r| r.gb_per_sec), 2),
            reopen_64mib_ms: round(of(&once.replay, |r| r.reopen_ms), 1),
            rotation_p999_ratio: round(of(&once.rotation, |r| r.p999_us / r.p50_us), 2),
            scheduling: scheduling(),
            seconds: round(setting.slot.as_secs_f64() * (setting.rounds * measured.len()) as f64, 2),
            rounds: setting.rounds,
        };
        let cells = measured.iter().map(|(kind, slots)| row(*kind, slots, measured)).collect();
        Self { machine: setting.machine, cells, figures }
    }
}

fn row(kind: Kind, slots: &[Slot], measured: &Measured) -> CellFigures {
    let (name, base, words) = match kind {
        Kind::Floor => ("raw floor: write + fdatasync".to_owned(), None, ""),
        Kind::Writers(1) => ("1 writer".to_owned(), Some(Kind::Floor), "of the floor"),
        Kind::Writers(n) => (format!("{n} writers"), Some(Kind::Writers(1)), "x one writer"),
        Kind::Tasks(n) => (format!("{n} async tasks"), Some(Kind::Writers(1)), "x one writer"),
        Kind::OnStandIn(1) => ("300 us stand-in, 1 writer".to_owned(), None, ""),
        Kind::OnStandIn(n) => {
            (format!("300 us stand-in, {n} writers"), Some(Kind::OnStandIn(1)), "x one writer there")
        }
    };
    let base = base.and_then(|base| measured.iter().find(|(kind, _)| *kind == base));
    CellFigures {
        name,
        rate: of(slots, Slot::rate),
        p50_us: of(slots, |s| s.p50_us),
        p99_us: of(slots, |s| s.p99_us),
        other_syncs_per_ack: of(slots, |s| s.other_syncs as f64 / s.acks as f64),
        batch: (kind != Kind::Floor).then(|| of(slots, Slot::batch)),
        ratio: base.map(|(_, base)| (ratio(slots, base), words)),
    }
}

/// The median over the rounds of one figure.
fn of<T>(rounds: &[T], figure: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(figure).collect();
    if values.is_empty() { 0.0 } else { median(&mut values) }
}

/// The median over the rounds of the ratio inside a round: what changed between rounds cancels out.
fn ratio(of_these: &[Slot], over: &[Slot]) -> f64 {
    let pairs: Vec<(&Slot, &Slot)> = of_these.iter().zip(over).collect();
    of(&pairs, |(these, over)| these.rate() / over.rate())
}

/// `None` where the machine does not tell, or its file system counts nothing.
fn kib_per_ack(slots: &[Slot]) -> Option<f64> {
    let told: Vec<(u64, u64)> = slots.iter().filter_map(|s| Some((s.device_bytes?, s.acks))).collect();
    let kib = of(&told, |(bytes, acks)| *bytes as f64 / 1024.0 / *acks as f64);
    (kib > 0.0).then(|| round(kib, 2))
}

fn round(value: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (value * unit).round() / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(acks: u64, syncs: u64) -> Slot {
        Slot { acks, seconds: 1.0, syncs, p50_us: 100.0, device_bytes: Some(acks * 2048), ..Slot::default() }
    }

    #[test]
    fn ratios_are_taken_inside_a_round_and_the_middle_one_counts() {
        // The disk is ten times slower in the second round: the ratio stands.
        let (one, many) = ([slot(100, 100), slot(10, 10)], [slot(600, 40), slot(60, 4)]);
        assert_eq!(ratio(&many, &one), 6.0);
        assert_eq!(of(&many, Slot::batch), 15.0);
        assert_eq!(kib_per_ack(&one), Some(2.0));
        assert_eq!(kib_per_ack(&[Slot { device_bytes: Some(0), acks: 1, ..Slot::default() }]), None);
    }

    #[test]
    fn figures_are_rounded_to_what_they_are_worth() {
        assert_eq!((round(0.98765, 3), round(12.34, 1), round(1_234_567.8, 0)), (0.988, 12.3, 1_234_568.0));
    }
}
