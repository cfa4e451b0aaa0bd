//! How a bench says what its figures are worth: which machine, which command, and each contender in the same minute.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use akidb_host::{Clock, Fs, RealClock, RealFs};

/// A contender of [`interleaved`]: a name and one round of its work.
pub type Contender<'a> = (&'a str, &'a mut dyn FnMut());

/// Runs one round of each contender in turn, `rounds` times, and returns each one's median seconds a round.
/// Neighbours and disks change by the minute: only what ran interleaved may be compared.
pub fn interleaved(rounds: usize, contenders: &mut [Contender<'_>]) -> Vec<f64> {
    let mut seconds = vec![Vec::with_capacity(rounds); contenders.len()];
    for _ in 0..rounds {
        for ((_, round), seconds) in contenders.iter_mut().zip(&mut seconds) {
            seconds.push(timed(round).as_secs_f64());
        }
    }
    seconds.iter_mut().map(|s| median(s)).collect()
}

/// How long `work` takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let before = RealClock.now();
    work();
    RealClock.now().duration_since(before)
}

/// The middle value; the upper one of two. Sorts its argument.
///
/// # Panics
/// If there is none.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value below which so many thousandths of the values lie; 0 of none. Sorts its argument.
#[must_use]
pub fn per_mille(values: &mut [f64], thousandths: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = values.len() * thousandths / 1000;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// A directory for a bench's files. Give `env!("CARGO_TARGET_TMPDIR")`: the disk of the build, where /tmp may be
/// memory; the variable AKIDB_BENCH_DIR stands above it.
///
/// # Panics
/// If the directory cannot be made.
#[must_use]
pub fn bench_dir(parent: &str) -> tempfile::TempDir {
    let parent = std::env::var_os("AKIDB_BENCH_DIR").unwrap_or_else(|| parent.into());
    tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(parent)
        .expect("a directory for the bench can be made")
}

/// Machine, disk and command, to stand above the figures of a bench.
#[must_use]
pub fn machine(dir: &Path) -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or(": unknown");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!("machine: {}, {cores} cores", model.trim_start_matches([' ', '\t', ':']));
    let _ = write!(text, ", Linux {}, load {}", kernel.trim(), load());
    if let Ok(disk) = RealFs.statfs(dir) {
        let _ = write!(text, "\ndisk: {:?}", disk.kind);
    }
    let _ = write!(text, "\nscheduling: {}", scheduling());
    text.push_str(match scheduling() {
        "normal" => {
            "; beside busy neighbours a wake-up takes a tick (4 ms): begin the command with `chrt -f 10`"
        }
        _ => ", real-time: neighbours cannot delay a wake-up",
    });
    text
}

/// Load average of the last minute; 0 where the machine does not tell.
pub(crate) fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

/// The scheduling class this process runs in: `SCHED_FIFO`, `SCHED_RR` or `normal`.
pub(crate) fn scheduling() -> &'static str {
    match scheduling_policy().as_deref() {
        Some("1") => "SCHED_FIFO",
        Some("2") => "SCHED_RR",
        _ => "normal",
    }
}

/// Field 41 of proc_pid_stat(5); names with blanks end at the last parenthesis.
fn scheduling_policy() -> Option<String> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(38).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0]), 4.0);
    }

    #[test]
    fn percentiles_are_taken_from_above() {
        let mut values: Vec<f64> = (0..100_u8).rev().map(f64::from).collect();
        assert_eq!((per_mille(&mut values, 500), per_mille(&mut values, 990)), (50.0, 99.0));
        assert_eq!((per_mille(&mut values, 1000), per_mille(&mut [], 500)), (99.0, 0.0));
    }

    #[test]
    fn contenders_take_turns() {
        let order = std::cell::RefCell::new(String::new());
        let (mut a, mut b) = (|| order.borrow_mut().push('a'), || order.borrow_mut().push('b'));
        let medians = interleaved(3, &mut [("a", &mut a), ("b", &mut b)]);
        assert_eq!((medians.len(), order.borrow().as_str()), (2, "ababab"));
    }
}
