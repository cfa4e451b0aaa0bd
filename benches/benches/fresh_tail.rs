//! How long is it from a row to the search that finds it, with 30,000 rows not flushed? And what does a flush do to those
//! who write and search meanwhile?
//!
//! The floor is one write and fdatasync of as many bytes. `AKIDB_BENCH_DATA=DIR chrt -f 10 cargo bench -p akidb-benches
//! --bench fresh_tail` (AKIDB_BENCH_ROWS=30000)

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use akidb::{Collection, Db, Metric, NewRow, Schema, Settings};
use akidb_benches::wal::Floor;
use akidb_benches::{Vectors, bench_dir, machine, per_mille, timed};
use akidb_host::{Clock, RealClock};
use serde_json::Value;

const TURNS: usize = 2_000;
/// Upserts before a flush begins and after it ended.
const AROUND: usize = 1_500;
const GOAL_US: f64 = 1_000.0;

fn upsert(docs: &Collection, vectors: &Vectors, n: usize) {
    let id = i64::try_from(n).expect("few rows");
    docs.upsert(id, &vectors.row(n, 0), Value::Null).expect("it can be written");
}

/// The row is the first hit, or as near as it.
fn search(docs: &Collection, vectors: &Vectors, n: usize) {
    let hits = docs.search(&vectors.row(n, 0)).k(10).run().expect("it searches");
    let id = i64::try_from(n).expect("few rows").into();
    let there = hits.iter().any(|hit| hit.id == id && hit.score == hits[0].score);
    assert!(there, "row {n} is not found");
}

fn turns(docs: &Collection, vectors: &Vectors, floor: &mut Floor, first: usize) {
    let (mut floors, mut upserts, mut both) = (Vec::new(), Vec::new(), Vec::new());
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    for n in first..first + TURNS {
        floors.push(us(timed(|| floor.write().expect("the floor's file can be synced"))));
        let write = us(timed(|| upsert(docs, vectors, n)));
        upserts.push(write);
        both.push(write + us(timed(|| search(docs, vectors, n))));
    }
    let say = |what: &str, values: &mut Vec<f64>| {
        let p = [500, 990, 1000].map(|at| per_mille(values, at));
        println!("{what:32} p50 {:7.0} us   p99 {:7.0} us   max {:7.0} us", p[0], p[1], p[2]);
    };
    say("floor: write and fdatasync", &mut floors);
    say("durable upsert", &mut upserts);
    say("upsert, and search that finds it", &mut both);
    println!(
        "p50 of both is {:.2} of the floor; the goal is {GOAL_US} us",
        per_mille(&mut both, 500) / per_mille(&mut floors, 500)
    );
}

/// When a call began, and how long it took.
type Call = (Instant, Duration);

fn calls(stop: &AtomicBool, told: &Sender<()>, mut call: impl FnMut(usize)) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = RealClock.now();
        let took = timed(|| call(calls.len()));
        calls.push((began, took));
        if calls.len().is_multiple_of(AROUND) {
            // Nobody listens after the end.
            let _ = told.send(());
        }
    }
    calls
}

/// A writer and a searcher go on before, during and after a flush.
fn flush_beside(db: &Db, docs: &Collection, vectors: &Vectors, first: usize) {
    let stop = AtomicBool::new(false);
    let (told, hear) = channel();
    let (unheard, _none) = channel();
    let (stop, told, unheard) = (&stop, &told, &unheard);
    let queries = vectors.queries();
    let (writes, searches, flush) = std::thread::scope(|scope| {
        let write = || calls(stop, told, |n| upsert(docs, vectors, first + n));
        let writer = scope.spawn(write);
        let ask = |n: usize| {
            black_box(docs.search(&queries[n % queries.len()]).k(10).run().expect("it searches"));
        };
        let searcher = scope.spawn(move || calls(stop, unheard, ask));
        hear.recv().expect("the writer goes on");
        let began = RealClock.now();
        db.flush().expect("it flushes");
        let flush = (began, RealClock.now());
        // What was told meanwhile does not count.
        hear.try_iter().for_each(drop);
        hear.recv().expect("the writer goes on");
        stop.store(true, Ordering::Relaxed);
        (writer.join().expect("it wrote"), searcher.join().expect("it searched"), flush)
    });
    println!("flush {:.2} s beside them", (flush.1 - flush.0).as_secs_f64());
    for (what, calls) in [("upserts", writes), ("searches", searches)] {
        let is_during = |(began, took): &Call| *began < flush.1 && *began + *took > flush.0;
        for (when, during) in [("before and after", false), ("during the flush", true)] {
            let of = calls.iter().filter(|call| is_during(call) == during);
            let mut us: Vec<f64> = of.map(|(_, took)| took.as_secs_f64() * 1e6).collect();
            let p = [500, 990, 1000].map(|at| per_mille(&mut us, at));
            println!(
                "{what:8} {when}: {:6} calls, p50 {:7.0} us   p99 {:7.0} us   max {:7.0} us",
                us.len(),
                p[0],
                p[1],
                p[2]
            );
        }
    }
}

fn main() {
    let rows: usize = std::env::var("AKIDB_BENCH_ROWS")
        .map_or(30_000, |n| n.parse().expect("AKIDB_BENCH_ROWS is a number"));
    let home = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    let vectors = Vectors::of_environment();
    let mut settings = Settings::default();
    settings.engine.memtable_bytes = 512 << 20;
    settings.engine.memory_bytes = 1 << 30;
    settings.engine.wal_flush_bytes = 4 << 30;
    settings.engine.wal_max_bytes = 8 << 30;
    let db = Db::builder(home.path().join("db")).settings(settings).open().expect("the directory is empty");
    let schema = Schema::new(vectors.dim(), Metric::Cosine).int_ids();
    let docs = db.create_collection("rows", schema).expect("the schema is good");
    let all: Vec<usize> = (0..rows).collect();
    for batch in all.chunks(512) {
        let new = |n: &usize| {
            NewRow::new(i64::try_from(*n).expect("few rows"), vectors.row(*n, 0), Value::Null)
                .expect("a good row")
        };
        docs.upsert_batch(&batch.iter().map(new).collect::<Vec<_>>()).expect("rows can be written");
    }
    let record_bytes = usize::from(vectors.dim()) * 4 + 80;
    let mut floor = Floor::new(home.path(), record_bytes).expect("the floor's file can be filled");

    println!("{}", machine(home.path()));
    println!("durability: every row is on disk when its call returns; {record_bytes} bytes a record");
    println!("{}\n{rows} rows not flushed, {} dimensions, {TURNS} turns", vectors.whence(), vectors.dim());
    turns(&docs, &vectors, &mut floor, rows);
    let flushed = db.stats().expect("it is open").collections[0].segments;
    assert_eq!(flushed, 0, "nothing was flushed so far");
    flush_beside(&db, &docs, &vectors, rows + TURNS);
    drop(docs);
    db.close().expect("it closes");
}
