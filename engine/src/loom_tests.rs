//! Loom models of the commit path, on the types that ship. Run with
//! `RUSTFLAGS="--cfg akidb_loom" cargo test -p akidb --lib loom_`.

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::apply::{Applier, Target};
use crate::lsn::Lsn;
use crate::write::{Sequencer, WriteLog};

fn lsn(n: u64) -> Lsn {
    Lsn::new(1, n)
}

/// A log whose sync takes what is appended, then publishes it; any thread may run in between. (No `yield_now` here: to
/// loom it means that the thread runs again only when no other can, which hides interleavings.)
#[derive(Debug, Default)]
struct ModelLog {
    appended: Mutex<u64>,
    syncing: Mutex<()>,
    synced: AtomicU64,
}

impl WriteLog for ModelLog {
    type Error = ();

    fn append(&self, records: &[&[u8]]) -> Result<(Lsn, Lsn), ()> {
        let mut appended = self.appended.lock().unwrap();
        let first = *appended + 1;
        *appended += records.len() as u64;
        Ok((lsn(first), lsn(*appended)))
    }

    fn wait(&self, until: Lsn) -> Result<(), ()> {
        while self.synced() < until {
            let _leader = self.syncing.lock().unwrap();
            let target = *self.appended.lock().unwrap();
            self.synced.fetch_max(target, Ordering::AcqRel);
        }
        Ok(())
    }

    fn synced(&self) -> Lsn {
        match self.synced.load(Ordering::Acquire) {
            0 => Lsn::ZERO,
            n => lsn(n),
        }
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
    let memory = ModelMemory { applied: Mutex::new(Vec::new()) };
    let applier = Applier::new(memory, ModelContent::above(Lsn::ZERO), Lsn::ZERO);
    Arc::new(Sequencer::new(ModelLog::default(), applier))
}

fn submit(model: &Model, records: usize) -> Lsn {
    let record: &[u8] = b"r";
    let records = vec![record; records];
    model.submit(&records, Arc::new(()), || Ok(())).unwrap().1
}

/// Checks every interleaving with at most `preemptions` (all of them where that is `None`), and says how many there
/// were. A nightly run sets another bound by `LOOM_MAX_PREEMPTIONS`.
fn explore(name: &str, preemptions: Option<usize>, check: impl Fn() + Sync + Send + 'static) {
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = std::sync::Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        check();
    });
    println!("{name}: {} executions", executions.load(Ordering::Relaxed));
}

/// Whoever is cancelled after its append leaves a frame that another writer's drain shows.
#[test]
fn loom_cancelled_writer_does_not_block_apply() {
    explore("loom_cancelled_writer_does_not_block_apply", None, || {
        let model = model();
        let other = Arc::clone(&model);
        // Appends, then its future is dropped: it waits for nothing and drains nothing.
        let cancelled = thread::spawn(move || submit(&other, 1));
        let last = submit(&model, 1);
        model.finish(last).unwrap();
        assert!(model.applier().published().visible() >= last);
        let left = cancelled.join().unwrap();
        model.finish(left).unwrap();
        assert_eq!(model.applier().target().applied.lock().unwrap().len(), 2);
    });
}

/// `visible` only ever takes the end of a whole frame.
#[test]
fn loom_visible_is_frame_aligned() {
    explore("loom_visible_is_frame_aligned", Some(2), || {
        let model = model();
        let (a, b) = (Arc::clone(&model), Arc::clone(&model));
        let two = thread::spawn(move || {
            let last = submit(&a, 2);
            a.finish(last).unwrap();
        });
        let reader = thread::spawn(move || b.applier().published().view().lsn());
        let last = submit(&model, 2);
        model.finish(last).unwrap();
        let seen = reader.join().unwrap();
        assert!(seen.counter() % 2 == 0, "a reader saw half a batch: {seen}");
        two.join().unwrap();
        let applied = model.applier().target().applied.lock().unwrap().clone();
        assert_eq!(applied, [(1, 2), (3, 4)]);
    });
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
        let view = model.applier().published().view();
        let (base, newest) = (view.content().base, view.content().newest.load(Ordering::Acquire));
        assert!(base <= view.lsn(), "L {} is below what version {base} was built on", view.lsn());
        assert!(view.lsn().as_u64() <= newest, "L {} is beyond the version's memtable", view.lsn());
        changes.join().unwrap();
    });
}
