//! What runs did, so that a simulation that stopped trying things is noticed.

use std::fmt;

/// What one seed did. Two runs of a seed are equal, the hash of their logs included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Of every operation with its outcome and every call to the file system, in order.
    pub(crate) log_hash: u64,
    pub(crate) steps: u64,
    pub(crate) file_calls: u64,
    /// Crashed disks opened and compared beside the run.
    pub(crate) crashes: u64,
    /// Opens of the run itself after the first.
    pub(crate) reopens: u64,
    /// Calls that were made to fail.
    pub(crate) faults: u64,
    pub(crate) refused: u64,
    pub(crate) poisoned: u64,
    pub(crate) flushes: u64,
    pub(crate) merges: u64,
    /// Times in which nobody wrote for long.
    pub(crate) quiets: u64,
    /// Operations inside a file call of a flush.
    pub(crate) nested: u64,
    pub(crate) searches: u64,
    /// Calls to the backend.
    pub(crate) store_calls: u64,
    /// Looks at the backend from which the database was restored, after a document and after a sweep.
    pub(crate) restores: u64,
    /// Times in which all was uploaded, and a restore was the database.
    pub(crate) drains: u64,
    /// Documents and files removed from backends because they were old and no longer needed.
    pub(crate) pruned: u64,
    pub(crate) swept: u64,
    /// Calls to backends that were never answered.
    pub(crate) hangs: u64,
    /// Writes refused because a backend was behind.
    pub(crate) held: u64,
    /// Crashes after which the backend was asked for what it lacked.
    pub(crate) store_crashes: u64,
    /// Named snapshots made or removed, and looks at all there are.
    pub(crate) snapshots: u64,
    pub(crate) snapshot_looks: u64,
    /// Writes of unknown fate that a crash kept, and that it took.
    pub(crate) kept: u64,
    pub(crate) taken: u64,
}

/// Of many seeds.
#[derive(Default)]
pub(crate) struct Total {
    seeds: u64,
    sum: Report,
}

impl Total {
    pub(crate) fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.sum.steps += report.steps;
        self.sum.file_calls += report.file_calls;
        self.sum.crashes += report.crashes;
        self.sum.reopens += report.reopens;
        self.sum.faults += report.faults;
        self.sum.refused += report.refused;
        self.sum.poisoned += report.poisoned;
        self.sum.flushes += report.flushes;
        self.sum.merges += report.merges;
        self.sum.quiets += report.quiets;
        self.sum.nested += report.nested;
        self.sum.searches += report.searches;
        self.sum.store_calls += report.store_calls;
        self.sum.restores += report.restores;
        self.sum.drains += report.drains;
        self.sum.pruned += report.pruned;
        self.sum.swept += report.swept;
        self.sum.hangs += report.hangs;
        self.sum.held += report.held;
        self.sum.store_crashes += report.store_crashes;
        self.sum.snapshots += report.snapshots;
        self.sum.snapshot_looks += report.snapshot_looks;
        self.sum.kept += report.kept;
        self.sum.taken += report.taken;
    }

    /// Each kind of event was met often.
    pub(crate) fn assert_not_idle(&self) {
        let Report { crashes, reopens, faults, poisoned, flushes, nested, searches, kept, taken, .. } =
            self.sum;
        let often = [crashes, reopens, flushes, nested, searches];
        assert!(often.iter().all(|n| *n >= self.seeds), "{self}");
        let Report { restores, drains, store_crashes, snapshots, snapshot_looks, .. } = self.sum;
        let Report { pruned, swept, hangs, held, .. } = self.sum;
        assert!(held * 30 >= self.seeds, "{self}");
        let of_backends = [restores, drains, store_crashes, pruned, swept, hangs];
        let mut sometimes =
            of_backends.into_iter().chain([faults, poisoned, kept, taken, snapshots, snapshot_looks]);
        assert!(sometimes.all(|n| n * 10 >= self.seeds), "{self}");
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = &self.sum;
        write!(f, "{} seeds, {} steps, {} file calls, ", self.seeds, s.steps, s.file_calls)?;
        write!(f, "{} crashed disks opened, {} reopens, {} flushes, ", s.crashes, s.reopens, s.flushes)?;
        write!(
            f,
            "{} merges, {} operations inside these, {} long quiets, {} searches, ",
            s.merges, s.nested, s.quiets, s.searches
        )?;
        write!(
            f,
            "{} calls to backends, {} of them never answered, {} restores, {} documents pruned and {} files swept there, ",
            s.store_calls, s.hangs, s.restores, s.pruned, s.swept
        )?;
        write!(
            f,
            "{} backends drained, {} writes held for one, {} crashes with the store kept, ",
            s.drains, s.held, s.store_crashes
        )?;
        write!(f, "{} named snapshots made or removed, {} looks at them, ", s.snapshots, s.snapshot_looks)?;
        write!(
            f,
            "{} calls failed, {} writes refused, {} handles poisoned, ",
            s.faults, s.refused, s.poisoned
        )?;
        write!(f, "{} unacknowledged writes kept and {} taken by crashes", s.kept, s.taken)
    }
}
