//! Loom models of the commit path, on the types that ship. Run with
//! `RUSTFLAGS="--cfg akidb_loom" cargo test -p akidb --lib loom_`.

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use akidb_host::{Clock, RealClock};

use crate::apply::{Applier, Target};
use crate::lsn::Lsn;
use crate::write::{Checked, Placed, Sequencer, WriteLog};

fn lsn(n: u64) -> Lsn {
    Lsn::new(1, n)
}

/// A log whose sync takes what is appended, then publishes it in two steps, as nothing promises that the mark stands at
/// the end of a frame; any thread may run in between. (No `yield_now` here: to loom it means that the thread runs again
/// only when no other can, which hides interleavings.)
#[derive(Debug)]
struct ModelLog {
    file: Mutex<File>,
    made: Condvar,
    syncing: Mutex<()>,
    synced: AtomicU64,
    shows_unsynced: bool,
}

#[derive(Debug)]
struct File {
    appended: u64,
    /// Records that still fit.
    room: u64,
}

impl ModelLog {
    fn new(room: u64, shows_unsynced: bool) -> Self {
        let file = Mutex::new(File { appended: 0, room });
        let (made, syncing, synced) = (Condvar::new(), Mutex::new(()), AtomicU64::new(0));
        Self { file, made, syncing, synced, shows_unsynced }
    }

    /// What the thread that makes files does at the end.
    fn make_room(&self, records: u64) {
        self.file.lock().unwrap().room = records;
        self.made.notify_all();
    }

    fn synced(&self) -> Lsn {
        as_lsn(self.synced.load(Ordering::Acquire))
    }
}

fn as_lsn(n: u64) -> Lsn {
    if n == 0 { Lsn::ZERO } else { lsn(n) }
}

impl WriteLog for ModelLog {
    type Error = ();

    fn append_nowait(&self, records: &[&[u8]]) -> Result<Option<(Lsn, Lsn)>, ()> {
        let mut file = self.file.lock().unwrap();
        let Some(left) = file.room.checked_sub(records.len() as u64) else { return Ok(None) };
        let first = file.appended + 1;
        file.room = left;
        file.appended += records.len() as u64;
        Ok(Some((lsn(first), lsn(file.appended))))
    }

    fn wait_for_room(&self, records: &[&[u8]]) -> Result<(), ()> {
        let mut file = self.file.lock().unwrap();
        while file.room < records.len() as u64 {
            file = self.made.wait(file).unwrap();
        }
        Ok(())
    }

    fn wait(&self, until: Lsn) -> Result<(), ()> {
        while self.synced() < until {
            let _leader = self.syncing.lock().unwrap();
            let target = self.file.lock().unwrap().appended;
            self.synced.fetch_max(target - 1, Ordering::AcqRel);
            self.synced.fetch_max(target, Ordering::AcqRel);
        }
        Ok(())
    }

    fn showable(&self) -> Lsn {
        if self.shows_unsynced { as_lsn(self.file.lock().unwrap().appended) } else { self.synced() }
    }
}

/// The applied LSNs, in order, and a cell that a seal replaces.
#[derive(Debug)]
struct ModelMemory {
    applied: Mutex<Vec<(u64, u64)>>,
}

/// A version: the memtable writes go to, as the LSN of the newest row in it, and what was folded below it when it
/// was published: a reader of this version must not ask for less.
#[derive(Debug)]
struct ModelContent {
    base: Lsn,
    newest: AtomicU64,
}

impl ModelContent {
    fn above(base: Lsn) -> Self {
        Self { base, newest: AtomicU64::new(base.as_u64()) }
    }
}

impl Target for ModelMemory {
    type Content = ModelContent;
    type Frame = ();

    /// All writes are of one row.
    fn marks((): &()) -> impl Iterator<Item = u64> {
        std::iter::once(7)
    }

    fn is_prepared(&self, _: &ModelContent, (): &()) -> bool {
        true
    }

    fn prepare(&self, _: &ModelContent, (): &()) {}

    fn apply(&self, content: &ModelContent, (): &(), first: Lsn, last: Lsn) {
        content.newest.store(last.as_u64(), Ordering::Release);
        self.applied.lock().unwrap().push((first.counter(), last.counter()));
    }
}

type Model = Sequencer<ModelLog, ModelMemory>;

fn model() -> Arc<Model> {
    model_on(ModelLog::new(u64::MAX, false))
}

fn model_on(log: ModelLog) -> Arc<Model> {
    let memory = ModelMemory { applied: Mutex::new(Vec::new()) };
    let applier = Applier::new(memory, ModelContent::above(Lsn::ZERO), Lsn::ZERO);
    Arc::new(Sequencer::new(log, applier))
}

fn submit(model: &Model, records: usize) -> Lsn {
    let record: &[u8] = b"r";
    let records = vec![record; records];
    end_of(model.submit(&records, &Arc::new(()), || Ok(Checked::Holds)).unwrap())
}

fn end_of(placed: Placed) -> Lsn {
    match placed {
        Placed::At(_, last) | Placed::Earlier(_, last) => last,
        Placed::NoRoom | Placed::Stale => panic!("not placed"),
    }
}

/// Checks every interleaving with at most `preemptions` (all of them where that is `None`), and says how many there
/// were and how long they took. A nightly run sets another bound by `LOOM_MAX_PREEMPTIONS`.
pub(crate) fn explore(name: &str, preemptions: Option<usize>, check: impl Fn() + Sync + Send + 'static) {
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = std::sync::Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    let (clock, name) = (RealClock, name.to_owned());
    let began = clock.now();
    // Printed when the model passes and when it does not.
    let report = Report(Box::new(move || {
        let seconds = clock.now().duration_since(began).as_secs_f64();
        println!("{name}: {} executions, {seconds:.2} s", executions.load(Ordering::Relaxed));
    }));
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        check();
    });
    drop(report);
}

struct Report(Box<dyn Fn()>);

impl Drop for Report {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Whoever is cancelled after its append leaves a frame that another one shows: what is synced is visible once the
/// calls under way have returned, with nobody left to look again.
#[test]
fn loom_cancelled_writer_does_not_block_apply() {
    explore("loom_cancelled_writer_does_not_block_apply", None, || {
        let model = model();
        let other = Arc::clone(&model);
        // Appends, then its future is dropped: it waits for nothing.
        let cancelled = thread::spawn(move || submit(&other, 1));
        let last = submit(&model, 1);
        model.finish(last).unwrap();
        assert!(model.applier().published().visible() >= last);
        let left = cancelled.join().unwrap();
        if model.log().synced() >= left {
            assert!(model.applier().published().visible() >= left, "{left} is synced and nobody shows it");
        }
        model.finish(left).unwrap();
        assert_eq!(model.applier().target().applied.lock().unwrap().len(), 2);
    });
}

/// `visible` only ever takes the end of a whole frame, and of one that was applied.
#[test]
fn loom_visible_is_frame_aligned() {
    explore("loom_visible_is_frame_aligned", Some(2), || frame_aligned(false));
}

/// The same where what is not synced is shown: nobody waits for a sync then.
#[test]
fn loom_unsynced_visible_is_frame_aligned() {
    explore("loom_unsynced_visible_is_frame_aligned", Some(2), || frame_aligned(true));
}

fn frame_aligned(shows_unsynced: bool) {
    let model = model_on(ModelLog::new(u64::MAX, shows_unsynced));
    let (a, b) = (Arc::clone(&model), Arc::clone(&model));
    let two = thread::spawn(move || {
        let last = submit(&a, 2);
        a.acknowledge(last).unwrap();
        assert!(a.applier().published().visible() >= last);
    });
    let reader = thread::spawn(move || {
        let view = b.applier().published().view(0);
        (view.lsn(), view.content().newest.load(Ordering::Acquire))
    });
    let last = submit(&model, 2);
    model.acknowledge(last).unwrap();
    let (seen, applied) = reader.join().unwrap();
    assert!(seen.counter() % 2 == 0, "a reader saw half a batch: {seen}");
    assert!(seen.as_u64() <= applied, "a reader saw {seen}, which is not applied");
    two.join().unwrap();
    let applied = model.applier().target().applied.lock().unwrap().clone();
    assert_eq!(applied, [(1, 2), (3, 4)]);
    assert_eq!(model.log().synced() == Lsn::ZERO, shows_unsynced, "who waited for a sync");
}

/// Three writers: whatever is acknowledged is visible, and everything is applied once and in order.
#[test]
fn loom_drain_misses_nothing() {
    explore("loom_drain_misses_nothing", Some(2), || {
        let model = model();
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    let last = submit(&model, 1);
                    model.finish(last).unwrap();
                    assert!(model.applier().published().visible() >= last);
                })
            })
            .collect();
        let last = submit(&model, 1);
        model.finish(last).unwrap();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let applied = model.applier().target().applied.lock().unwrap().clone();
        assert_eq!(applied, [(1, 1), (2, 2), (3, 3)]);
    });
}

/// Who looks at a row under the sequencer lock finds its newest appended write: in the queue, or else in the version that
/// is current after the look, whoever applies it meanwhile.
#[test]
fn loom_newest_write_is_found() {
    explore("loom_newest_write_is_found", Some(2), || {
        let model = model();
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    let last = submit_checked(&model);
                    model.finish(last).unwrap();
                })
            })
            .collect();
        let last = submit_checked(&model);
        model.finish(last).unwrap();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert!(model.applier().newest_queued(7, |(), _| Some(())).is_none(), "the queue is empty");
    });
}

fn submit_checked(model: &Model) -> Lsn {
    let check = || {
        let queued = model.applier().newest_queued(7, |(), _| Some(()));
        let applied = || model.applier().published().current().content().newest.load(Ordering::Acquire);
        let newest = queued.map_or_else(applied, |queued| queued.frame_last.as_u64());
        let appended = as_lsn(model.log().file.lock().unwrap().appended);
        assert_eq!(newest, appended.as_u64(), "the newest appended write was missed");
        Ok(Checked::Holds)
    };
    end_of(model.submit(&[b"r"], &Arc::new(()), check).unwrap())
}

/// Memory that keeps the place of the one batch that all writers send, as if each frame had its key.
#[derive(Debug, Default)]
struct KeyedMemory {
    appended: std::sync::Mutex<Vec<Lsn>>,
}

impl Target for KeyedMemory {
    type Content = ();
    type Frame = ();

    fn marks((): &()) -> impl Iterator<Item = u64> {
        std::iter::once(7)
    }

    fn note_appended(&self, (): &(), last: Lsn) {
        // A lock of the standard library: only the sequencer lock may order the look and the note.
        self.appended.lock().unwrap().push(last);
    }

    fn is_prepared(&self, (): &(), (): &()) -> bool {
        true
    }

    fn prepare(&self, (): &(), (): &()) {}

    fn apply(&self, (): &(), (): &(), _: Lsn, _: Lsn) {}
}

/// Of writers that send one batch under one key one appends it; every one of them gets its place, and only once it is
/// synced and visible.
#[test]
fn loom_one_key_is_written_once() {
    explore("loom_one_key_is_written_once", Some(2), || {
        let applier = Applier::new(KeyedMemory::default(), (), Lsn::ZERO);
        let model = Arc::new(Sequencer::new(ModelLog::new(u64::MAX, false), applier));
        let send = |model: &Sequencer<ModelLog, KeyedMemory>| {
            let earlier = || model.applier().target().appended.lock().unwrap().first().copied();
            let check = || Ok(earlier().map_or(Checked::Holds, |last| Checked::Earlier(last, last)));
            // First with no lock held, as writers do.
            let placed = match earlier() {
                Some(last) => Placed::Earlier(last, last),
                None => model.submit(&[b"r"], &Arc::new(()), check).unwrap(),
            };
            let last = end_of(placed);
            model.acknowledge(last).unwrap();
            assert!(model.log().synced() >= last && model.applier().published().visible() >= last);
            (last, matches!(placed, Placed::At(..)))
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let model = Arc::clone(&model);
                thread::spawn(move || send(&model))
            })
            .collect();
        let mut got = vec![send(&model)];
        got.extend(others.into_iter().map(|other| other.join().unwrap()));
        assert!(got.iter().all(|(last, _)| *last == lsn(1)), "{got:?}");
        assert_eq!(got.iter().filter(|(_, wrote)| *wrote).count(), 1, "{got:?}");
    });
}

/// A writer whose batch does not fit waits for the next file with no lock held: another one whose record does fit
/// appends, syncs and is acknowledged meanwhile. Here the next file is made only after that, so a wait under the
/// sequencer lock would be a deadlock.
#[test]
fn loom_full_file_holds_up_nobody_else() {
    explore("loom_full_file_holds_up_nobody_else", None, || {
        let model = model_on(ModelLog::new(1, false));
        let large = Arc::clone(&model);
        let large = thread::spawn(move || {
            let last = submit(&large, 2);
            large.finish(last).unwrap();
        });
        let last = submit(&model, 1);
        model.finish(last).unwrap();
        model.log().make_room(2);
        large.join().unwrap();
        let applied = model.applier().target().applied.lock().unwrap().clone();
        assert_eq!(applied, [(1, 1), (2, 3)]);
    });
}

/// A reader's L lies between what its version was built on and what its memtable holds: writes after a seal go to
/// the next version's memtable, and what a flush folded is gone from the version after it.
#[test]
fn loom_version_then_lsn() {
    explore("loom_version_then_lsn", None, || {
        let model = model();
        let writer = Arc::clone(&model);
        let changes = thread::spawn(move || {
            let last = submit(&writer, 1);
            writer.finish(last).unwrap();
            writer.applier().change(|published, apply| {
                published.publish(ModelContent::above(published.visible()), apply);
            });
            let last = submit(&writer, 1);
            writer.finish(last).unwrap();
        });
        let view = model.applier().published().view(0);
        let (base, newest) = (view.content().base, view.content().newest.load(Ordering::Acquire));
        assert!(base <= view.lsn(), "L {} is below what version {base} was built on", view.lsn());
        assert!(view.lsn().as_u64() <= newest, "L {} is beyond the version's memtable", view.lsn());
        changes.join().unwrap();
    });
}
