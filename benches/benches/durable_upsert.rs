//! How near is a durable upsert to the raw fdatasync floor?
//!
//! The floor is what any engine on this disk must pay for one power-safe row: as many bytes written into a file whose
//! blocks already exist, and one fdatasync. `chrt -f 10 cargo bench -p akidb-benches --bench durable_upsert`

use std::path::Path;
use std::sync::Arc;

use akidb::{Collection, Db};
use akidb_benches::{Sample, bench_dir, interleaved, machine, sample, sample_schema};
use akidb_host::{File, Fs, RealFs};
use criterion::{Criterion, Throughput};

const FILE_BYTES: u64 = 64 << 20;
const ROUNDS: usize = 15;
const ROWS_A_ROUND: usize = 100;

/// The floor: one write of a record's size and one fdatasync.
struct Floor {
    file: Arc<dyn File>,
    record: Vec<u8>,
    offset: u64,
}

impl Floor {
    fn new(dir: &Path, record_bytes: usize) -> Self {
        let file = RealFs.create_new(&dir.join("floor")).expect("a file can be made");
        file.zero_fill(0, FILE_BYTES).and_then(|()| file.sync_all()).expect("it can be filled");
        Self { file, record: vec![0x5a; record_bytes], offset: 0 }
    }

    fn write(&mut self) {
        self.file.write_at(&self.record, self.offset).expect("it can be written");
        self.file.sync_data().expect("it can be synced");
        self.offset += self.record.len() as u64;
        if self.offset + self.record.len() as u64 > FILE_BYTES {
            self.offset = 0;
        }
    }
}

/// The contender: rows of the sample, one call each, over and over.
struct Upserts {
    docs: Collection,
    sample: Sample,
    next: usize,
}

impl Upserts {
    fn upsert(&mut self) {
        let row = &self.sample.rows[self.next % self.sample.rows.len()];
        let lsn = self.docs.upsert(&row.id, &row.vector, row.payload.clone());
        lsn.expect("a row of the sample can be written");
        self.next += 1;
    }
}

fn main() {
    let dir = bench_dir(env!("CARGO_TARGET_TMPDIR"));
    let db = Db::open(dir.path().join("db")).expect("the directory is empty");
    let docs = db.create_collection("wordnet", sample_schema()).expect("the schema is good");
    let mut upserts = Upserts { docs, sample: sample(), next: 0 };
    let payload_bytes = upserts.sample.rows.iter().map(|r| serde_json::json!(r.payload).to_string().len());
    let record_bytes = payload_bytes.sum::<usize>() / upserts.sample.rows.len() + 384 * 4 + 80;
    let mut floor = Floor::new(dir.path(), record_bytes);

    println!("{}", machine(dir.path()));
    println!(
        "durability: every row is on disk when its call returns; {record_bytes} bytes a record, one writer"
    );
    let [floor_s, upsert_s] = interleaved(
        ROUNDS,
        &mut [
            ("floor", &mut || (0..ROWS_A_ROUND).for_each(|_| floor.write())),
            ("upsert", &mut || (0..ROWS_A_ROUND).for_each(|_| upserts.upsert())),
        ],
    )[..] else {
        unreachable!("two contenders, two medians")
    };
    let rate = |seconds: f64| ROWS_A_ROUND as f64 / seconds;
    println!(
        "interleaved, median of {ROUNDS} rounds: floor {:.0}/s, upsert {:.0}/s = {:.2} of the floor",
        rate(floor_s),
        rate(upsert_s),
        floor_s / upsert_s
    );

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("durable_upsert");
    group.throughput(Throughput::Elements(1));
    group.bench_function("raw_fdatasync_floor", |b| b.iter(|| floor.write()));
    group.bench_function("upsert_one_row", |b| b.iter(|| upserts.upsert()));
    group.finish();
    criterion.final_summary();
    db.close().expect("it closes");
}
