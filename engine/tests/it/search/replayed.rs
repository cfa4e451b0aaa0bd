//! Rows that an open replayed get codes behind it, beside writes, searches and flushes. The threads are the test's own.

use std::sync::Arc;

use akidb::{Collection, Db, PartKind, Settings};
use akidb_host::Clock;
use akidb_host::sim::{CrashDisk, FakeClock, InlineSpawn};

use super::{Metric, fill, recall, row, schema};

struct World {
    disk: CrashDisk,
    clock: Arc<FakeClock>,
    spawn: InlineSpawn,
    settings: &'static str,
}

impl World {
    fn open(&self, read_only: bool) -> Db {
        let builder = Db::builder("/db").settings(Settings::from_toml(self.settings).unwrap());
        let (fs, clock) = (Arc::new(self.disk.clone()), Arc::clone(&self.clock));
        let builder = builder.read_only(read_only);
        builder.components(fs, clock, Arc::new(self.spawn.clone())).open().unwrap()
    }

    /// One step of one of the database's threads.
    fn step(&self) -> bool {
        self.spawn.step(self.clock.now())
    }

    /// Writes rows `0..rows` and leaves them in the log.
    fn written(rows: u64, metric: Metric, settings: &'static str, spawn: InlineSpawn) -> Self {
        let world = Self { disk: CrashDisk::new(1), clock: Arc::default(), spawn, settings };
        let db = world.open(false);
        fill(&db.create_collection("docs", schema(metric)).unwrap(), 0..rows);
        db.close().unwrap();
        world
    }
}

/// Overwrites, deletes and new rows.
fn change(docs: &Collection, rows: u64) {
    let again: Vec<_> = (0..200).map(|n| row(n * 7, 1)).collect();
    docs.upsert_batch(&again).unwrap();
    for n in 0..50 {
        assert!(docs.delete(n * 11 + 1_500).unwrap());
    }
    fill(docs, rows..rows + 1_000);
}

#[test]
fn replayed_rows_get_codes_while_others_are_written_and_searched() {
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        let world = World::written(5_000, metric, "", InlineSpawn::default());
        let db = world.open(false);
        let docs = db.collection("docs").unwrap();
        assert_eq!(db.recovery().replayed_records, 5_000);
        let (_, explained) = recall(&docs, None, 1);
        assert!(explained.exact && explained.parts[0].scanned == 5_000, "{explained:?}");
        change(&docs, 5_000);
        let bytes = db.stats().unwrap().memory.used_bytes;
        let (mut steps, mut found) = (0, 0.0);
        while world.step() {
            found += recall(&docs, None, 5).0;
            steps += 1;
        }
        found /= f64::from(steps);
        let (after, explained) = recall(&docs, None, 40);
        println!("{metric:?}: recall {found} while they were encoded, {after} when they were");
        assert!(found >= 0.95 && after >= 0.95, "{metric:?}: {found}, {after}");
        let part = &explained.parts[0];
        assert!(part.kind == PartKind::Memtable && !part.exact && part.reranked < 600, "{part:?}");
        // All but the open ends of the two runs of codes, 64 rows each at most, and dead rows: scanned by codes.
        assert!((5_800..=6_200).contains(&part.scanned) && part.lists == 2, "{part:?}");
        // At 2 bits a number no less than 16 bytes a row.
        let more = db.stats().unwrap().memory.used_bytes - bytes;
        assert!((5_000 * 16..5_000 * 100).contains(&more), "codes are held of the budget: {more}");
        // With a filter too; and when they have moved into a segment.
        assert!(recall(&docs, Some("bucket < 50"), 20).0 >= 0.95);
        assert_eq!(docs.count().unwrap(), 5_950);
        db.flush().unwrap();
        assert_eq!(docs.count().unwrap(), 5_950);
        assert!(recall(&docs, None, 20).0 >= 0.95);
        db.close().unwrap();
    }
}

#[test]
fn a_reader_of_what_a_crash_left_encodes_it_as_well() {
    let world = World::written(3_000, Metric::Cosine, "", InlineSpawn::default());
    let db = world.open(true);
    let docs = db.collection("docs").unwrap();
    assert!(recall(&docs, None, 1).1.exact);
    while world.step() {}
    let (found, explained) = recall(&docs, None, 40);
    assert!(found >= 0.95 && !explained.exact && explained.parts[0].lists == 1, "{found}, {explained:?}");
    db.close().unwrap();
    assert!(!world.step(), "its thread is over");
}

#[test]
fn memtables_are_flushed_and_databases_closed_while_their_rows_are_encoded() {
    const SMALL: &str = "[engine]\nmemtable_bytes = \"1 MiB\"\nmax_sealed_memtables = 64\n";
    for seed in 0..8 {
        let world = World::written(9_000, Metric::Cosine, SMALL, InlineSpawn::shuffled(seed));
        let db = world.open(false);
        let docs = db.collection("docs").unwrap();
        assert!(db.stats().unwrap().collections[0].memtable_rows == 9_000, "seed {seed}");
        change(&docs, 9_000);
        let stop_after = 10 + 7 * seed;
        for _ in 0..stop_after {
            if !world.step() {
                break;
            }
            assert!(recall(&docs, None, 2).0 >= 0.5, "seed {seed}");
        }
        let (found, _) = recall(&docs, None, 40);
        assert!(found >= 0.95, "seed {seed}: {found}");
        db.close().unwrap();
        // What is left of its threads ends; the next open finds everything.
        while world.step() {}
        let db = world.open(false);
        assert_eq!(db.collection("docs").unwrap().count().unwrap(), 9_950, "seed {seed}");
        while world.step() {}
        assert!(recall(&db.collection("docs").unwrap(), None, 20).0 >= 0.95, "seed {seed}");
        db.close().unwrap();
    }
}
