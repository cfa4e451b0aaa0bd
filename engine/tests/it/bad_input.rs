//! Wrong input: a typed error that says what is wrong, nothing written, nothing lost.

use akidb::{Collection, Db, Error, ErrorKind, Fate, Metric, NewRow, Schema, Settings};
use serde_json::json;

fn open() -> (tempfile::TempDir, Db, Collection) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let schema = Schema::new(4, Metric::Cosine).text("lang").int("year").timestamp("at").text_list("tags");
    let rows = db.create_collection("rows", schema).unwrap();
    rows.upsert("kept", &[1.0, 0.0, 0.0, 0.0], json!({"lang": "en", "year": 2020})).unwrap();
    (dir, db, rows)
}

#[track_caller]
fn refused(rows: &Collection, result: Result<impl std::fmt::Debug, Error>, says: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(error.fate(), Fate::NotWritten);
    assert!(error.code().starts_with("AKI-"));
    let text = error.to_string();
    for word in says {
        assert!(text.contains(word), "\"{text}\" does not say \"{word}\"");
    }
    assert_eq!(rows.count().unwrap(), 1, "something was written");
    assert_eq!(rows.search(&[1.0, 0.0, 0.0, 0.0]).run().unwrap()[0].id.to_string(), "kept");
}

#[test]
fn a_wrong_vector_is_refused_with_what_was_expected() {
    let (_dir, _db, rows) = open();
    refused(&rows, rows.upsert("a", &[1.0, 2.0, 3.0], json!({})), &["expected 4", "got 3"]);
    refused(&rows, rows.upsert("a", &[1.0, f32::NAN, 3.0, 4.0], json!({})), &["NaN", "1"]);
    refused(&rows, rows.upsert("a", &[1.0, 2.0, f32::INFINITY, 4.0], json!({})), &["2"]);
    refused(&rows, rows.upsert("a", &[0.0; 4], json!({})), &["zero"]);
    refused(&rows, rows.search(&[1.0, 2.0]).run(), &["expected 4", "got 2"]);
    refused(&rows, rows.search(&[f32::NAN, 0.0, 0.0, 1.0]).run(), &["NaN"]);
}

#[test]
fn a_wrong_payload_is_refused_naming_the_field() {
    let (_dir, _db, rows) = open();
    let v = [1.0, 2.0, 3.0, 4.0];
    refused(&rows, rows.upsert("a", &v, json!({"year": "soon"})), &["year", "int"]);
    refused(&rows, rows.upsert("a", &v, json!({"year": 1.5})), &["year"]);
    refused(&rows, rows.upsert("a", &v, json!({"lang": 7})), &["lang", "text"]);
    refused(&rows, rows.upsert("a", &v, json!({"at": "yesterday"})), &["at"]);
    refused(&rows, rows.upsert("a", &v, json!({"tags": ["x", 1]})), &["tags"]);
    refused(&rows, rows.upsert("a", &v, json!(["not", "an", "object"])), &["object"]);
    refused(&rows, rows.upsert("a", &v, json!({"big": "x".repeat(1 << 20)})), &["1048576"]);
}

#[test]
fn a_wrong_id_is_refused() {
    let (_dir, db, rows) = open();
    let v = [1.0, 2.0, 3.0, 4.0];
    refused(&rows, rows.upsert("", &v, json!({})), &["empty"]);
    refused(&rows, rows.upsert("x".repeat(513), &v, json!({})), &["513", "512"]);
    refused(&rows, rows.upsert(7, &v, json!({})), &["text"]);
    refused(&rows, rows.delete(7), &["text"]);
    let numbered = db.create_collection("numbered", Schema::new(1, Metric::Dot).int_ids()).unwrap();
    assert_eq!(numbered.upsert("seven", &[1.0], json!({})).unwrap_err().kind(), ErrorKind::Invalid);
    numbered.upsert(i64::MIN, &[1.0], json!({})).unwrap();
    let told = |error: Error| (error.kind(), error.code());
    let wrong = (ErrorKind::Invalid, "AKI-0213");
    assert_eq!(told(numbered.scan().after("seven").run().unwrap_err()), wrong);
    assert_eq!(told(rows.scan().after(7).run().unwrap_err()), wrong);
    // A bound need not be an id that a row could have.
    assert_eq!(rows.scan().after("").run().unwrap().len(), 1);
    assert_eq!(numbered.get(i64::MIN).unwrap().unwrap().id, akidb::Id::from(i64::MIN));
}

#[test]
fn a_wrong_query_is_refused_with_its_position() {
    let (_dir, _db, rows) = open();
    let v = [1.0, 0.0, 0.0, 0.0];
    refused(&rows, rows.search(&v).k(0).run(), &["k is 0"]);
    refused(&rows, rows.search(&v).k(10_001).run(), &["10001", "10000"]);
    refused(&rows, rows.search(&v).filter("lang = 'en' and").run(), &["15"]);
    refused(&rows, rows.search(&v).filter("lnag = 'en'").run(), &["lnag", "lang", "year"]);
    refused(&rows, rows.search(&v).filter("year = 'x'").run(), &["year"]);
    refused(&rows, rows.count_where("lang ="), &["6"]);
    refused(&rows, rows.scan().limit(0).run(), &["0"]);
    let deep = format!("{}year = 1{}", "(".repeat(10_000), ")".repeat(10_000));
    refused(&rows, rows.search(&v).filter(deep.as_str()).run(), &["64"]);
}

#[test]
fn a_bad_row_spoils_its_whole_batch_and_says_which() {
    let (_dir, _db, rows) = open();
    let batch = [
        NewRow::new("a", [1.0, 2.0, 3.0, 4.0], json!({})).unwrap(),
        NewRow::new("b", [1.0, 2.0, 3.0], json!({})).unwrap(),
    ];
    refused(&rows, rows.upsert_batch(&batch), &["row 1", "id b", "expected 4"]);
    refused(&rows, rows.upsert_batch(&[]), &["no rows"]);
}

#[test]
fn a_wrong_schema_or_name_is_refused() {
    let (_dir, db, rows) = open();
    refused(&rows, db.create_collection("", Schema::new(4, Metric::Dot)), &["name"]);
    refused(&rows, db.create_collection("x", Schema::new(0, Metric::Dot)), &["4096"]);
    refused(&rows, db.create_collection("x", Schema::new(4, Metric::Dot).text("vector")), &["reserved"]);
    refused(&rows, db.create_collection("x", Schema::new(4, Metric::Dot).text("a").int("A")), &["twice"]);
    let other = db.create_collection("rows", Schema::new(5, Metric::Dot)).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Conflict);
    assert_eq!(
        db.create_collection("Rows", Schema::new(5, Metric::Dot)).unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let missing = db.collection("nope").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("rows"));
    // A name made to leave the directory stays a name.
    let tricky = db.create_collection("../../etc/passwd", Schema::new(1, Metric::Dot)).unwrap();
    tricky.upsert("a", &[1.0], json!({})).unwrap();
    db.flush().unwrap();
    assert_eq!(db.collections().unwrap(), ["../../etc/passwd", "rows"]);
}

#[test]
fn a_directory_held_by_another_handle_is_refused_naming_the_holder() {
    let (dir, db, rows) = open();
    let locked = Db::open(dir.path()).unwrap_err();
    assert_eq!(locked.kind(), ErrorKind::Locked);
    assert!(locked.to_string().contains(&format!("pid {}", std::process::id())), "{locked}");
    // Reading beside the writer is allowed and shows what is flushed.
    db.flush().unwrap();
    let reader = Db::builder(dir.path()).read_only(true).open().unwrap();
    assert_eq!(reader.collection("rows").unwrap().count().unwrap(), 1);
    let write = reader.collection("rows").unwrap().upsert("x", &[1.0; 4], json!({})).unwrap_err();
    assert_eq!(write.kind(), ErrorKind::Invalid);
    rows.upsert("y", &[1.0; 4], json!({})).unwrap();
}

#[test]
fn a_dropped_handle_frees_the_directory_for_the_next_open() {
    let (dir, db, rows) = open();
    drop((db, rows));
    let db = Db::open(dir.path()).unwrap();
    assert_eq!(db.collection("rows").unwrap().count().unwrap(), 1);
}

#[test]
fn after_close_every_call_says_so() {
    let (_dir, db, rows) = open();
    db.clone().close().unwrap();
    assert_eq!(rows.count().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(rows.upsert("a", &[1.0; 4], json!({})).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(db.flush().unwrap_err().kind(), ErrorKind::Closed);
    db.close().unwrap();
}

#[test]
fn a_directory_without_a_database_is_not_made_one_by_reading() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Db::builder(dir.path().join("no")).read_only(true).open().unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(Db::builder(dir.path()).create(false).open().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().filter(|e| e.as_ref().unwrap().file_name() != "LOCK").count(),
        0
    );
}

#[test]
fn an_unknown_key_of_the_settings_names_the_one_that_was_meant() {
    let error = Settings::from_toml("[storage]\ntiering_polcy = \"local\"\n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("tiering_policy"), "{error}");
}
