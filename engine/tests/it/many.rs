//! Many collections on one log.

use akidb::{Collection, Db, Lsn, Metric, NewRow, Schema, Settings};
use serde_json::json;

const COLD: u32 = 199;
const WAL_MAX_BYTES: u64 = 6 << 20;

fn cold_row(n: u32) -> NewRow {
    NewRow::new(format!("only{n}"), [n as f32, 1.0], json!({ "n": n })).unwrap()
}

fn hot_batch(batch: u32) -> Vec<NewRow> {
    let row = |n: u32| {
        let fill = format!("{batch:04}-{n:04}-").repeat(100);
        NewRow::new(format!("h{}", (batch * 64 + n) % 4_096), [1.0, n as f32], json!({ "fill": fill }))
            .unwrap()
    };
    (0..64).map(row).collect()
}

/// Quiet collections hold no log: the one with the oldest unflushed row is flushed, whatever its size, also while a
/// busy one has a full memtable all the time.
#[test]
fn of_200_collections_one_hot_the_live_log_stays_under_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let settings = format!(
        "[engine]\nmemtable_bytes = 262144\nmemory_bytes = \"64 MiB\"\nwal_flush_bytes = \"1536 KiB\"\n\
         wal_max_bytes = {WAL_MAX_BYTES}\nwrite_stall_timeout_ms = 60000\n"
    );
    let settings = Settings::from_toml(&settings).unwrap();
    let db = Db::builder(dir.path()).settings(settings.clone()).open().unwrap();
    let cold: Vec<Collection> = (0..COLD)
        .map(|n| db.create_collection(&format!("cold{n}"), Schema::new(2, Metric::L2).int("n")).unwrap())
        .collect();
    let hot = db.create_collection("hot", Schema::new(2, Metric::L2)).unwrap();
    let last_cold =
        cold.iter().zip(0..).map(|(rows, n)| rows.upsert_batch(&[cold_row(n)]).unwrap()).max().unwrap();

    let (mut most, mut written, mut batch) = (0, 0u64, 0);
    loop {
        hot.upsert_batch(&hot_batch(batch)).unwrap();
        batch += 1;
        written += 64 * 1_100;
        let stats = db.stats().unwrap();
        most = most.max(stats.live_wal_bytes);
        assert!(stats.live_wal_bytes <= WAL_MAX_BYTES, "{} bytes of live log", stats.live_wal_bytes);
        let flushed: Lsn = stats.watermarks.flushed.parse().unwrap();
        if flushed > last_cold && written > 2 * WAL_MAX_BYTES {
            break;
        }
        assert!(batch < 4_000, "the quiet collections hold the log for ever");
    }
    println!("{} KiB written, at most {} KiB of live log", written >> 10, most >> 10);
    let stats = db.stats().unwrap();
    assert!(stats.collections.iter().all(|c| c.name == "hot" || (c.segments, c.memtable_rows) == (1, 0)));
    assert!(stats.flush_failure.is_none(), "{:?}", stats.flush_failure);
    let count = hot.count().unwrap();
    drop((cold, hot));
    db.close().unwrap();

    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    assert_eq!(db.collection("hot").unwrap().count().unwrap(), count);
    for n in 0..COLD {
        let row = db.collection(&format!("cold{n}")).unwrap().get(format!("only{n}")).unwrap().unwrap();
        assert_eq!((row.vector, &row.payload["n"]), (vec![n as f32, 1.0], &json!(n)));
    }
}
