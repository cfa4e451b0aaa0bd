//! Loom models of the uploader's slot. Each of the bugs in the comments must make its model fail.

use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;

use super::*;
use crate::explored::explore;

/// A plan that names the file, or not.
type Plan = bool;

/// What stands behind the names: a file here, an object there, and the mark that says so.
#[derive(Default)]
struct World {
    removed: AtomicBool,
    there: AtomicBool,
    marked: AtomicBool,
}

fn up_one(queue: &Queue<Plan>, world: &World) {
    if let Next::Work(turn) = Queue::next(queue) {
        let read = || assert!(!world.removed.load(Ordering::SeqCst), "the file is gone while it is read");
        if *turn.plan() {
            read();
            world.there.store(true, Ordering::SeqCst);
            read();
            world.marked.store(true, Ordering::SeqCst);
            assert!(!world.removed.load(Ordering::SeqCst), "marked after its removal");
        }
    }
}

/// Bug `queue_pins_target_only`.
#[test]
fn model_m13_a_file_is_neither_removed_while_it_goes_up_nor_evicted_before_it_is_marked() {
    explore("m13, superseded", || {
        let (queue, world) = (Arc::new(Queue::new()), Arc::new(World::default()));
        queue.offer(1, true);
        let (for_worker, of_worker) = (Arc::clone(&queue), Arc::clone(&world));
        let worker = thread::spawn(move || up_one(&for_worker, &of_worker));
        // Compacted away: the newer plan does not name it, and whoever removes files asks for the pins.
        queue.offer(2, false);
        if !queue.pinned().contains(&1) {
            world.removed.store(true, Ordering::SeqCst);
        }
        worker.join().unwrap();
        assert_eq!(queue.pinned(), [2]);
    });
    explore("m13, evicted", || {
        let (queue, world) = (Arc::new(Queue::new()), Arc::new(World::default()));
        queue.offer(1, true);
        let (for_worker, of_worker) = (Arc::clone(&queue), Arc::clone(&world));
        let worker = thread::spawn(move || up_one(&for_worker, &of_worker));
        // What is marked is on the backend: its local bytes may go once nobody reads them.
        if world.marked.load(Ordering::SeqCst) {
            assert!(world.there.load(Ordering::SeqCst), "evicted before it was there");
        }
        worker.join().unwrap();
        assert!(world.marked.load(Ordering::SeqCst));
    });
}

/// The thread as it is, over a breaker that is open until told otherwise. Returns how many plans it worked on.
fn work(queue: &Arc<Queue<Plan>>, open: &AtomicBool, worked: &AtomicU64) {
    loop {
        match Queue::next(Arc::clone(queue)) {
            Next::Stop => return,
            Next::Work(turn) if !open.load(Ordering::SeqCst) => {
                worked.fetch_add(1, Ordering::SeqCst);
                drop(turn);
                queue.done(1);
            }
            Next::Idle | Next::Work(_) => block_on(queue.bell()),
        }
    }
}

/// Bugs `queue_wake_unheard`, where loom sees the deadlock, and `queue_turn_keeps_pin`.
#[test]
fn model_m15_the_thread_neither_sleeps_on_work_nor_leaves_a_pin() {
    explore("m15, a plan and a closing breaker", || {
        let queue = Arc::new(Queue::new());
        let (open, worked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let (for_worker, is_open, count) = (Arc::clone(&queue), Arc::clone(&open), Arc::clone(&worked));
        let worker = thread::spawn(move || {
            work(&for_worker, &is_open, &count);
        });
        let for_breaker = Arc::clone(&queue);
        let closes = thread::spawn(move || {
            open.store(false, Ordering::SeqCst);
            for_breaker.wake();
        });
        queue.offer(1, true);
        closes.join().unwrap();
        // Whoever waits for the plan is told by the thread; here the look at the count stands for it.
        while worked.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        queue.stop();
        worker.join().unwrap();
        assert_eq!((worked.load(Ordering::SeqCst), queue.pinned()), (1, Vec::new()));
    });
    explore("m15, the end comes first", || {
        let queue = Arc::new(Queue::new());
        let (for_worker, worked) = (Arc::clone(&queue), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&worked);
        let worker = thread::spawn(move || work(&for_worker, &AtomicBool::new(false), &count));
        let for_stop = Arc::clone(&queue);
        let stops = thread::spawn(move || for_stop.stop());
        queue.offer(1, true);
        stops.join().unwrap();
        worker.join().unwrap();
        let left = if worked.load(Ordering::SeqCst) == 1 { Vec::new() } else { vec![1] };
        assert_eq!(queue.pinned(), left, "only the plan that waits is pinned");
    });
}
