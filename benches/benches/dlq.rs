//! What does a dead letter cost: made durable alone beside the raw fdatasync, a hundred at once, in memory; and what
//! do ten thousand cost to save, to load and to look through?
//!
//! `chrt -f 10 cargo bench -p akidb-benches --bench dlq`; a part alone: `-- alone`, `-- crowd`, `-- many`

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use akidb_backends::{Class, DeadLetters, DlqSettings, NewLetter, Op, Which};
use akidb_benches::{bench_dir, interleaved, machine, median, timed};
use akidb_host::{Clock, File, Fs, RealClock, RealFs};
use criterion::Criterion;

const ROUNDS: usize = 15;
const LETTERS: u32 = 10_000;
const THREADS: u64 = 100;
const TTL_SECS: u64 = 604_800;

/// The machine's clock, moved.
#[derive(Debug, Default)]
struct MovedClock(AtomicI64);

impl Clock for MovedClock {
    fn now(&self) -> Instant {
        RealClock.now()
    }

    fn unix_micros(&self) -> i64 {
        RealClock.unix_micros() + self.0.load(Ordering::Relaxed)
    }
}

fn open(path: &Path, clock: &Arc<MovedClock>) -> DeadLetters {
    let settings = DlqSettings { ttl_seconds: TTL_SECS, ..DlqSettings::default() };
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    DeadLetters::open(Arc::new(RealFs), clock, path, settings).expect("the queue opens").0
}

fn letter(n: u64) -> NewLetter {
    NewLetter {
        backend: "primary".into(),
        collection_id: "1".into(),
        segment_id: "00000007-00000042-9f00aa17".into(),
        op: Op::Put,
        key: format!("collections/1-docs/00000007-{n:08}-9f00aa17.parquet"),
        local: PathBuf::from(format!("/data/db/collections/1-docs/00000007-{n:08}-9f00aa17.parquet")),
        len: 33_554_432,
        crc32: 0xdead_beef,
        local_number: n,
        class: Class::Permanent,
        error_message: "put failed: 400 Bad Request: InvalidRequest".into(),
        retry_count: 3,
        attempts: Vec::new(),
        priority: 2,
        poison: true,
    }
}

/// Distinct letters for all queues of this bench.
fn next() -> NewLetter {
    static LAST: AtomicU64 = AtomicU64::new(0);
    letter(LAST.fetch_add(1, Ordering::Relaxed))
}

fn add(queue: &DeadLetters) {
    queue.add(next()).expect("the disk takes it").expect("a new one");
}

/// An append of so many bytes and its sync, and nothing else.
struct Floor {
    file: Arc<dyn File>,
    bytes: Vec<u8>,
    len: u64,
}

impl Floor {
    fn new(path: &Path, bytes: usize) -> Self {
        let file = RealFs.create_new(path).expect("a file can be made");
        Self { file, bytes: vec![b'x'; bytes], len: 0 }
    }

    fn write(&mut self) {
        self.file
            .write_at(&self.bytes, self.len)
            .and_then(|()| self.file.sync_data())
            .expect("it can be synced");
        self.len += self.bytes.len() as u64;
    }
}

/// Adds of all threads at once, each so many in turn: from the word to start until the last is acknowledged. Starting
/// a thread and ending one costs more than an add, and neither is counted.
fn add_at_once(queue: &DeadLetters, each: u64) -> Duration {
    let (start, end) = (OnceLock::new(), OnceLock::new());
    let (ready, adding) = (AtomicU64::new(0), AtomicU64::new(THREADS));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                ready.fetch_add(1, Ordering::SeqCst);
                start.wait();
                (0..each).for_each(|_| add(queue));
                if adding.fetch_sub(1, Ordering::SeqCst) == 1 {
                    end.get_or_init(|| RealClock.now());
                }
                end.wait();
            });
        }
        while ready.load(Ordering::SeqCst) < THREADS {
            std::thread::yield_now();
        }
        let begun = RealClock.now();
        start.get_or_init(|| ());
        end.wait().duration_since(begun)
    })
}

/// A directory with a queue of 10,000 letters: 1,000 that are half their time older than the rest.
fn ten_thousand(dir: &Path, clock: &Arc<MovedClock>) -> PathBuf {
    let path = dir.join("many").join("dlq.json");
    let queue = open(&path, clock);
    let half = i64::try_from(TTL_SECS).expect("a week") * 500_000;
    clock.0.store(-half, Ordering::Relaxed);
    (0..1_000).for_each(|_| add(&queue));
    clock.0.store(0, Ordering::Relaxed);
    (1_000..LETTERS).for_each(|_| add(&queue));
    queue.persist().expect("the disk takes it");
    path
}

fn many(dir: &Path) {
    let clock = Arc::new(MovedClock::default());
    // Adding them one by one: on memory, then over to the disk that is measured.
    let memory = shm(dir);
    let made = ten_thousand(memory.path(), &clock);
    let path = dir.join("dlq.json");
    std::fs::copy(made, &path).expect("a copy can be made");
    let bytes = std::fs::metadata(&path).map_or(0, |of| of.len());
    println!("{LETTERS} letters: {bytes} bytes, {} a letter", bytes / u64::from(LETTERS));

    let mut load = vec![];
    let mut persist = vec![];
    let mut cleanup = vec![];
    let mut idle = vec![];
    let half = i64::try_from(TTL_SECS).expect("a week") * 500_000;
    for _ in 0..ROUNDS {
        clock.0.store(0, Ordering::Relaxed);
        let mut opened = None;
        load.push(timed(|| opened = Some(open(&path, &clock))).as_secs_f64());
        let queue = opened.expect("it was opened");
        let first = queue.list(&Which::all(), 1).remove(0);
        queue.ask_retry(&first.id);
        persist.push(timed(|| queue.persist().expect("the disk takes it")).as_secs_f64());
        idle.push(timed(|| assert_eq!(queue.cleanup(), 0)).as_secs_f64());
        drop(queue);
        clock.0.store(half + 60_000_000, Ordering::Relaxed);
        let queue = open(&path, &clock);
        cleanup.push(timed(|| assert_eq!(queue.cleanup(), 1_000)).as_secs_f64());
    }
    println!("load: {:.1} ms (goal 40)", median(&mut load) * 1e3);
    println!("persist: {:.1} ms, four syncs in it (goal 50)", median(&mut persist) * 1e3);
    println!(
        "cleanup with 1,000 due: {:.2} ms (goal 1), with none {:.4} ms",
        median(&mut cleanup) * 1e3,
        median(&mut idle) * 1e3
    );
}

/// A directory in memory, where the machine has one.
fn shm(otherwise: &Path) -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory } else { otherwise };
    tempfile::tempdir_in(parent).expect("a directory can be made")
}

fn alone(dir: &Path, clock: &Arc<MovedClock>) -> (DeadLetters, Floor) {
    let queue = open(&dir.join("alone").join("dlq.json"), clock);
    add(&queue);
    let journal = dir.join("alone").join("dlq.journal.jsonl");
    let line =
        usize::try_from(std::fs::metadata(journal).expect("the first line is there").len()).expect("small");
    println!("durability: a letter is on disk when its add returns; {line} bytes a line");
    (queue, Floor::new(&dir.join("floor"), line))
}

fn beside_the_floor(queue: &DeadLetters, floor: &mut Floor) {
    const ACKS: u32 = 100;
    let medians = interleaved(
        ROUNDS,
        &mut [
            ("floor", &mut || (0..ACKS).for_each(|_| floor.write())),
            ("alone", &mut || (0..ACKS).for_each(|_| add(queue))),
        ],
    );
    let [raw, one] = [medians[0], medians[1]].map(|seconds| seconds * 1e6 / f64::from(ACKS));
    println!("alone: {one:.0} us, raw fdatasync {raw:.0} us, {:.0} us above it (goal 50)", one - raw);
}

fn crowd(dir: &Path, clock: &Arc<MovedClock>) {
    const EACH: u64 = 5;
    let queue = open(&dir.join("crowd").join("dlq.json"), clock);
    let at_once = |each| add_at_once(&queue, each).as_secs_f64() * 1e6 / (THREADS * EACH) as f64;
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| at_once(EACH)).collect();
    let mut bare: Vec<f64> = (0..ROUNDS).map(|_| at_once(0)).collect();
    println!(
        "{THREADS} at once, {EACH} each: {:.1} us a letter (goal 20), the best of {ROUNDS} rounds {:.1}; {:.1} of it to \
         wake the threads",
        median(&mut rounds),
        rounds.iter().copied().fold(f64::MAX, f64::min),
        median(&mut bare),
    );
}

/// What is asked for on the command line: a part, or everything.
fn is_wanted(part: &str) -> bool {
    let asked = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    asked.is_none_or(|word| word == part)
}

fn main() {
    let dir = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    println!("{}", machine(dir.path()));
    let clock = Arc::new(MovedClock::default());
    let (queue, mut floor) = alone(dir.path(), &clock);
    if is_wanted("alone") {
        beside_the_floor(&queue, &mut floor);
    }
    if is_wanted("crowd") {
        crowd(dir.path(), &clock);
    }
    if is_wanted("many") {
        many(dir.path());
    }

    let mut criterion = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(3));
    let mut group = criterion.benchmark_group("dlq");
    let memory = shm(dir.path());
    let in_memory = open(&memory.path().join("dlq.json"), &clock);
    group.bench_function("add_on_a_memory_disk", |b| {
        b.iter_custom(|adds| {
            let mut took = Duration::ZERO;
            // Never full: an eviction writes to a second file.
            for at in (0..adds).step_by(1_000) {
                took += timed(|| (at..adds.min(at + 1_000)).for_each(|_| add(&in_memory)));
                in_memory.supersede("primary", &|_| false);
                in_memory.persist().expect("memory takes it");
            }
            took
        });
    });
    group.bench_function("raw_fdatasync", |b| b.iter(|| floor.write()));
    group.bench_function("add_durable", |b| b.iter(|| add(&queue)));
    group.finish();
    criterion.final_summary();
}
