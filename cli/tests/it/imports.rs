//! `akidb import`: the three kinds of files, batches, bad rows, and running it again.

use std::fmt::Write;
use std::fs::File;
use std::sync::Arc;

use akidb::arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int64Array, RecordBatch, StringArray};
use akidb::arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use crate::support::{Place, ids, keys, objects};

fn lines(count: u32) -> String {
    (0..count).fold(String::new(), |mut text, n| {
        writeln!(text, "{{\"id\":\"r{n:04}\",\"vector\":[1,{n}],\"n\":{n}}}").unwrap();
        text
    })
}

#[test]
fn an_import_run_twice_holds_every_row_once() {
    let place = Place::new();
    let file = place.file("rows.jsonl", lines(1_200));
    let args =
        ["import", "docs", file.to_str().unwrap(), "--create", "--field", "n:int", "--batch-rows", "100"];
    for _ in 0..2 {
        let report = place.json(&args);
        assert_eq!(
            keys(&report[0]),
            "collection flushed imported peak_rss_bytes rows_per_second seconds seconds_with_flush uploaded"
        );
        assert_eq!(report[0]["imported"], 1_200);
    }
    let listed = place.json(&["ls"]);
    assert_eq!(listed[0]["rows"], 1_200);
    assert!(listed[0]["segments"].as_u64().unwrap() > 0, "an import ends in segments");
    assert_eq!(ids(&place.json(&["ls", "docs", "--filter", "n = 700"])), ["r0700"]);
}

#[test]
fn a_bad_line_is_named_and_what_came_before_it_stays() {
    let place = Place::new();
    let good = lines(30);
    for (name, bad, reason) in [
        ("syntax", "{\"id\":", "EOF"),
        ("dimension", "{\"id\":\"x\",\"vector\":[1,2,3]}", "3"),
        ("no vector", "{\"id\":\"x\"}", "no \"vector\""),
        ("zero", "{\"id\":\"x\",\"vector\":[0,0]}", "zero"),
        ("type", "{\"id\":\"x\",\"vector\":[1,2],\"n\":\"seven\"}", "int"),
        ("empty id", "{\"id\":\"\",\"vector\":[1,2]}", "empty"),
        ("infinite", "{\"id\":\"x\",\"vector\":[1,1e39]}", "out of range"),
    ] {
        let collection = name.replace(' ', "_");
        let file = place.file("bad.jsonl", format!("{good}{bad}\n{}", lines(40)));
        let args = [
            "import",
            &collection,
            file.to_str().unwrap(),
            "--create",
            "--field",
            "n:int",
            "--batch-rows",
            "7",
        ];
        let err = place.fails(2, &args);
        assert!(err.contains(reason), "{name}: {err}");
        assert!(err.contains("bad.jsonl") && err.contains("line: 31"), "{name}: {err}");
        assert!(err.contains("the 30 rows before it were imported and stay"), "{name}: {err}");
        assert!(err.contains("help: "), "{name}: {err}");
        let rows = place.json(&["ls", &collection, "--limit", "100"]);
        assert_eq!(rows.len(), 30, "{name}");
    }
}

#[test]
fn a_key_with_a_reserved_name_can_be_left_out() {
    let place = Place::new();
    let file = place.file("rows.jsonl", "{\"id\":1,\"key\":\"a\",\"vector\":[1,2],\"n\":7}\n");
    let args = ["import", "docs", file.to_str().unwrap(), "--create", "--id-field", "key"];
    let err = place.fails(2, &args);
    assert!(err.contains("reserved") && err.contains("--leave-out"), "{err}");
    place.ok(&[&args[..], &["--leave-out", "id"]].concat());
    assert_eq!(place.json(&["get", "docs", "a"])[0]["payload"], json!({"n": 7}));
}

#[test]
fn rows_listed_can_be_imported_again() {
    let place = Place::with_rows();
    let rows = place.ok(&["ls", "docs", "--with-vector", "--json"]);
    let args = ["import", "copy", "-", "--format", "jsonl", "--create", "--field", "lang:text", "--json"];
    let run = place.run_with(&args, rows.as_bytes());
    assert_eq!(run.code, 0, "{run:?}");
    let strip = |rows: Vec<Value>| -> Vec<Value> {
        rows.into_iter()
            .map(|mut row| {
                row["lsn"] = json!(0);
                row
            })
            .collect()
    };
    let copied = place.json(&["ls", "copy", "--with-vector"]);
    assert_eq!(strip(copied), strip(objects(&rows)));
}

#[test]
fn a_matrix_and_its_payload_become_rows() {
    let place = Place::new();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }";
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    npy.extend(format!("{header:<117}\n").bytes());
    npy.extend([1.0_f32, 0.0, 0.5, 0.25].iter().flat_map(|v| v.to_le_bytes()));
    let matrix = place.file("m.npy", &npy);
    let payload = place.file("p.jsonl", "{\"key\":\"a\",\"n\":1}\n{\"key\":\"b\",\"n\":2}\n");
    let (matrix, payload) = (matrix.to_str().unwrap(), payload.to_str().unwrap());
    place.ok(&["import", "docs", matrix, "--payload", payload, "--id-field", "key", "--create"]);
    let rows = place.json(&["ls", "docs", "--with-vector"]);
    assert_eq!((&rows[1]["id"], &rows[1]["vector"]), (&json!("b"), &json!([0.5, 0.25])));
    assert_eq!(rows[1]["payload"], json!({"n": 2}));
    place.ok(&["import", "bare", matrix, "--create"]);
    assert_eq!(place.json(&["ls", "bare"])[0]["id"], 0, "row numbers are the ids");
    assert_eq!(place.json(&["ls"])[0]["ids"], "int");

    let cut = place.file("cut.npy", &npy[..npy.len() - 1]);
    let err = place.fails(2, &["import", "cut", cut.to_str().unwrap(), "--create"]);
    assert!(err.contains("inside row 1 of 2") && err.contains("the 1 rows"), "{err}");
}

#[test]
fn columns_become_rows_and_so_does_a_segment_of_our_own() {
    let place = Place::new();
    let numbers: ArrayRef = Arc::new(Float32Array::from(vec![1.0, 0.0, 0.0, 1.0]));
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, 2, numbers, None));
    let columns: [(&str, ArrayRef); 3] = [
        ("key", Arc::new(Int64Array::from(vec![10, 20]))),
        ("title", Arc::new(StringArray::from(vec![Some("x"), None]))),
        ("vector", vectors),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(n, c)| Field::new(*n, c.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, c)| c).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let path = place.path("t.parquet");
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let file = path.to_str().unwrap();
    assert!(place.fails(2, &["import", "docs", file, "--create"]).contains("--id-field"));
    place.ok(&["import", "docs", file, "--create", "--id-field", "key", "--field", "title:text"]);
    let rows = place.json(&["get", "docs", "10", "20"]);
    assert_eq!((&rows[0]["payload"], &rows[1]["payload"]), (&json!({"title": "x"}), &json!({})));

    let segment = place.files(".parquet").pop().unwrap();
    place.ok(&["import", "again", segment.to_str().unwrap(), "--create"]);
    assert_eq!(place.json(&["get", "again", "10"])[0]["payload"], json!({"title": "x"}));
}

#[test]
fn an_import_makes_nothing_unless_asked_and_nothing_from_nothing() {
    let place = Place::new();
    let file = place.file("rows.jsonl", lines(2));
    let err = place.fails(1, &["import", "docs", file.to_str().unwrap()]);
    assert!(err.contains("holds no database"), "{err}");
    assert!(!place.db().exists());
    let empty = place.file("empty.jsonl", "\n");
    let err = place.fails(2, &["import", "docs", empty.to_str().unwrap(), "--create"]);
    assert!(err.contains("no rows"), "{err}");
    assert!(!place.db().exists());
    place.ok(&["init"]);
    let err = place.fails(1, &["import", "docs", file.to_str().unwrap()]);
    assert!(err.contains("no collection \"docs\"") && err.contains("--create"), "{err}");
    place.fails(2, &["import", "docs", "/no/such/file.jsonl"]);
    let odd = place.file("rows.txt", "");
    assert!(place.fails(2, &["import", "docs", odd.to_str().unwrap()]).contains("--format"));
    place.ok(&["init", "docs", "--dim", "2"]);
    assert_eq!(place.json(&["import", "docs", empty.to_str().unwrap()])[0]["imported"], 0);
}
