//! What do many segments cost a search, after a fifth of the rows was overwritten and a tenth deleted?
//!
//! The same 300,000 rows are written in 1, 2, 5 and 10 parts, the largest as many times the smallest, each flushed: as many segments
//! or more, for beside small segments a memtable is full earlier. A row is overwritten in a later part than it lies in, except
//! in the last, whose old versions never leave the memtable. Recall is against
//! exact search of the same database; all databases take turns. `AKIDB_BENCH_DATA=DIR cargo bench -p akidb-benches
//! --bench many_segments` (AKIDB_BENCH_ROWS=300000, AKIDB_BENCH_SEGMENTS=1,2,5,10)

use std::hint::black_box;
use std::path::Path;

use akidb::{Collection, Db, Durability, Hit, Metric, NewRow, Schema, Settings};
use akidb_benches::{Vectors, bench_dir, machine, median};
use akidb_host::{Rng, process_cpu_time, thread_cpu_time};

const ROUNDS: usize = 5;
const QUERIES: usize = 200;
const EXACT_QUERIES: usize = 5;
const K: usize = 10;
const GOAL: f64 = 0.95;

/// The segment, from 0, that row `n` is written to first: of S segments the first holds S shares, the last one.
fn segment_of(n: usize, rows: usize, segments: usize) -> usize {
    let shares = segments * (segments + 1) / 2;
    let end = |segment: usize| rows * (0..=segment).map(|s| segments - s).sum::<usize>() / shares;
    (0..segments).find(|segment| n < end(*segment)).expect("the last ends with the rows")
}

/// The segment in which a fifth of the rows is written again.
fn overwritten_in(n: usize, own: usize, segments: usize) -> Option<usize> {
    let later = (segments - 1 - own) as u64;
    let pick = |later| usize::try_from(Rng::seeded(n as u64).below(later)).expect("few segments");
    (n % 5 == 1).then(|| if later == 0 { own } else { own + 1 + pick(later) })
}

fn is_deleted(n: usize) -> bool {
    n % 10 == 3
}

struct Filled {
    db: Db,
    docs: Collection,
    segments: usize,
    build_cpu_s: f64,
    recall: f64,
    /// Codes compared and rows compared exactly, a search.
    scanned: f64,
    reranked: f64,
    exact_cpu_s: Vec<f64>,
    cpu_s: Vec<f64>,
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    // How many segments there are is the question.
    settings.engine.compaction = false;
    settings.engine.memtable_bytes = 1 << 30;
    settings.engine.memory_bytes = 4 << 30;
    settings.engine.wal_flush_bytes = 16 << 30;
    settings.engine.wal_max_bytes = 32 << 30;
    settings.engine.write_stall_timeout_ms = 600_000;
    settings
}

fn fill(dir: &Path, vectors: &Vectors, rows: usize, segments: usize) -> Filled {
    let before = process_cpu_time();
    let db = Db::builder(dir).settings(settings()).durability(Durability::Memory).open();
    let db = db.expect("the directory is empty");
    let schema = Schema::new(vectors.dim(), Metric::Cosine).int_ids();
    let docs = db.create_collection("rows", schema).expect("the schema is good");
    let new = |(n, version): &(usize, usize)| {
        NewRow::new(i64::try_from(*n).expect("few rows"), vectors.row(*n, *version), serde_json::Value::Null)
            .expect("a good row")
    };
    for segment in 0..segments {
        let home = |n: &usize| segment_of(*n, rows, segments);
        let first = (0..rows).filter(|n| home(n) == segment).map(|n| (n, 0));
        let again = (0..rows)
            .filter(|n| n % 5 == 1 && overwritten_in(*n, home(n), segments) == Some(segment))
            .map(|n| (n, 1));
        let writes: Vec<(usize, usize)> = first.chain(again).collect();
        for batch in writes.chunks(512) {
            docs.upsert_batch(&batch.iter().map(new).collect::<Vec<_>>()).expect("rows can be written");
        }
        db.flush().expect("it flushes");
    }
    for n in (0..rows).filter(|n| is_deleted(*n)) {
        docs.delete(i64::try_from(n).expect("few rows")).expect("it deletes");
    }
    db.flush().expect("it flushes");
    let build_cpu_s = (process_cpu_time() - before).as_secs_f64();
    // Beside small segments a memtable is full earlier, so there are more than were asked for.
    let segments = db.stats().expect("it is open").collections[0].segments;
    let (exact_cpu_s, cpu_s) = (Vec::new(), Vec::new());
    Filled { db, docs, segments, build_cpu_s, recall: 0.0, scanned: 0.0, reranked: 0.0, exact_cpu_s, cpu_s }
}

impl Filled {
    fn ask(&self, query: &[f32], exact: bool) -> Vec<Hit> {
        let search = self.docs.search(query).k(K).with_payload(false);
        let search = if exact { search.exact() } else { search };
        search.run().expect("it searches")
    }

    /// Recall of the default search against exact search, and what a search compares.
    fn judge(&mut self, queries: &[Vec<f32>]) {
        for query in queries {
            let exact = self.ask(query, true);
            let (hits, explained) =
                self.docs.search(query).k(K).with_payload(false).explain().expect("it searches");
            let worst = exact.last().expect("there are rows").score;
            let found = hits.iter().filter(|hit| hit.score >= worst).count().min(exact.len());
            self.recall += found as f64 / exact.len() as f64;
            self.scanned += explained.parts.iter().map(|part| part.scanned as f64).sum::<f64>();
            self.reranked += explained.parts.iter().map(|part| part.reranked as f64).sum::<f64>();
        }
        let each = 1.0 / queries.len() as f64;
        (self.recall, self.scanned, self.reranked) =
            (self.recall * each, self.scanned * each, self.reranked * each);
    }

    fn turn(&mut self, queries: &[Vec<f32>]) {
        let seconds = |queries: &[Vec<f32>], exact| {
            let before = thread_cpu_time();
            queries.iter().for_each(|query| drop(black_box(self.ask(query, exact))));
            (thread_cpu_time() - before).as_secs_f64() / queries.len() as f64
        };
        let (exact, default) =
            (seconds(&queries[..EXACT_QUERIES.min(queries.len())], true), seconds(queries, false));
        self.exact_cpu_s.push(exact);
        self.cpu_s.push(default);
    }
}

fn main() {
    let rows: usize = std::env::var("AKIDB_BENCH_ROWS")
        .map_or(300_000, |n| n.parse().expect("AKIDB_BENCH_ROWS is a number"));
    let counts = std::env::var("AKIDB_BENCH_SEGMENTS").unwrap_or_else(|_| "1,2,5,10".to_owned());
    let counts = counts.split(',').map(|n| n.parse().expect("AKIDB_BENCH_SEGMENTS are numbers"));
    let home = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    let vectors = Vectors::of_environment();
    let queries = &vectors.queries()[..QUERIES.min(vectors.queries().len())];
    println!("{}\ndurability: memory; nothing is written while it is searched", machine(home.path()));
    println!(
        "{}\n{} queries, k = {K}, cosine, {} dimensions",
        vectors.whence(),
        queries.len(),
        vectors.dim()
    );
    let mut all: Vec<Filled> = counts
        .map(|segments| fill(&home.path().join(format!("db{segments}")), &vectors, rows, segments))
        .collect();
    all.iter_mut().for_each(|filled| filled.judge(queries));
    for _ in 0..ROUNDS {
        all.iter_mut().for_each(|filled| filled.turn(queries));
    }
    let deleted = (0..rows).filter(|n| is_deleted(*n)).count();
    println!("{rows} ids, a fifth overwritten, {deleted} deleted; medians of {ROUNDS} rounds, one thread");
    println!("segments    recall  qps/cpu s  exact qps/cpu s   ratio   codes  reranked  build cpu s");
    for filled in &mut all {
        let (qps, exact) = (1.0 / median(&mut filled.cpu_s), 1.0 / median(&mut filled.exact_cpu_s));
        println!(
            "{:8}    {:.4}  {qps:9.0}  {exact:15.1}  {:6.0}  {:6.0}  {:8.0}  {:11.1}",
            filled.segments,
            filled.recall,
            qps / exact,
            filled.scanned,
            filled.reranked,
            filled.build_cpu_s
        );
    }
    let least = all.iter().map(|filled| filled.recall).fold(1.0, f64::min);
    println!("least recall {least:.4}; the goal is {GOAL} at default effort");
    all.into_iter().for_each(|filled| filled.db.close().expect("it closes"));
}
