//! When a memtable is full: the first one as the setting says, those beside small segments earlier.

use std::sync::Arc;

use akidb::{Collection, Db, Metric, Schema, Settings};
use akidb_host::Clock;
use akidb_host::sim::{CrashDisk, FakeClock, InlineSpawn};
use serde_json::json;

const DIM: u16 = 4_096;
const MIB: u64 = 1 << 20;

fn opened(memtable_mib: u64) -> (Db, Arc<FakeClock>, InlineSpawn) {
    let (clock, spawn) = (Arc::new(FakeClock::default()), InlineSpawn::default());
    let text = format!("[engine]\nmemtable_bytes = \"{memtable_mib} MiB\"\ncompaction = false\n");
    let builder = Db::builder("/db").settings(Settings::from_toml(&text).unwrap());
    let parts = (Arc::new(CrashDisk::new(1)), Arc::clone(&clock), Arc::new(spawn.clone()));
    (builder.components(parts.0, parts.1, parts.2).open().unwrap(), clock, spawn)
}

/// Writes rows until a memtable is flushed, and says how large it was before the last of them.
fn until_flushed(db: &Db, docs: &Collection, next: &mut u64, flush: impl Fn()) -> u64 {
    let held = || db.stats().unwrap().memtable_bytes;
    loop {
        let before = held();
        let vector: Vec<f32> = (0..DIM).map(|i| f32::from(i) + *next as f32).collect();
        docs.upsert(format!("r{next:06}"), &vector, json!({})).unwrap();
        *next += 1;
        flush();
        if held() < before {
            return before;
        }
    }
}

#[test]
fn beside_small_segments_an_eighth_of_their_bytes_fills_a_memtable_and_no_less_than_8_mib() {
    let (db, clock, spawn) = opened(12);
    let docs = db.create_collection("docs", Schema::new(DIM, Metric::L2)).unwrap();
    let flush = || {
        spawn.run_until_idle(clock.now());
    };
    let (mut next, mut sizes) = (0, Vec::new());
    for _ in 0..15 {
        let segments = db.stats().unwrap().collections[0].segment_bytes;
        let expected = if segments == 0 { 12 * MIB } else { (segments / 8).clamp(8 * MIB, 12 * MIB) };
        let size = until_flushed(&db, &docs, &mut next, flush);
        // The row that filled it is the one after.
        assert!((expected - 64 * 1_024..expected).contains(&size), "{size} beside {segments} of segments");
        sizes.push(size / MIB);
    }
    assert!(
        sizes.contains(&7) && sizes[1..].contains(&11),
        "small at first, then as the setting says: {sizes:?}"
    );
    assert_eq!((docs.count().unwrap(), db.stats().unwrap().collections[0].segments), (next, 15));
    db.close().unwrap();
}

#[test]
fn a_setting_below_that_holds_as_it_is() {
    let (db, clock, spawn) = opened(2);
    let docs = db.create_collection("docs", Schema::new(DIM, Metric::L2)).unwrap();
    let mut next = 0;
    for _ in 0..3 {
        let size = until_flushed(&db, &docs, &mut next, || {
            spawn.run_until_idle(clock.now());
        });
        assert!((2 * MIB - 64 * 1_024..2 * MIB).contains(&size), "{size}");
    }
    db.close().unwrap();
}
