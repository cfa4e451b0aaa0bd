//! Named snapshots and `as_of`: each shows the rows of its moment, whatever is written, deleted, flushed, merged, dropped
//! and removed since, after a reopen too; a power cut in any step of making or removing one leaves none or a whole one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akidb::{Builder, Collection, Db, Metric, Schema, Settings, Snapshot};
use akidb_host::sim::{CrashDisk, FakeClock, InlineSpawn};
use akidb_host::{Clock, Fs, RealClock, RealSpawn, Rng};
use serde_json::json;

mod crashes;
mod damage;
mod elsewhere;
mod moments;
mod space;

const DIM: u16 = 16;

/// By collection and row the version of every live row.
type Model = BTreeMap<String, BTreeMap<u64, u64>>;

fn vector(n: u64, version: u64) -> Vec<f32> {
    let mut rng = Rng::seeded(n << 32 | version);
    (0..DIM).map(|_| rng.f64() as f32 - 0.5).collect()
}

fn schema() -> Schema {
    Schema::new(DIM, Metric::L2).int_ids().int("version")
}

/// Only the newest manifest is kept, unless something keeps others; merges when the test says.
fn settings() -> Settings {
    // The clocks of the tests run fast; how long a handle is held is not their question.
    let text = "[engine]\ncompaction = false\nmanifest_keep = 1\nsnapshot_max_age_secs = 31622400\n";
    Settings::from_toml(text).unwrap()
}

fn builder(fs: Arc<dyn Fs>) -> Builder {
    let builder = Db::builder("/db").settings(settings());
    builder.components(fs, Arc::new(RealClock), Arc::new(RealSpawn))
}

fn put(rows: &Collection, n: u64, version: u64) {
    rows.upsert(i64::try_from(n).unwrap(), &vector(n, version), json!({ "version": version })).unwrap();
}

/// Changes about every third of 60 rows, some of them away.
fn churn(db: &Db, model: &mut Model, rng: &mut Rng, version: u64) {
    for (name, known) in model {
        let rows = db.collection(name).unwrap();
        for n in 0..60u64 {
            match rng.below(12) {
                0 => assert_eq!(rows.delete(n.cast_signed()).unwrap(), known.remove(&n).is_some()),
                1..=3 => {
                    put(&rows, n, version);
                    known.insert(n, version);
                }
                _ => {}
            }
        }
    }
}

/// Everything that can be asked of one collection answers as the model says.
fn assert_rows(rows: &Collection, known: &BTreeMap<u64, u64>, when: &str) {
    let page = rows.scan().limit(1_000).run().unwrap();
    let number = |id: &akidb::Id| id.to_string().parse::<u64>().unwrap();
    let found: BTreeMap<u64, u64> =
        page.iter().map(|row| (number(&row.id), row.payload["version"].as_u64().unwrap())).collect();
    assert_eq!(&found, known, "{when}: scan");
    assert!(page.iter().all(|row| row.vector == vector(number(&row.id), found[&number(&row.id)])), "{when}");
    assert_eq!(rows.count().unwrap(), known.len() as u64, "{when}: count");
    for (n, version) in known.iter().step_by(17) {
        let hits = rows.search(&vector(*n, *version)).k(3).run().unwrap();
        assert_eq!(number(&hits[0].id), *n, "{when}: search");
        let count = known.values().filter(|v| *v >= version).count() as u64;
        assert_eq!(rows.count_where(format!("version >= {version}").as_str()).unwrap(), count, "{when}");
        let got = rows.get(i64::try_from(*n).unwrap()).unwrap().unwrap();
        assert_eq!(got.payload["version"], *version, "{when}: get");
    }
}

/// A snapshot shows exactly this.
fn assert_shows(snapshot: &Snapshot, model: &Model, when: &str) {
    assert_eq!(snapshot.collections().unwrap(), model.keys().cloned().collect::<Vec<_>>(), "{when}");
    for (name, known) in model {
        assert_rows(&snapshot.collection(name).unwrap(), known, when);
    }
}

fn assert_now(db: &Db, model: &Model, when: &str) {
    assert_eq!(db.collections().unwrap(), model.keys().cloned().collect::<Vec<_>>(), "{when}");
    for (name, known) in model {
        assert_rows(&db.collection(name).unwrap(), known, when);
    }
}

fn names(db: &Db) -> Vec<String> {
    db.list_snapshots().unwrap().into_iter().map(|named| named.name).collect()
}

/// Two collections with segments, deletion vectors and rows in memory.
fn fill(db: &Db, rng: &mut Rng) -> Model {
    let mut model = Model::new();
    for name in ["left", "right"] {
        db.create_collection(name, schema()).unwrap();
        model.insert(name.to_owned(), BTreeMap::new());
    }
    for version in 1..=2 {
        churn(db, &mut model, rng, version);
        db.flush().unwrap();
    }
    churn(db, &mut model, rng, 3);
    model
}

/// Files in the directories of the collections, temporary ones included.
fn files(fs: &dyn Fs, dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs.list(dir).unwrap_or_default() {
        let path = dir.join(&entry.name);
        match entry.kind {
            akidb_host::EntryKind::Dir => found.extend(files(fs, &path)),
            _ => found.push(path.display().to_string()),
        }
    }
    found.sort();
    found
}

/// A disk in memory, a clock that the test moves, and threads that it runs.
struct Stepped {
    disk: CrashDisk,
    fs: Arc<dyn Fs>,
    clock: Arc<FakeClock>,
    threads: InlineSpawn,
    settings: Settings,
}

impl Stepped {
    fn new(seed: u64) -> Self {
        let disk = CrashDisk::new(seed);
        let (fs, threads) = (Arc::new(disk.clone()), InlineSpawn::default());
        Self { disk, fs, clock: Arc::default(), threads, settings: settings() }
    }

    fn open(&self) -> Db {
        let builder = Db::builder("/db").settings(self.settings.clone());
        let threads = Arc::new(self.threads.clone());
        builder.components(Arc::clone(&self.fs), Arc::clone(&self.clock) as _, threads).open().unwrap()
    }

    /// The driver does what is due, so that manifests go which nothing keeps.
    fn look(&self) {
        self.clock.advance(Duration::from_secs(2));
        self.threads.run_until_idle(self.clock.now());
    }

    fn manifests(&self) -> Vec<String> {
        let mut files = files(&self.disk, Path::new("/db/manifest"));
        files.retain(|file| file.ends_with(".json"));
        files
    }

    /// Commits manifests, one of which lets an older one go, with a file there that nobody names; `true` if gc took it.
    fn collect(&self, db: &Db) -> bool {
        let decoy = Path::new("/db/collections/2-right/99999999-00000001-aaaaaaaa.parquet");
        if self.disk.metadata(decoy).is_err() {
            self.disk.create_new(decoy).unwrap();
        }
        db.rename_collection("right", "again").unwrap();
        db.rename_collection("again", "right").unwrap();
        self.look();
        self.disk.metadata(decoy).is_err()
    }
}
