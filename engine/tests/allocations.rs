//! All that a database allocates, counted by the allocator itself, beside what the database says it holds of its memory. A binary of
//! its own with one test, because a binary has one allocator.
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that is surprised stops there"
)]

use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use akidb::{Collection, Db, Id, MemoryBudget, MemoryUse, Metric, NewRow, PartKind, Schema, Settings};
use akidb_host::Rng;
use akidb_host::sim::CountedHeap;
use serde_json::json;

#[global_allocator]
static HEAP: CountedHeap = CountedHeap::new();

const MIB: u64 = 1 << 20;
const DIM: u16 = 96;
const SHORT_ROWS: usize = 24_000;
const LONG_ROWS: usize = 200;

/// What may be alive that nobody holds: threads and their channels, manifests, the keys of batches (0.3 MiB after an open); writes
/// and reads below 64 KiB each; answers of reads, which are their caller's (1 MiB here); tables of the caches (1 MiB for 12 MiB of
/// pages); rounding up of what grows, and in guesses of what Parquet's writers and tables take.
const ALL_BEYOND: u64 = 6 * MIB;
/// Of allocations over 64 KiB alone, beside what is held for what is larger.
const LARGE_BEYOND: u64 = 4 * MIB;
/// Of a collection, with what a manifest and the log know of it, beside its rows.
const BESIDE: u64 = 6 << 10;
/// An offline verification has no budget: it holds the tables of one segment and a buffer of 1 MiB at a time.
const OFFLINE: u64 = 12 * MIB;

/// The budget that is watched, and what was alive before it was made: bytes of all allocations, and of the large ones.
static WATCHED: RwLock<Option<(MemoryBudget, u64, u64)>> = RwLock::new(None);
/// Since the last look: the most that was alive, and the most beyond what was held, of all and of large allocations.
static ALIVE: AtomicU64 = AtomicU64::new(0);
static BEYOND: AtomicU64 = AtomicU64::new(0);
static LARGE: AtomicU64 = AtomicU64::new(0);

/// Just before each large allocation. Nothing that is asked here allocates, and nobody allocates so much under the lock of a budget.
fn look(heap: &CountedHeap, _bytes: usize) {
    let Ok(watched) = WATCHED.try_read() else { return };
    let Some((budget, all_before, large_before)) = &*watched else { return };
    let all = (heap.live_bytes() as u64).saturating_sub(*all_before);
    let large = (heap.large_bytes() as u64).saturating_sub(*large_before);
    ALIVE.fetch_max(all, SeqCst);
    BEYOND.fetch_max(all.saturating_sub(budget.used_bytes()), SeqCst);
    // These are held for many small things: under them a large one could hide.
    let small = [MemoryUse::Memtables, MemoryUse::Snapshots, MemoryUse::PageCache, MemoryUse::Segments];
    let others = MemoryUse::ALL.into_iter().filter(|of| !small.contains(of));
    let held: u64 = others.map(|of| budget.usage(of).bytes).sum();
    LARGE.fetch_max(large.saturating_sub(held), SeqCst);
}

/// Watches a budget from here on.
fn watch(budget: &MemoryBudget) {
    let mut watched = WATCHED.write().unwrap();
    *watched = Some((budget.clone(), HEAP.live_bytes() as u64, HEAP.large_bytes() as u64));
}

/// What happened since the last look.
fn told(phase: &str, budget: &MemoryBudget, bounds: [u64; 2]) {
    let [alive, beyond, large] = [&ALIVE, &BEYOND, &LARGE].map(|most| most.swap(0, SeqCst));
    let held = |of: MemoryUse| format!("{} {:.1}", of.name(), budget.usage(of).bytes as f64 / MIB as f64);
    let held: Vec<String> = MemoryUse::ALL.into_iter().map(held).collect();
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    let line = format!(
        "{phase:24} alive {:6.2} MiB at most, beyond what was held {:5.2}, large ones {:5.2}; held after it: {}",
        mib(alive),
        mib(beyond),
        mib(large),
        held.join(", ")
    );
    println!("{line}");
    assert!(beyond <= bounds[0] && large <= bounds[1], "{line}");
}

fn row(n: usize, text_bytes: usize) -> NewRow {
    let mut rng = Rng::seeded(n as u64);
    let vector: Vec<f32> = (0..DIM).map(|_| rng.f64() as f32 - 0.5).collect();
    let letters = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
    let mut bytes = vec![0; text_bytes];
    rng.fill(&mut bytes);
    let text: String = bytes.iter().map(|byte| char::from(letters[usize::from(byte % 64)])).collect();
    let (group, word) = (format!("g{}", n % 97), format!("w{}", n * 7 % 4_999));
    let payload = json!({ "n": n, "group": group, "word": word, "text": text });
    NewRow::new(format!("r{n:07}"), vector, payload).unwrap()
}

fn open(dir: &Path, backend: &Path, budget: &MemoryBudget) -> Db {
    let text = format!(
        "[engine]\nmemtable_bytes = \"8 MiB\"\nremote_commit_interval_ms = 100\nwrite_stall_timeout_ms = 60000\n\
         [[backends]]\nname = \"near\"\nurl = \"file://{}\"\n",
        backend.display()
    );
    Db::builder(dir).settings(Settings::from_toml(&text).unwrap()).memory(budget.clone()).open().unwrap()
}

fn write(rows: &Collection, new: &[NewRow], together: usize) {
    for batch in new.chunks(together) {
        rows.upsert_batch(batch).unwrap();
    }
}

fn read(rows: &Collection) {
    let vector = |n: usize| row(n, 0).vector;
    for n in 0..40 {
        let filter = format!("group = 'g{n}' AND word > 'w{}'", n * 100);
        rows.search(&vector(n)).k(10).run().unwrap();
        rows.search(&vector(n)).k(10).filter(filter.as_str()).run().unwrap();
        rows.count_where(format!("n > {n}").as_str()).unwrap();
    }
    for n in 0..10 {
        rows.search(&vector(n)).k(100).exact().run().unwrap();
    }
    // So often that codes which prove are made on the way.
    let exactly = |n: usize| {
        let search = rows.search(&vector(n)).k(10).filter("n >= 15000 AND n < 18000").exact();
        search.explain().unwrap().1
    };
    (0..40).for_each(|n| drop(exactly(n)));
    let explained = exactly(40);
    assert!(explained.parts.iter().any(|part| part.kind == PartKind::Subset), "{explained:?}");
    rows.search(&vector(1)).k(10_000).with_payload(false).run().unwrap();
    let vectors: Vec<Vec<f32>> = (0..64).map(vector).collect();
    rows.search_batch(&vectors).k(10).run().unwrap();
    let ids: Vec<Id> = (0..SHORT_ROWS).map(|n| format!("r{n:07}").as_str().into()).collect();
    ids.chunks(1_000).for_each(|ids| assert_eq!(rows.get_many(ids).unwrap().len(), ids.len()));
    rows.scan().limit(1_000).run().unwrap();
}

/// A life of a database under a budget: beyond what is held there is never more alive than these bounds say.
fn live(budget_mib: u64, short: &[NewRow], long: &[NewRow]) {
    println!("a budget of {budget_mib} MiB");
    let (home, backend) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let budget = MemoryBudget::new(budget_mib * MIB);
    let phase = |name: &str| told(name, &budget, [ALL_BEYOND, LARGE_BEYOND]);
    watch(&budget);
    let db = open(home.path(), backend.path(), &budget);
    let schema = Schema::new(DIM, Metric::L2).int("n").text("group").text("word");
    let rows = db.create_collection("rows", schema).unwrap();
    phase("open");
    write(&rows, &short[..SHORT_ROWS / 2], 64);
    phase("batches of 64 rows");
    write(&rows, &short[SHORT_ROWS / 2..], SHORT_ROWS / 4);
    phase("batches of 6,000 rows");
    write(&rows, long, LONG_ROWS / 2);
    phase("batches of long rows");
    db.flush().unwrap();
    phase("flush");
    db.compact().unwrap();
    phase("compact");
    db.wait_uploaded(Duration::from_secs(120)).unwrap();
    phase("uploads");
    read(&rows);
    phase("reads");

    let snapshot = db.snapshot("test").unwrap();
    write(&rows, &short[..SHORT_ROWS / 2], 64);
    db.flush().unwrap();
    phase("overwrites, a snapshot");
    drop(snapshot);
    rows.delete_where("n < 5000").unwrap();
    phase("delete_where");
    db.compact().unwrap();
    phase("compact");
    read(&rows);
    phase("reads");
    write(&rows, &short[..SHORT_ROWS / 4], 1_000);
    drop(rows);
    db.close().unwrap();
    phase("not flushed, close");
    assert_eq!(budget.used_bytes(), 0, "{budget:?}");

    assert!(akidb::verify(home.path()).unwrap().damages.is_empty());
    akidb::repair_manifest(home.path(), true).unwrap_err();
    told("verify, offline", &budget, [OFFLINE, OFFLINE]);
    let db = open(home.path(), backend.path(), &budget);
    assert!(db.recovery().replayed_records > 0);
    phase("open with a replay");
    let rows = db.collection("rows").unwrap();
    read(&rows);
    phase("reads");
    drop(rows);
    db.close().unwrap();
    phase("close");
    *WATCHED.write().unwrap() = None;
}

/// Many collections with a row or a few each: what each takes in memory is small, and little of it is not held.
fn many() {
    const COLLECTIONS: u64 = 100;
    let home = tempfile::tempdir().unwrap();
    let budget = MemoryBudget::new(256 * MIB);
    let text = "[engine]\ncompaction = false\n";
    let builder = Db::builder(home.path()).settings(Settings::from_toml(text).unwrap());
    let db = builder.memory(budget.clone()).open().unwrap();
    let alive = || (HEAP.live_bytes() as u64, budget.usage(MemoryUse::Memtables).bytes);
    let mut before = alive();
    let mut each = |of: &str, most_alive: u64| {
        let after = alive();
        let (alive, held) =
            (after.0.saturating_sub(before.0) / COLLECTIONS, (after.1 - before.1) / COLLECTIONS);
        println!("{of}: alive {alive} bytes more a collection, {held} of them held");
        assert!(alive <= most_alive && alive.saturating_sub(held) <= BESIDE, "{of}: {alive}, {held} held");
        before = after;
    };
    let schema = || Schema::new(DIM, Metric::L2).int("n").text("group").text("word");
    let make = |n: u64| db.create_collection(&format!("c{n:04}"), schema()).unwrap();
    let all: Vec<Collection> = (0..COLLECTIONS).map(make).collect();
    each("an empty collection", BESIDE);
    let new: Vec<NewRow> = (0..100).map(|n| row(n, 200)).collect();
    for (of, rows) in [("one row", 0..1), ("20 rows", 1..20), ("100 rows", 20..100)] {
        let most = 8 << 10;
        let most_alive = most + rows.len() as u64 * 4 * (u64::from(DIM) * 4 + 600);
        for collection in &all {
            collection.upsert_batch(&new[rows.clone()]).unwrap();
        }
        each(of, most_alive);
    }
    db.close().unwrap();
}

#[test]
fn what_a_database_allocates_is_held_of_its_memory() {
    many();
    HEAP.watch(look);
    let short: Vec<NewRow> = (0..SHORT_ROWS).map(|n| row(n, 200)).collect();
    let long: Vec<NewRow> = (SHORT_ROWS..SHORT_ROWS + LONG_ROWS).map(|n| row(n, 50_000)).collect();
    for budget_mib in [64, 96] {
        live(budget_mib, &short, &long);
    }
}
