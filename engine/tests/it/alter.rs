//! Collections that change: renamed, and given fields after rows were written.

use std::sync::Arc;
use std::time::Duration;

use akidb::{Collection, Db, ErrorKind, FieldType, Metric, Schema};
use akidb_host::{RealClock, Rng};
use serde_json::{Value, json};

use crate::history;
use crate::support::Watched;

fn ids(rows: &Collection, filter: &str) -> Vec<String> {
    let page = rows.scan().filter(filter).run().unwrap();
    page.iter().map(|row| row.id.to_string()).collect()
}

fn put(rows: &Collection, id: &str, payload: Value) {
    rows.upsert(id, &[1.0, id.len() as f32], payload).unwrap();
}

/// Rows from before are null in a new field, in the memtable, in segments, in the replayed log; rows from after have it.
#[test]
fn a_field_is_added_and_rows_from_before_are_null_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2).text("lang")).unwrap();
    let other = rows.clone();
    put(&rows, "segment", json!({"lang": "en", "year": "old text"}));
    db.flush().unwrap();
    put(&rows, "memtable", json!({"lang": "de", "x": 1}));
    rows.add_fields(&[("year", FieldType::Int), ("tags", FieldType::TextList)]).unwrap();
    assert_eq!(other.schema().unwrap().version, 2);
    put(&rows, "new", json!({"lang": "en", "year": 2024, "tags": ["a"]}));
    let wrong = rows.upsert("bad", &[1.0, 1.0], json!({"year": "text"})).unwrap_err();
    assert_eq!(wrong.code(), "AKI-0124");
    let check = |db: &Db, rows: &Collection, place: &str| {
        assert_eq!(ids(rows, "year = 2024"), ["new"], "{place}");
        assert_eq!(ids(rows, "year is null"), ["memtable", "segment"], "{place}");
        assert_eq!(ids(rows, "tags contains 'a' and lang = 'en'"), ["new"], "{place}");
        assert_eq!(rows.count_where("year < 3000").unwrap(), 1, "{place}");
        let hits = rows.search(&[1.0, 7.0]).k(3).filter("year is null").run().unwrap();
        assert_eq!(hits.len(), 2, "{place}");
        let row = rows.get("segment").unwrap().unwrap();
        assert_eq!(Value::Object(row.payload), json!({"lang": "en", "year": "old text"}), "{place}");
        assert_eq!(db.collection("rows").unwrap().schema().unwrap().fields.len(), 3, "{place}");
    };
    check(&db, &rows, "while open");
    // Dropped without a flush: the log holds records of both versions of the schema.
    drop((rows, other, db));
    let copy = tempfile::tempdir().unwrap();
    let copy = format!("file://{}", copy.path().display());
    for place in ["replayed", "flushed", "after another open"] {
        let db = Db::builder(dir.path()).backend("copy", &copy).open().unwrap();
        let rows = db.collection("rows").unwrap();
        check(&db, &rows, place);
        if place == "flushed" {
            db.flush().unwrap();
            check(&db, &rows, place);
            db.wait_uploaded(Duration::from_secs(60)).unwrap();
        }
        db.close().unwrap();
    }
    let cache = tempfile::tempdir().unwrap();
    let cold = Db::builder(cache.path()).backend("copy", &copy).cold(true).open().unwrap();
    check(&cold, &cold.collection("rows").unwrap(), "cold");
    let db = Db::open(dir.path()).unwrap();
    let rows = db.collection("rows").unwrap();
    // Written again, a row has the field; and the next version of the schema builds on this one.
    let error = rows.update_payload("segment", json!({"lang": "fr"})).unwrap_err();
    assert_eq!(error.code(), "AKI-0124", "its old value is no int: {error}");
    rows.update_payload("segment", json!({"year": 1999})).unwrap();
    rows.add_field("seen", FieldType::Bool).unwrap();
    rows.update_payload("memtable", json!({"seen": true})).unwrap();
    db.flush().unwrap();
    assert_eq!(
        (ids(&rows, "year = 1999"), ids(&rows, "seen = true")),
        (vec!["segment".into()], vec!["memtable".into()])
    );
    assert_eq!(rows.schema().unwrap().version, 3);
    assert_eq!(akidb::verify(dir.path()).unwrap().damages.len(), 0);
}

#[test]
fn bad_fields_and_names_are_refused_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2).text("lang")).unwrap();
    db.create_collection("taken", Schema::new(2, Metric::L2)).unwrap();
    for (name, code) in [("LANG", "AKI-0113"), ("vector", "AKI-0112"), ("", "AKI-0114")] {
        let error = rows.add_fields(&[("good", FieldType::Int), (name, FieldType::Int)]).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, code));
    }
    rows.add_fields(&[]).unwrap();
    assert_eq!(rows.schema().unwrap(), Schema::new(2, Metric::L2).text("lang"));
    for (from, to, code) in
        [("rows", "TAKEN", "AKI-0301"), ("rows", "a\nb", "AKI-0114"), ("nothing", "new", "AKI-0202")]
    {
        assert_eq!(db.rename_collection(from, to).unwrap_err().code(), code, "{from} to {to:?}");
    }
    db.drop_collection("rows").unwrap();
    assert_eq!(rows.add_field("late", FieldType::Int).unwrap_err().kind(), ErrorKind::NotFound);
    drop(rows);
    db.close().unwrap();
    let db = Db::builder(dir.path()).read_only(true).open().unwrap();
    assert_eq!(db.rename_collection("taken", "new").unwrap_err().code(), "AKI-0205");
}

/// Every demand alone would do; one that is refused takes the others along, and together they are one manifest.
#[test]
fn several_changes_are_made_together_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2).text("lang")).unwrap();
    db.create_collection("taken", Schema::new(2, Metric::L2)).unwrap();
    put(&rows, "one", json!({"lang": "en"}));
    let whole = |fields: &[&str], until: &str, name: &str| {
        let change = rows.alter().field("until", FieldType::Timestamp);
        let change = fields.iter().fold(change, |change, name| change.field(*name, FieldType::Int));
        change.expires_by(until).rename(name).commit()
    };
    let (schema, manifest) = (rows.schema().unwrap(), db.stats().unwrap().newest_manifest);
    for (fields, until, name, code) in [
        (&["good", "LANG"][..], "until", "new", "AKI-0113"),
        (&["good"], "lang", "new", "AKI-0278"),
        (&["good"], "nothing", "new", "AKI-0278"),
        (&["good"], "until", "TAKEN", "AKI-0301"),
    ] {
        assert_eq!(whole(fields, until, name).unwrap_err().code(), code, "{fields:?} {until} {name}");
        assert_eq!((rows.schema().unwrap(), rows.name().unwrap()), (schema.clone(), "rows".to_owned()));
    }
    rows.alter().commit().unwrap();
    rows.alter().rename("rows").commit().unwrap();
    assert_eq!(
        db.stats().unwrap().newest_manifest,
        manifest,
        "nothing was refused halfway, nor made of nothing"
    );
    whole(&["good"], "until", "new").unwrap();
    assert_eq!(db.stats().unwrap().newest_manifest, manifest + 1, "one manifest says all of it");
    let check = |rows: &Collection| {
        let schema = rows.schema().unwrap();
        assert_eq!((schema.fields.len(), schema.expires_by.as_deref()), (3, Some("until")));
        assert_eq!((rows.name().unwrap().as_str(), rows.count().unwrap()), ("new", 1));
    };
    check(&rows);
    // What is so already is no change beside one.
    rows.alter().expires_by("until").rename("new").field("more", FieldType::Bool).commit().unwrap();
    assert_eq!(db.stats().unwrap().newest_manifest, manifest + 2);
    rows.alter().expires_by("until").rename("new").commit().unwrap();
    assert_eq!(db.stats().unwrap().newest_manifest, manifest + 2);
    drop((rows, db));
    let db = Db::open(dir.path()).unwrap();
    let rows = db.collection("new").unwrap();
    assert_eq!((rows.schema().unwrap().fields.len(), rows.count_where("more is null").unwrap()), (4, 1));
    db.drop_collection("new").unwrap();
    assert_eq!(rows.alter().rename("rows").commit().unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_power_cut_in_any_step_of_several_changes_leaves_all_of_them_or_none() {
    let seed = std::env::var("AKIDB_ALTER_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(27);
    println!("AKIDB_ALTER_SEED={seed}");
    let world = Watched::new(seed);
    let db = history::open(Arc::clone(&world.fs), Arc::new(RealClock), "compaction = false").unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    put(&rows, "flushed", json!({}));
    db.flush().unwrap();
    put(&rows, "logged", json!({}));
    let cuts = world.cut_everywhere(seed);
    rows.alter().field("until", FieldType::Timestamp).expires_by("until").rename("new").commit().unwrap();
    let at_the_end = world.disk.power_cut(&mut Rng::seeded(seed));
    drop((rows, db));
    let mut cuts = std::mem::take(&mut *cuts.lock().unwrap());
    cuts.push(("a cut at the end".into(), at_the_end));
    let (mut before, mut after) = (0, 0);
    for (when, disk) in cuts {
        let db = history::open(Arc::new(disk), Arc::new(RealClock), "compaction = false").unwrap();
        let name = db.collections().unwrap().pop().unwrap();
        let rows = db.collection(&name).unwrap();
        let schema = rows.schema().unwrap();
        let found = (name.as_str(), schema.fields.len(), schema.expires_by.as_deref());
        match found {
            ("rows", 0, None) => before += 1,
            ("new", 1, Some("until")) => after += 1,
            halfway => panic!("{when}: {halfway:?}"),
        }
        assert!(name == "new" || !when.ends_with("the end"), "{when}: an acknowledged change is gone");
        assert_eq!(rows.count().unwrap(), 2, "{when}");
    }
    println!("{before} before, {after} after");
    assert!(before > 5 && after > 0, "{before} before, {after} after");
}

#[test]
fn a_renamed_collection_keeps_rows_handles_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    put(&rows, "flushed", json!({}));
    db.flush().unwrap();
    put(&rows, "logged", json!({}));
    db.rename_collection("rows", "Rows").unwrap();
    db.rename_collection("Rows", "texts").unwrap();
    assert_eq!(
        (rows.name().unwrap().as_str(), db.collections().unwrap()),
        ("texts", vec!["texts".to_owned()])
    );
    put(&rows, "after", json!({}));
    assert_eq!(db.collection("rows").unwrap_err().kind(), ErrorKind::NotFound);
    // The old name is free again.
    let new = db.create_collection("rows", Schema::new(2, Metric::L2)).unwrap();
    put(&new, "other", json!({}));
    drop((rows, new, db));
    let db = Db::open(dir.path()).unwrap();
    let (texts, rows) = (db.collection("texts").unwrap(), db.collection("rows").unwrap());
    assert_eq!((texts.count().unwrap(), rows.count().unwrap()), (3, 1));
    db.flush().unwrap();
    assert_eq!(texts.count().unwrap(), 3);
}

/// Writers and flushes go on while fields are added; no row is lost and each is read under the newest schema.
#[test]
fn fields_are_added_beside_writes_and_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let rows = db.create_collection("rows", Schema::new(2, Metric::L2).int("f0")).unwrap();
    let writer = {
        let rows = rows.clone();
        let work = move || {
            for n in 0..600 {
                let fields = rows.schema().unwrap().fields;
                let payload = fields.iter().map(|field| (field.name.clone(), json!(n))).collect();
                rows.upsert(format!("r{n}"), &[1.0, 2.0], Value::Object(payload)).unwrap();
            }
        };
        std::thread::Builder::new().spawn(work).unwrap()
    };
    let mut added = 0;
    while !writer.is_finished() && added < 40 {
        added += 1;
        rows.add_field(&format!("f{added}"), FieldType::Int).unwrap();
        db.flush().unwrap();
    }
    writer.join().unwrap();
    println!("{added} fields added");
    drop((rows, db));
    let db = Db::open(dir.path()).unwrap();
    let rows = db.collection("rows").unwrap();
    assert_eq!((rows.count().unwrap(), rows.count_where("f0 >= 0").unwrap()), (600, 600));
    for row in rows.scan().limit(1_000).run().unwrap() {
        let n = &row.payload["f0"];
        let fields = (0..row.payload.len()).map(|f| &row.payload[&format!("f{f}")]);
        assert!(fields.into_iter().all(|value| value == n), "{}: {:?}", row.id, row.payload);
    }
}

/// A program that creates its collection at each start finds it whatever was added meanwhile.
#[test]
fn a_collection_is_found_by_every_schema_it_has_had() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let old = || Schema::new(2, Metric::L2).text("lang");
    let rows = db.create_collection("rows", old()).unwrap();
    rows.add_fields(&[("year", FieldType::Int)]).unwrap();
    put(&rows, "a", json!({"lang": "en", "year": 1}));
    for schema in [old(), old().int("year")] {
        assert_eq!(db.create_collection("rows", schema).unwrap().count().unwrap(), 1);
    }
    let error = db.create_collection("rows", old().int("month")).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "AKI-0211"));
}
