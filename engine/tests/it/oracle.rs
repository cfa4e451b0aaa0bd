//! Test 11 of the design's list: eight writers, four searchers and the jobs at once, and an oracle that knows for each id
//! and each LSN what there is. Every answer must be what the oracle has at one LSN, the end of a frame, between the
//! visible LSN before the call and the one after it. Seed: `AKIDB_ORACLE_SEED`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use akidb::{Collection, Db, Lsn, Metric, NewRow, Schema, Settings};
use akidb_host::Rng;
use serde_json::{Value, json};

const IDS: u64 = 48;
const WRITERS: u64 = 8;
const WRITES: u64 = 400;
const SEARCHERS: u64 = 4;

/// What there is of an id: its version, or nothing.
type State = Option<u64>;

/// What the writers were told.
#[derive(Default)]
struct Told {
    /// (id, LSN, version).
    upserts: Vec<(u64, Lsn, u64)>,
    /// The deletes in their order, and whether there was a row. One writer makes them all, as their LSNs are not told:
    /// LSNs are dense, so its n-th delete has the n-th LSN that no upsert has.
    deletes: Vec<(u64, bool)>,
    /// The last LSN of each frame of two.
    pairs: Vec<Lsn>,
}

/// What a reader saw between two values of the visible LSN.
struct Seen {
    how: &'static str,
    from: Lsn,
    to: Lsn,
    answer: Answer,
}

enum Answer {
    /// (LSN, version) of every row.
    Rows(BTreeMap<u64, (Lsn, u64)>),
    /// The same of one id.
    Row(u64, Option<(Lsn, u64)>),
    Count(u64),
}

fn id(n: u64) -> String {
    format!("r{n:02}")
}

fn number(id: &akidb::Id) -> u64 {
    id.to_string()[1..].parse().unwrap()
}

fn vector(n: u64, version: u64) -> [f32; 3] {
    let mut rng = Rng::seeded(n << 32 | version);
    [rng.f64() as f32, rng.f64() as f32, 1.0]
}

fn new_row(n: u64, version: u64) -> NewRow {
    NewRow::new(id(n), vector(n, version), json!({ "version": version })).unwrap()
}

fn write(rows: &Collection, writer: u64, seed: u64, told: &Mutex<Told>) {
    let mut rng = Rng::seeded(seed);
    for step in 1..=WRITES {
        let version = writer * WRITES + step;
        let (a, b) = (rng.below(IDS), rng.below(IDS));
        match rng.below(8) {
            0..3 if writer == 0 => {
                let existed = rows.delete(id(a)).unwrap();
                told.lock().unwrap().deletes.push((a, existed));
            }
            0 | 1 if a != b => {
                let receipt = rows.submit(&[new_row(a, version), new_row(b, version)]).unwrap();
                let last = receipt.wait().unwrap();
                let mut told = told.lock().unwrap();
                told.upserts.extend([(a, receipt.first(), version), (b, last, version)]);
                told.pairs.push(last);
            }
            _ => {
                let lsn = rows.upsert(id(a), &vector(a, version), json!({ "version": version })).unwrap();
                told.lock().unwrap().upserts.push((a, lsn, version));
            }
        }
    }
}

fn version_of(payload: &serde_json::Map<String, Value>) -> u64 {
    payload["version"].as_u64().unwrap()
}

/// Scans, searches, gets and counts until the writers are done.
fn read(db: &Db, rows: &Collection, seed: u64, done: &AtomicBool) -> Vec<Seen> {
    let mut rng = Rng::seeded(seed);
    let mut seen = Vec::new();
    while !done.load(Ordering::SeqCst) {
        let from = db.visible_lsn().unwrap();
        let (how, answer) = match rng.below(4) {
            0 => {
                let page = rows.scan().run().unwrap();
                let of = |row: &akidb::StoredRow| {
                    let (n, version) = (number(&row.id), version_of(&row.payload));
                    assert_eq!(row.vector, vector(n, version), "a row of parts of two versions");
                    (n, (row.lsn, version))
                };
                let all: BTreeMap<u64, (Lsn, u64)> = page.iter().map(of).collect();
                assert_eq!(all.len(), page.len(), "an id twice in a scan");
                ("scan", Answer::Rows(all))
            }
            1 => {
                let query = [rng.f64() as f32, rng.f64() as f32, 1.0];
                let hits = rows.search(&query).k(1_000).run().unwrap();
                let of = |hit: &akidb::Hit| {
                    let (n, version) = (number(&hit.id), version_of(&hit.payload));
                    let far: f64 =
                        vector(n, version).iter().zip(&query).map(|(a, b)| f64::from(a - b).powi(2)).sum();
                    assert!((f64::from(hit.score) + far.sqrt()).abs() < 1e-4, "the score of another version");
                    (n, (hit.lsn, version))
                };
                let all: BTreeMap<u64, (Lsn, u64)> = hits.iter().map(of).collect();
                assert_eq!(all.len(), hits.len(), "an id twice in a search");
                ("search", Answer::Rows(all))
            }
            2 => {
                let n = rng.below(IDS);
                let row = rows.get(id(n)).unwrap();
                ("get", Answer::Row(n, row.map(|row| (row.lsn, version_of(&row.payload)))))
            }
            _ => ("count", Answer::Count(rows.count().unwrap())),
        };
        seen.push(Seen { how, from, to: db.visible_lsn().unwrap(), answer });
    }
    seen
}

/// For each id what there is from which LSN on; and where frames end.
struct Oracle {
    states: BTreeMap<u64, BTreeMap<Lsn, State>>,
    first: Lsn,
    last: Lsn,
    /// LSNs that are inside a frame: nothing is ever seen as of one.
    inside: std::collections::BTreeSet<Lsn>,
}

impl Oracle {
    fn new(told: &Told) -> Self {
        let used: std::collections::BTreeSet<Lsn> = told.upserts.iter().map(|(_, lsn, _)| *lsn).collect();
        assert_eq!(used.len(), told.upserts.len(), "an LSN was given out twice");
        let records = (told.upserts.len() + told.deletes.len()) as u64;
        let epoch = used.first().unwrap().epoch();
        let all = (1..=records).map(|n| Lsn::new(epoch, n));
        let gaps: Vec<Lsn> = all.filter(|lsn| !used.contains(lsn)).collect();
        assert_eq!(gaps.len(), told.deletes.len(), "LSNs are dense");
        let mut states: BTreeMap<u64, BTreeMap<Lsn, State>> = BTreeMap::new();
        for (n, lsn, version) in &told.upserts {
            states.entry(*n).or_default().insert(*lsn, Some(*version));
        }
        for ((n, _), lsn) in told.deletes.iter().zip(&gaps) {
            states.entry(*n).or_default().insert(*lsn, None);
        }
        let inside = told.pairs.iter().map(|last| last.pred()).collect();
        let oracle = Self { states, first: Lsn::new(epoch, 1), last: Lsn::new(epoch, records), inside };
        for ((n, existed), lsn) in told.deletes.iter().zip(&gaps) {
            assert_eq!(oracle.at(*n, lsn.pred()).is_some(), *existed, "what the delete of {n} at {lsn} said");
        }
        oracle
    }

    fn at(&self, n: u64, lsn: Lsn) -> Option<(Lsn, u64)> {
        let (from, state) = self.states.get(&n)?.range(..=lsn).next_back()?;
        state.map(|version| (*from, version))
    }

    fn agrees(&self, answer: &Answer, lsn: Lsn) -> bool {
        let live = || (0..IDS).filter_map(|n| self.at(n, lsn).map(|row| (n, row)));
        match answer {
            Answer::Rows(rows) => live().eq(rows.iter().map(|(n, row)| (*n, *row))),
            Answer::Row(n, row) => self.at(*n, lsn) == *row,
            Answer::Count(count) => live().count() as u64 == *count,
        }
    }

    /// Whether the answer is the truth of one moment between the two looks.
    fn allows(&self, seen: &Seen) -> bool {
        let (from, to) = (seen.from.max(self.first.pred()), seen.to);
        let moments = (from.counter()..=to.counter()).map(|n| Lsn::new(self.first.epoch(), n));
        moments.filter(|lsn| !self.inside.contains(lsn)).any(|lsn| self.agrees(&seen.answer, lsn))
    }
}

#[test]
fn every_answer_beside_eight_writers_and_the_jobs_is_the_truth_of_one_moment() {
    let seed: u64 = std::env::var("AKIDB_ORACLE_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| Rng::from_machine().u64() >> 20);
    println!("AKIDB_ORACLE_SEED={seed}");
    let mut seeds = Rng::seeded(seed);
    let mut next_seed = || seeds.u64() >> 8;
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::from_toml(
        "[engine]\nmemtable_bytes = 65536\nwal_flush_bytes = 131072\nwrite_stall_timeout_ms = 60000\n",
    )
    .unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let rows = db.create_collection("rows", Schema::new(3, Metric::L2).int("version")).unwrap();
    let told = Arc::new(Mutex::new(Told::default()));
    let done = Arc::new(AtomicBool::new(false));

    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (rows, told, seed) = (rows.clone(), Arc::clone(&told), next_seed());
            std::thread::Builder::new().spawn(move || write(&rows, writer, seed, &told)).unwrap()
        })
        .collect();
    let readers: Vec<_> = (0..SEARCHERS)
        .map(|_| {
            let (db, rows, done, seed) = (db.clone(), rows.clone(), Arc::clone(&done), next_seed());
            std::thread::Builder::new().spawn(move || read(&db, &rows, seed, &done)).unwrap()
        })
        .collect();
    // Beside the flushes that the driver finds due, as many as it takes: every step of one meets writes.
    while writers.iter().any(|writer| !writer.is_finished()) {
        db.flush().unwrap();
        assert!(db.stats().unwrap().flush_failure.is_none());
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    done.store(true, Ordering::SeqCst);
    let seen: Vec<Seen> = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();

    let oracle = Oracle::new(&told.lock().unwrap());
    assert_eq!(db.visible_lsn().unwrap(), oracle.last);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seen in &seen {
        *counts.entry(seen.how).or_default() += 1;
        assert!(
            oracle.allows(seen),
            "seed {seed}: a {} between {} and {} is of no moment",
            seen.how,
            seen.from,
            seen.to
        );
    }
    let stats = db.stats().unwrap();
    let (segments, merges) = (stats.collections[0].segments, stats.compaction.runs);
    println!("{counts:?} answers, {segments} segments, {merges} merges, {} LSNs", oracle.last.counter());
    assert!(counts.len() == 4 && merges > 3, "too little ran beside");
    assert!(stats.compaction.failure.is_none(), "{:?}", stats.compaction.failure);
    drop((rows, db));

    // And after a crash: the same last moment.
    let db = Db::open(dir.path()).unwrap();
    let rows = db.collection("rows").unwrap();
    let page = rows.scan().run().unwrap();
    let all = page.iter().map(|row| (number(&row.id), (row.lsn, version_of(&row.payload)))).collect();
    assert!(oracle.agrees(&Answer::Rows(all), oracle.last), "seed {seed}: after the reopen");
}
