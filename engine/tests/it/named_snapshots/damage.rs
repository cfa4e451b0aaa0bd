//! A manifest of a snapshot that is lost or damaged.

use std::sync::Arc;
use std::time::Duration;

use akidb::{Db, ErrorKind, verify};
use akidb_host::sim::FakeClock;
use akidb_host::{RealFs, RealSpawn, Rng};

use super::{assert_now, assert_shows, churn, files, fill, names, settings};

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
    let pass = |until: &dyn Fn() -> bool| {
        while !until() {
            clock.advance(Duration::from_secs(1));
            std::thread::yield_now();
        }
    };
    // Behind the open, by the driver.
    pass(&|| told(&db).is_some());
    let why = told(&db).unwrap();
    assert_eq!(why.matches("let the name go").count(), 1, "{why}");
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
