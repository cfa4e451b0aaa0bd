//! Breaker, uploader's slot, dead letters and the numbered document together, under schedules drawn by shuttle:
//! `RUSTFLAGS="--cfg akidb_shuttle" cargo test -p akidb-backends --lib shuttle_ -- --nocapture`. Each of the bugs in
//! the comments, named by `AKIDB_SEEDED_BUG` in a build with `--cfg seeded_bugs`, must make it fail.
//!
//! Loom explores each of these types alone and to the end; here many threads use all of them at once, and schedules
//! are drawn from a seed. Shuttle's atomics are sequentially consistent: orderings are loom's business. The types are
//! those that ship; the async uploader, the publisher and the files on disk are not seen, and `work`, `store` and
//! `files` stand for them.

use std::sync::Arc;

use shuttle::rand::RngCore;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use crate::dlq::Which;

mod files;
mod letters;
mod store;
mod work;
mod world;

use work::drive;
use world::{Seen, World};

/// Threads that send.
const SENDERS: u32 = 3;
/// Calls the breaker tries at once.
const TRIED_AT_ONCE: u32 = 1;
const PLANS: u32 = 3;
const FILES_A_PLAN: u32 = 3;
/// Changes of priority in a schedule of the second kind.
const DEPTH: usize = 3;

/// What a local manifest names: here, files by number.
#[derive(Debug)]
struct Plan {
    number: u64,
    files: Vec<u32>,
}

/// Below `n`; drawn by shuttle, so that a schedule replays it.
fn draw(n: u32) -> u32 {
    shuttle::rand::thread_rng().next_u32() % n
}

/// True once in `n`.
fn chance(n: u32) -> bool {
    draw(n) == 0
}

/// Each plan names one file that the one before did not, and leaves one out.
fn plan(number: u32) -> Plan {
    Plan { number: number.into(), files: (number..number + FILES_A_PLAN).collect() }
}

fn offers(world: &World) {
    let mut plans = Vec::new();
    for number in 1..=PLANS {
        if chance(2) {
            world.wait_for_turn(u64::from(number) - 1);
        }
        plans.push(plan(number));
        world.queue.offer(number.into(), Arc::new(plan(number)));
        world.remove_unwanted(&plans);
    }
}

fn operates(world: &World) {
    for _ in 0..2 {
        if chance(2) {
            world.breaker.force_open();
        }
        world.drop_oldest();
        if chance(2) {
            world.store.mend();
        }
        world.breaker.reset();
        retries_all(world);
        world.wait_for_turn(PLANS.into());
    }
}

fn retries_all(world: &World) {
    world.ledger.room.lock().letters.ask_retry_all(&Which::all(), world.now());
    world.queue.wake();
}

fn writes(world: &World) {
    for _ in 0..2 {
        let _ = world.ledger.persist();
        world.ledger.flush();
    }
}

/// One schedule, from three plans to the last one's document.
fn schedule(seen: &Arc<Seen>) {
    let world = Arc::new(World::new(1..PLANS + FILES_A_PLAN, Arc::clone(seen)));
    let start = |run: fn(&World)| {
        let world = Arc::clone(&world);
        thread::spawn(move || run(&world))
    };
    let driver = start(drive);
    let others = [offers, operates, writes].map(start);
    while !world.watch(PLANS.into()) {
        world.store.mend();
        retries_all(&world);
    }
    others.into_iter().for_each(|thread| thread.join().unwrap());
    world.queue.stop();
    driver.join().unwrap();
    holds(&world);
}

/// What must be true once all is done.
fn holds(world: &World) {
    let last = plan(PLANS);
    assert_eq!(world.store.newest().1, last.number);
    assert!(world.store.has_all(&last.files) && world.missing(&last).is_empty());

    let (totals, permits) = (world.breaker.status(world.now_ms()).totals, &world.permits);
    let counted = [totals.successes, totals.failures, totals.ignored, totals.cancelled];
    let known =
        [&permits.well, &permits.failed, &permits.ignored, &permits.cancelled].map(|count| count.get());
    assert_eq!(counted, known, "success, failure, ignored, cancelled");
    assert_eq!(counted.iter().sum::<u64>(), permits.issued.get(), "a permit is not accounted for");
    assert!(totals.late_results >= permits.late.get());

    assert_eq!(world.queue.pinned(), [], "nothing is under way");
    let left = world.remove_unwanted(&(1..=PLANS).map(plan).collect::<Vec<_>>());
    assert!(left.into_iter().eq(last.files), "files that nobody wants stay");

    assert!(!world.has_claims());
    let seen = &world.seen;
    seen.failed_writes.more(world.ledger.sink.mend());
    world.ledger.persist().expect("no more writes fail");
    let stats = world.ledger.room.lock().letters.stats(None, world.now());
    assert_eq!((stats.size, stats.redriving), (0, 0), "all files are up");
    assert!(world.ledger.sink.letters().is_empty(), "the disk is as the memory");
    seen.opened.more(totals.opened);
    seen.closed.more(totals.closed);
    seen.late.more(totals.late_results);
    seen.cancelled.more(totals.cancelled);
    seen.evicted.more(stats.total_evictions);
}

fn number_of(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Runs `AKIDB_SHUTTLE_SCHEDULES` schedules (5,000) from the seed `AKIDB_SEED`, and says how many there were.
fn check<S: Scheduler + 'static>(name: &str, scheduler: impl FnOnce(u64, usize) -> S) {
    let (seed, count) = (number_of("AKIDB_SEED", 20_261_126), number_of("AKIDB_SHUTTLE_SCHEDULES", 5_000));
    let count = usize::try_from(count).unwrap();
    println!("shuttle {name}: seed {seed}");
    let mut config = Config::new();
    config.silence_warnings = true;
    config.stack_size = 1 << 17;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    let seen = Arc::new(Seen::default());
    let for_all = Arc::clone(&seen);
    let ran = Runner::new(scheduler(seed, count), config).run(move || schedule(&for_all));
    println!("shuttle {name}: {ran} schedules from seed {seed}, {seen:?}");
    assert_eq!(ran, count);
    seen.everything();
}

/// Bugs `breaker_unlimited_probes`, `breaker_keeps_cancelled`, `dlq_claims_twice`, `dlq_error_swallowed`,
/// `dlq_wakes_nobody`, and the three of `queue`.
#[test]
fn shuttle_random_schedules_lose_nothing() {
    check("random", RandomScheduler::new_from_seed);
}

/// The same, with one thread running ahead of the others but for a few changes. The same bugs, and
/// `dlq_retry_all_frees_claims`, `dlq_snapshot_covers_later_adds`, `dlq_failed_snapshot_forgets`.
#[test]
fn shuttle_schedules_by_priority_lose_nothing() {
    check("pct", |seed, count| PctScheduler::new_from_seed(seed, DEPTH, count));
}
