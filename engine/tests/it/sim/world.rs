//! What a run and the calls inside it share: the truth, the log, the crashes to try, the call that fails, and the
//! operations that come in the middle of a flush.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};

use akidb::object_store::memory::InMemory;
use akidb::{Db, Receipt};
use akidb_backends::fault::Cause;
use akidb_host::Rng;
use akidb_host::sim::{Act, Call, CrashDisk, EIO, Op};

use super::backend::{Away, Changed, document_number};
use super::flushes;
use super::past::Past;
use super::report::Report;
use super::rows::Scale;
use super::truth::Truth;

/// "more": apart from the seed, and so that no seed whose bug is mended means something else.
const EXTRA: u64 = 0x6d6f_7265;

/// The disk and the truth at one moment.
pub(crate) struct Moment {
    pub(crate) disk: CrashDisk,
    pub(crate) truth: Truth,
    /// What was appended is in the page cache.
    pub(crate) well: bool,
    /// What lay on the backend, if there is one.
    pub(crate) store: Option<Arc<InMemory>>,
}

/// What the engine is doing when it calls the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// An operation of the run.
    Call,
    /// A flush, or work of the engine's threads: other operations may come in between.
    Flush,
    /// A merge of segments: a flush may come in between, too.
    Merge,
    /// Such an operation.
    Nested,
    /// Nothing that counts: the process has died already.
    Gone,
}

/// A call that shall fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// Counted down at each call that counts.
    pub(crate) left: u64,
    pub(crate) errno: i32,
    /// Whether calls that only look count too.
    pub(crate) reads: bool,
}

/// What the run and the calls inside it share; never locked across a call to the engine.
pub(crate) struct State {
    /// Writes count before they are synced.
    pub(crate) shows_unsynced: bool,
    pub(crate) scale: Scale,
    pub(crate) rng: Rng,
    pub(crate) truth: Truth,
    pub(crate) report: Report,
    /// Written rows so far, so that no two are equal.
    pub(crate) versions: u64,
    pub(crate) db: Option<Db>,
    /// Of writes that nobody has waited for.
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) inside: Inside,
    pub(crate) fault: Option<Fault>,
    /// A call failed, or the disk was full, since the engine was last seen well.
    pub(crate) ill: bool,
    /// The power failed, and no open has told yet what is left.
    pub(crate) power_failed: bool,
    /// The handle said that only a reopen helps.
    pub(crate) must_reopen: bool,
    /// Where what a backend and named snapshots need is drawn, so that a seed without them means what it meant.
    pub(crate) extra: Rng,
    pub(crate) away: Option<Away>,
    pub(crate) has_names: bool,
    /// Of the process that is alive.
    pub(crate) disk: Option<CrashDisk>,
    moments: Vec<Moment>,
    log: DefaultHasher,
    prints: bool,
}

pub(crate) struct World(Mutex<State>);

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let mut rng = Rng::seeded(seed);
        let mut scale = if rng.below(20) == 0 { Scale::Large } else { Scale::Small };
        let mut extra = Rng::seeded(seed ^ EXTRA);
        let (has_backend, has_names) = (extra.below(10) == 0, extra.below(10) == 0);
        if has_backend && scale == Scale::Small && extra.below(3) == 0 {
            scale = Scale::Heavy;
        }
        let past = (has_backend || has_names).then(Past::default);
        let world = Arc::new(Self(Mutex::new(State {
            shows_unsynced: rng.below(5) == 0,
            scale,
            rng,
            truth: Truth { past, ..Truth::default() },
            report: Report::default(),
            versions: 0,
            db: None,
            receipts: Vec::new(),
            inside: Inside::Call,
            fault: None,
            ill: false,
            power_failed: false,
            must_reopen: false,
            extra,
            away: None,
            has_names,
            disk: None,
            moments: Vec::new(),
            log: DefaultHasher::new(),
            prints: std::env::var_os("AKIDB_SIM_PRINT").is_some(),
        })));
        if has_backend {
            let away = Away::new(&world);
            if scale == Scale::Heavy {
                away.faults.set_dead(Some(Cause::Refused));
            }
            world.state().away = Some(away);
        }
        world
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test goes on after a panic")
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.state().rng.below(bound)
    }

    /// As `below`, for what only some worlds have.
    pub(crate) fn extra(&self, bound: u64) -> u64 {
        self.state().extra.below(bound)
    }

    pub(crate) fn note(&self, text: &str) {
        self.state().note(text);
    }

    /// A call to the backend is about to be made.
    pub(crate) fn meet_store(&self, op: &str, key: &str) {
        let mut state = self.state();
        if state.inside == Inside::Gone {
            return;
        }
        state.report.store_calls += 1;
        state.note(&format!("store: {op} {key}"));
        let one_in = 60 * state.scale.rarity();
        if state.extra.below(one_in) == 0
            && let Some(disk) = state.disk.clone()
        {
            state.keep(&disk);
        }
    }

    /// Something was created on the backend.
    pub(crate) fn created(&self, key: &str) {
        if let Some(away) = &mut self.state().away
            && let Some(number) = document_number(key)
        {
            assert_eq!(number, away.newest + 1, "numbers are dense");
            away.newest = number;
            away.changed.push(Changed { store: away.copy(), is_published: true });
        }
    }

    /// An object was removed from the backend.
    pub(crate) fn removed(&self, key: &str) {
        let state = &mut *self.state();
        let Some(away) = &mut state.away else { return };
        match key.split('/').next() {
            Some("manifest") => state.report.pruned += 1,
            Some("collections") => state.report.swept += 1,
            _ => return,
        }
        away.changed.push(Changed { store: away.copy(), is_published: false });
    }

    pub(crate) fn moments(&self) -> Vec<Moment> {
        std::mem::take(&mut self.state().moments)
    }

    /// Does `work` as what the engine is doing.
    pub(crate) fn inside<T>(&self, inside: Inside, work: impl FnOnce() -> T) -> T {
        let before = std::mem::replace(&mut self.state().inside, inside);
        let done = work();
        self.state().inside = before;
        done
    }

    /// A call to the file system is about to be made.
    pub(crate) fn call(&self, disk: &CrashDisk, call: &Call<'_>) -> Act {
        let (act, nested) = {
            let mut state = self.state();
            if state.inside == Inside::Gone {
                return Act::Go;
            }
            state.report.file_calls += 1;
            state.note(&format!("{:?} {} {}", call.op, call.path.display(), call.len));
            state.look(disk, call.op);
            let act = state.fail(disk, call);
            (act, state.may_nest(call).and_then(|flushes| Some((state.db.clone()?, flushes))))
        };
        if let Some((db, flushes)) = nested {
            self.inside(Inside::Nested, || flushes::nested(self, &db, flushes));
        }
        act
    }
}

impl State {
    pub(crate) fn note(&mut self, text: &str) {
        if self.prints {
            println!("{text}");
        }
        text.hash(&mut self.log);
    }

    pub(crate) fn log_hash(&self) -> u64 {
        self.log.finish()
    }

    /// Keeps the disk as it is before some calls; more often where names and syncs make the difference.
    fn look(&mut self, disk: &CrashDisk, op: Op) {
        let one_in = match op {
            _ if !op.changes() || op == Op::LogPublish => return,
            Op::SyncData | Op::SyncAll | Op::SyncDir | Op::Rename | Op::HardLink | Op::Unlink => 24,
            _ => 120,
        };
        if self.rng.below(one_in * self.scale.rarity()) == 0 {
            self.keep(disk);
        }
    }

    /// Keeps the disk as it is now, for a crash.
    pub(crate) fn keep(&mut self, disk: &CrashDisk) {
        self.moments.push(Moment {
            disk: disk.kill(),
            truth: self.truth.clone(),
            well: !self.ill && !self.power_failed,
            store: self.away.as_ref().map(Away::copy),
        });
    }

    fn fail(&mut self, disk: &CrashDisk, call: &Call<'_>) -> Act {
        let counts = |fault: &&mut Fault| call.op.can_fail() && (fault.reads || call.op.changes());
        let Some(fault) = self.fault.as_mut().filter(counts) else { return Act::Go };
        fault.left -= 1;
        if fault.left > 0 {
            return Act::Go;
        }
        let errno = if call.op.changes() { fault.errno } else { EIO };
        self.fault = None;
        self.report.faults += 1;
        self.ill = true;
        self.note("that call fails");
        match call.op {
            Op::SyncData | Op::SyncAll => {
                disk.fail_next_sync(errno);
                Act::Go
            }
            _ if self.rng.below(2) == 0 => Act::FailMidway(errno),
            _ => Act::Fail(errno),
        }
    }

    /// Whether this may be the read of a column by which rows expire. Who asks for that column meanwhile waits until it is
    /// there, and on one thread that is for ever.
    fn is_awaited(&self, call: &Call<'_>) -> bool {
        let reads = !call.op.changes() && call.path.extension().is_some_and(|end| end == "parquet");
        reads && self.truth.promised.values().any(|table| table.schema.expires_by.is_some())
    }

    /// Whether another operation comes before this call; and if so, whether it may be a flush.
    fn may_nest(&mut self, call: &Call<'_>) -> Option<bool> {
        // Those who write these do not like to be asked meanwhile.
        let apart = ["/db/wal", "/db/uploads", "/db/dlq"];
        let inside = matches!(self.inside, Inside::Flush | Inside::Merge)
            && !apart.iter().any(|dir| call.path.starts_with(dir));
        // Once its segment is written a merge lets no flush come between.
        let writes = matches!(call.op, Op::CreateNew | Op::WriteAt | Op::SyncData);
        let flushes =
            self.inside == Inside::Merge && writes && call.path.to_string_lossy().ends_with(".parquet.tmp");
        let one_in = if flushes { 3 } else { 12 };
        (inside && self.rng.below(one_in) == 0 && !self.is_awaited(call)).then_some(flushes)
    }
}
