//! Other people's code that the log calls: a waker or a listener that panics takes nobody along, and none is called under a
//! lock. The log's threads are stepped, so that a panic that ended one would end the test.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use akidb_host::sim::{Act, Call, EIO, HookFs, InlineSpawn, Op};
use akidb_host::{Clock, RealClock, RealFs, RealSpawn, Spawn};
use akidb_wal::{ErrorKind, Log, State, Synced, WritePath};

use crate::support::{Place, rows};

/// One that is woken; of many, every second one panics.
#[derive(Default)]
struct Woken {
    times: AtomicUsize,
    panics: bool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.times.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics, "a waker panics");
    }
}

struct Crowd(Vec<Arc<Woken>>);

impl Crowd {
    /// Two that panic, each before one that does not.
    fn new() -> Self {
        let one = |n| Arc::new(Woken { times: AtomicUsize::new(0), panics: n % 2 == 0 });
        Self((0..4).map(one).collect())
    }

    fn contexts(&self, mut poll: impl FnMut(usize, &mut Context<'_>) -> bool) {
        for (n, one) in self.0.iter().enumerate() {
            let waker = Waker::from(Arc::clone(one));
            assert!(!poll(n, &mut Context::from_waker(&waker)), "number {n} did not have to wait");
        }
    }

    fn woken(&self) -> Vec<usize> {
        self.0.iter().map(|one| one.times.swap(0, Ordering::SeqCst)).collect()
    }
}

struct Stepped {
    place: Place,
    spawn: InlineSpawn,
}

impl Stepped {
    fn new() -> Self {
        let spawn = InlineSpawn::default();
        let mut place = Place::new();
        place.spawn = Arc::new(spawn.clone());
        Self { place, spawn }
    }

    /// All that is due now. Stamps have no part in this.
    fn run(&self) {
        self.spawn.run_until_idle(RealClock.now());
    }
}

/// Whether both locks of the log can be had, asked by a thread of its own: this one may hold them.
fn is_free(log: &Arc<Log>) -> bool {
    let (answer, answered) = channel();
    let log = Arc::clone(log);
    let look = move || {
        let _ = log.watermarks();
        log.on_synced(Arc::new(|_| ()));
        let _ = answer.send(());
    };
    RealSpawn.job("looks", Box::new(look)).unwrap();
    answered.recv_timeout(Duration::from_secs(20)).is_ok()
}

fn fill(log: &Log, record: &[u8]) {
    while log.append_nowait(&[record]).is_ok() {}
}

fn poll(synced: &mut Synced<'_>, context: &mut Context<'_>) -> bool {
    Pin::new(synced).poll(context).is_ready()
}

#[test]
fn one_that_waits_for_a_record_and_panics_leaves_the_others_woken_and_the_log_whole() {
    let world = Stepped::new();
    let (log, _) = world.place.open();
    world.run();
    let mut appended = log.append(&[b"first"]).unwrap();
    for round in 0..3 {
        let crowd = Crowd::new();
        let mut synced: Vec<_> = (0..4).map(|_| log.synced(appended.last)).collect();
        crowd.contexts(|n, context| poll(&mut synced[n], context));
        world.run();
        assert_eq!(crowd.woken(), [1; 4], "round {round}");
        let mut context = Context::from_waker(Waker::noop());
        let answers = synced.iter_mut().map(|one| Pin::new(one).poll(&mut context));
        assert!(answers.into_iter().all(|answer| matches!(answer, Poll::Ready(Ok(())))), "round {round}");
        appended = log.append(&[b"next"]).unwrap();
    }
    // One that blocks leads the sync, and wakes those that do not: their panics are none of its own.
    let crowd = Crowd::new();
    let mut synced: Vec<_> = (0..4).map(|_| log.synced(appended.last)).collect();
    crowd.contexts(|n, context| poll(&mut synced[n], context));
    log.wait(appended.last).unwrap();
    assert_eq!(crowd.woken(), [1; 4]);
    drop(synced);
    log.close().unwrap();
    assert_eq!(log.watermarks().state, State::Closed);
    drop(log);
    assert_eq!(rows(&world.place.open().1).len(), 4);
}

#[test]
fn one_that_waits_for_room_and_panics_leaves_the_others_woken_whoever_makes_the_room() {
    let world = Stepped::new();
    let (log, _) = world.place.open();
    world.run();
    let record = [7; 1000];
    let wait_for_room = |crowd: &Crowd| {
        fill(&log, &record);
        crowd.contexts(|_, context| log.poll_room(&[&record], context).is_ready());
    };
    let crowd = Crowd::new();
    wait_for_room(&crowd);
    world.run();
    assert_eq!(crowd.woken(), [1; 4], "by the thread that makes files");
    wait_for_room(&crowd);
    log.append(&[&record]).unwrap();
    assert_eq!(crowd.woken(), [1; 4], "by a writer that makes its file itself");
    wait_for_room(&crowd);
    log.rest().unwrap();
    assert_eq!(crowd.woken(), [1; 4], "by a log that goes on in a small file");
    log.append(&[&record]).unwrap();
    wait_for_room(&crowd);
    log.close().unwrap();
    assert_eq!(crowd.woken(), [1; 4], "by a log that closes: there will be no room");
    crowd.contexts(|_, context| {
        let Poll::Ready(Err(error)) = log.poll_room(&[&record], context) else { panic!("no answer") };
        !matches!(error.kind(), ErrorKind::Closed)
    });
}

#[test]
fn readers_of_the_tail_are_woken_behind_one_that_panics_by_a_sync_and_by_the_end() {
    let world = Stepped::new();
    let (log, _) = world.place.open();
    world.run();
    let crowd = Crowd::new();
    let mut readers: Vec<_> = (0..4).map(|_| log.read(log.watermarks().appended.next()).unwrap()).collect();
    crowd.contexts(|n, context| readers[n].poll_next(context).is_ready());
    log.commit(&[b"news"]).unwrap();
    assert_eq!(crowd.woken(), [1; 4]);
    for reader in &mut readers {
        assert_eq!(reader.wait_next().unwrap().unwrap().bytes, b"news");
    }
    crowd.contexts(|n, context| readers[n].poll_next(context).is_ready());
    log.close().unwrap();
    assert_eq!(crowd.woken(), [1; 4]);
}

/// Looks whether the log's locks are free where the log runs it: woken, or dropped.
struct Looks {
    log: OnceLock<Arc<Log>>,
    found: Arc<Mutex<Vec<(&'static str, bool)>>>,
}

impl Looks {
    fn look(&self, when: &'static str) {
        if let Some(log) = self.log.get() {
            let free = is_free(log);
            self.found.lock().unwrap().push((when, free));
        }
    }
}

impl Wake for Looks {
    fn wake(self: Arc<Self>) {
        self.look("woken");
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.look("dropped");
    }
}

#[test]
fn no_waker_is_called_or_dropped_under_a_lock() {
    let mut world = Stepped::new();
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let hook = move |call: &Call<'_>| match call.op {
        Op::WriteAt if fails.load(Ordering::SeqCst) => Act::Fail(EIO),
        _ => Act::Go,
    };
    world.place.fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
    world.place.config.write_path = WritePath::Positioned;
    let log = Arc::new(world.place.open().0);
    world.run();
    let found = Arc::new(Mutex::new(Vec::new()));
    let waker = || {
        let looks = Looks { log: OnceLock::from(Arc::clone(&log)), found: Arc::clone(&found) };
        Waker::from(Arc::new(looks))
    };
    let seen = |what: &str, expected: &[&str]| {
        let seen = std::mem::take(&mut *found.lock().unwrap());
        assert!(seen.iter().all(|(_, free)| *free), "{what}: {seen:?}");
        assert_eq!(seen.iter().map(|(when, _)| *when).collect::<Vec<_>>(), expected, "{what}");
    };
    let record = [7; 1000];
    let appended = log.append(&[b"one"]).unwrap();
    let mut synced = log.synced(appended.last);
    let mut reader = log.read(appended.first.next()).unwrap();
    for _ in 0..2 {
        assert!(!poll(&mut synced, &mut Context::from_waker(&waker())));
        assert!(reader.poll_next(&mut Context::from_waker(&waker())).is_pending());
    }
    seen("polled with another waker", &["dropped", "dropped"]);
    drop((synced, reader));
    seen("given up", &["dropped", "dropped"]);
    fill(&log, &record);
    assert!(log.poll_room(&[&record], &mut Context::from_waker(&waker())).is_pending());
    world.run();
    seen("a file arrived", &["woken", "dropped"]);
    fill(&log, &record);
    assert!(log.poll_room(&[&record], &mut Context::from_waker(&waker())).is_pending());
    log.rest().unwrap();
    seen("the log rests", &["woken", "dropped"]);
    // The old file's end cannot be written when the log goes on in the next one, which is ready.
    fill(&log, &record);
    world.run();
    let mut reader = log.read(log.watermarks().appended.next()).unwrap();
    assert!(reader.poll_next(&mut Context::from_waker(&waker())).is_pending());
    failing.store(true, Ordering::SeqCst);
    assert!(matches!(log.append_nowait(&[&record]).unwrap_err().kind(), ErrorKind::Poisoned { .. }));
    seen("poisoned by a rotation", &["woken", "dropped"]);
}

#[test]
fn who_listens_to_syncs_and_panics_ends_the_writing_and_everybody_is_told() {
    let world = Stepped::new();
    let (log, _) = world.place.open();
    world.run();
    let heard = Arc::new(AtomicUsize::new(0));
    let hears = Arc::clone(&heard);
    log.on_synced(Arc::new(|_| panic!("a listener panics")));
    log.on_synced(Arc::new(move |_| {
        hears.fetch_add(1, Ordering::SeqCst);
    }));
    let first = log.append(&[b"synced"]).unwrap();
    let crowd = Crowd::new();
    let mut synced: Vec<_> = (0..4).map(|_| log.synced(first.last)).collect();
    crowd.contexts(|n, context| poll(&mut synced[n], context));
    world.run();
    assert_eq!((crowd.woken(), heard.load(Ordering::SeqCst)), (vec![1; 4], 1));
    assert!(synced.iter_mut().all(|one| poll(one, &mut Context::from_waker(Waker::noop()))));
    let error = log.append(&[b"no more"]).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Poisoned { .. }) && error.to_string().contains("panicked"),
        "{error}"
    );
    assert_eq!(log.watermarks().synced, first.last);
    drop(synced);
    drop(log);
    assert_eq!(rows(&world.place.open().1).len(), 1);
}
