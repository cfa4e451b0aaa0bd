//! Files that nothing names go, whatever failed before, and nothing that is kept goes because a clock was set. The database's
//! threads are the test's own, and its clock is the test's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akidb::manifest::{Manifest, Store};
use akidb::{Collection, Db, Metric, NewRow, Schema, Settings};
use akidb_host::sim::{Act, Call, CrashDisk, EIO, FakeClock, HookFs, InlineSpawn, Op};
use akidb_host::{Clock, Fs, Rng};
use serde_json::json;

const DAY_MICROS: i64 = 24 * 3_600 * 1_000_000;
/// More dead rows than a manifest holds by itself.
const ROWS: i64 = 20_000;

/// Whether a call fails.
type Fails = Arc<Mutex<Option<Box<dyn Fn(&Call<'_>) -> bool + Send>>>>;

struct World {
    disk: CrashDisk,
    clock: Arc<FakeClock>,
    spawn: InlineSpawn,
    fails: Fails,
}

impl World {
    fn on(disk: CrashDisk) -> Self {
        Self { disk, clock: Arc::default(), spawn: InlineSpawn::default(), fails: Fails::default() }
    }

    fn open(&self, settings: &str) -> Db {
        let fails = Arc::clone(&self.fails);
        let hook = move |call: &Call<'_>| match &*fails.lock().unwrap() {
            Some(fails) if fails(call) => Act::Fail(EIO),
            _ => Act::Go,
        };
        let fs = Arc::new(HookFs::new(Arc::new(self.disk.clone()), Arc::new(hook)));
        let text = format!("[engine]\ncompaction = false\n{settings}");
        let builder = Db::builder("/db").settings(Settings::from_toml(&text).unwrap());
        builder.components(fs, Arc::clone(&self.clock) as _, Arc::new(self.spawn.clone())).open().unwrap()
    }

    fn fail(&self, fails: impl Fn(&Call<'_>) -> bool + Send + 'static) {
        *self.fails.lock().unwrap() = Some(Box::new(fails));
    }

    fn heal(&self) {
        *self.fails.lock().unwrap() = None;
    }

    /// Lets time pass, and the database's threads look every second.
    fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.spawn.run_until_idle(self.clock.now());
            self.clock.advance(Duration::from_secs(1));
        }
        self.spawn.run_until_idle(self.clock.now());
    }

    /// Files of collections, deletion vectors too.
    fn files(&self) -> BTreeSet<PathBuf> {
        let root = PathBuf::from("/db/collections");
        let mut files = BTreeSet::new();
        for home in self.disk.list(&root).unwrap() {
            let home = root.join(home.name);
            for dir in [home.clone(), home.join("dv")] {
                let names = self.disk.list(&dir).unwrap_or_default();
                files.extend(names.into_iter().map(|entry| dir.join(entry.name)));
            }
        }
        files.retain(|path| !path.ends_with("dv"));
        files
    }

    fn manifest(&self) -> Manifest {
        Store::new(Arc::new(self.disk.clone()), "/db/manifest".into()).newest().unwrap().unwrap().manifest
    }

    /// How many files of collections the newest manifest names.
    fn named(&self) -> usize {
        let segments = self.manifest().collections.into_iter().flat_map(|c| c.segments);
        let mut vectors = BTreeSet::new();
        let files = segments.inspect(|segment| {
            if let Some(akidb::DeletionVectorRef::File { file, .. }) = &segment.deletion_vector {
                vectors.insert(file.clone());
            }
        });
        files.count() + vectors.len()
    }
}

fn rows(db: &Db) -> Collection {
    db.create_collection("rows", Schema::new(2, Metric::L2).int_ids()).unwrap()
}

fn put(rows: &Collection, ids: impl Iterator<Item = i64>, version: i64) {
    let row = |id| NewRow::new(id, vec![1.0, 2.0], json!({ "version": version })).unwrap();
    rows.upsert_batch(&ids.map(row).collect::<Vec<_>>()).unwrap();
}

#[test]
fn a_flush_that_fails_leaves_no_file_behind_however_often_it_is_tried() {
    let world = World::on(CrashDisk::new(1));
    let db = world.open("");
    let rows = rows(&db);
    put(&rows, 0..ROWS, 1);
    db.flush().unwrap();
    put(&rows, (0..ROWS).step_by(3), 2);
    let before = world.files();
    world.fail(|call| call.op == Op::CreateNew && call.path.parent().is_some_and(|dir| dir.ends_with("dv")));
    for _ in 0..5 {
        db.flush().unwrap_err();
        assert_eq!(world.files(), before, "at once");
    }
    // Nor does one that the segment's name was not synced of: it is swept.
    world.fail(|call| call.op == Op::SyncDir && call.path.starts_with("/db/collections"));
    for _ in 0..3 {
        db.flush().unwrap_err();
    }
    assert!(world.files().len() > before.len());
    world.heal();
    world.pass(40);
    assert_eq!(world.named(), world.files().len(), "{:?}", world.files());
    assert_eq!(rows.count().unwrap(), ROWS as u64);
    assert_eq!(db.stats().unwrap().removal_failure, None);
}

#[test]
fn a_removal_that_fails_is_tried_again_and_holds_up_no_other() {
    let world = World::on(CrashDisk::new(2));
    let db = world.open("manifest_keep = 1\n");
    let rows = rows(&db);
    for part in 0..4 {
        put(&rows, part * 100..(part + 1) * 100, 1);
        db.flush().unwrap();
    }
    world.pass(3);
    let inputs = world.files();
    assert_eq!(inputs.len(), 4);
    // None of them, at first; then all but one that stays for good.
    world.fail(|call| call.op == Op::Unlink && call.path.extension().is_some_and(|end| end == "parquet"));
    assert!(db.compact().unwrap() >= 1);
    world.pass(3);
    assert_eq!(world.files().len(), 5);
    let failure = db.stats().unwrap().removal_failure.unwrap();
    assert!(failure.contains("AKI-0208"), "{failure}");
    let stays = inputs.first().unwrap().clone();
    world.fail({
        let stays = stays.clone();
        move |call| call.op == Op::Unlink && call.path == stays
    });
    world.pass(20);
    assert_eq!((world.files().len(), world.files().contains(&stays)), (2, true));
    let failure = db.stats().unwrap().removal_failure.unwrap();
    assert!(failure.contains(stays.to_str().unwrap()), "{failure}");
    world.heal();
    world.pass(120);
    assert_eq!(world.files().len(), world.named());
    assert_eq!(db.stats().unwrap().removal_failure, None);
}

#[test]
fn a_clock_that_is_set_takes_no_history_away() {
    for days in [3, -3] {
        set_clock(days);
    }
}

/// So many days ahead, or back, and right again.
fn set_clock(days: i64) {
    let world = World::on(CrashDisk::new(3));
    let db = world.open("");
    let rows = rows(&db);
    let mut lsns = Vec::new();
    for version in 0..4 {
        put(&rows, 0..10, version);
        db.flush().unwrap();
        lsns.push(db.visible_lsn().unwrap());
    }
    world.pass(2);
    let numbers = || Store::new(Arc::new(world.disk.clone()), "/db/manifest".into()).numbers().unwrap();
    let kept = numbers();
    world.clock.jump_wall(days * DAY_MICROS);
    world.pass(60);
    assert_eq!(numbers(), kept);
    // Nor once something was committed by the wrong clock, nor what was, nor when it is right again.
    for version in 9..11 {
        put(&rows, 0..10, version);
        db.flush().unwrap();
        world.pass(60);
    }
    assert!(kept.iter().all(|number| numbers().contains(number)), "{kept:?} {:?}", numbers());
    let kept = numbers();
    world.clock.jump_wall(-days * DAY_MICROS);
    world.pass(60);
    assert!(kept.iter().all(|number| numbers().contains(number)), "{kept:?} {:?}", numbers());
    let then = db.as_of(lsns[1]).unwrap();
    let row = then.collection("rows").unwrap().get(3).unwrap().unwrap();
    assert_eq!(row.payload["version"], 1);
    // Time that passes does.
    world.clock.advance(Duration::from_secs(25 * 3_600));
    world.pass(2);
    assert!(numbers().len() <= 2, "{:?}", numbers());
}

#[test]
fn dropped_collections_are_forgotten_once_their_files_are_gone() {
    let world = World::on(CrashDisk::new(4));
    let db = world.open("manifest_keep = 1\n");
    let kept = rows(&db);
    for n in 0..60 {
        let name = format!("job{n}");
        let one = db.create_collection(&name, Schema::new(2, Metric::L2).int_ids()).unwrap();
        put(&one, 0..3, n);
        if n % 2 == 0 {
            db.flush().unwrap();
        }
        db.drop_collection(&name).unwrap();
        world.pass(1);
    }
    put(&kept, 0..3, 1);
    db.flush().unwrap();
    world.pass(1);
    let dropped = world.manifest().dropped;
    assert!(dropped.len() <= 3, "{dropped:?}");
    assert!(world.disk.list(Path::new("/db/collections")).unwrap().len() <= 3);
    drop((kept, db));
    let db = World::on(world.disk.kill()).open("");
    assert_eq!(db.collections().unwrap().len(), 1);
    assert_eq!(rows(&db).count().unwrap(), 3);
}

#[test]
fn a_directory_found_in_place_is_synced_before_anything_in_it_counts() {
    for seed in 1..=20 {
        println!("seed {seed}");
        let world = World::on(CrashDisk::new(seed));
        let db = world.open("");
        let docs = rows(&db);
        put(&docs, 0..ROWS, 1);
        db.flush().unwrap();
        drop((docs, db));
        // What a process leaves that died as it made it.
        let disk = world.disk.kill();
        let home = world.files().first().unwrap().parent().unwrap().to_owned();
        disk.make_dir_unsynced(&home.join("dv")).unwrap();
        let world = World::on(disk);
        let db = world.open("");
        let docs = rows(&db);
        for id in (0..ROWS).step_by(3) {
            docs.delete(id).unwrap();
        }
        db.flush().unwrap();
        assert!(world.files().iter().any(|path| path.parent().is_some_and(|dir| dir.ends_with("dv"))));
        let disk = world.disk.power_cut(&mut Rng::seeded(seed));
        drop((docs, db));
        let db = World::on(disk).open("");
        assert_eq!(rows(&db).count().unwrap(), (ROWS - ROWS.unsigned_abs().div_ceil(3) as i64) as u64);
    }
}
