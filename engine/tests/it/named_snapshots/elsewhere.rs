//! Snapshots as others see them: a reader beside the writer, an open of a kept manifest, a restore.

use std::time::Duration;

use akidb::{BackendSettings, Db, ErrorKind, Lsn, Settings, restore, verify};
use akidb_host::Rng;

use super::{assert_now, assert_shows, churn, fill, names, settings};

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
