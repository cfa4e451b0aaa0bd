//! Named snapshots and `as_of`: each shows the rows of its moment, whatever is written, deleted, flushed, merged, dropped
//! and removed since, after a reopen too; a power cut in any step of making or removing one leaves none or a whole one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use akidb::{
    BackendSettings, Builder, Collection, Db, Durability, ErrorKind, Lsn, Metric, NewRow, Schema, Settings,
    Snapshot, restore, verify,
};
use akidb_host::sim::{Act, Call, CrashDisk, EIO, ENOSPC, FakeClock, Gate, Hook, HookFs, InlineSpawn, Op};
use akidb_host::{Clock, Fs, RealClock, RealFs, RealSpawn, Rng};
use serde_json::json;

use crate::support::{hooked, in_dir};

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

#[test]
fn a_named_snapshot_is_its_moment_while_everything_changes_and_after_reopens() {
    let world = Stepped::new(1);
    let (mut db, mut rng) = (world.open(), Rng::seeded(1));
    let mut model = fill(&db, &mut rng);
    let mut kept: Vec<(String, Model)> = Vec::new();
    for round in 0..12u64 {
        churn(&db, &mut model, &mut rng, 10 + round);
        let when = format!("round {round}");
        match round % 6 {
            0 | 3 => {
                let name = format!("round-{round}");
                let lsn = db.create_snapshot(&name).unwrap();
                assert_eq!(lsn, db.visible_lsn().unwrap());
                kept.push((name, model.clone()));
            }
            1 => db.flush().unwrap(),
            2 => drop(db.compact().unwrap()),
            4 if round < 6 => {
                db.drop_collection("left").unwrap();
                model.remove("left");
                db.rename_collection("right", "renamed").unwrap();
                let rows = model.remove("right").unwrap();
                model.insert("renamed".into(), rows);
                db.collection("renamed").unwrap().add_field("more", akidb::FieldType::Text).unwrap();
            }
            _ => {
                db.close().unwrap();
                db = world.open();
            }
        }
        db.flush().unwrap();
        world.look();
        let newest = db.stats().unwrap().newest_manifest;
        let named = db.list_snapshots().unwrap().into_iter().map(|named| named.manifest);
        let wanted: BTreeSet<u64> = named.chain([newest]).collect();
        assert_eq!(world.manifests().len(), wanted.len(), "{when}: {wanted:?}, {:?}", world.manifests());
        for (name, then) in &kept {
            let snapshot = db.at_snapshot(name).unwrap();
            assert_shows(&snapshot, then, &format!("{name} in {when}"));
            assert_eq!(snapshot.kept().unwrap().name.as_deref(), Some(name.as_str()));
            assert_eq!(snapshot.kept().unwrap().complete_to, snapshot.lsn());
        }
        assert_now(&db, &model, &when);
    }
    assert_eq!(names(&db), kept.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    let error = db.at_snapshot("round-0").unwrap().collection("left").unwrap().delete(1).unwrap_err();
    assert_eq!(error.code(), "AKI-0267", "a snapshot is read only");
}

#[test]
fn gc_keeps_what_a_name_keeps_and_the_space_returns_after_the_name_is_gone() {
    let world = Stepped::new(2);
    let disk = world.disk.clone();
    let (db, mut rng) = (world.open(), Rng::seeded(2));
    let mut model = fill(&db, &mut rng);
    db.create_snapshot("kept").unwrap();
    let then = model.clone();
    let there = files(&disk, Path::new("/db/collections"));
    for version in 5..9 {
        churn(&db, &mut model, &mut rng, version);
        db.flush().unwrap();
    }
    db.compact().unwrap();
    db.drop_collection("left").unwrap();
    model.remove("left");
    // Once a file of after the snapshot is gone, gc had its chance to take those of the snapshot too.
    assert!(world.collect(&db));
    let kept = files(&disk, Path::new("/db/collections"));
    assert!(
        there.iter().filter(|file| file.contains(".parquet")).all(|file| kept.contains(file)),
        "{kept:?}"
    );
    assert_shows(&db.at_snapshot("kept").unwrap(), &then, "after gc");
    let reader = db.at_snapshot("kept").unwrap();
    let held = db.stats().unwrap().snapshots.remove(0);
    assert_eq!((held.holder.as_str(), held.memtable_bytes), ("kept", 0));
    assert!(held.segment_bytes > 0, "its files are no longer in use");
    drop(reader);
    db.create_snapshot("now").unwrap();
    let reader = db.at_snapshot("now").unwrap();
    assert_eq!(db.stats().unwrap().snapshots[0].segment_bytes, 0, "these are");
    drop(reader);
    db.remove_snapshot("now").unwrap();
    let listed = db.list_snapshots().unwrap().remove(0);
    let rows: BTreeMap<String, u64> =
        then.iter().map(|(name, rows)| (name.clone(), rows.len() as u64)).collect();
    assert_eq!((listed.rows, listed.damage), (rows, None));
    assert!(
        listed.own_bytes > 0 && listed.own_bytes == listed.bytes,
        "everything was merged or dropped since"
    );

    // Who reads it goes on, also when its files have lost their names.
    let reader = db.at_snapshot("kept").unwrap();
    db.remove_snapshot("kept").unwrap();
    assert_eq!(db.remove_snapshot("kept").unwrap_err().code(), "AKI-0273");
    assert!(world.collect(&db));
    let left = files(&disk, Path::new("/db/collections"));
    assert!(there.iter().all(|file| !left.contains(file)), "the space returned: {left:?}");
    assert_shows(&reader, &then, "without a name");
    assert_eq!(db.at_snapshot("kept").unwrap_err().kind(), ErrorKind::NotFound);
    assert_now(&db, &model, "at the end");
    // The directory of the collection that was dropped is gone too.
    assert!(disk.metadata(Path::new("/db/collections/1-left")).is_err());
}

/// Manifests are read once an open; of one that was read, gc needs no more than that it is there.
#[test]
fn gc_decodes_each_manifest_once_and_trusts_no_damaged_one_it_has_not_read() {
    let reads = Arc::new(AtomicU64::new(0));
    let mut world = Stepped::new(12);
    let counted = Arc::clone(&reads);
    let hook: Hook = Arc::new(move |call| {
        let is_read = call.op == Op::Open && in_dir(call.path, "manifest");
        counted.fetch_add(u64::from(is_read), Ordering::SeqCst);
        Act::Go
    });
    world.fs = Arc::new(HookFs::new(Arc::new(world.disk.clone()), hook));
    world.settings = Settings::from_toml("[engine]\ncompaction = false\nmanifest_keep = 20\n").unwrap();
    let (db, mut rng) = (world.open(), Rng::seeded(12));
    let mut model = fill(&db, &mut rng);
    db.create_snapshot("first").unwrap();
    let then = model.clone();
    let of_first = files(&world.disk, Path::new("/db/collections"));
    for version in 10..40 {
        churn(&db, &mut model, &mut rng, version);
        match version % 3 {
            0 => drop(db.create_snapshot(&format!("v{version}")).unwrap()),
            _ => db.flush().unwrap(),
        }
    }
    db.compact().unwrap();
    let passes = [(); 3].map(|()| {
        reads.store(0, Ordering::SeqCst);
        assert!(world.collect(&db));
        reads.load(Ordering::SeqCst)
    });
    println!("with {} manifests kept, passes decode {passes:?} of them", world.manifests().len());
    assert!(world.manifests().len() >= 25 && passes == [0; 3], "{passes:?}");
    db.close().unwrap();
    reads.store(0, Ordering::SeqCst);
    let db = world.open();
    let opening = reads.swap(0, Ordering::SeqCst);
    assert!(world.collect(&db));
    let pass = reads.load(Ordering::SeqCst);
    println!("an open decodes {opening}, the pass after it {pass}");
    assert!((25..=world.manifests().len() as u64 + 3).contains(&opening) && pass == 0);
    // Damaged at rest after it was read: what it names stays, what nobody names goes.
    let manifest = db.list_snapshots().unwrap()[0].manifest;
    let file = format!("/db/manifest/{manifest:020}.json");
    let whole = world.disk.bytes(Path::new(&file)).unwrap();
    world.disk.rot(Path::new(&file), |bytes| bytes.truncate(bytes.len() / 2)).unwrap();
    assert_eq!(db.at_snapshot("first").unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(world.collect(&db), "the names in it are known");
    let all_there = || {
        let there = files(&world.disk, Path::new("/db/collections"));
        of_first.iter().all(|file| there.contains(file))
    };
    assert!(all_there());
    drop(db);
    // Never read in this life: anything may be in it.
    let db = world.open();
    assert!(!world.collect(&db) && all_there());
    world.disk.rot(Path::new(&file), |bytes| bytes.clone_from(&whole)).unwrap();
    assert!(world.collect(&db) && all_there());
    assert_shows(&db.at_snapshot("first").unwrap(), &then, "its manifest is whole again");
    assert_now(&db, &model, "at the end");
}

/// Most is flushed before the LSN is chosen: what is written meanwhile is in the snapshot.
#[test]
fn a_snapshot_is_of_what_was_written_while_its_first_flushes_ran() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::opened(|call: &Call<'_>| call.op == Op::CreateNew && in_dir(call.path, "2-right"));
    let db = hooked(dir.path(), gate.hook(), settings());
    for name in ["left", "right"] {
        put(&db.create_collection(name, schema()).unwrap(), 1, 1);
    }
    gate.shut();
    let making = {
        let db = db.clone();
        std::thread::Builder::new().spawn(move || db.create_snapshot("moment").unwrap()).unwrap()
    };
    gate.wait_until_held();
    put(&db.collection("left").unwrap(), 2, 2);
    let written = db.visible_lsn().unwrap();
    gate.release();
    assert_eq!(making.join().unwrap(), written);
    let (left, right) = (BTreeMap::from([(1, 1), (2, 2)]), BTreeMap::from([(1, 1)]));
    let model = Model::from([("left".to_owned(), left), ("right".to_owned(), right)]);
    assert_shows(&db.at_snapshot("moment").unwrap(), &model, "made");
}

/// What a test does in a call on behalf of a snapshot.
type Inside = Box<dyn Fn(&Call<'_>) -> Act + Send + Sync>;

/// A disk whose changing calls of this thread are numbered from 1 and shown to what the test sets.
struct Watched {
    disk: CrashDisk,
    fs: Arc<dyn Fs>,
    calls: Arc<AtomicU64>,
    inside: Arc<OnceLock<Inside>>,
}

impl Watched {
    fn new(seed: u64) -> Self {
        let disk = CrashDisk::new(seed);
        let (calls, inside) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::<Inside>::new()));
        let (counted, asked, own) = (Arc::clone(&calls), Arc::clone(&inside), std::thread::current().id());
        let hook: Hook = Arc::new(move |call| {
            let is_ours = std::thread::current().id() == own && !in_dir(call.path, "wal");
            match asked.get() {
                Some(inside) if is_ours && call.op.changes() => {
                    let n = counted.fetch_add(1, Ordering::SeqCst) + 1;
                    inside(&Call { n, ..*call })
                }
                _ => Act::Go,
            }
        });
        let fs = Arc::new(HookFs::new(Arc::new(disk.clone()), hook));
        Self { disk, fs, calls, inside }
    }

    fn watch(&self, inside: impl Fn(&Call<'_>) -> Act + Send + Sync + 'static) {
        assert!(self.inside.set(Box::new(inside)).is_ok());
    }

    /// Keeps disks as a power cut or a kill before each call leaves them.
    fn cut_everywhere(&self, seed: u64) -> Arc<Mutex<Vec<(String, CrashDisk)>>> {
        let cuts: Arc<Mutex<Vec<(String, CrashDisk)>>> = Arc::default();
        let (taken, disk, rng) = (Arc::clone(&cuts), self.disk.clone(), Mutex::new(Rng::seeded(seed)));
        self.watch(move |call| {
            let (mut rng, mut taken) = (rng.lock().unwrap(), taken.lock().unwrap());
            let name = format!("{:?} {}", call.op, call.path.display());
            (0..3).for_each(|_| taken.push((format!("a cut before {name}"), disk.power_cut(&mut rng))));
            taken.push((format!("a kill before {name}"), disk.kill()));
            Act::Go
        });
        cuts
    }
}

#[test]
fn a_power_cut_in_any_step_of_making_one_leaves_none_or_a_whole_one() {
    let seed = std::env::var("AKIDB_NAMED_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(21);
    println!("AKIDB_NAMED_SEED={seed}");
    let world = Watched::new(seed);
    let db = builder(Arc::clone(&world.fs)).open().unwrap();
    let model = fill(&db, &mut Rng::seeded(seed));
    let cuts = world.cut_everywhere(seed);
    db.create_snapshot("moment").unwrap();
    drop(db);
    let mut cuts = cuts.lock().unwrap();
    cuts.push(("a kill at the end".into(), world.disk.kill()));
    let (mut none, mut whole) = (0, 0);
    println!("{} disks", cuts.len());
    for (when, disk) in cuts.drain(..) {
        let db = builder(Arc::new(disk.clone())).open().unwrap();
        assert_now(&db, &model, &when);
        let mut later = model.clone();
        churn(&db, &mut later, &mut Rng::seeded(3), 9);
        if names(&db).is_empty() {
            none += 1;
            db.create_snapshot("moment").unwrap();
            assert_shows(&db.at_snapshot("moment").unwrap(), &later, &format!("{when}, made again"));
        } else {
            whole += 1;
            db.flush().unwrap();
            db.compact().unwrap();
            assert_shows(&db.at_snapshot("moment").unwrap(), &model, &when);
        }
        assert_now(&db, &later, &when);
    }
    assert!(none > 10 && whole > 0, "{none} without, {whole} with it");
}

#[test]
fn a_power_cut_in_any_step_of_removing_one_leaves_it_whole_or_gone() {
    let seed = 22;
    let world = Watched::new(seed);
    let db = builder(Arc::clone(&world.fs)).open().unwrap();
    let mut rng = Rng::seeded(seed);
    let mut model = fill(&db, &mut rng);
    db.create_snapshot("moment").unwrap();
    let then = model.clone();
    churn(&db, &mut model, &mut rng, 7);
    db.flush().unwrap();
    db.compact().unwrap();
    let cuts = world.cut_everywhere(seed);
    db.remove_snapshot("moment").unwrap();
    // What gc does then, it does on another thread; a reopen does the same.
    drop(db);
    let mut cuts = cuts.lock().unwrap();
    cuts.push(("a kill at the end".into(), world.disk.kill()));
    let (mut gone, mut whole) = (0, 0);
    for (when, disk) in cuts.drain(..) {
        let db = builder(Arc::new(disk.clone())).open().unwrap();
        assert_now(&db, &model, &when);
        if names(&db).is_empty() {
            gone += 1;
            assert_eq!(db.at_snapshot("moment").unwrap_err().kind(), ErrorKind::NotFound);
        } else {
            whole += 1;
            assert_shows(&db.at_snapshot("moment").unwrap(), &then, &when);
        }
    }
    assert!(gone > 0 && whole > 0, "{gone} without, {whole} with it");
}

#[test]
fn a_failing_disk_leaves_no_snapshot_or_a_whole_one_and_loses_nothing() {
    let calls = {
        let world = Watched::new(1);
        let db = builder(Arc::clone(&world.fs)).open().unwrap();
        fill(&db, &mut Rng::seeded(4));
        world.watch(|_| Act::Go);
        db.create_snapshot("moment").unwrap();
        world.calls.load(Ordering::SeqCst)
    };
    println!("making a snapshot of two dirty collections takes {calls} changing calls");
    for (errno, at) in [EIO, ENOSPC].into_iter().flat_map(|errno| (1..=calls).map(move |at| (errno, at))) {
        let world = Watched::new(at);
        let db = builder(Arc::clone(&world.fs)).open().unwrap();
        let model = fill(&db, &mut Rng::seeded(4));
        world.watch(move |call| if call.n == at { Act::Fail(errno) } else { Act::Go });
        let when = format!("errno {errno} in call {at}");
        let made = db.create_snapshot("moment");
        if let Err(error) = &made {
            let kinds = [ErrorKind::NoSpace, ErrorKind::Unavailable, ErrorKind::Poisoned];
            assert!(kinds.contains(&error.kind()), "{when}: {error}");
            assert_eq!(names(&db), [""; 0], "{when}");
        }
        assert_now(&db, &model, &when);
        drop(db);
        let db = builder(Arc::new(world.disk.kill())).open().unwrap();
        assert!(made.is_err() || names(&db) == ["moment"], "{when}");
        if names(&db).is_empty() {
            db.create_snapshot("moment").unwrap();
        }
        assert_shows(&db.at_snapshot("moment").unwrap(), &model, &when);
    }
}

#[test]
fn a_snapshot_is_of_one_lsn_over_all_collections_while_writers_run() {
    for durability in [Durability::LocalSynced, Durability::Memory] {
        let dir = tempfile::tempdir().unwrap();
        let text = "[engine]\nmemtable_bytes = 65536\nmanifest_keep = 1\nwrite_stall_timeout_ms = 60000\n";
        let settings = Settings::from_toml(text).unwrap();
        let db = Db::builder(dir.path()).settings(settings).durability(durability).open().unwrap();
        let left = db.create_collection("left", schema()).unwrap();
        let right = db.create_collection("right", schema()).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (db, stop) = (db.clone(), Arc::clone(&stop));
            let write = move || {
                for version in 1..u64::MAX {
                    if stop.load(Ordering::SeqCst) {
                        return version - 1;
                    }
                    // One batch over both: any moment has equal versions in both.
                    let mut batch = akidb::Batch::new();
                    let row = |n: u64| {
                        NewRow::new(n.cast_signed(), vector(n, version), json!({ "version": version }))
                            .unwrap()
                    };
                    batch.upsert("left", row(version % 7));
                    batch.upsert("right", row(version % 7));
                    db.write(&batch).unwrap();
                }
                0
            };
            std::thread::Builder::new().spawn(write).unwrap()
        };
        // Every version is one batch of two records, and nothing else is written.
        let model = |lsn: Lsn| -> Model {
            assert_eq!(lsn.counter() % 2, 0, "{lsn} lies inside a batch");
            let newest = lsn.counter() / 2;
            let rows: BTreeMap<u64, u64> =
                (newest.saturating_sub(6).max(1)..=newest).map(|v| (v % 7, v)).collect();
            ["left", "right"].map(|name| (name.to_owned(), rows.clone())).into()
        };
        let assert_is = |snapshot: &Snapshot, lsn: Lsn, when: &str| {
            assert_eq!(snapshot.lsn(), lsn, "{when}");
            for name in ["left", "right"] {
                let page = snapshot.collection(name).unwrap().scan().run().unwrap();
                assert!(page.iter().all(|row| row.lsn <= lsn), "{when}: {name} has rows of after {lsn}");
            }
            assert_shows(snapshot, &model(lsn), when);
        };
        while left.count().unwrap() < 7 {
            assert!(!writer.is_finished(), "the writer gave up");
            std::thread::yield_now();
        }
        let mut last = Lsn::ZERO;
        for n in 0..20 {
            let when = format!("{durability:?}, snapshot {n}");
            let lsn = db.create_snapshot(&format!("s{n}")).unwrap();
            assert_is(&db.at_snapshot(&format!("s{n}")).unwrap(), lsn, &when);
            assert_is(&db.as_of(lsn).unwrap(), lsn, &when);
            assert!(lsn >= last, "{when}: {lsn} after {last}");
            last = lsn;
        }
        stop.store(true, Ordering::SeqCst);
        let written = writer.join().unwrap();
        assert!(last <= Lsn::new(last.epoch(), 2 * written), "{last} after {written} batches");
        drop((left, right));
        db.close().unwrap();
        assert!(verify(dir.path()).unwrap().damages.is_empty());
    }
}

/// The state at each LSN at which something was acknowledged.
#[test]
fn as_of_answers_from_the_newest_kept_manifest_that_is_not_newer() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[engine]\ncompaction = false\nmanifest_keep = 6\n";
    let clock = Arc::new(FakeClock::default());
    let open = || {
        let builder = Db::builder(dir.path()).settings(Settings::from_toml(text).unwrap());
        builder.components(Arc::new(RealFs), Arc::clone(&clock) as _, Arc::new(RealSpawn)).open().unwrap()
    };
    let (mut db, mut rng) = (open(), Rng::seeded(9));
    let rows = db.create_collection("rows", schema()).unwrap();
    put(&rows, 0, 1);
    let mut model = Model::from([("rows".to_owned(), BTreeMap::from([(0, 1)]))]);
    // With one collection a flush is a moment: by its LSN.
    let mut moments: BTreeMap<Lsn, Model> = BTreeMap::new();
    for version in 2..22 {
        churn(&db, &mut model, &mut rng, version);
        match rng.below(4) {
            0 => drop(db.create_snapshot(&format!("v{version}")).unwrap()),
            1 => {
                db.flush().unwrap();
                db.compact().unwrap();
            }
            _ => db.flush().unwrap(),
        }
        moments.insert(db.visible_lsn().unwrap(), model.clone());
        // Old manifests go now and then, whoever looks.
        clock.advance(Duration::from_secs(2));
        if rng.below(6) == 0 {
            db.close().unwrap();
            db = open();
        }
    }
    // Rows that are in memory only.
    churn(&db, &mut model, &mut rng, 99);
    let named: Vec<Lsn> = db.list_snapshots().unwrap().iter().map(|n| n.lsn.parse().unwrap()).collect();
    assert!(named.len() > 2);
    for at in moments.keys().chain([&db.visible_lsn().unwrap(), &Lsn::MAX]) {
        match db.as_of(*at) {
            Ok(snapshot) => {
                let kept = snapshot.kept().unwrap();
                assert!(kept.lsn <= *at && kept.complete_to <= kept.lsn);
                let (_, then) = moments.range(..=kept.lsn).next_back().unwrap();
                assert_shows(&snapshot, then, &format!("as of {at}, manifest {}", kept.number));
                let better = named.iter().filter(|lsn| *lsn <= at).max();
                assert!(better.is_none_or(|lsn| *lsn <= kept.lsn), "{at}: {kept:?}, but {better:?} is kept");
            }
            Err(error) => {
                assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "AKI-0276"), "{error}");
                assert!(named.iter().all(|lsn| lsn > at), "{at}: {error}");
            }
        }
    }
    let newest = db.as_of(Lsn::MAX).unwrap();
    assert_eq!(newest.lsn(), *moments.keys().next_back().unwrap(), "the newest flush, not what is in memory");
    let error = db.as_of(Lsn::new(0, 1)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, "AKI-0276"));
    assert!(error.message().contains(&format!("newest of {}", newest.lsn())), "{error}");
}

#[test]
fn a_reader_beside_the_writer_opens_names_and_moments_and_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::builder(dir.path()).settings(settings()).open().unwrap();
    let mut rng = Rng::seeded(6);
    let mut model = fill(&db, &mut rng);
    let lsn = db.create_snapshot("one").unwrap();
    let then = model.clone();
    let reader = Db::builder(dir.path()).read_only(true).open().unwrap();
    churn(&db, &mut model, &mut rng, 5);
    db.create_snapshot("two").unwrap();
    db.compact().unwrap();
    // Names are read when they are asked for.
    assert_eq!(names(&reader), ["one", "two"]);
    assert_shows(&reader.at_snapshot("one").unwrap(), &then, "one, beside the writer");
    assert_shows(&reader.as_of(lsn).unwrap(), &then, "as of one, beside the writer");
    assert_shows(&reader.at_snapshot("two").unwrap(), &model, "two, beside the writer");
    assert_eq!(reader.create_snapshot("three").unwrap_err().code(), "AKI-0205");
    assert_eq!(reader.remove_snapshot("one").unwrap_err().code(), "AKI-0205");
    // A drop has no LSN: at that of a name the name goes first.
    let lsn = db.create_snapshot("three").unwrap();
    db.drop_collection("left").unwrap();
    assert_shows(&db.as_of(lsn).unwrap(), &model, "as of three");
    assert_eq!(db.as_of(lsn).unwrap().kept().unwrap().name.as_deref(), Some("three"));
    assert_eq!(db.create_snapshot("One").unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(db.create_snapshot("../one").unwrap_err().kind(), ErrorKind::Invalid);
    db.close().unwrap();
    assert_eq!(reader.at_snapshot("none").unwrap_err().code(), "AKI-0273");
}

#[test]
fn a_manifest_that_outlives_its_name_is_opened_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[engine]\ncompaction = false\n";
    let db = Db::builder(dir.path()).settings(Settings::from_toml(text).unwrap()).open().unwrap();
    let model = fill(&db, &mut Rng::seeded(12));
    let lsn = db.create_snapshot("one").unwrap();
    let name = |db: &Db| db.as_of(lsn).unwrap().kept().unwrap().name.clone();
    assert_eq!(name(&db).as_deref(), Some("one"));
    db.remove_snapshot("one").unwrap();
    let kept = db.as_of(lsn).unwrap();
    assert_eq!((kept.kept().unwrap().name.clone(), kept.lsn()), (None, lsn), "its manifest is young");
    assert_shows(&kept, &model, "without its name");
    // The name is another manifest's now.
    let again = db.create_snapshot("one").unwrap();
    let kept = db.as_of(again).unwrap();
    assert_eq!(kept.kept().unwrap().name.as_deref(), Some("one"));
    assert_eq!(kept.kept().unwrap().number, db.list_snapshots().unwrap()[0].manifest);
}

#[test]
fn a_lost_or_damaged_manifest_of_a_snapshot_is_named_and_keeps_the_database_open() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::builder(dir.path()).settings(settings()).open().unwrap();
    let mut rng = Rng::seeded(7);
    let mut model = fill(&db, &mut rng);
    db.create_snapshot("lost").unwrap();
    churn(&db, &mut model, &mut rng, 5);
    db.create_snapshot("good").unwrap();
    let then = model.clone();
    churn(&db, &mut model, &mut rng, 6);
    db.flush().unwrap();
    let lost = db.list_snapshots().unwrap()[0].manifest;
    db.close().unwrap();
    let file = dir.path().join("manifest").join(format!("{lost:020}.json"));
    let bytes = std::fs::read(&file).unwrap();
    for damaged in [true, false] {
        match damaged {
            true => std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap(),
            false => std::fs::remove_file(&file).unwrap(),
        }
        let kind = if damaged { ErrorKind::Corrupt } else { ErrorKind::NotFound };
        let damages = verify(dir.path()).unwrap().damages;
        assert_eq!(damages.len(), 1, "{damages:?}");
        assert_eq!(damages[0].file, file);
        let db = Db::builder(dir.path()).settings(settings()).open().unwrap();
        assert_now(&db, &model, "with a damaged snapshot");
        let error = db.at_snapshot("lost").unwrap_err();
        assert_eq!((error.kind(), error.file()), (kind, Some(file.as_path())), "{error}");
        assert_shows(&db.at_snapshot("good").unwrap(), &then, "the other one");
        let listed = db.list_snapshots().unwrap();
        assert!(listed[0].damage.is_some() && listed[1].damage.is_none(), "{listed:?}");
        db.close().unwrap();
    }
    let db = Db::builder(dir.path()).settings(settings()).open().unwrap();
    db.remove_snapshot("lost").unwrap();
    assert_eq!(names(&db), ["good"]);
    db.close().unwrap();
    assert!(verify(dir.path()).unwrap().damages.is_empty());
    // A segment that only a snapshot names is verified too.
    let db = Db::builder(dir.path()).settings(settings()).open().unwrap();
    db.drop_collection("left").unwrap();
    db.close().unwrap();
    let home = dir.path().join("collections/1-left");
    let segment = files(&RealFs, &home).into_iter().find(|file| file.ends_with(".parquet")).unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damages = verify(dir.path()).unwrap().damages;
    assert_eq!(damages.iter().map(|d| d.file.display().to_string()).collect::<Vec<_>>(), [segment]);
}

#[test]
fn a_damaged_manifest_of_a_snapshot_holds_up_all_removal_is_told_and_ends_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(FakeClock::default());
    let open = || {
        let builder = Db::builder(dir.path()).settings(settings());
        builder.components(Arc::new(RealFs), Arc::clone(&clock) as _, Arc::new(RealSpawn)).open().unwrap()
    };
    let (db, mut rng) = (open(), Rng::seeded(10));
    let mut model = fill(&db, &mut rng);
    db.create_snapshot("lost").unwrap();
    db.create_snapshot("good").unwrap();
    let then = model.clone();
    churn(&db, &mut model, &mut rng, 6);
    db.flush().unwrap();
    let lost = db.list_snapshots().unwrap()[0].manifest;
    assert_eq!(db.stats().unwrap().removal_failure, None);
    db.close().unwrap();
    let file = dir.path().join("manifest").join(format!("{lost:020}.json"));
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    // As a crash leaves one between the file and its manifest.
    let orphan = dir.path().join("collections/2-right/99999999-00000001-aaaaaaaa.parquet");
    std::fs::write(&orphan, "of no manifest").unwrap();

    let db = open();
    let told = |db: &Db| db.stats().unwrap().removal_failure;
    let why = told(&db).unwrap();
    for part in ["\"lost\"", file.to_str().unwrap(), "`akidb snapshot rm lost`"] {
        assert!(why.contains(part), "{part} is not in {why}");
    }
    let error = db.at_snapshot("lost").unwrap_err();
    assert!(error.help().unwrap().contains("`akidb snapshot rm lost`"), "{error:?}");
    let damage = verify(dir.path()).unwrap().damages.remove(0);
    assert_eq!((&damage.file, &*damage.snapshots), (&file, &["lost".to_owned()][..]));
    assert!(damage.help.contains("`akidb snapshot rm lost`"), "{damage:?}");
    let expiring = db.stats().unwrap().newest_manifest;
    db.rename_collection("left", "again").unwrap();
    db.rename_collection("again", "left").unwrap();
    let expiring = dir.path().join("manifest").join(format!("{expiring:020}.json"));
    let pass = |until: &dyn Fn() -> bool| {
        while !until() {
            clock.advance(Duration::from_secs(1));
            std::thread::yield_now();
        }
    };
    pass(&|| !expiring.exists());
    assert!(orphan.exists() && told(&db).is_some(), "manifests expire, and no file goes");
    assert_now(&db, &model, "meanwhile");

    db.remove_snapshot("lost").unwrap();
    pass(&|| !orphan.exists() && told(&db).is_none());
    assert!(!file.exists());
    assert_shows(&db.at_snapshot("good").unwrap(), &then, "the other one");
    assert_now(&db, &model, "at the end");
    db.close().unwrap();
    assert!(verify(dir.path()).unwrap().damages.is_empty());
}

#[test]
fn a_restore_has_the_newest_rows_and_says_which_snapshots_it_left_out() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = format!("file://{}", copy.path().display());
    let mut rng = Rng::seeded(8);
    let db = Db::builder(dir.path()).settings(settings()).backend("copy", &url).open().unwrap();
    let mut model = fill(&db, &mut rng);
    db.create_snapshot("one").unwrap();
    churn(&db, &mut model, &mut rng, 5);
    db.create_snapshot("two").unwrap();
    db.wait_uploaded(Duration::from_secs(60)).unwrap();
    let cold = tempfile::tempdir().unwrap();
    let reader = Db::builder(cold.path()).backend("copy", &url).cold(true).open().unwrap();
    assert_now(&reader, &model, "cold");
    for error in [
        reader.at_snapshot("one").unwrap_err(),
        reader.as_of(Lsn::MAX).unwrap_err(),
        reader.list_snapshots().unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "AKI-0277"));
    }
    let home = tempfile::tempdir().unwrap();
    let report = restore(&BackendSettings::new("copy", &url).unwrap(), home.path()).unwrap();
    assert_eq!(report.snapshots_left_out, ["one", "two"]);
    let newer = Db::builder(home.path()).settings(settings()).open().unwrap();
    assert_now(&newer, &model, "restored");
    assert_eq!(names(&newer), [""; 0]);
    newer.create_snapshot("one").unwrap();
    assert_shows(&newer.at_snapshot("one").unwrap(), &model, "made anew");
    newer.close().unwrap();
    assert!(verify(home.path()).unwrap().damages.is_empty());
    // With the names gone a copy leaves nothing out.
    ["one", "two"].iter().for_each(|name| db.remove_snapshot(name).unwrap());
    db.wait_uploaded(Duration::from_secs(60)).unwrap();
    let home = tempfile::tempdir().unwrap();
    let report = restore(&BackendSettings::new("copy", &url).unwrap(), home.path()).unwrap();
    assert_eq!(report.snapshots_left_out, [""; 0]);
}
