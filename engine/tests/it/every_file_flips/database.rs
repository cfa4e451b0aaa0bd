//! A small database with every kind of file, on a disk in memory; and everything a reader can ask of it.

use std::path::Path;
use std::sync::Arc;

use akidb::object_store::memory::InMemory;
use akidb::{Collection, Db, Error, Metric, NewRow, Schema, Settings, Which};
use akidb_backends::DeadLetters;
use akidb_backends::fault::{Cause, Fault, FaultStore};
use akidb_host::sim::CrashDisk;
use akidb_host::{Fs, RealClock, RealSpawn, Rng};
use serde_json::json;

/// A database at rest.
pub(super) struct Database {
    /// How it was left.
    pub(super) name: &'static str,
    pub(super) disk: CrashDisk,
    pub(super) answers: Answers,
    /// Its dead letters.
    pub(super) letters: Vec<String>,
}

fn settings() -> Settings {
    // Where rows lie, and so what damage touches, is the same in every run.
    Settings::from_toml("[engine]\ncompaction = false\nremote_commit_interval_ms = 10\n").unwrap()
}

/// Opens for writing, without backends.
pub(super) fn open(disk: &CrashDisk) -> akidb::Result<Db> {
    let builder = Db::builder("/db").settings(settings());
    builder.components(Arc::new(disk.clone()), Arc::new(RealClock), Arc::new(RealSpawn)).open()
}

fn open_with(disk: &CrashDisk, store: &FaultStore) -> Db {
    let builder = Db::builder("/db").settings(settings()).store("copies", Arc::new(store.clone()));
    builder.components(Arc::new(disk.clone()), Arc::new(RealClock), Arc::new(RealSpawn)).open().unwrap()
}

/// The same database closed, killed in the middle of its work, and killed where nothing but the frames themselves says what
/// was synced.
pub(super) fn filled() -> [Database; 3] {
    let (disk, store) = (CrashDisk::new(1), FaultStore::new(Arc::new(InMemory::new())));
    let db = open_with(&disk, &store);
    let docs = db.create_collection("docs", Schema::new(8, Metric::Cosine).text("lang").int("year")).unwrap();
    let points = db.create_collection("points", Schema::new(3, Metric::L2).int_ids()).unwrap();
    // Enough dimensions for a vector index.
    let texts = db.create_collection("texts", Schema::new(64, Metric::Cosine).int_ids()).unwrap();
    db.wait_uploaded(std::time::Duration::from_secs(60)).unwrap();
    // From here on some files go up and others become dead letters.
    store.set_poison(Some(("2-points", Fault::Fail(Cause::Status(400, None)))));
    for round in 0..2 {
        write(&docs, &points, &texts, round);
        db.flush().unwrap();
    }
    wait_for_letters(&db, 2);
    drop((docs, points, texts));
    // The dead letters go into a snapshot; those of the next life into the journal beside it.
    db.close().unwrap();
    let db = open_with(&disk, &store);
    let [docs, points, texts] = ["docs", "points", "texts"].map(|name| db.collection(name).unwrap());
    write(&docs, &points, &texts, 2);
    db.flush().unwrap();
    wait_for_letters(&db, 3);
    // Too much for one log file: the first of this life is sealed and still needed.
    for n in 0..4 {
        docs.upsert(format!("big{n}"), &[1.0; 8], json!({ "text": "long ".repeat(70_000) })).unwrap();
    }
    write(&docs, &points, &texts, 3);
    // At once behind the last acknowledgement: the newest frames are not stamped as proven yet.
    let killed = disk.kill();
    drop((docs, points, texts));
    db.close().unwrap();
    let bare = killed.kill();
    bare.unlink(Path::new("/db/wal/control")).unwrap();
    [("closed", disk.kill()), ("killed", killed), ("killed, no control page", bare)].map(|(name, disk)| {
        let copy = disk.kill();
        let db = open(&copy).unwrap();
        let answers = Answers::of(&db).unwrap();
        db.close().unwrap();
        let path = Path::new("/db/dlq/dlq.json");
        let (letters, _) =
            DeadLetters::open(Arc::new(disk.kill()), Arc::new(RealClock), path, Default::default()).unwrap();
        Database { name, disk, answers, letters: told(&letters) }
    })
}

fn wait_for_letters(db: &Db, count: u64) {
    while db.backends().dead_letters().unwrap().stats().size < count {
        // Nothing is put any more once all is there, or nothing may be.
        let stats = db.stats().unwrap();
        let copies = &stats.backends[0];
        let goes_on = copies.refused.is_none() && copies.uploaded_manifest < Some(stats.newest_manifest);
        assert!(goes_on, "fewer than {count} letters: {copies:?}");
        std::thread::yield_now();
    }
}

pub(super) fn told(letters: &DeadLetters) -> Vec<String> {
    // What a claim or a schedule says of now is no part of what was written.
    letters
        .list(&Which::all(), 1_000)
        .iter()
        .map(|letter| format!("{} {} {:?}", letter.id, letter.key, letter.error_message))
        .collect()
}

/// Overwrites and deletes over all collections.
fn write(docs: &Collection, points: &Collection, texts: &Collection, round: u16) {
    let row = |n: u16| {
        let vector: Vec<f32> = (0..8).map(|d| f32::from((n * 7 + d * 13 + round) % 31) + 0.5).collect();
        let payload = json!({"lang": (if n.is_multiple_of(2) { "en" } else { "de" }), "year": 2000 + n, "round": round});
        NewRow::new(format!("doc{n:03}"), vector, payload).unwrap()
    };
    docs.upsert_batch(&(round * 20..round * 20 + 40).map(row).collect::<Vec<_>>()).unwrap();
    let row = |n: i64| NewRow::new(n, wide(n * 10 + i64::from(round)), json!({ "n": n })).unwrap();
    let first = i64::from(round) * 20;
    texts.upsert_batch(&(first..first + 60).map(row).collect::<Vec<_>>()).unwrap();
    // Enough dead rows that a deletion vector is a file of its own.
    if round < 3 {
        let step = usize::from(round + 1);
        let far =
            |n: u16| NewRow::new(i64::from(n), [f32::from(n), 50.0, f32::from(round)], json!({})).unwrap();
        points.upsert_batch(&(0..1_200).step_by(step).map(far).collect::<Vec<_>>()).unwrap();
    }
    for n in 0..5u16 {
        docs.delete(format!("doc{:03}", round * 20 + n)).unwrap();
        points.delete(i64::from(round * 10 + n)).unwrap();
    }
}

/// 64 numbers that look like chance.
fn wide(n: i64) -> Vec<f32> {
    let mut random = Rng::seeded(n.cast_unsigned());
    (0..64).map(|_| random.f64() as f32 - 0.4).collect()
}

/// Everything a reader can ask.
#[derive(Debug, PartialEq)]
pub(super) struct Answers {
    /// Counts, rows, and exact searches, the long ones as a checksum.
    told: Vec<String>,
    /// Searches at the default recall, and the same asked exactly.
    searches: Vec<Search>,
}

#[derive(Debug, PartialEq)]
struct Search {
    given: String,
    exact: String,
    damaged_index: bool,
}

impl Answers {
    pub(super) fn of(db: &Db) -> Result<Self, Error> {
        let mut all = Self { told: vec![format!("{:?}", db.collections()?)], searches: Vec::new() };
        for name in db.collections()? {
            let rows = db.collection(&name)?;
            all.told.push(format!("{name} {} rows", rows.count()?));
            let page = rows.scan().limit(10_000).run()?;
            all.told.extend(page.iter().map(|row| short(format!("{row:?}"))));
            for row in page.iter().step_by(37) {
                all.told.push(short(format!("{:?}", rows.get(row.id.clone())?)));
            }
            let dim = usize::from(rows.schema()?.dim);
            for n in 0..3u8 {
                let query: Vec<f32> = match name.as_str() {
                    "texts" => wide(-1 - i64::from(n)),
                    _ => (0..dim).map(|d| f32::from(n) * 3.0 + d as f32 + 0.25).collect(),
                };
                let exact = rows.search(&query).k(7).with_vector(true).exact().run()?;
                let (given, explained) = rows.search(&query).k(7).with_vector(true).explain()?;
                let damaged_index = explained.parts.iter().any(|part| part.damaged_index);
                let (given, exact) = (short(format!("{given:?}")), short(format!("{exact:?}")));
                all.searches.push(Search { given, exact, damaged_index });
            }
            if name == "docs" {
                all.told.push(format!("{}", rows.count_where("lang = 'en' and year > 2030")?));
                let found = rows.search(&[1.0; 8]).k(5).filter("lang = 'de' and year < 2090").run()?;
                all.told.push(format!("{found:?}"));
            }
        }
        Ok(all)
    }

    /// Whether these are the answers of the whole database: where codes are damaged and that is said, the exact ones.
    pub(super) fn are_those_of(&self, whole: &Self) -> bool {
        let is_right = |(found, right): (&Search, &Search)| {
            let given = if found.damaged_index { &right.exact } else { &right.given };
            found.exact == right.exact && found.given == *given
        };
        self.told == whole.told
            && self.searches.len() == whole.searches.len()
            && self.searches.iter().zip(&whole.searches).all(is_right)
    }

    pub(super) fn is_degraded(&self) -> bool {
        self.searches.iter().any(|search| search.damaged_index)
    }
}

/// Long answers by their start, length and checksum.
fn short(text: String) -> String {
    if text.len() < 600 {
        return text;
    }
    let crc32 = crc32fast::hash(text.as_bytes());
    format!("{}... {} bytes, {crc32:08x}", text.chars().take(100).collect::<String>(), text.len())
}
