//! Promises about maintenance, damage and what an answer says of itself.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use akidb::{Db, ErrorKind, Metric, NewRow, Schema, Settings};
use akidb_host::sim::{Act, Call};
use serde_json::json;

use super::wide;
use crate::support::{anonymous_bytes, copy_dir, hooked, until};

const CHILD: &str = "AKIDB_PROMISE_8_CHILD";
/// What the settings of promise 8 allow; a merge may hold a quarter of it.
const MEMORY_BYTES: u64 = 1 << 20;
const DIM: u16 = 256;
const SEGMENTS: u64 = 24;
const ROWS: u64 = 500;
const VECTOR_BYTES: u64 = 4 * DIM as u64;

fn bounded() -> Settings {
    let text = format!(
        "[engine]\nmemory_bytes = {MEMORY_BYTES}\nmemtable_bytes = {MEMORY_BYTES}\ncompaction = false\nmanifest_keep = 1\n"
    );
    Settings::from_toml(&text).unwrap()
}

fn bounded_row(n: u64) -> NewRow {
    let vector = (0..u64::from(DIM)).map(|d| ((n * 31 + d * d) % 101) as f32 - 50.0).collect::<Vec<_>>();
    NewRow::new(format!("r{n:06}"), vector, json!({ "n": n })).unwrap()
}

/// Merges everything, and dies at the `k`-th file call of that, if it makes so many. Tells how many it made and how far
/// its memory rose above what the open database had, looked at in each of them.
#[test]
fn promise_8_child() {
    let Ok(plan) = std::env::var(CHILD) else { return };
    let (dir, k) = plan.split_once('|').unwrap();
    let k: u64 = k.parse().unwrap();
    // Before it merges the count stands far away from any `k`.
    let calls = Arc::new(AtomicU64::new(u64::MAX / 2));
    let (counted, most) = (Arc::clone(&calls), Arc::new(AtomicU64::new(0)));
    let (seen, own) = (Arc::clone(&most), std::thread::current().id());
    let hook = move |call: &Call<'_>| {
        seen.fetch_max(anonymous_bytes(), Ordering::Relaxed);
        // The driver's removals come when they like.
        let counts = call.op.changes() && std::thread::current().id() == own;
        match counts && counted.fetch_add(1, Ordering::Relaxed) + 1 == k {
            true => Act::Kill,
            false => Act::Go,
        }
    };
    let db = hooked(Path::new(dir), Arc::new(hook), bounded());
    let rows = db.collection("rows").unwrap();
    assert_eq!(rows.count().unwrap(), SEGMENTS * ROWS);
    let before = anonymous_bytes();
    most.store(before, Ordering::Relaxed);
    calls.store(0, Ordering::Relaxed);
    let merges = db.compact().unwrap();
    let rose = most.load(Ordering::Relaxed) - before;
    let calls = calls.load(Ordering::Relaxed);
    let (_, explained) = rows.search(&[1.0; DIM as usize]).explain().unwrap();
    let largest = explained.parts.iter().map(|part| part.rows).max().unwrap();
    println!("\n#merged {calls} {rose} {merges} {largest}");
}

/// Calls that were made, bytes the memory rose by, merges, rows of the largest segment; `None` of a child that was
/// killed.
fn merge_in_child(dir: &Path, k: u64) -> Option<[u64; 4]> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["promised::rooms::promise_8_child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{}|{k}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let told = lines.filter_map(|line| {
        let numbers =
            line.strip_prefix("#merged ")?.split(' ').map(|n| n.parse().unwrap()).collect::<Vec<u64>>();
        <[u64; 4]>::try_from(numbers).ok()
    });
    let told = told.last();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), told.is_none().then_some(9), "killed or to the end: {status}");
    told
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Files of the collections that no manifest in the directory names.
fn unnamed(dir: &Path) -> Vec<PathBuf> {
    let manifests = files(&dir.join("manifest"));
    // One may go meanwhile.
    let text: String = manifests.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    let named = |path: &PathBuf| text.contains(path.file_name().unwrap().to_str().unwrap());
    files(&dir.join("collections")).into_iter().filter(|path| !named(path)).collect()
}

/// 8: merges of twelve megabytes of vectors take memory by what one merge may hold, not by what there is to merge, and the
/// row bound of one merge is a share of `memory_bytes`; killed (SIGKILL) in any part of them, they lose no row and leave no
/// file behind. Power cuts and failing disks in *every* step stand in `compaction.rs`.
///
/// Not shown, because it is not so yet: beside that share a merge holds the row group it writes, as rows and as encoded
/// columns: twice its vectors, 24 MiB at most of each. So `memory_bytes` is kept to where it is 64 MiB or more (it is 256
/// unless set), not where it is less, as here. Memory is looked at in each file call of the merge, with what the allocator
/// keeps; allocations are not counted one by one. A scrub, the other maintenance, is not built.
#[test]
fn promise_8_maintenance_keeps_to_its_memory_and_may_be_killed_anywhere() {
    let home = tempfile::tempdir().unwrap();
    let filled = home.path().join("filled");
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let db = Db::builder(&filled).settings(settings).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(DIM, Metric::L2)).unwrap();
    for segment in 0..SEGMENTS {
        // Rows of one segment lie between those of the others, so that every merge reads all over its inputs.
        let batch: Vec<NewRow> = (0..ROWS).map(|n| bounded_row(n * SEGMENTS + segment)).collect();
        rows.upsert_batch(&batch).unwrap();
        db.flush().unwrap();
    }
    drop(rows);
    db.close().unwrap();

    let whole = home.path().join("whole");
    copy_dir(&filled, &whole);
    let [calls, rose, merges, largest] = merge_in_child(&whole, 0).expect("nobody killed it");
    println!("{merges} merges of {largest} rows, {calls} calls, memory rose by {rose} bytes");
    assert!(merges >= 4 && calls > 20, "{merges} merges, {calls} calls");
    let allowed = MEMORY_BYTES / 4 + 2 * largest * VECTOR_BYTES + (1 << 20);
    assert!(rose <= allowed, "merges took {rose} bytes, {allowed} are allowed");
    assert!(allowed < SEGMENTS * ROWS * VECTOR_BYTES / 2, "{largest} rows: that would be no bound");

    for part in 0..6 {
        let k = 1 + part * (calls - 1) / 5;
        let dir = home.path().join(format!("killed{k}"));
        copy_dir(&filled, &dir);
        assert_eq!(merge_in_child(&dir, k), None, "it dies at call {k} of {calls}");
        let db = Db::builder(&dir).settings(bounded()).open().unwrap();
        let rows = db.collection("rows").unwrap();
        assert_eq!(rows.count().unwrap(), SEGMENTS * ROWS, "killed at call {k}");
        for n in (0..SEGMENTS * ROWS).step_by(777) {
            assert_eq!(rows.get(format!("r{n:06}")).unwrap().unwrap().payload["n"], n, "killed at call {k}");
        }
        drop(rows);
        // Behind the open, by the driver.
        until(|| unnamed(&dir).is_empty());
        db.close().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// 9: any bit flipped at rest is found by the first read of it after an open and by `verify`, with file and offset; `verify`
/// names the ids of the rows it touches. What of the promise is not there yet: a read that fails names the columns and the
/// *numbers* of the rows of their row group, and nothing verifies by itself (the scrub): a person or a timer calls `verify`.
#[test]
fn promise_9_a_bit_flipped_at_rest_is_found_by_the_read_and_by_verify_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    // Which row is in which segment is said below.
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(64, Metric::L2).int("n")).unwrap();
    let row =
        |n: u64| NewRow::new(format!("r{n:04}"), wide(n), json!({ "n": n, "text": "x".repeat(50) })).unwrap();
    rows.upsert_batch(&(0..1_000).map(row).collect::<Vec<_>>()).unwrap();
    db.flush().unwrap();
    // So many that the deletion vector is a file, and its manifest another.
    rows.upsert_batch(&(0..900).map(|n| row(n + n % 2 * 5_000)).collect::<Vec<_>>()).unwrap();
    db.flush().unwrap();
    let deleted = (0..1_000).step_by(3).filter(|n| rows.delete(format!("r{n:04}")).unwrap()).count();
    assert!(deleted > 100);
    db.flush().unwrap();
    drop(rows);
    db.close().unwrap();
    assert_eq!(akidb::verify(dir.path()).unwrap().damages.len(), 0);

    let read_all = || -> akidb::Result<()> {
        let db = Db::builder(dir.path()).read_only(true).open()?;
        let rows = db.collection("rows")?;
        rows.scan().limit(10_000).run()?;
        rows.search(&wide(1)).k(10).with_vector(true).exact().run()?;
        rows.count_where("n >= 0")?;
        (0..1_000).step_by(50).try_for_each(|n| rows.get(format!("r{n:04}")).map(drop))
    };
    read_all().unwrap();
    let (mut flips, mut by_reads) = (0, 0);
    // A read asks for the newest manifest alone; `verify` reads those before it too (`bad_disk.rs`).
    let newest = files(&dir.path().join("manifest")).pop().into_iter().collect::<Vec<_>>();
    for file in [files(&dir.path().join("collections")), newest].concat() {
        let whole = std::fs::read(&file).unwrap();
        for part in 0..10 {
            let at = part * (whole.len() - 1) / 9;
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (part % 8);
            std::fs::write(&file, bytes).unwrap();
            let what = format!("byte {at} of {} of {}", whole.len(), file.display());
            let damages = akidb::verify(dir.path()).unwrap().damages;
            assert!(damages.iter().any(|damage| damage.file == file), "{what}: {damages:?}");
            assert!(
                damages.iter().all(|damage| damage.offset.is_some_and(|offset| offset <= at as u64)),
                "{damages:?}"
            );
            if let Err(error) = read_all() {
                assert_eq!(
                    (error.kind(), error.file()),
                    (ErrorKind::Corrupt, Some(&*file)),
                    "{what}: {error}"
                );
                assert!(error.offset().is_some_and(|offset| offset <= at as u64), "{what}: {error}");
                by_reads += 1;
            }
            flips += 1;
        }
        std::fs::write(&file, whole).unwrap();
    }
    // What no read above needs: the vector index of an exact search, padding.
    println!("{flips} flips, all found by verify, {by_reads} by a read");
    assert!(flips >= 40 && by_reads * 3 > flips * 2, "{by_reads} of {flips}");
    read_all().unwrap();
    the_ids_it_touches_are_named(dir.path());
}

/// Flips a bit in a vector of the database of promise 9.
fn the_ids_it_touches_are_named(dir: &Path) {
    // Row 503 of the first segment: odd ones were not written again, multiples of three were deleted.
    let value = wide(503)[7].to_le_bytes();
    let holds = |file: &PathBuf| {
        let bytes = std::fs::read(file).unwrap();
        let at = bytes.windows(4).position(|window| window == value)?;
        Some((file.clone(), bytes, at))
    };
    let (segment, mut bytes, at) = files(&dir.join("collections")).iter().find_map(holds).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damage = akidb::verify(dir).unwrap().damages.remove(0);
    assert!(damage.what.contains("column vector, rows 0 to 999"), "{damage:?}");
    assert!(damage.help.contains("akidb repair segment"), "{damage:?}");
    let touched = damage.rows.unwrap();
    let [first, last] = touched.stretches[0];
    assert!(first <= 503 && 503 <= last && last - first < 70 && touched.unread.is_empty(), "{touched:?}");
    let live = (first..=last).filter(|n| (n % 2 == 1 || *n >= 900) && n % 3 != 0);
    assert_eq!(touched.rows, live.clone().count() as u64, "{touched:?}");
    let named: Vec<String> = touched.ids.iter().map(ToString::to_string).collect();
    assert_eq!(named, live.take(20).map(|n| format!("r{n:04}")).collect::<Vec<_>>());
}

/// 10: if k rows match, k rows come back, here where nearly nothing matches; an answer says whether it is exact and which
/// segments it touched. How many live rows match is what `count_where` says. Of the number that matched an answer tells a
/// half: for each part, dead rows included; of a memtable searched by codes only those that were compared one by one.
#[test]
fn promise_10_k_matching_rows_come_back_and_the_answer_says_what_it_touched() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(64, Metric::Cosine).int("n")).unwrap();
    for part in 0..4 {
        let row = |n: u64| NewRow::new(format!("r{n:05}"), wide(n), json!({ "n": n % 500 })).unwrap();
        rows.upsert_batch(&(part * 1_500..(part + 1) * 1_500).map(row).collect::<Vec<_>>()).unwrap();
        if part < 3 {
            db.flush().unwrap();
        }
    }
    (0..6_000).step_by(10).for_each(|n| assert!(rows.delete(format!("r{n:05}")).unwrap()));
    let on_disk: BTreeSet<String> = files(&dir.path().join("collections"))
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    for (filter, k) in
        [("n = 7", 12), ("n in (1, 2, 10)", 24), ("n < 300", 50), ("n = 20", 10), ("n >= 0", 5)]
    {
        let matching = rows.count_where(filter).unwrap();
        let (hits, explained) = rows.search(&wide(90_000)).k(k).filter(filter).explain().unwrap();
        assert_eq!(hits.len() as u64, matching.min(k as u64), "{filter}");
        let touched: BTreeSet<String> = explained.parts.iter().map(|part| part.segment.clone()).collect();
        let mut expected = on_disk.clone();
        expected.insert(String::new());
        assert_eq!(touched, expected, "three segments and the memtable, which has no name");
        assert_eq!(explained.exact, explained.parts.iter().all(|part| part.exact), "{filter}");
        let exact = rows.search(&wide(90_000)).k(k).filter(filter).exact();
        let (right, said) = exact.explain().unwrap();
        let matched: u64 = said.parts.iter().map(|part| part.matched).sum();
        assert!(matched >= matching && matched <= matching + 600, "{filter}: {matched} of {matching}");
        assert!(
            said.exact && (!explained.exact || right == hits),
            "{filter}: an answer that says it is exact"
        );
    }
    assert_eq!(rows.count_where("n = 20").unwrap(), 0, "all of these are deleted");
    let (_, explained) = rows.search(&wide(90_000)).k(5).explain().unwrap();
    assert!(!explained.exact, "an answer of codes says so: {explained:?}");
}
