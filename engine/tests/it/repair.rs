//! `akidb repair segment`: a damaged segment is given up or taken back, the power is cut and the disk fails in every step
//! of it. What is read afterwards is compared with a model: what is lost is named, and nothing else is lost or revived.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use akidb::manifest::{Manifest, Store};
use akidb::{BackendSettings, Collection, Db, ErrorKind, Metric, RepairReport, Schema, Settings};
use akidb_host::sim::{Act, Call, CrashDisk, EIO, ENOSPC, FakeClock, Hook, HookFs, Op};
use akidb_host::{Fs, RealClock, RealSpawn, Rng, read_file};
use serde_json::{Value, json};

const DIM: u16 = 64;
/// The segment that is damaged: two came before it, and one hid rows of it.
const DAMAGED: usize = 1;

/// Version of every live row.
type Model = BTreeMap<u64, u64>;

fn vector(n: u64, version: u64) -> Vec<f32> {
    let mut rng = Rng::seeded(n << 32 | version);
    (0..DIM).map(|_| rng.f64() as f32 - 0.5).collect()
}

fn open(fs: Arc<dyn Fs>, backend: Option<&str>) -> akidb::Result<Db> {
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let builder = Db::builder("/db").settings(settings);
    let builder = match backend {
        Some(url) => builder.backend("copy", url),
        None => builder,
    };
    builder.components(fs, Arc::new(RealClock), Arc::new(RealSpawn)).open()
}

/// Three segments whose rows overlap, and deletes; then newer versions and deletes that only the log has.
fn filled(seed: u64, backend: Option<&str>) -> (CrashDisk, Model) {
    let disk = CrashDisk::new(seed);
    let db = open(Arc::new(disk.clone()), backend).unwrap();
    let rows = db.create_collection("rows", Schema::new(DIM, Metric::L2).int("version")).unwrap();
    let mut model = Model::new();
    let put = |model: &mut Model, n: u64, version: u64| {
        rows.upsert(format!("r{n:04}"), &vector(n, version), json!({ "version": version })).unwrap();
        model.insert(n, version);
    };
    for version in 1..=3 {
        // So many deaths in the first that its deletion vector is a file.
        (0..700).for_each(|n| put(&mut model, n * version % 1_000, version));
        for n in (0..60).map(|n| n * 7 * version % 1_000) {
            assert_eq!(rows.delete(format!("r{n:04}")).unwrap(), model.remove(&n).is_some());
        }
        db.flush().unwrap();
    }
    let of_damaged: Vec<u64> = model.iter().filter(|(_, version)| **version == 2).map(|(n, _)| *n).collect();
    of_damaged[..6].iter().for_each(|n| put(&mut model, *n, 4));
    for n in &of_damaged[6..10] {
        assert!(rows.delete(format!("r{n:04}")).unwrap());
        model.remove(n);
    }
    if backend.is_some() {
        db.wait_uploaded(Duration::from_secs(60)).unwrap();
    }
    drop(rows);
    db.close().unwrap();
    (disk.kill(), model)
}

fn newest(disk: &CrashDisk) -> Manifest {
    Store::new(Arc::new(disk.clone()), "/db/manifest".into()).newest().unwrap().unwrap().manifest
}

fn home(disk: &CrashDisk) -> PathBuf {
    Path::new("/db/collections").join(&newest(disk).collections[0].dir)
}

fn segment(disk: &CrashDisk) -> PathBuf {
    home(disk).join(&newest(disk).collections[0].segments[DAMAGED].file)
}

/// Flips a bit of the last row's vector, whose block holds no id.
fn rot_vector(disk: &CrashDisk, file: &Path) {
    let rows = newest(disk).collections[0].segments[DAMAGED].rows;
    rot_vector_of(disk, file, rows - 1);
}

fn rot_vector_of(disk: &CrashDisk, file: &Path, row: u32) {
    let meta = newest(disk).collections[0].segments[DAMAGED].clone();
    let at = usize::try_from(meta.vectors[0] + u64::from(row) * u64::from(DIM) * 4).unwrap();
    disk.rot(file, |bytes| bytes[at] ^= 4).unwrap();
}

#[track_caller]
fn assert_same(rows: &Collection, model: &Model, when: &str) {
    assert_eq!(rows.count().unwrap(), model.len() as u64, "{when}: count");
    let scanned = rows.scan().limit(10_000).run().unwrap();
    let number = |id: &akidb::Id| id.to_string()[1..].parse::<u64>().unwrap();
    let found: Model =
        scanned.iter().map(|row| (number(&row.id), row.payload["version"].as_u64().unwrap())).collect();
    assert_eq!(&found, model, "{when}: scan");
    assert!(scanned.iter().all(|row| row.vector == vector(number(&row.id), found[&number(&row.id)])));
    for n in (0..1_000).step_by(97) {
        let got = rows.get(format!("r{n:04}")).unwrap().map(|row| row.payload["version"].as_u64().unwrap());
        assert_eq!(got, model.get(&n).copied(), "{when}: get {n}");
    }
    for version in 1..=4 {
        let expected = model.values().filter(|v| **v == version).count() as u64;
        assert_eq!(rows.count_where(format!("version = {version}")).unwrap(), expected, "{when}: {version}");
    }
    let hits = rows.search(&vector(1, 1)).k(2_000).exact().run().unwrap();
    assert_eq!(hits.len(), model.len(), "{when}: search");
}

/// Opens the disk and compares; once more behind a flush and a merge.
#[track_caller]
fn assert_reads(disk: &CrashDisk, model: &Model, when: &str) {
    let db = open(Arc::new(disk.clone()), None).unwrap();
    let rows = db.collection("rows").unwrap();
    assert_same(&rows, model, when);
    db.flush().unwrap();
    db.compact().unwrap();
    assert_same(&rows, model, &format!("{when}, flushed and merged"));
    drop(rows);
    db.close().unwrap();
}

fn drop_on(fs: Arc<dyn Fs>, file: &Path) -> akidb::Result<RepairReport> {
    akidb::repair_segment_drop_on(fs, file, false)
}

fn without_lost(model: &Model) -> (Model, BTreeSet<String>) {
    let left = model.iter().filter(|(_, version)| **version != 2).map(|(n, v)| (*n, *v)).collect();
    let lost = model.iter().filter(|(_, version)| **version == 2).map(|(n, _)| format!("r{n:04}")).collect();
    (left, lost)
}

/// The lines of a list of lost ids.
fn list(disk: &CrashDisk, file: &Path) -> Vec<Value> {
    let text = String::from_utf8(read_file(disk, file).unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids(lines: &[Value]) -> BTreeSet<String> {
    lines.iter().filter_map(|line| line["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_damaged_segment_is_given_up_its_ids_are_named_and_no_older_version_comes_back() {
    let (disk, model) = filled(1, None);
    let (left, lost) = without_lost(&model);
    assert!(lost.len() > 100 && left.len() > 400, "{} and {}", lost.len(), left.len());
    let file = segment(&disk);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let sound = drop_on(Arc::clone(&fs), &file).unwrap_err();
    assert_eq!((sound.kind(), sound.code()), (ErrorKind::Invalid, "AKI-0287"), "{sound}");

    rot_vector(&disk, &file);
    let found = akidb::verify_on(Arc::clone(&fs), "/db").unwrap();
    assert_eq!(found.damages.len(), 1, "{found:?}");
    assert!(found.damages[0].help.contains("akidb repair segment"), "{found:?}");
    let before = newest(&disk).number;
    let looked = akidb::repair_segment_drop_on(Arc::clone(&fs), &file, true).unwrap();
    assert_eq!(looked.lost.as_ref().unwrap().rows, lost.len() as u64);
    assert_eq!(newest(&disk).number, before, "only looked");

    let db = open(Arc::new(disk.clone()), None).unwrap();
    assert_eq!(drop_on(Arc::clone(&fs), &file).unwrap_err().kind(), ErrorKind::Locked);
    db.close().unwrap();

    let report = drop_on(Arc::clone(&fs), &file).unwrap();
    let named = report.lost.unwrap();
    assert_eq!((named.rows, named.ids_unread, named.ids.len()), (lost.len() as u64, 0, 20), "{named:?}");
    assert_eq!(ids(&list(&disk, &named.list.unwrap())), lost);
    assert!(disk.metadata(&file).is_ok() && disk.metadata(&report.kept[0]).is_ok(), "kept aside as well");
    // Older manifests go on naming it; it is known that it is damaged.
    let found = akidb::verify_on(Arc::clone(&fs), "/db").unwrap();
    assert_eq!((found.damages.len(), &*found.set_aside), (0, std::slice::from_ref(&file)), "{found:?}");
    let again = drop_on(fs, &file).unwrap_err();
    assert_eq!(again.code(), "AKI-0287", "{again}");
    assert_reads(&disk, &left, "given up");
    assert!(disk.metadata(&report.kept[0]).is_ok(), "and it stays there");
}

/// A snapshot shows the damaged segment; the database gave it up.
fn given_up_under_a_snapshot(seed: u64) -> (CrashDisk, Model, PathBuf) {
    let (disk, model) = filled(seed, None);
    let db = open(Arc::new(disk.clone()), None).unwrap();
    db.create_snapshot("x").unwrap();
    db.close().unwrap();
    let file = segment(&disk);
    // Its block has the vectors of 64 rows, live ones among them.
    rot_vector_of(&disk, &file, 300);
    let report = drop_on(Arc::new(disk.clone()), &file).unwrap();
    assert!(report.done.contains("snapshots go on reading") && report.done.ends_with(": x"), "{report:?}");
    (disk, model, file)
}

#[test]
fn a_snapshot_goes_on_reading_what_it_can_of_a_segment_that_the_database_gave_up() {
    let (disk, model, file) = given_up_under_a_snapshot(9);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let lsn = {
        let db = open(Arc::clone(&fs), None).unwrap();
        let snapshot = db.at_snapshot("x").unwrap();
        let rows = snapshot.collection("rows").unwrap();
        assert_eq!(rows.count().unwrap(), model.len() as u64);
        let (n, _) = model.iter().find(|(_, version)| **version == 3).unwrap();
        assert_eq!(rows.get(format!("r{n:04}")).unwrap().unwrap().payload["version"], 3);
        let touched = rows.scan().limit(10_000).run().unwrap_err();
        assert_eq!((touched.kind(), touched.file()), (ErrorKind::Corrupt, Some(file.as_path())), "{touched}");
        assert_eq!(db.list_snapshots().unwrap()[0].damage, None, "its files are there");
        assert_eq!(db.as_of(snapshot.lsn()).unwrap().kept().unwrap().name.as_deref(), Some("x"));
        snapshot.lsn()
    };
    // Damage, whatever was ordered: the snapshot still promises those rows.
    let found = akidb::verify_on(Arc::clone(&fs), "/db").unwrap();
    assert_eq!((found.damages.len(), found.set_aside.len()), (1, 0), "{found:?}");
    let damage = &found.damages[0];
    assert_eq!((&damage.file, &*damage.snapshots), (&file, &["x".to_owned()][..]));
    assert!(damage.manifest.is_some(), "{damage:?}");
    let refused = drop_on(Arc::clone(&fs), &file).unwrap_err();
    for help in [&*damage.help, refused.help().unwrap()] {
        assert!(help.contains("--from BACKEND") && help.contains("`akidb snapshot rm x`"), "{help}");
        assert!(!help.contains("--drop"), "{help}");
    }

    disk.unlink(&file).unwrap();
    let found = akidb::verify_on(Arc::clone(&fs), "/db").unwrap();
    assert_eq!(found.damages.len(), 1, "{found:?}");
    let db = open(fs, None).unwrap();
    let listed = db.list_snapshots().unwrap().remove(0);
    assert!(listed.damage.is_some_and(|damage| damage.contains(&file.display().to_string())));
    let shut = db.at_snapshot("x").unwrap_err();
    assert_eq!((shut.code(), shut.file()), ("AKI-0501", Some(file.as_path())), "{shut}");
    assert!(shut.help().unwrap().contains("`akidb snapshot rm x`"), "{shut:?}");
    let shut = db.as_of(lsn).unwrap_err();
    assert_eq!(shut.code(), "AKI-0501", "{shut}");
    assert!(shut.help().unwrap().contains("`akidb snapshot rm x`"), "{shut:?}");
}

#[test]
fn the_space_of_a_segment_that_was_given_up_returns_with_the_last_manifest_that_names_it() {
    let (disk, model, file) = given_up_under_a_snapshot(10);
    let (left, _) = without_lost(&model);
    let clock = Arc::new(FakeClock::default());
    let text = "[engine]\ncompaction = false\nmanifest_keep = 1\nsnapshot_max_age_secs = 31622400\n";
    let open = || {
        let builder = Db::builder("/db").settings(Settings::from_toml(text).unwrap());
        let fs = Arc::new(disk.clone());
        builder.components(fs, Arc::clone(&clock) as _, Arc::new(RealSpawn)).open().unwrap()
    };
    // Once a file that nothing names is gone, gc had its chance.
    let decoy = file.with_file_name("99999999-00000001-aaaaaaaa.parquet");
    let collect = |db: &Db| {
        disk.create_new(&decoy).unwrap();
        db.rename_collection("rows", "again").unwrap();
        db.rename_collection("again", "rows").unwrap();
        while disk.metadata(&decoy).is_ok() {
            clock.advance(Duration::from_secs(1));
            std::thread::yield_now();
        }
    };
    let db = open();
    collect(&db);
    assert!(disk.metadata(&file).is_ok(), "the snapshot shows it");
    db.remove_snapshot("x").unwrap();
    collect(&db);
    assert!(disk.metadata(&file).is_err(), "nothing names it");
    assert_same(&db.collection("rows").unwrap(), &left, "without the snapshot");
    db.close().unwrap();
    let found = akidb::verify_on(Arc::new(disk.clone()), "/db").unwrap();
    assert_eq!((found.damages.len(), found.set_aside.len()), (0, 0), "{found:?}");
    let aside = home(&disk).join("damaged").join(file.file_name().unwrap());
    assert!(disk.metadata(&aside).is_ok(), "what was kept aside is a person's to remove");
}

#[test]
fn ids_that_cannot_be_read_are_counted_and_told_between_which_they_lie() {
    type Damage = fn(&CrashDisk, &Path);
    let damages: [(&str, Damage); 4] = [
        ("the page of the first ids", |disk, file| disk.rot(file, |bytes| bytes[60] ^= 1).unwrap()),
        ("the tail", |disk, file| {
            disk.rot(file, |bytes| {
                let at = bytes.len() - 20;
                bytes[at] ^= 1;
            })
            .unwrap();
        }),
        ("a file cut short", |disk, file| disk.rot(file, |bytes| bytes.truncate(9_000)).unwrap()),
        ("a file that is gone", |disk, file| disk.unlink(file).unwrap()),
    ];
    for (what, damage) in damages {
        let (disk, model) = filled(2, None);
        let (left, lost) = without_lost(&model);
        let file = segment(&disk);
        damage(&disk, &file);
        let found = akidb::verify_on(Arc::new(disk.clone()), "/db").unwrap();
        let touched = found.damages.iter().find_map(|damage| damage.rows.clone()).unwrap();
        assert!(touched.rows > 0 && !touched.unread.is_empty(), "{what}: {touched:?}");
        let report = drop_on(Arc::new(disk.clone()), &file).unwrap().lost.unwrap();
        // Which of them the log has again cannot be told, so that the count is an upper bound.
        assert!(report.ids_unread > 0 && report.rows >= lost.len() as u64, "{what}: {report:?}");
        assert!(report.rows <= lost.len() as u64 + 10, "{what}: {report:?}");
        let found = akidb::verify_on(Arc::new(disk.clone()), "/db").unwrap();
        assert_eq!((found.damages.len(), found.set_aside.len()), (0, 1), "{what}: {found:?}");
        let lines = list(&disk, report.list.as_ref().unwrap());
        assert!(ids(&lines).is_subset(&lost), "{what}: {lines:?}");
        for line in lines.iter().filter(|line| line["rows"].is_array()) {
            let [low, high] = [0, 1].map(|side| line["between"][side].as_str().unwrap().to_owned());
            assert!(low < high, "{what}: {line}");
        }
        assert_reads(&disk, &left, what);
    }
}

#[test]
fn a_segment_that_cannot_be_opened_now_is_not_given_up_for_it_and_one_on_a_bad_sector_is() {
    const EMFILE: i32 = 24;
    const ENOMEM: i32 = 12;
    let (disk, model) = filled(11, None);
    let (left, _) = without_lost(&model);
    let file = segment(&disk);
    let before = newest(&disk);
    let vector = match &before.collections[0].segments[0].deletion_vector {
        Some(akidb::DeletionVectorRef::File { file, .. }) => home(&disk).join("dv").join(file),
        other => panic!("{other:?}"),
    };
    let first = home(&disk).join(&before.collections[0].segments[0].file);
    let failing = |op: Op, of: &Path, errno: i32| -> Arc<dyn Fs> {
        let of = of.to_path_buf();
        let hook: Hook =
            Arc::new(move |call| if call.op == op && call.path == of { Act::Fail(errno) } else { Act::Go });
        Arc::new(HookFs::new(Arc::new(disk.clone()), hook))
    };
    for (op, of, given, errno) in [
        (Op::Open, &file, &file, EMFILE),
        (Op::Map, &file, &file, ENOMEM),
        (Op::ReadAt, &file, &file, ENOMEM),
        (Op::Open, &vector, &first, EMFILE),
    ] {
        let error = drop_on(failing(op, of, errno), given).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{op:?} {errno}: {error}");
        assert_eq!(error.file(), Some(of.as_path()), "{op:?} {errno}: {error}");
    }
    assert_eq!(newest(&disk).number, before.number, "nothing was given up");
    assert!(disk.metadata(&home(&disk).join("damaged")).is_err());
    let report = drop_on(failing(Op::ReadAt, &file, EIO), &file).unwrap();
    assert!(report.lost.unwrap().ids_unread > 0);
    assert_reads(&disk, &left, "a bad sector");
}

#[test]
fn a_file_taken_back_after_it_was_given_up_brings_no_row_back_and_says_so() {
    let copy = tempfile::tempdir().unwrap();
    let url = format!("file://{}", copy.path().display());
    let (disk, model) = filled(12, Some(&url));
    let (left, _) = without_lost(&model);
    let backend = BackendSettings::new("copy", &url).unwrap();
    let file = segment(&disk);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let back =
        |dry_run| akidb::repair_segment_from_on(Arc::clone(&fs), &backend, &file, dry_run).unwrap().done;
    assert!(!back(true).contains("no row"), "it is live");
    rot_vector(&disk, &file);
    let last = newest(&disk).number;
    let looked = akidb::repair_segment_drop_on(Arc::clone(&fs), &file, true).unwrap();
    let done = drop_on(Arc::clone(&fs), &file).unwrap();
    assert!(looked.done.contains("this is final") && done.done.contains("this is final"), "{done:?}");
    let said = format!("; only manifest {last} and older name it: no row of the database comes back");
    for dry_run in [true, false] {
        assert!(back(dry_run).ends_with(&said), "{}", back(dry_run));
    }
    assert_eq!(
        akidb::verify_on(Arc::clone(&fs), "/db").unwrap().set_aside.len(),
        0,
        "older manifests are whole"
    );
    assert_reads(&disk, &left, "taken back too late");
}

/// A disk that hands every changing call of one repair to `inside`.
fn watched(disk: &CrashDisk, inside: impl Fn(&Call<'_>) -> Act + Send + Sync + 'static) -> Arc<dyn Fs> {
    let counted = Mutex::new(0);
    let hook: Hook = Arc::new(move |call| {
        if !call.op.changes() {
            return Act::Go;
        }
        let mut counted = counted.lock().unwrap();
        *counted += 1;
        inside(&Call { n: *counted, ..*call })
    });
    Arc::new(HookFs::new(Arc::new(disk.clone()), hook))
}

/// The disks that a crash before each changing call of `repair`, or behind the last, may leave.
fn crashes(disk: &CrashDisk, repair: impl FnOnce(Arc<dyn Fs>)) -> Vec<(String, CrashDisk)> {
    let seed = std::env::var("AKIDB_REPAIR_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    println!("AKIDB_REPAIR_SEED={seed}");
    let taken: Arc<Mutex<Vec<(String, CrashDisk)>>> = Arc::default();
    let (cuts, watched_disk, rng) = (Arc::clone(&taken), disk.clone(), Mutex::new(Rng::seeded(seed)));
    repair(watched(disk, move |call| {
        let name = format!("{:?} {}", call.op, call.path.display());
        let (mut cuts, mut rng) = (cuts.lock().unwrap(), rng.lock().unwrap());
        (0..3).for_each(|_| cuts.push((format!("a cut before {name}"), watched_disk.power_cut(&mut rng))));
        cuts.push((format!("a kill before {name}"), watched_disk.kill()));
        Act::Go
    }));
    let mut cuts = std::mem::take(&mut *taken.lock().unwrap());
    cuts.push(("a kill at the end".into(), disk.kill()));
    cuts
}

#[test]
fn a_crash_in_any_step_of_giving_up_leaves_the_segment_named_or_its_ids_listed() {
    let (disk, model) = filled(4, None);
    let (left, lost) = without_lost(&model);
    let file = segment(&disk);
    let aside = home(&disk).join("damaged");
    rot_vector(&disk, &file);
    let cuts = crashes(&disk, |fs| drop_on(fs, &file).map(drop).unwrap());
    println!("{} disks", cuts.len());
    let mut given_up = 0;
    for (when, disk) in cuts {
        let is_named = newest(&disk).collections[0].segments.len() == 3;
        if is_named {
            drop_on(Arc::new(disk.clone()), &file).unwrap_or_else(|error| panic!("{when}: again: {error}"));
        } else {
            given_up += 1;
        }
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(disk.metadata(&aside.join(name)).is_ok(), "{when}: the file is kept");
        assert_eq!(ids(&list(&disk, &aside.join(format!("{name}.lost.jsonl")))), lost, "{when}");
        assert_reads(&disk, &left, &when);
        assert!(disk.metadata(&aside.join(name)).is_ok(), "{when}: the file is still kept");
    }
    assert!(given_up > 3, "{given_up}");
}

#[test]
fn a_failing_disk_fails_the_giving_up_and_it_can_be_ordered_again() {
    let (whole, model) = filled(5, None);
    let (left, _) = without_lost(&model);
    let file = segment(&whole);
    rot_vector(&whole, &file);
    let mut failed = 0;
    for errno in [EIO, ENOSPC] {
        for at in 1.. {
            let disk = whole.kill();
            let reached = Arc::new(Mutex::new(false));
            let noted = Arc::clone(&reached);
            let fs = watched(&disk, move |call| {
                let is_it = call.n == at && call.op.can_fail();
                *noted.lock().unwrap() |= call.n == at;
                if is_it { Act::Fail(errno) } else { Act::Go }
            });
            let when = format!("errno {errno} in call {at}");
            if let Err(error) = drop_on(fs, &file) {
                let kinds = [ErrorKind::NoSpace, ErrorKind::Unavailable, ErrorKind::Poisoned];
                assert!(kinds.contains(&error.kind()) && error.file().is_some(), "{when}: {error}");
                failed += 1;
            }
            if newest(&disk).collections[0].segments.len() == 3 {
                drop_on(Arc::new(disk.clone()), &file).unwrap_or_else(|e| panic!("{when}: again: {e}"));
            }
            assert_reads(&disk, &left, &when);
            if !*reached.lock().unwrap() {
                break;
            }
        }
    }
    assert!(failed > 8, "{failed}");
}

#[test]
fn a_crash_in_any_step_of_taking_back_leaves_the_damaged_file_or_the_right_one() {
    let copy = tempfile::tempdir().unwrap();
    let url = format!("file://{}", copy.path().display());
    let (disk, model) = filled(6, Some(&url));
    let backend = BackendSettings::new("copy", &url).unwrap();
    let file = segment(&disk);
    let whole = read_file(&disk, &file).unwrap();
    rot_vector(&disk, &file);
    let damaged = read_file(&disk, &file).unwrap();
    let back = |fs, file: &Path| akidb::repair_segment_from_on(fs, &backend, file, false);
    let cuts = crashes(&disk, |fs| back(fs, &file).map(drop).unwrap());
    assert_eq!(read_file(&disk, &file).unwrap(), whole);
    println!("{} disks", cuts.len());
    for (when, disk) in cuts {
        let there = read_file(&disk, &file).unwrap();
        assert!(there == damaged || there == whole, "{when}: half a file under the name");
        back(Arc::new(disk.clone()), &file).unwrap();
        assert_eq!(read_file(&disk, &file).unwrap(), whole, "{when}");
        assert_reads(&disk, &model, &when);
        let names = disk.list(&home(&disk)).unwrap();
        assert!(names.iter().all(|entry| !entry.name.ends_with(".restoring")), "{when}: {names:?}");
    }
}

#[test]
fn a_file_is_taken_back_only_if_the_backend_has_the_right_one() {
    let copy = tempfile::tempdir().unwrap();
    let url = format!("file://{}", copy.path().display());
    let (disk, model) = filled(7, Some(&url));
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let backend = BackendSettings::new("copy", &url).unwrap();
    let back = |file: &Path| akidb::repair_segment_from_on(Arc::clone(&fs), &backend, file, false);
    let (file, dir) = (segment(&disk), home(&disk));
    let object = copy.path().join(file.strip_prefix("/db").unwrap());
    let vectors = disk.list(&dir.join("dv")).unwrap();
    let vector = dir.join("dv").join(&vectors.last().expect("a deletion vector is a file").name);

    // Missing, both of them.
    disk.unlink(&file).unwrap();
    disk.unlink(&vector).unwrap();
    let shut = open(Arc::clone(&fs), None).unwrap_err();
    assert!(shut.help().unwrap().contains("akidb repair segment"), "{shut:?}");
    let refused = drop_on(Arc::clone(&fs), &vector).unwrap_err();
    assert_eq!(refused.code(), "AKI-0287", "dead rows would live again: {refused}");
    let elsewhere = back(Path::new("/db/x.parquet")).unwrap_err();
    assert_eq!(elsewhere.code(), "AKI-0284", "{elsewhere}");
    let unknown = back(&file.with_file_name("00000009-00000009-00000009.parquet")).unwrap_err();
    assert_eq!((unknown.kind(), unknown.code()), (ErrorKind::NotFound, "AKI-0285"), "{unknown}");

    let right = std::fs::read(&object).unwrap();
    let mut wrong = right.clone();
    wrong[5_000] ^= 1;
    std::fs::write(&object, wrong).unwrap();
    let error = back(&file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.help().unwrap().contains("--drop"), "{error:?}");
    assert!(disk.metadata(&file).is_err(), "nothing wrong gets the name");
    std::fs::remove_file(&object).unwrap();
    assert_eq!(back(&file).unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::write(&object, right).unwrap();

    let looked = akidb::repair_segment_from_on(Arc::clone(&fs), &backend, &file, true).unwrap();
    assert!(looked.dry_run && disk.metadata(&file).is_err());
    back(&file).unwrap();
    back(&vector).unwrap();
    assert_eq!(akidb::verify_on(Arc::clone(&fs), "/db").unwrap().damages.len(), 0);
    assert_reads(&disk, &model, "taken back");
}

#[test]
fn files_that_only_older_manifests_name_are_verified_and_never_given_up() {
    let (disk, model) = filled(8, None);
    let file = segment(&disk);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let db = open(Arc::clone(&fs), None).unwrap();
    let before = newest(&disk).number;
    assert_eq!(db.compact().unwrap(), 1);
    db.close().unwrap();
    assert!(newest(&disk).collections[0].segments.iter().all(|meta| !file.ends_with(&meta.file)));
    disk.rot(&file, |bytes| bytes[60] ^= 1).unwrap();
    let found = akidb::verify_on(Arc::clone(&fs), "/db").unwrap();
    assert_eq!(found.damages.len(), 1, "{found:?}");
    assert_eq!(found.damages[0].file, file);
    assert!(found.damages[0].manifest.is_some_and(|number| number >= before), "{found:?}");
    assert!(found.damages[0].rows.is_some(), "{found:?}");
    assert!(!found.damages[0].help.contains("--drop"), "{found:?}");
    let refused = drop_on(Arc::clone(&fs), &file).unwrap_err();
    assert_eq!(refused.code(), "AKI-0287", "{refused}");
    // Gone without an order: no list says why.
    disk.unlink(&file).unwrap();
    let found = akidb::verify_on(fs, "/db").unwrap();
    assert_eq!((found.damages.len(), found.set_aside.len()), (1, 0), "{found:?}");
    assert_reads(&disk, &model, "an older manifest's file is gone");
}
