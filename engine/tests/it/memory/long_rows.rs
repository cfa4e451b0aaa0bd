//! Rows with payloads of hundreds of kilobytes: what flushes and merges of them take, measured from outside, and that the
//! segments they make are read as any others.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use akidb::{Db, Metric, NewRow, Schema, Settings};
use akidb_host::Rng;
use akidb_host::sim::{Act, Call};
use serde_json::json;

use super::MIB;
use crate::support::{anonymous_bytes, hooked};

const CHILD: &str = "AKIDB_LONG_ROWS_CHILD";
const MEMORY_BYTES: u64 = 64 * MIB;
const SEGMENTS: u64 = 6;
const ROWS: u64 = 40;
const DIM: u16 = 64;
/// Some rows are short and some are of a megabyte, in no order that could be guessed from the first of them.
fn payload_bytes(n: u64) -> usize {
    [1_000_000, 300_000, 700_000, 1_000, 200_000, 900_000, 10, 500_000][(n * 5 % 8) as usize]
}

fn text(n: u64) -> String {
    // Nothing that could be compressed away.
    let mut bytes = vec![0; payload_bytes(n) / 2];
    Rng::seeded(n).fill(&mut bytes);
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn row(n: u64) -> NewRow {
    let vector = (0..u64::from(DIM)).map(|d| ((n * 31 + d * d) % 101) as f32).collect::<Vec<_>>();
    NewRow::new(format!("r{n:05}"), vector, json!({ "text": text(n) })).unwrap()
}

fn settings() -> Settings {
    let text = format!(
        "[engine]\nmemory_bytes = {MEMORY_BYTES}\nmemtable_bytes = {MEMORY_BYTES}\ncompaction = false\n"
    );
    Settings::from_toml(&text).unwrap()
}

/// Merges everything in the directory it is told, and tells how far its memory rose meanwhile, looked at in each call to the
/// file system, and what was held for merges at most.
#[test]
fn long_rows_child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let most = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&most);
    let hook = move |_: &Call<'_>| {
        seen.fetch_max(anonymous_bytes(), Ordering::Relaxed);
        Act::Go
    };
    let db = hooked(Path::new(&dir), Arc::new(hook), settings());
    let rows = db.collection("rows").unwrap();
    assert_eq!(rows.count().unwrap(), SEGMENTS * ROWS);
    let before = anonymous_bytes();
    most.store(before, Ordering::Relaxed);
    let merges = db.compact().unwrap();
    let rose = most.load(Ordering::Relaxed) - before;
    let held = db.stats().unwrap().memory.uses.into_iter().find(|used| used.name == "merges").unwrap();
    println!("\n#merged {merges} {rose} {}", held.peak_bytes);
}

/// A merge of 108 MB of long payloads holds a quarter of the budget at most, and takes no more, about: an allocator keeps pages,
/// and how many differs from machine to machine. One that had all payloads in memory, or half of them, is seen.
#[test]
fn a_merge_of_long_rows_takes_no_more_than_its_share() {
    let home = tempfile::tempdir().unwrap();
    let db = Db::builder(home.path()).settings(settings()).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(DIM, Metric::L2)).unwrap();
    for segment in 0..SEGMENTS {
        // Rows of one segment lie between those of the others.
        for n in 0..ROWS {
            rows.upsert_batch(&[row(n * SEGMENTS + segment)]).unwrap();
        }
        db.flush().unwrap();
    }
    drop(rows);
    db.close().unwrap();

    let child = Command::new(std::env::current_exe().unwrap())
        .args(["memory::long_rows::long_rows_child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, home.path())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let said = String::from_utf8(child.stdout).unwrap();
    let told = said.lines().find_map(|line| line.strip_prefix("#merged ")).unwrap();
    let told: Vec<u64> = told.split(' ').map(|n| n.parse().unwrap()).collect();
    let [merges, rose, held] = told[..] else { panic!("{told:?}") };
    println!("{merges} merges of {} rows, memory rose by {rose} bytes, {held} were held", SEGMENTS * ROWS);
    assert!(merges >= 1 && held > 0 && held <= MEMORY_BYTES / 4, "{merges} merges, {held} bytes held");
    let payloads: u64 = (0..SEGMENTS * ROWS).map(|n| payload_bytes(n) as u64).sum();
    assert!(rose < payloads / 2, "the merge of {payloads} bytes took {rose}, {held} were held for it");

    let db = Db::builder(home.path()).settings(settings()).open().unwrap();
    assert_eq!(db.stats().unwrap().collections[0].segments, 1);
    let rows = db.collection("rows").unwrap();
    assert_eq!(rows.count().unwrap(), SEGMENTS * ROWS);
    for n in (0..SEGMENTS * ROWS).step_by(7) {
        let found = rows.get(format!("r{n:05}")).unwrap().unwrap();
        assert_eq!((found.vector, &found.payload["text"]), (row(n).vector, &json!(text(n))), "row {n}");
    }
    let hits = rows.search(&row(77).vector).k(1).run().unwrap();
    assert_eq!(hits[0].id.to_string(), "r00077");
    drop(rows);
    db.close().unwrap();
    assert_eq!(akidb::verify(home.path()).unwrap().damages.len(), 0);
}
