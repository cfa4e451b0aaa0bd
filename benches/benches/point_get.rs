//! What does `get(id)` of a row in a segment cost, payload and vector decoded?
//!
//! The floor is the same call for a row in the memtable. Ids are text and, apart, integers; a number and a text in each
//! row are its own, as in real tables; every block is verified and in the page cache. `cargo bench -p akidb-benches --bench point_get` (AKIDB_BENCH_ROWS=50000)

use std::hint::black_box;
use std::time::Duration;

use akidb::{Collection, Db, Id, NewRow, Schema};
use akidb_benches::{Sample, bench_dir, machine, sample, sample_schema, timed};
use akidb_host::Rng;
use criterion::Criterion;

const BATCH_ROWS: usize = 500;
const GETS: usize = 5_000;
const GOAL: Duration = Duration::from_micros(150);

type IdOf = fn(usize) -> Id;

fn text_id(at: usize) -> Id {
    format!("entry-{at:07}.n.01").into()
}

fn int_id(at: usize) -> Id {
    Id::Int(i64::try_from(at).expect("few rows") * 3)
}

fn fill(docs: &Collection, sample: &Sample, rows: std::ops::Range<usize>, id: IdOf) {
    let all: Vec<usize> = rows.collect();
    for batch in all.chunks(BATCH_ROWS) {
        let rows: Vec<NewRow> = batch
            .iter()
            .map(|at| {
                let row = &sample.rows[at % sample.rows.len()];
                let mut payload = row.payload.clone();
                payload.insert("row".into(), (*at).into());
                payload.insert("lemmas".into(), vec![format!("{}-{at}", row.id)].into());
                NewRow { id: id(*at), vector: row.vector.clone(), payload, expires: None }
            })
            .collect();
        docs.upsert_batch(&rows).expect("rows can be written");
    }
}

fn pick(rng: &mut Rng, count: usize) -> usize {
    usize::try_from(rng.below(count as u64)).expect("below a usize")
}

fn main() {
    let count: usize = std::env::var("AKIDB_BENCH_ROWS")
        .map_or(50_000, |n| n.parse().expect("AKIDB_BENCH_ROWS is a number"));
    let dir = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    let sample = sample();
    println!("{}", machine(dir.path()));
    let mut criterion = Criterion::default().configure_from_args();
    let kinds: [(&str, Schema, IdOf); 2] =
        [("text_ids", sample_schema(), text_id), ("int_ids", sample_schema().int_ids(), int_id)];
    for (name, schema, id) in kinds {
        let db = Db::open(dir.path().join(name)).expect("the directory is empty");
        let docs = db.create_collection("wordnet", schema).expect("the schema is good");
        fill(&docs, &sample, 0..count, id);
        db.flush().expect("it flushes");
        fill(&docs, &sample, count..count + BATCH_ROWS, id);
        // The first touch of each block also verifies its checksum.
        for at in 0..count {
            assert!(docs.get(id(at)).expect("it reads").is_some(), "row {at}");
        }
        let mut rng = Rng::seeded(11);
        let mut took: Vec<Duration> = (0..GETS)
            .map(|_| {
                let wanted = id(pick(&mut rng, count));
                timed(|| drop(black_box(docs.get(wanted).expect("it reads"))))
            })
            .collect();
        took.sort_unstable();
        let (p50, p99) = (took[GETS / 2], took[GETS * 99 / 100]);
        println!(
            "{name}: {count} rows in {} segments, get p50 {p50:.1?}, p99 {p99:.1?}; the goal is {GOAL:?}",
            db.stats().expect("it is open").collections[0].segments
        );
        let mut group = criterion.benchmark_group("point_get");
        group.bench_function(format!("{name}_memtable_floor"), |b| {
            b.iter(|| docs.get(id(count + pick(&mut rng, BATCH_ROWS))).expect("it reads"));
        });
        group.bench_function(format!("{name}_segment"), |b| {
            b.iter(|| docs.get(id(pick(&mut rng, count))).expect("it reads"));
        });
        group.finish();
        db.close().expect("it closes");
    }
    criterion.final_summary();
}
