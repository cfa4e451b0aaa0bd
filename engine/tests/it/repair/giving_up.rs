//! A damaged segment is given up: what is lost is named, and what older manifests and snapshots still read.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use akidb::manifest::Store;
use akidb::{Db, ErrorKind, Settings};
use akidb_host::sim::{Act, CrashDisk, EIO, FakeClock, Hook, HookFs, Op};
use akidb_host::{Fs, RealSpawn, read_file};

use super::{
    Model, assert_reads, assert_same, drop_on, filled, home, ids, list, newest, open, rot_vector,
    rot_vector_of, segment, without_lost,
};

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

/// What only the damaged manifest named would be removed by the next open.
#[test]
fn a_step_back_keeps_the_files_that_only_damaged_manifests_named() {
    let (disk, _) = filled(3, None);
    let (last, dir) = (newest(&disk), home(&disk));
    let file = &last.collections[0].segments.last().unwrap().file;
    let bytes = read_file(&disk, &dir.join(file)).unwrap();
    let manifest = Store::new(Arc::new(disk.clone()), "/db/manifest".into()).path(last.number);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let whole = akidb::repair_manifest_on(Arc::clone(&fs), "/db", false).unwrap_err();
    assert_eq!(whole.code(), "AKI-0317", "{whole}");
    disk.rot(&manifest, |bytes| bytes[40] ^= 1).unwrap();
    let kept = dir.join("damaged").join(file);
    for dry_run in [true, false, true] {
        let report = akidb::repair_manifest_on(Arc::clone(&fs), "/db", dry_run);
        if report.as_ref().is_err_and(|error| error.code() == "AKI-0317") {
            continue;
        }
        let report = report.unwrap();
        assert!(report.kept.contains(&kept) && report.done.contains("akidb import"), "{report:?}");
        assert_eq!(disk.metadata(&kept).is_ok(), !dry_run, "only looked");
    }
    let disk = disk.kill();
    assert_eq!(newest(&disk).number, last.number - 1);
    disk.unlink(&dir.join(file)).unwrap();
    assert!(read_file(&disk, &kept).unwrap() == bytes, "durable under its second name");
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
