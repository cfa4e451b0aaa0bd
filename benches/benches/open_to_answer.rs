//! How long is it from an open to the first answer, with everything in segments? And what does it keep in memory?
//!
//! The page cache is warm; each round opens the database anew, asks once for the default recall, and once more. The same
//! rows lie in the segments that the default settings make, and in one. Memory is that of a process of its own, which
//! opens, asks once, asks a thousand times, and compares every row: files that are mapped count apart.
//! `AKIDB_BENCH_DATA=DIR cargo bench -p akidb-benches --bench open_to_answer` (AKIDB_BENCH_ROWS: all there are, or 50,000
//! of the sample)

use std::hint::black_box;
use std::path::Path;
use std::process::Command;

use akidb::{Collection, Db, NewRow, PartKind, Schema};
use akidb_benches::{
    Sample, Vectors, bench_dir, fill_settings, machine, median, sample, sample_schema, timed,
};
use akidb_host::process_cpu_time;
use criterion::{BatchSize, Criterion};

const ROUNDS: usize = 15;
const SAMPLE_ROWS: usize = 50_000;
const GOAL_MS: f64 = 20.0;
const CHILD: &str = "AKIDB_BENCH_CHILD";

/// Rows with the payload of the sample's; how many segments they make.
fn fill(dir: &Path, vectors: &Vectors, sample: &Sample, count: usize, one_segment: bool) -> usize {
    let db = Db::builder(dir).settings(fill_settings(one_segment)).open().expect("the directory is empty");
    let schema = Schema { dim: vectors.dim(), ..sample_schema() };
    let docs = db.create_collection("wordnet", schema).expect("the schema is good");
    let row = |n: &usize| {
        let payload = sample.rows[n % sample.rows.len()].payload.clone();
        NewRow { id: format!("r{n:07}").into(), vector: vectors.row(*n, 0), payload, expires: None }
    };
    for batch in (0..count).collect::<Vec<usize>>().chunks(500) {
        docs.upsert_batch(&batch.iter().map(row).collect::<Vec<_>>()).expect("rows can be written");
    }
    db.flush().expect("it flushes");
    drop(docs);
    let segments = db.stats().expect("it is open").collections[0].segments;
    db.close().expect("it closes");
    segments
}

fn open(dir: &Path) -> Db {
    Db::open(dir).expect("it opens")
}

fn wordnet(db: &Db) -> Collection {
    db.collection("wordnet").expect("it is there")
}

fn ask(db: &Db, query: &[f32]) {
    black_box(wordnet(db).search(query).k(10).run().expect("it searches"));
}

fn measure(dir: &Path, query: &[f32]) {
    let (mut opens, mut firsts, mut seconds, mut cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (mut db, before) = (None, process_cpu_time());
        opens.push(timed(|| db = Some(open(dir))).as_secs_f64() * 1e3);
        let db = db.expect("just opened");
        firsts.push(timed(|| ask(&db, query)).as_secs_f64() * 1e3);
        cpu.push((process_cpu_time() - before).as_secs_f64() * 1e3);
        seconds.push(timed(|| ask(&db, query)).as_secs_f64() * 1e3);
        db.close().expect("it closes");
    }
    let mut to_answer: Vec<f64> = opens.iter().zip(&firsts).map(|(open, first)| open + first).collect();
    println!(
        "  open {:.2} ms, first answer {:.2} ms after it, {:.2} ms in all ({:.2} to {:.2}, processor time {:.2}); the same question \
         again {:.2} ms; the goal is {GOAL_MS} ms in all",
        median(&mut opens),
        median(&mut firsts),
        median(&mut to_answer),
        to_answer[0],
        to_answer[ROUNDS - 1],
        median(&mut cpu),
        median(&mut seconds)
    );
    let db = open(dir);
    let (_, explained) = wordnet(&db).search(query).k(10).explain().expect("it searches");
    let count = |kind| explained.parts.iter().filter(|part| part.kind == kind).count();
    println!(
        "  searched by lists: {}, by flat codes: {}, exactly: {}; recall asked {:?}",
        count(PartKind::Lists),
        count(PartKind::Flat),
        count(PartKind::Exact),
        explained.recall
    );
    db.close().expect("it closes");
}

/// What a process of its own keeps in memory, as it goes on.
fn child(dir: &Path) {
    let sample = sample();
    let say = |when: &str| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
        };
        println!(
            "  {when:32} RSS {:7.1} MiB: anonymous {:6.1}, of files {:7.1}",
            mib("VmRSS:"),
            mib("RssAnon:"),
            mib("RssFile:")
        );
    };
    say("before the open");
    let db = open(dir);
    say("open");
    ask(&db, &sample.queries[0].vector);
    say("first answer");
    (0..1_000).for_each(|n| ask(&db, &sample.queries[n % sample.queries.len()].vector));
    say("1,000 searches");
    let exact = wordnet(&db).search(&sample.queries[0].vector).exact().run();
    black_box(exact.expect("it searches"));
    say("every row compared");
    db.close().expect("it closes");
}

fn main() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return child(dir.as_ref());
    }
    let vectors = Vectors::of_environment();
    let all = if std::env::var_os("AKIDB_BENCH_DATA").is_some() { vectors.own() } else { SAMPLE_ROWS };
    let count =
        std::env::var("AKIDB_BENCH_ROWS").map_or(all, |n| n.parse().expect("AKIDB_BENCH_ROWS is a number"));
    let home = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    println!("{}\ndurability: every row is on disk before anything is measured", machine(home.path()));
    println!("{}\nmedians of {ROUNDS} rounds, page cache warm", vectors.whence());
    let (sample, query) = (sample(), &vectors.queries()[0]);
    for one_segment in [false, true] {
        let dir = home.path().join(if one_segment { "one" } else { "default" });
        let segments = fill(&dir, &vectors, &sample, count, one_segment);
        println!("{count} rows in segments: {segments}");
        measure(&dir, query);
        let me = std::env::current_exe().expect("this program has a path");
        let asked = Command::new(me).env(CHILD, &dir).status().expect("it runs again");
        assert!(asked.success(), "the process that was looked at ended badly");
    }

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("open_to_answer");
    group.sample_size(20);
    group.bench_function("open_and_first_search", |b| {
        // Closing is outside of what is timed.
        let left = std::cell::RefCell::new(None);
        let close_last = || {
            if let Some(db) = left.borrow_mut().take() {
                Db::close(db).expect("it closes");
            }
        };
        b.iter_batched(
            close_last,
            |()| {
                let db = open(&home.path().join("default"));
                ask(&db, query);
                *left.borrow_mut() = Some(db);
            },
            BatchSize::PerIteration,
        );
        close_last();
    });
    group.finish();
    criterion.final_summary();
}
