//! A writing process is killed at seeded calls inside append, sync, flush and manifest; what it acknowledged through
//! a pipe must be there after the reopen, whole. Rounds: `AKIDB_KILL_ROUNDS` (20 unless set).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use akidb::{Batch, Collection, Db, Durability, Metric, NewRow, Schema, Settings};
use akidb_host::sim::{Act, HookFs, Op};
use akidb_host::{Fs, RealClock, RealFs, RealSpawn, Rng};
use serde_json::json;

const DIM: usize = 16;
const CHILD: &str = "AKIDB_KILL_CHILD";

fn vector(n: u64, version: u64) -> Vec<f32> {
    let mut rng = Rng::seeded(n * 1_000_003 + version);
    (0..DIM).map(|_| rng.f64() as f32 + 0.01).collect()
}

/// Where a round's kill falls: the k-th hooked call of a kind, before or after it is done.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Append,
    Sync,
    Flush,
    Manifest,
}

fn is_of(kind: Kind, op: &Op, path: &Path) -> bool {
    let text = path.to_string_lossy();
    let in_wal = text.contains("/wal/");
    let in_collections = text.contains("/collections/");
    match kind {
        Kind::Append => in_wal && matches!(op, Op::LogAppend),
        Kind::Sync => in_wal && matches!(op, Op::SyncData | Op::SyncAll | Op::SyncDir),
        Kind::Flush => in_collections && !matches!(op, Op::Open | Op::ReadAt),
        Kind::Manifest => text.contains("/manifest") && !matches!(op, Op::Open | Op::ReadAt),
    }
}

/// The child's life: upserts, deletes and flushes until the hook kills it. Prints `try`, then `ack`.
#[test]
fn kill_child() {
    let Ok(plan) = std::env::var(CHILD) else { return };
    let parts: Vec<&str> = plan.split('|').collect();
    let (dir, kind, k, after) = (parts[0], parts[1], parts[2].parse::<u64>().unwrap(), parts[3] == "after");
    let kind = match kind {
        "Append" => Kind::Append,
        "Sync" => Kind::Sync,
        "Flush" => Kind::Flush,
        _ => Kind::Manifest,
    };
    let seed: u64 = parts[4].parse().unwrap();
    let durability = if parts[5] == "memory" { Durability::Memory } else { Durability::LocalSynced };
    let count = std::sync::atomic::AtomicU64::new(0);
    let hook = move |call: &akidb_host::sim::Call<'_>| {
        if !is_of(kind, &call.op, call.path)
            || count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 != k
        {
            return Act::Go;
        }
        if after { Act::KillAfter } else { Act::Kill }
    };
    let fs: Arc<dyn Fs> = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
    let settings = Settings::from_toml("[engine]\nmemtable_bytes = 65536\n").unwrap();
    let db = Db::builder(dir)
        .settings(settings)
        .durability(durability)
        .components(fs, Arc::new(RealClock), Arc::new(RealSpawn))
        .open()
        .unwrap();
    let rows = db.create_collection("rows", Schema::new(DIM as u16, Metric::L2).int("version")).unwrap();
    // Every other child writes each row to two collections, as one.
    let mirror = (seed % 2 == 1).then(|| {
        db.create_collection("mirror", Schema::new(DIM as u16, Metric::L2).int("version")).unwrap();
        db.clone()
    });
    // Flushes run beside the writes, so that a kill inside one finds a write under way.
    let (due, flushes) = std::sync::mpsc::sync_channel::<()>(1);
    let flusher = db.clone();
    let flush = move || flushes.iter().for_each(|()| flusher.flush().unwrap());
    std::thread::Builder::new().spawn(flush).unwrap();
    let mut rng = Rng::seeded(seed);
    let mut out = std::io::stdout().lock();
    for version in 1..100_000u64 {
        let n = rng.below(200);
        let delete = rng.below(6) == 0;
        let what = if delete { "del" } else { "put" };
        writeln!(out, "\n#try {what} {n} {version}").unwrap();
        out.flush().unwrap();
        if let Some(db) = &mirror {
            let mut batch = Batch::new();
            for name in ["rows", "mirror"] {
                let payload = json!({ "version": version });
                match delete {
                    true => batch.delete(name, format!("r{n}")),
                    false => {
                        batch.upsert(name, NewRow::new(format!("r{n}"), vector(n, version), payload).unwrap())
                    }
                };
            }
            db.write(&batch).unwrap();
        } else if delete {
            rows.delete(format!("r{n}")).unwrap();
        } else {
            rows.upsert(format!("r{n}"), &vector(n, version), json!({ "version": version })).unwrap();
        }
        writeln!(out, "\n#ack {what} {n} {version}").unwrap();
        out.flush().unwrap();
        if rng.below(60) == 0 {
            // One under way is enough.
            let _ = due.try_send(());
        }
    }
}

struct Round {
    acknowledged: usize,
    in_flight: bool,
}

/// Batches over two collections are there in both or in none.
fn assert_mirrored(rows: &Collection, mirror: &Collection, n: u64) {
    let of = |rows: &Collection| rows.get(format!("r{n}")).unwrap().map(|row| (row.vector, row.payload));
    assert_eq!(of(rows), of(mirror), "row {n}: half of a batch is there");
}

fn round(seed: u64, kind: Kind, durability: &str, rng: &mut Rng) -> Round {
    let dir = tempfile::tempdir().unwrap();
    let k = match kind {
        Kind::Append => 20 + rng.below(600),
        // A sync each 50 ms instead of each write.
        Kind::Sync if durability == "memory" => 5 + rng.below(10),
        Kind::Sync => 10 + rng.below(300),
        Kind::Flush => 1 + rng.below(40),
        Kind::Manifest => 8 + rng.below(30),
    };
    let when = if rng.below(2) == 0 { "before" } else { "after" };
    let plan = format!("{}|{kind:?}|{k}|{when}|{seed}|{durability}", dir.path().join("db").display());
    println!("kill round: seed {seed}, {durability}, {kind:?} call {k}, killed {when} it");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kill::kill_child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, &plan)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // What was acknowledged per id, in order, and the one write that was under way.
    let mut acked: BTreeMap<u64, (bool, u64)> = BTreeMap::new();
    let mut pending = None;
    let mut acknowledged = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let [mark, what, n, version] = words[..] else { continue };
        let Ok(version) = version.parse::<u64>() else { continue };
        let write = (n.parse::<u64>().unwrap(), what == "put", version);
        match mark {
            "#try" => pending = Some(write),
            "#ack" => {
                acked.insert(write.0, (write.1, write.2));
                pending = None;
                acknowledged += 1;
            }
            _ => {}
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9),
        "the child was to be killed: {status}"
    );

    for reopen in 0..2 {
        let db = Db::open(dir.path().join("db")).unwrap();
        let Ok(rows) = db.collection("rows") else {
            assert_eq!(acknowledged, 0);
            break;
        };
        let mirror = db.collection("mirror").ok();
        for n in 0..200u64 {
            mirror.iter().for_each(|mirror| assert_mirrored(&rows, mirror, n));
            let got = rows.get(format!("r{n}")).unwrap();
            let version = got.as_ref().map(|row| row.payload["version"].as_u64().unwrap());
            let expected = acked.get(&n).and_then(|(put, version)| put.then_some(*version));
            let under_way =
                pending.filter(|(id, ..)| *id == n).map(|(_, put, version)| put.then_some(version));
            assert!(
                version == expected || under_way == Some(version),
                "reopen {reopen}: row {n} is {version:?}, acknowledged {expected:?}, under way {under_way:?}"
            );
            if let (Some(row), Some(version)) = (got, version) {
                assert_eq!(row.vector, vector(n, version), "row {n} has another version's vector");
            }
        }
        let live = rows.scan().limit(1_000).run().unwrap().len() as u64;
        assert_eq!(rows.count().unwrap(), live, "an id lives twice");
        db.close().unwrap();
    }
    Round { acknowledged, in_flight: pending.is_some() }
}

#[test]
fn a_killed_writer_loses_no_acknowledged_row() {
    rounds("local_synced", 20);
}

/// What is in the page cache outlives the process.
#[test]
fn a_killed_writer_loses_no_acknowledged_row_in_memory_durability_either() {
    rounds("memory", 8);
}

fn rounds(durability: &str, usual: usize) {
    let rounds: usize = std::env::var("AKIDB_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let seed = std::env::var("AKIDB_KILL_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| Rng::from_machine().u64() >> 20);
    println!("AKIDB_KILL_SEED={seed}");
    let mut rng = Rng::seeded(seed);
    let kinds = [Kind::Append, Kind::Sync, Kind::Flush, Kind::Manifest];
    let done: Vec<Round> =
        (0..rounds).map(|n| round(rng.u64() >> 20, kinds[n % 4], durability, &mut rng)).collect();
    let in_flight = done.iter().filter(|round| round.in_flight).count();
    let acknowledged: usize = done.iter().map(|round| round.acknowledged).sum();
    println!(
        "{durability}: {rounds} rounds, {acknowledged} writes acknowledged, 0 lost; a write was in flight in {in_flight} rounds"
    );
    assert!(in_flight * 2 >= rounds, "a write was in flight in only {in_flight} of {rounds} rounds");
}
